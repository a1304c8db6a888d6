//! Canonical form: the same function with as few and as meaningful nodes as possible.

mod affine;
mod batch_norm;
mod channel_map;
mod constants;
mod gates;
mod identities;
mod layer_norm;
mod matmul;
mod padding;
mod rewrite;
mod shapes;
#[cfg(test)]
mod tests;
mod transposes;
mod view;

use rewrite::{Names, Rewrite, rewrite_all};
use view::View;

use super::{Graph, NodeId};
use crate::error::Result;

/// A rewriting pass: the replacement of a node, if it has one.
///
/// The replacement must have the same value as the node and use values of the unchanged graph, so that replacements of
/// several nodes can be applied together.
type Pass = fn(&View<'_>, NodeId) -> Result<Option<Rewrite>>;

/// The order matters: operators that exporters write as several nodes must be recognised before these nodes are folded, and
/// an affine map is folded into the operator before it in preference to the one after it.
const PASSES: [Pass; 11] = [
    constants::fold,
    identities::remove,
    transposes::merge,
    gates::fuse,
    layer_norm::fuse,
    matmul::to_linear,
    affine::into_producer,
    layer_norm::absorb,
    affine::into_consumer,
    batch_norm::to_scale_shift,
    padding::merge,
];

impl Graph {
    /// The canonical form: a graph with the same inputs and outputs in which
    ///
    /// - what does not depend on an input is a constant;
    /// - identities (dropout at inference among them) are gone, and permutations of axes that follow each other are one;
    /// - activations and layer norms that an exporter or author wrote as arithmetic are one node each, rectifiers also
    ///   if they were written with comparisons, masks or maxima (`x · σ(c x)` is `SiLU` and two scalings);
    /// - a matrix product with a constant right side is a linear layer;
    /// - batch norms, and products and sums with one constant per channel, are part of the convolution or linear
    ///   layer before them or, where that is exact, after them, and [`crate::ops::ScaleShift`] elsewhere;
    /// - zero padding is part of the convolution or pooling after it.
    ///
    /// Values are the same up to rounding: parameters are combined in f64, and written-out constants such as √2
    /// are recognised if they are right to f32 precision. Where a function has a kink, its derivative is that of the
    /// operator that is recognised: `where(x >= 0, x, 0)` is ReLU, whose derivative at 0 is 0.
    ///
    /// A node keeps its name as long as its value is computed: a folded pair has the name of its last node. Names
    /// of removed identities resolve to the node with the same value ([`Graph::find`]); for names whose value is
    /// not computed any more, the error suggests the node that they became part of. Folded parameters are named
    /// after the ones they come from, with the suffix `.folded`.
    ///
    /// ```
    /// use ascribe_core::{GraphBuilder, ops::{Pointwise, Structure}};
    /// let mut b = GraphBuilder::new();
    /// let x = b.input("x", &[Some(3)]);
    /// let dropout = b.op("dropout", Structure::Identity, &[x])?;
    /// let y = b.op("relu", Pointwise::Relu, &[dropout])?;
    /// let graph = b.finish(&[y])?.canonical()?;
    /// assert_eq!(graph.len(), 2);
    /// assert_eq!(graph.find("dropout")?, graph.find("x")?);
    /// # Ok::<(), ascribe_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// If a node that does not depend on an input cannot be computed; the message names it.
    pub fn canonical(&self) -> Result<Self> {
        if self.is_canonical { Ok(self.clone()) } else { self.rewritten() }
    }

    /// As [`Graph::canonical`], without folding the nodes of these names into others, so that their values can be explained.
    /// Names that the graph does not have are ignored. A graph that is canonical already stays as it is.
    ///
    /// # Errors
    /// As [`Graph::canonical`].
    pub fn canonical_keeping(&self, names: &[String]) -> Result<Self> {
        let known = names.iter().filter_map(|name| self.find(name).ok());
        let kept: Vec<NodeId> = known.filter(|id| !self.outputs().contains(id)).collect();
        if self.is_canonical || kept.is_empty() {
            return self.canonical();
        }
        // What an output needs is computed.
        let own = self.outputs().len();
        let all = self.with_outputs([self.outputs(), &kept].concat())?.rewritten()?;
        let graph = all.with_outputs(all.outputs()[..own].to_vec())?;
        Ok(Self { is_canonical: true, ..graph })
    }

    fn rewritten(&self) -> Result<Self> {
        let mut names = Names::of(self);
        let mut graph = self.clone();
        'again: loop {
            for pass in PASSES {
                if let Some(next) = rewrite_all(&graph, pass, &mut names)? {
                    graph = next;
                    continue 'again;
                }
            }
            return Ok(Self { is_canonical: true, ..graph });
        }
    }
}
