//! Operators: forward and vector-Jacobian product side by side, one file per family.

mod binary;
mod conv;
mod fast;
mod linear;
mod operator;
mod pointwise;
mod structure;
#[cfg(test)]
pub(crate) mod testing;
mod window;

use std::sync::Arc;

pub use binary::Binary;

pub use conv::{Conv, ConvTranspose};
pub use linear::{Linear, MatMul};
pub use operator::{Backend, Grads, Kind, Operator, Slot, Vjp};
pub use pointwise::Pointwise;
pub use structure::{Side, Structure};
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
    /// Linear layer.
    Linear,
    /// Matrix product.
    MatMul,
    /// Function of one value.
    Pointwise,
    /// Arithmetic on two values.
    Binary,
    /// Reshape, transpose, concatenate, slice, …
    Structure,
}
