//! Trees whose nodes are numbered within their tree, in lists with one entry per node: `TreeEnsembleClassifier` and
//! `TreeEnsembleRegressor`.

use std::collections::HashMap;

use ascribe_core::ops::{Child, Leaf, Split, Tree};

use super::super::super::Call;
use super::super::{floats_or_tensor, ints};
use super::{feature, question, same_length};
use crate::onnx::context::Context;
use crate::onnx::value::Res;

/// The values of leaves: the class or target, the value, and the tree and node of each.
pub(super) struct Weights {
    pub ids: Vec<i64>,
    pub values: Vec<f64>,
    places: Vec<(i64, i64)>,
}

impl Weights {
    /// The lists `WHAT_ids`, `WHAT_weights`, …
    pub fn read(cx: &mut Context, call: &Call<'_>, what: &str) -> Res<Self> {
        let of = |name: &str| ints(call, &format!("{what}_{name}"));
        let (ids, trees, nodes) = (of("ids"), of("treeids"), of("nodeids"));
        let values = floats_or_tensor(cx, call, &format!("{what}_weights"))?;
        for (name, length) in [("weights", values.len()), ("treeids", trees.len()), ("nodeids", nodes.len())]
        {
            same_length(&format!("{what}_{name}"), length, ids.len(), &format!("{what}_ids"), false)?;
        }
        let places = trees.iter().copied().zip(nodes.iter().copied()).collect();
        Ok(Self { ids: ids.to_vec(), values, places })
    }
}

/// The trees of a node of the file, in their order.
pub(super) fn trees(cx: &mut Context, call: &Call<'_>, weights: &Weights) -> Res<Vec<Tree>> {
    let nodes = ints(call, "nodes_nodeids");
    let lists = ["nodes_treeids", "nodes_featureids", "nodes_truenodeids", "nodes_falsenodeids"];
    let [own, features, yes, no] = lists.map(|name| ints(call, name));
    let modes = call.attributes.strings("nodes_modes")?;
    let thresholds = floats_or_tensor(cx, call, "nodes_values")?;
    let hits = floats_or_tensor(cx, call, "nodes_hitrates")?;
    let missing = ints(call, "nodes_missing_value_tracks_true");
    let count = nodes.len();
    for (name, list) in lists.into_iter().zip([own, features, yes, no]) {
        same_length(name, list.len(), count, "nodes_nodeids", false)?;
    }
    for (name, length, optional) in [
        ("nodes_modes", modes.len(), false),
        ("nodes_values", thresholds.len(), false),
        ("nodes_hitrates", hits.len(), true),
        ("nodes_missing_value_tracks_true", missing.len(), true),
    ] {
        same_length(name, length, count, "nodes_nodeids", optional)?;
    }
    // Where each node is: the position of its tree, and its position among the tree's nodes or leaves.
    let mut places: HashMap<(i64, i64), (usize, Child)> = HashMap::new();
    let mut numbers: HashMap<i64, usize> = HashMap::new();
    let mut trees: Vec<Tree> = Vec::new();
    for at in 0..count {
        let position = *numbers.entry(own[at]).or_insert(trees.len());
        if position == trees.len() {
            trees.push(Tree { root: Child::Leaf(0), splits: vec![], leaves: vec![] });
        } else if position + 1 != trees.len() {
            return Err(
                format!("the nodes of tree {} are not next to each other in nodes_treeids", own[at]).into()
            );
        }
        let Some(tree) = trees.last_mut() else { continue };
        let hits = hits.get(at).copied();
        let child = match question(modes[at])? {
            None => {
                tree.leaves.push(Leaf { values: vec![], hits });
                Child::Leaf(tree.leaves.len() - 1)
            }
            Some(branch) => {
                tree.splits.push(Split {
                    feature: feature(features[at])?,
                    branch,
                    threshold: thresholds[at],
                    members: vec![],
                    missing: missing.get(at).is_some_and(|&tracks| tracks != 0),
                    // Set below, when all nodes are known.
                    yes: Child::Leaf(0),
                    no: Child::Leaf(0),
                    hits,
                });
                Child::Split(tree.splits.len() - 1)
            }
        };
        if tree.splits.len() + tree.leaves.len() == 1 {
            // The first node of a tree is its root.
            tree.root = child;
        }
        if places.insert((own[at], nodes[at]), (position, child)).is_some() {
            return Err(format!("tree {} has two nodes with number {}", own[at], nodes[at]).into());
        }
    }
    let find = |tree: i64, node: i64, list: &str| {
        let known = places.get(&(tree, node)).copied();
        known.ok_or_else(|| format!("{list} names node {node} of tree {tree}, which does not exist"))
    };
    for at in 0..count {
        let (position, child) = find(own[at], nodes[at], "nodes_nodeids")?;
        if let Child::Split(split) = child {
            let split = &mut trees[position].splits[split];
            split.yes = find(own[at], yes[at], "nodes_truenodeids")?.1;
            split.no = find(own[at], no[at], "nodes_falsenodeids")?.1;
        }
    }
    for ((&id, &value), &(tree, node)) in weights.ids.iter().zip(&weights.values).zip(&weights.places) {
        let output =
            usize::try_from(id).map_err(|_| format!("a weight is for output {id}; expected 0 or more"))?;
        // Values at nodes with questions are never reached.
        if let (position, Child::Leaf(leaf)) = find(tree, node, "the list of weights")? {
            trees[position].leaves[leaf].values.push((output, value));
        }
    }
    Ok(trees)
}
