//! The walk of samples through flat arrays of nodes.

use candle_core::WithDType;
use rayon::prelude::*;

use super::ensemble::{Aggregate, Branch, Child, Tree};

/// Samples that one task takes through all trees, tree by tree, so that a tree stays in the cache.
const ROWS: usize = 32;
/// Fewest nodes times samples that are worth several threads.
const WORTH: usize = 1 << 13;

/// A number that trees compute with.
pub(super) trait Number: WithDType + PartialOrd + std::ops::AddAssign + Send + Sync {
    /// The nearest number.
    fn nearest(value: f64) -> Self;
}

impl Number for f32 {
    fn nearest(value: f64) -> Self {
        value as Self
    }
}

impl Number for f64 {
    fn nearest(value: f64) -> Self {
        value
    }
}

/// A node: positions of leaves are stored as `!position`.
#[derive(Clone, Copy, Debug)]
struct Node<T> {
    threshold: T,
    feature: u32,
    branch: Branch,
    missing: bool,
    yes: i32,
    no: i32,
    /// The set of [`Branch::Member`]: start and end in the list of members.
    members: [u32; 2],
}

/// All trees in flat arrays, with thresholds and values in one type.
#[derive(Debug)]
pub(super) struct Flat<T> {
    roots: Vec<i32>,
    nodes: Vec<Node<T>>,
    members: Vec<T>,
    /// For each leaf, where its values start; one more for the end.
    starts: Vec<u32>,
    values: Vec<(u32, T)>,
}

impl<T: Number> Flat<T> {
    pub fn new(trees: &[Tree]) -> Self {
        let mut flat =
            Self { roots: vec![], nodes: vec![], members: vec![], starts: vec![0], values: vec![] };
        for tree in trees {
            let (nodes, leaves) = (flat.nodes.len(), flat.starts.len() - 1);
            // Sizes were checked: all positions fit.
            let place = |child: Child| match child {
                Child::Split(at) => (nodes + at) as i32,
                Child::Leaf(at) => !((leaves + at) as i32),
            };
            flat.roots.push(place(tree.root));
            for split in &tree.splits {
                let start = flat.members.len() as u32;
                flat.members.extend(split.members.iter().map(|&value| T::nearest(value)));
                flat.nodes.push(Node {
                    threshold: T::nearest(split.threshold),
                    feature: split.feature as u32,
                    branch: split.branch,
                    missing: split.missing,
                    yes: place(split.yes),
                    no: place(split.no),
                    members: [start, flat.members.len() as u32],
                });
            }
            for leaf in &tree.leaves {
                flat.values
                    .extend(leaf.values.iter().map(|&(output, value)| (output as u32, T::nearest(value))));
                flat.starts.push(flat.values.len() as u32);
            }
        }
        flat
    }

    /// The leaf at which a sample ends.
    fn leaf(&self, root: i32, x: &[T]) -> usize {
        let mut at = root;
        while at >= 0 {
            let node = &self.nodes[at as usize];
            let value = x[node.feature as usize];
            let answer = match node.branch {
                Branch::LessOrEqual => value <= node.threshold,
                Branch::Less => value < node.threshold,
                Branch::GreaterOrEqual => value >= node.threshold,
                Branch::Greater => value > node.threshold,
                Branch::Equal => value == node.threshold,
                Branch::NotEqual => value != node.threshold,
                Branch::Member => {
                    self.members[node.members[0] as usize..node.members[1] as usize].contains(&value)
                }
            };
            #[allow(clippy::eq_op)] // Only NaN differs from itself.
            let yes = answer || (node.missing && value != value);
            at = if yes { node.yes } else { node.no };
        }
        !at as usize
    }

    /// The outputs of some samples `x [n, features]`, added up in the order of the trees.
    fn rows(&self, x: &[T], features: usize, aggregate: Aggregate, base: &[T], y: &mut [T]) {
        let outputs = base.len();
        let mut seen = vec![false; y.len()];
        for &root in &self.roots {
            for (row, x) in x.chunks_exact(features).enumerate() {
                let leaf = self.leaf(root, x);
                for &(output, value) in
                    &self.values[self.starts[leaf] as usize..self.starts[leaf + 1] as usize]
                {
                    let at = row * outputs + output as usize;
                    match aggregate {
                        Aggregate::Sum | Aggregate::Average => y[at] += value,
                        Aggregate::Min if !seen[at] || value < y[at] => y[at] = value,
                        Aggregate::Max if !seen[at] || value > y[at] => y[at] = value,
                        Aggregate::Min | Aggregate::Max => {}
                    }
                    seen[at] = true;
                }
            }
        }
        let count = T::nearest(self.roots.len() as f64);
        for y in y.chunks_exact_mut(outputs) {
            for (y, &base) in y.iter_mut().zip(base) {
                *y = if aggregate == Aggregate::Average { *y / count } else { *y } + base;
            }
        }
    }

    /// The outputs of all samples `x [n, features]`: `[n, base.len()]`.
    pub fn forward(&self, x: &[T], features: usize, aggregate: Aggregate, base: &[T]) -> Vec<T> {
        let rows = x.len() / features.max(1);
        let mut y = vec![T::nearest(0.0); rows * base.len()];
        let tasks = y.par_chunks_mut(ROWS * base.len()).zip(x.par_chunks(ROWS * features));
        let tasks = tasks.with_min_len(if self.roots.len() * rows < WORTH { rows } else { 1 });
        tasks.for_each(|(y, x)| self.rows(x, features, aggregate, base, y));
        y
    }
}
