//! The error type of the crate.

/// What was wrong with the arguments of a kernel.
///
/// Kernels check every length and size before they read or write anything; when they return an error, no output has
/// been changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// A slice does not have the length that the shape implies.
    #[error("{kernel}: `{argument}` has {found} elements, the shape needs {expected}")]
    Length {
        /// The kernel that was called.
        kernel: &'static str,
        /// The offending argument.
        argument: &'static str,
        /// Number of elements that the shape implies.
        expected: usize,
        /// Number of elements given.
        found: usize,
    },
    /// Sizes that are invalid or do not fit each other: for example a size of 0, or channels that are not a multiple of
    /// the groups.
    #[error("{what}: {problem}")]
    Shape {
        /// What was being described, for example `convolution`.
        what: &'static str,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// The number of elements does not fit the address space.
    #[error("{what}: the number of elements of `{argument}` overflows")]
    Overflow {
        /// What was being described.
        what: &'static str,
        /// The tensor whose size overflows.
        argument: &'static str,
    },
    /// An index read from a buffer lies outside its plane.
    #[error("{kernel}: `{argument}` holds index {found}, a plane has {limit} elements")]
    Index {
        /// The kernel that was called.
        kernel: &'static str,
        /// The offending argument.
        argument: &'static str,
        /// The index found.
        found: usize,
        /// Exclusive upper bound of valid indices.
        limit: usize,
    },
    /// An environment variable has an invalid value.
    #[error("the environment variable {variable} is '{value}'; it has to be {expected}")]
    Environment {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
        /// Which values are valid.
        expected: String,
    },
}

/// Result of a kernel.
pub type Result<T, E = KernelError> = std::result::Result<T, E>;

/// Checks that a slice has the length its shape implies.
pub(crate) fn check_len(
    kernel: &'static str,
    argument: &'static str,
    expected: usize,
    found: usize,
) -> Result<()> {
    if expected == found { Ok(()) } else { Err(KernelError::Length { kernel, argument, expected, found }) }
}

/// Product of `sizes`, or [`KernelError::Overflow`] when a slice of `f64` could not be that long.
pub(crate) fn checked_product(what: &'static str, argument: &'static str, sizes: &[usize]) -> Result<usize> {
    // No slice is longer than isize::MAX bytes, and offsets are computed in isize.
    const LIMIT: usize = isize::MAX as usize / size_of::<f64>();
    sizes
        .iter()
        .try_fold(1_usize, |product, &size| product.checked_mul(size))
        .filter(|&product| product <= LIMIT)
        .ok_or(KernelError::Overflow { what, argument })
}
