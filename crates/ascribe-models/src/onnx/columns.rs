//! What the inputs of a file of `ai.onnx.ml` hold, from the operators that read them: a table's columns are numbers or
//! categories, whatever their data type.

use std::collections::{BTreeSet, HashSet};

use super::proto::{self, data_type};
use super::supported::ML;
use super::text::texts;

/// What an input holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Column {
    /// The texts that it may hold, in the order of the encoders that read it.
    pub categories: Vec<String>,
    /// Whether it is read as a number only.
    pub number: bool,
}

/// Operators that pass values on, from their first operand or from any.
const PASSING: &[&str] = &[
    "Identity",
    "Reshape",
    "Concat",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Gather",
    "Transpose",
    "Slice",
    "Split",
    "ArrayFeatureExtractor",
];

/// Operators that take integers as numbers.
const NUMERIC: &[&str] = &[
    "Binarizer",
    "FeatureVectorizer",
    "Imputer",
    "LinearClassifier",
    "LinearRegressor",
    "Normalizer",
    "SVMClassifier",
    "SVMRegressor",
    "Scaler",
    "TreeEnsemble",
    "TreeEnsembleClassifier",
    "TreeEnsembleRegressor",
];

/// Whether a file uses the domain.
pub(super) fn uses_domain(graph: &proto::Graph) -> bool {
    graph.node.iter().any(|node| node.domain.as_deref() == Some(ML))
}

/// The version of the domain that a file states, or the newest.
pub(super) fn version(imports: &[proto::OperatorSet]) -> i64 {
    let stated = imports.iter().find(|import| import.domain.as_deref() == Some(ML));
    stated.map_or(i64::MAX, |import| import.version.unwrap_or(1))
}

/// What the input of this name holds.
pub(super) fn column(graph: &proto::Graph, name: &str) -> Column {
    let mut column = Column { number: true, ..Column::default() };
    let mut known: HashSet<&str> = HashSet::from([name]);
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut read = false;
    // Nodes come after those whose values they use.
    for node in &graph.node {
        let reads = node.input.iter().position(|input| known.contains(input.as_str()));
        let Some(slot) = reads else { continue };
        read = true;
        let op = node.op_type.as_deref().unwrap_or_default();
        let ml = node.domain.as_deref() == Some(ML);
        if PASSING.contains(&op) && (slot == 0 || op == "Concat")
            || op == "Cast" && target(node) == data_type::STRING
        {
            known.extend(node.output.iter().map(String::as_str));
            continue;
        }
        let list = match op {
            "OneHotEncoder" | "CategoryMapper" if ml => &["cats_strings"][..],
            "LabelEncoder" if ml => &["keys_strings", "classes_strings", "keys_tensor"],
            _ => &[],
        };
        for attribute in
            node.attribute.iter().filter(|a| list.contains(&a.name.as_deref().unwrap_or_default()))
        {
            let stored = attribute.t.as_ref().map_or(&[][..], |tensor| &tensor.string_data);
            // What is no text is reported when the node is translated.
            for text in [&attribute.strings[..], stored]
                .concat()
                .chunks(1)
                .filter_map(|one| texts(one).ok())
                .flatten()
            {
                if seen.insert(text.clone()) {
                    column.categories.push(text);
                }
            }
        }
        let float = [data_type::FLOAT, data_type::DOUBLE, data_type::FLOAT16].contains(&target(node));
        column.number &= ml && NUMERIC.contains(&op) || op == "Cast" && float;
    }
    column.number &= read;
    column
}

/// The data type that a node converts to.
fn target(node: &proto::Node) -> i32 {
    let to = node.attribute.iter().find(|a| a.name.as_deref() == Some("to")).and_then(|a| a.i);
    to.and_then(|code| i32::try_from(code).ok()).unwrap_or(0)
}
