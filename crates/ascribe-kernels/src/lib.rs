//! CPU kernels of Ascribe: convolution, pooling and matrix products on plain slices.
