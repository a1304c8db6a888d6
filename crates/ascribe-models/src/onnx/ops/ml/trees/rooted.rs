//! Trees of one list of nodes, which start at given nodes: `TreeEnsemble`.

use ascribe_core::ops::{Branch, Child, Leaf, Split, Tree};

use super::super::super::Call;
use super::super::ints;
use super::{feature, same_length};
use crate::onnx::context::Context;
use crate::onnx::value::Res;

/// The lists of nodes and leaves.
struct Lists<'a> {
    features: &'a [i64],
    yes: &'a [i64],
    no: &'a [i64],
    /// Whether the answers lead to leaves.
    ends: [&'a [i64]; 2],
    missing: &'a [i64],
    modes: Vec<f64>,
    thresholds: Vec<f64>,
    hits: Vec<f64>,
    /// The sets of nodes that ask for membership.
    members: Vec<Vec<f64>>,
    targets: &'a [i64],
    weights: Vec<f64>,
}

/// A list that is stored as a tensor; empty if it is absent.
fn tensor(cx: &mut Context, call: &Call<'_>, name: &str) -> Res<Vec<f64>> {
    match call.attributes.tensor(name)? {
        Some(tensor) => cx.store.numbers(tensor, name),
        None => Ok(Vec::new()),
    }
}

/// The trees of a node of the file, in their order.
pub(super) fn trees(cx: &mut Context, call: &Call<'_>) -> Res<Vec<Tree>> {
    let lists = Lists::read(cx, call)?;
    let mut reached = vec![false; lists.features.len()];
    let roots = ints(call, "tree_roots");
    roots.iter().map(|&root| lists.tree(root, &mut reached)).collect()
}

impl<'a> Lists<'a> {
    fn read(cx: &mut Context, call: &'a Call<'_>) -> Res<Self> {
        let of = |name: &str| ints(call, name);
        let modes = tensor(cx, call, "nodes_modes")?;
        let sets = tensor(cx, call, "membership_values")?;
        let mut sets = sets.split(|value| value.is_nan());
        // Each set ends with NaN.
        let members = modes.iter().map(|&mode| match mode {
            6.0 => sets.next().map_or_else(Vec::new, <[f64]>::to_vec),
            _ => Vec::new(),
        });
        let lists = Self {
            features: of("nodes_featureids"),
            yes: of("nodes_truenodeids"),
            no: of("nodes_falsenodeids"),
            ends: [of("nodes_trueleafs"), of("nodes_falseleafs")],
            missing: of("nodes_missing_value_tracks_true"),
            members: members.collect(),
            modes,
            thresholds: tensor(cx, call, "nodes_splits")?,
            hits: tensor(cx, call, "nodes_hitrates")?,
            targets: of("leaf_targetids"),
            weights: tensor(cx, call, "leaf_weights")?,
        };
        let count = lists.features.len();
        for (name, length, optional) in [
            ("nodes_modes", lists.modes.len(), false),
            ("nodes_splits", lists.thresholds.len(), false),
            ("nodes_truenodeids", lists.yes.len(), false),
            ("nodes_falsenodeids", lists.no.len(), false),
            ("nodes_trueleafs", lists.ends[0].len(), false),
            ("nodes_falseleafs", lists.ends[1].len(), false),
            ("nodes_missing_value_tracks_true", lists.missing.len(), true),
            ("nodes_hitrates", lists.hits.len(), true),
        ] {
            same_length(name, length, count, "nodes_featureids", optional)?;
        }
        same_length("leaf_weights", lists.weights.len(), lists.targets.len(), "leaf_targetids", false)?;
        Ok(lists)
    }

    /// The tree that starts at a node. `reached` marks the nodes that are part of a tree.
    fn tree(&self, root: i64, reached: &mut [bool]) -> Res<Tree> {
        let mut tree = Tree { root: Child::Split(0), splits: vec![], leaves: vec![] };
        // Nodes to add, with the question that leads to them and its answer.
        let mut open: Vec<(i64, Option<(usize, bool)>)> = vec![(root, None)];
        while let Some((number, from)) = open.pop() {
            let node = usize::try_from(number).ok().filter(|&node| node < reached.len());
            let node = node
                .ok_or_else(|| format!("node {number} does not exist; expected one of {}", reached.len()))?;
            if std::mem::replace(&mut reached[node], true) {
                return Err(
                    format!("node {node} is reached on two ways; expected trees without cycles").into()
                );
            }
            let at = tree.splits.len();
            let mut split = self.split(node)?;
            for (answer, numbers) in [(true, self.yes), (false, self.no)] {
                let child = if self.ends[usize::from(!answer)][node] == 0 {
                    open.push((numbers[node], Some((at, answer))));
                    continue;
                } else {
                    tree.leaves.push(self.leaf(numbers[node])?);
                    Child::Leaf(tree.leaves.len() - 1)
                };
                *(if answer { &mut split.yes } else { &mut split.no }) = child;
            }
            tree.splits.push(split);
            if let Some((parent, answer)) = from {
                let parent = &mut tree.splits[parent];
                *(if answer { &mut parent.yes } else { &mut parent.no }) = Child::Split(at);
            }
        }
        Ok(tree)
    }

    /// The question of a node; where its answers lead is still to be set.
    fn split(&self, node: usize) -> Res<Split> {
        const MODES: [Branch; 7] = [
            Branch::LessOrEqual,
            Branch::Less,
            Branch::GreaterOrEqual,
            Branch::Greater,
            Branch::Equal,
            Branch::NotEqual,
            Branch::Member,
        ];
        let mode = self.modes[node];
        let branch =
            MODES.iter().enumerate().find(|(number, _)| *number as f64 == mode).map(|(_, branch)| *branch);
        Ok(Split {
            feature: feature(self.features[node])?,
            branch: branch.ok_or_else(|| format!("nodes_modes has {mode}; expected 0 to 6"))?,
            threshold: self.thresholds[node],
            members: self.members[node].clone(),
            missing: self.missing.get(node).is_some_and(|&tracks| tracks != 0),
            yes: Child::Leaf(0),
            no: Child::Leaf(0),
            hits: self.hits.get(node).copied(),
        })
    }

    fn leaf(&self, number: i64) -> Res<Leaf> {
        let count = self.targets.len();
        let leaf = usize::try_from(number).ok().filter(|&leaf| leaf < count);
        let leaf = leaf.ok_or_else(|| format!("leaf {number} does not exist; expected one of {count}"))?;
        let target = usize::try_from(self.targets[leaf])
            .map_err(|_| format!("leaf_targetids has {}; expected 0 or more", self.targets[leaf]))?;
        Ok(Leaf { values: vec![(target, self.weights[leaf])], hits: None })
    }
}
