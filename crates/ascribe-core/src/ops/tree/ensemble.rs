//! The trees of an ensemble as plain data, checked when they are put together.

use crate::error::{Error, Result};

/// How a node of a tree compares the value `v` of its feature with its threshold `t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Branch {
    /// `v ≤ t`.
    LessOrEqual,
    /// `v < t`.
    Less,
    /// `v ≥ t`.
    GreaterOrEqual,
    /// `v > t`.
    Greater,
    /// `v = t`.
    Equal,
    /// `v ≠ t`, which NaN satisfies.
    NotEqual,
    /// `v` is one of a set of values, the members.
    Member,
}

/// What is below a node: another node or a leaf, by its position in [`Tree::splits`] or [`Tree::leaves`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Child {
    /// A node that asks another question.
    Split(usize),
    /// A leaf.
    Leaf(usize),
}

/// A node that asks one question about one feature.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Split {
    /// The column of the input.
    pub feature: usize,
    /// The question.
    pub branch: Branch,
    /// The threshold; not used by [`Branch::Member`].
    pub threshold: f64,
    /// The set of [`Branch::Member`], empty for the others.
    pub members: Vec<f64>,
    /// Whether a missing value (NaN) counts as yes. Otherwise it is compared like any value, which gives no for all questions
    /// but [`Branch::NotEqual`].
    pub missing: bool,
    /// Where to go if the answer is yes.
    pub yes: Child,
    /// Where to go otherwise.
    pub no: Child,
    /// How many training samples came here, if the file says so.
    pub hits: Option<f64>,
}

/// The end of a path.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Leaf {
    /// What the tree says: pairs of an output and its value.
    pub values: Vec<(usize, f64)>,
    /// How many training samples came here, if the file says so.
    pub hits: Option<f64>,
}

/// A decision tree.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Tree {
    /// Where to start.
    pub root: Child,
    /// The nodes with questions.
    pub splits: Vec<Split>,
    /// The leaves.
    pub leaves: Vec<Leaf>,
}

/// How the values of the trees become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aggregate {
    /// Their sum.
    #[default]
    Sum,
    /// Their sum, divided by the number of trees.
    Average,
    /// The smallest of the values of leaves that have one for the output.
    Min,
    /// The largest of them.
    Max,
}

/// Largest number of nodes, leaves and values of leaves of an ensemble; the walk stores positions in 31 bits.
const MOST: usize = 1 << 30;

/// Checks the trees of an ensemble with this many outputs; returns the number of features that they ask about.
pub(super) fn check(trees: &[Tree], outputs: usize, base: &[f64]) -> Result<usize> {
    if outputs == 0 {
        return Err(Error::invalid("trees", "have no output", "at least one"));
    }
    if trees.is_empty() {
        return Err(Error::invalid("trees", "there are none", "at least one"));
    }
    if !base.is_empty() && base.len() != outputs {
        let problem = format!("are {}", base.len());
        return Err(Error::invalid(
            "base values",
            problem,
            format!("none, or one for each of {outputs} outputs"),
        ));
    }
    if let Some(bad) = base.iter().find(|value| !value.is_finite()) {
        return Err(Error::invalid("base values", format!("one is {bad}"), "finite numbers"));
    }
    let (mut features, mut total) = (0, 0_usize);
    for (at, tree) in trees.iter().enumerate() {
        features = features.max(tree.check(at, outputs)?);
        let values: usize = tree.leaves.iter().map(|leaf| leaf.values.len()).sum();
        let members: usize = tree.splits.iter().map(|split| split.members.len()).sum();
        total = total.saturating_add(tree.splits.len() + tree.leaves.len() + values + members);
    }
    if total > MOST {
        return Err(Error::invalid(
            "trees",
            format!("have {total} nodes and values"),
            format!("at most {MOST}"),
        ));
    }
    Ok(features)
}

impl Tree {
    /// Checks the tree, and returns how many features an input must have.
    fn check(&self, at: usize, outputs: usize) -> Result<usize> {
        let wrong = |what: String, problem: String, expected: String| {
            Err(Error::invalid(format!("tree {at}, {what}"), problem, expected))
        };
        let mut features = 0;
        for (node, split) in self.splits.iter().enumerate() {
            let what = || format!("node {node}");
            features = features.max(split.feature.saturating_add(1));
            if split.feature >= MOST {
                return wrong(
                    what(),
                    format!("asks about feature {}", split.feature),
                    format!("one below {MOST}"),
                );
            }
            let thresholds = [split.threshold];
            let compared = if split.branch == Branch::Member { &split.members[..] } else { &thresholds };
            if compared.iter().any(|value| value.is_nan()) {
                return wrong(what(), "compares with NaN".into(), "a number".into());
            }
            for child in [split.yes, split.no] {
                let (name, position, count) = match child {
                    Child::Split(position) => ("node", position, self.splits.len()),
                    Child::Leaf(position) => ("leaf", position, self.leaves.len()),
                };
                if position >= count {
                    return wrong(what(), format!("leads to {name} {position}"), format!("one of {count}"));
                }
            }
        }
        for (position, leaf) in self.leaves.iter().enumerate() {
            for &(output, value) in &leaf.values {
                if output >= outputs {
                    return wrong(
                        format!("leaf {position}"),
                        format!("has a value for output {output}"),
                        format!("one of {outputs} outputs"),
                    );
                }
                if value.is_nan() {
                    return wrong(format!("leaf {position}"), "has the value NaN".into(), "a number".into());
                }
            }
        }
        let root = match self.root {
            Child::Split(root) => root < self.splits.len(),
            Child::Leaf(root) => root < self.leaves.len(),
        };
        if !root {
            return wrong("root".into(), format!("is {:?}", self.root), "a node or leaf of the tree".into());
        }
        // A node that is reached twice is part of a cycle, or the graph is no tree.
        let mut reached = vec![false; self.splits.len()];
        let mut open = vec![self.root];
        while let Some(child) = open.pop() {
            let Child::Split(node) = child else { continue };
            if std::mem::replace(&mut reached[node], true) {
                return wrong(
                    format!("node {node}"),
                    "is reached on two ways".into(),
                    "one parent, and no cycle".into(),
                );
            }
            open.extend([self.splits[node].yes, self.splits[node].no]);
        }
        Ok(features)
    }
}
