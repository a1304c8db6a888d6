//! Operators: forward and vector-Jacobian product side by side, one file per family.

mod binary;
mod broadcast;
mod conv;
mod coupling;
mod cumulative;
mod depth_to_space;
mod determinant;
mod elements;
pub(crate) mod fast;
mod gather;
mod grid_sample;
mod lanes;
mod linear;
mod logic;
mod norm;
mod operator;
mod order;
mod pad;
mod pointwise;
mod pool;
mod prelu;
mod quantize;
mod reduce;
mod resize;
mod roi_align;
mod single;
mod softmax;
mod structure;
#[cfg(test)]
pub(crate) mod testing;
mod tree;
mod window;

use std::sync::Arc;

pub use binary::Binary;
pub use broadcast::strides;

pub use conv::{Conv, Conv3d, ConvTranspose, ConvTranspose3d, Line};
pub use coupling::PairwiseCoupling;
pub use cumulative::CumSum;
pub use depth_to_space::DepthToSpace;
pub use determinant::Determinant;
pub use elements::{GatherAt, MaxUnpool, Places, ScatterAt, ScatterReduction};
pub use gather::{Embedding, Gather};
pub use grid_sample::{GridSample, SampleMode, SamplePadding};
pub use linear::{Linear, MatMul};
pub use logic::{Cast, Compare, Where};
pub use norm::{BatchNorm, GroupNorm, InstanceNorm, LayerNorm, LocalResponseNorm, ScaleShift};
pub use operator::{Backend, Grads, Kind, Operator, Slot, Vjp};
pub use order::{ArgExtreme, TopIndices};
pub use pad::{Pad, PadMode};
pub use pointwise::Pointwise;
pub(crate) use pool::pool_shape;
pub use pool::{AdaptiveAveragePool, AveragePool, MaxPool, MaxPoolIndices};
pub use prelu::PRelu;
pub use quantize::{DynamicLevels, DynamicQuantize, FakeQuantize, SampleAxis};
pub use reduce::{Reduce, ReduceFn};
pub use resize::{Coordinates, Resize, ResizeEdges, ResizeMode, ResizeSize, Rounding};
pub use roi_align::{RoiAlign, RoiMode};
pub use softmax::Softmax;
pub use structure::{Side, Structure};
pub use tree::{Aggregate, Branch, Child, Leaf, Split, Tree, TreeEnsemble};
pub use window::Window;

macro_rules! ops {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// An operator of a graph.
        ///
        /// The families are an enum so that canonical forms and execution plans can match on them; what an
        /// operator *does* is asked through [`Operator`], which this type implements by delegation.
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        pub enum Op {
            $($(#[$doc])* $name($name),)*
            /// An operator that this crate does not know.
            Custom(Arc<dyn Operator>),
        }

        $(impl From<$name> for Op {
            fn from(op: $name) -> Self {
                Self::$name(op)
            }
        })*

        impl Op {
            /// The operator's behaviour.
            pub fn operator(&self) -> &dyn Operator {
                match self {
                    $(Self::$name(op) => op,)*
                    Self::Custom(op) => &**op,
                }
            }
        }
    };
}

ops! {
    /// Convolution.
    Conv,
    /// Transposed convolution.
    ConvTranspose,
    /// Convolution of volumes.
    Conv3d,
    /// Transposed convolution of volumes.
    ConvTranspose3d,
    /// Linear layer.
    Linear,
    /// Matrix product.
    MatMul,
    /// Function of one value.
    Pointwise,
    /// Arithmetic on two values.
    Binary,
    /// Maximum pooling.
    MaxPool,
    /// Average pooling.
    AveragePool,
    /// Average pooling to a given output size.
    AdaptiveAveragePool,
    /// Batch normalisation with stored statistics.
    BatchNorm,
    /// Scaling and shifting of each channel.
    ScaleShift,
    /// Layer normalisation.
    LayerNorm,
    /// Group normalisation.
    GroupNorm,
    /// Instance normalisation.
    InstanceNorm,
    /// Local response normalisation.
    LocalResponseNorm,
    /// Softmax and log-softmax.
    Softmax,
    /// Rectifier with a learned negative slope.
    PRelu,
    /// Reshape, transpose, concatenate, slice, …
    Structure,
    /// Sum, mean, maximum, minimum or norm over axes.
    Reduce,
    /// Padding.
    Pad,
    /// Slices by index.
    Gather,
    /// Rows of a table by index.
    Embedding,
    /// Sampling at the places of a grid.
    GridSample,
    /// Rounding to the levels of a quantisation.
    FakeQuantize,
    /// Rounding to levels that follow from the values.
    DynamicQuantize,
    /// Scale or zero point of such levels.
    DynamicLevels,
    /// Elements or slices by index.
    GatherAt,
    /// Elements or slices written by index.
    ScatterAt,
    /// Values put back to where a maximum pooling took them from.
    MaxUnpool,
    /// Where a maximum pooling takes its values from.
    MaxPoolIndices,
    /// Samples of the regions of an image.
    RoiAlign,
    /// Determinants.
    Determinant,
    /// Running sums.
    CumSum,
    /// Index of the largest or smallest value.
    ArgExtreme,
    /// Indices of the largest or smallest values.
    TopIndices,
    /// Interpolation of spatial axes.
    Resize,
    /// Channels into space.
    DepthToSpace,
    /// Choice between two values.
    Where,
    /// Comparisons and logic.
    Compare,
    /// Conversion to another data type.
    Cast,
    /// Decision trees.
    TreeEnsemble,
    /// Probabilities of classes from those of pairs.
    PairwiseCoupling,
}
