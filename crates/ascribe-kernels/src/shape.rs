//! Sizes of convolutions and poolings, checked once when they are created.

use std::ops::Deref;

use crate::error::{KernelError, Result, checked_product};

/// Sizes of a 2-D convolution, unchecked. [`ConvShape::new`] checks them.
///
/// A 1-D convolution has height 1. The fields follow `PyTorch`'s and ONNX's conventions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConvParams {
    /// Number of samples.
    pub batch: usize,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Number of groups; divides both channel counts.
    pub groups: usize,
    /// Height and width of the input.
    pub input: [usize; 2],
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Step between output positions, in input pixels.
    pub stride: [usize; 2],
    /// Distance between kernel elements, in input pixels.
    pub dilation: [usize; 2],
    /// Zero padding: top, left, bottom, right.
    pub padding: [usize; 4],
}

impl Default for ConvParams {
    /// One sample, one channel, one pixel and a 1 × 1 kernel; meant as the base of `..Default::default()`.
    fn default() -> Self {
        Self {
            batch: 1,
            in_channels: 1,
            out_channels: 1,
            groups: 1,
            input: [1, 1],
            kernel: [1, 1],
            stride: [1, 1],
            dilation: [1, 1],
            padding: [0; 4],
        }
    }
}

/// A 2-D convolution whose sizes have been checked: they are consistent, and its tensors fit the address space.
///
/// Layouts: input `[batch, in_channels, H, W]`, weights
/// `[out_channels, in_channels / groups, kernel_h, kernel_w]`, output
/// `[batch, out_channels, H', W']`, all contiguous.
///
/// ```
/// use ascribe_kernels::{ConvParams, ConvShape};
///
/// let shape = ConvShape::new(ConvParams {
///     in_channels: 3,
///     out_channels: 8,
///     input: [32, 32],
///     kernel: [3, 3],
///     stride: [2, 2],
///     padding: [1, 1, 1, 1],
///     ..Default::default()
/// })?;
/// assert_eq!(shape.output(), [16, 16]);
/// assert_eq!(shape.output_len(), 8 * 16 * 16);
/// # Ok::<(), ascribe_kernels::KernelError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConvShape {
    params: ConvParams,
    output: [usize; 2],
}

impl ConvShape {
    /// Checks the sizes.
    ///
    /// # Errors
    /// [`KernelError::Shape`] when a size is zero (an empty batch is allowed), groups do not divide the
    /// channels, or the dilated kernel is larger than the padded input; [`KernelError::Overflow`] when a
    /// tensor would not fit the address space.
    pub fn new(params: ConvParams) -> Result<Self> {
        const WHAT: &str = "convolution";
        let p = &params;
        positive(WHAT, "in_channels", p.in_channels)?;
        positive(WHAT, "out_channels", p.out_channels)?;
        positive(WHAT, "groups", p.groups)?;
        for (name, channels) in [("in_channels", p.in_channels), ("out_channels", p.out_channels)] {
            if channels % p.groups != 0 {
                return Err(KernelError::Shape {
                    what: WHAT,
                    problem: format!("{name} = {channels} is not a multiple of groups = {}", p.groups),
                });
            }
        }
        let mut output = [0; 2];
        for (axis, output) in output.iter_mut().enumerate() {
            *output = window_count(
                WHAT,
                axis,
                [p.input[axis], p.kernel[axis], p.stride[axis], p.dilation[axis]],
                [p.padding[axis], p.padding[axis + 2]],
            )?;
        }
        let shape = Self { params, output };
        checked_product(WHAT, "input", &[p.batch, p.in_channels, p.input[0], p.input[1]])?;
        checked_product(WHAT, "output", &[p.batch, p.out_channels, output[0], output[1]])?;
        checked_product(WHAT, "weight", &[p.out_channels, p.in_channels, p.kernel[0], p.kernel[1]])?;
        Ok(shape)
    }

    /// Height and width of the output.
    pub fn output(&self) -> [usize; 2] {
        self.output
    }

    /// Number of elements of the input.
    pub fn input_len(&self) -> usize {
        self.batch * self.in_channels * self.input[0] * self.input[1]
    }

    /// Number of elements of the output.
    pub fn output_len(&self) -> usize {
        self.batch * self.out_channels * self.output[0] * self.output[1]
    }

    /// Number of elements of the weights.
    pub fn weight_len(&self) -> usize {
        self.out_channels * (self.in_channels / self.groups) * self.kernel[0] * self.kernel[1]
    }

    /// Floating-point operations of one forward pass: a multiplication and an addition per output element and kernel
    /// element, products with padding included. The input gradient takes as many.
    pub fn flops(&self) -> f64 {
        2.0 * self.output_len() as f64
            * ((self.in_channels / self.groups) * self.kernel[0] * self.kernel[1]) as f64
    }

    /// The same convolution for another number of samples.
    ///
    /// # Errors
    /// [`KernelError::Overflow`] as for [`ConvShape::new`].
    pub fn with_batch(&self, batch: usize) -> Result<Self> {
        Self::new(ConvParams { batch, ..self.params })
    }

    /// The checked sizes.
    pub fn params(&self) -> &ConvParams {
        &self.params
    }
}

impl Deref for ConvShape {
    type Target = ConvParams;

    fn deref(&self) -> &ConvParams {
        &self.params
    }
}

/// Sizes of a 2-D pooling, unchecked. [`PoolShape::new`] checks them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PoolParams {
    /// Number of samples.
    pub batch: usize,
    /// Channels of input and output.
    pub channels: usize,
    /// Height and width of the input.
    pub input: [usize; 2],
    /// Height and width of the output. The caller computes them, and so decides between floor and ceil mode.
    pub output: [usize; 2],
    /// Height and width of the window.
    pub kernel: [usize; 2],
    /// Step between windows, in input pixels.
    pub stride: [usize; 2],
    /// Distance between the pixels of a window, in input pixels.
    pub dilation: [usize; 2],
    /// Padding: top, left, bottom, right. Padding is never the maximum of a window.
    pub padding: [usize; 4],
}

impl Default for PoolParams {
    /// One sample, one channel, one pixel and a 1 × 1 window; meant as the base of `..Default::default()`.
    fn default() -> Self {
        Self {
            batch: 1,
            channels: 1,
            input: [1, 1],
            output: [1, 1],
            kernel: [1, 1],
            stride: [1, 1],
            dilation: [1, 1],
            padding: [0; 4],
        }
    }
}

/// A 2-D pooling whose sizes have been checked: they are consistent, and its tensors fit the address space.
///
/// Input `[batch, channels, H, W]`, output `[batch, channels, H', W']`, contiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PoolShape {
    params: PoolParams,
}

impl PoolShape {
    /// Checks the sizes.
    ///
    /// # Errors
    /// [`KernelError::Shape`] when a size is zero (an empty batch is allowed) or an output size is
    /// neither what floor nor what ceil mode gives; [`KernelError::Overflow`] when a tensor would not
    /// fit the address space.
    pub fn new(params: PoolParams) -> Result<Self> {
        const WHAT: &str = "pooling";
        let p = &params;
        positive(WHAT, "channels", p.channels)?;
        for (axis, name) in AXES.into_iter().enumerate() {
            let floor = window_count(
                WHAT,
                axis,
                [p.input[axis], p.kernel[axis], p.stride[axis], p.dilation[axis]],
                [p.padding[axis], p.padding[axis + 2]],
            )?;
            if p.output[axis] != floor && p.output[axis] != floor + 1 {
                return Err(KernelError::Shape {
                    what: WHAT,
                    problem: format!(
                        "{} of the output is {}; floor mode gives {floor}, ceil mode at most {}",
                        name,
                        p.output[axis],
                        floor + 1
                    ),
                });
            }
        }
        if p.input[0].checked_mul(p.input[1]).is_none_or(|plane| u32::try_from(plane).is_err()) {
            return Err(KernelError::Overflow { what: WHAT, argument: "input plane (indices are 32 bits)" });
        }
        checked_product(WHAT, "input", &[p.batch, p.channels, p.input[0], p.input[1]])?;
        checked_product(WHAT, "output", &[p.batch, p.channels, p.output[0], p.output[1]])?;
        Ok(Self { params })
    }

    /// Number of elements of the input.
    pub fn input_len(&self) -> usize {
        self.batch * self.channels * self.input[0] * self.input[1]
    }

    /// Number of elements of the output.
    pub fn output_len(&self) -> usize {
        self.batch * self.channels * self.output[0] * self.output[1]
    }

    /// The same pooling for another number of samples.
    ///
    /// # Errors
    /// [`KernelError::Overflow`] as for [`PoolShape::new`].
    pub fn with_batch(&self, batch: usize) -> Result<Self> {
        Self::new(PoolParams { batch, ..self.params })
    }

    /// The checked sizes.
    pub fn params(&self) -> &PoolParams {
        &self.params
    }
}

impl Deref for PoolShape {
    type Target = PoolParams;

    fn deref(&self) -> &PoolParams {
        &self.params
    }
}

const AXES: [&str; 2] = ["height", "width"];

fn positive(what: &'static str, name: &str, value: usize) -> Result<()> {
    if value == 0 {
        return Err(KernelError::Shape { what, problem: format!("{name} is 0, it has to be positive") });
    }
    Ok(())
}

/// Number of windows along an axis: `⌊(input + padding − dilation · (kernel − 1) − 1) / stride⌋ + 1`. An error when a
/// size is zero, the kernel does not fit the padded input, or a number overflows.
fn window_count(
    what: &'static str,
    axis: usize,
    [input, kernel, stride, dilation]: [usize; 4],
    [before, after]: [usize; 2],
) -> Result<usize> {
    let axis = AXES[axis];
    for (name, value) in [("input", input), ("kernel", kernel), ("stride", stride), ("dilation", dilation)] {
        if value == 0 {
            return Err(KernelError::Shape {
                what,
                problem: format!("{axis} of {name} is 0, it has to be positive"),
            });
        }
    }
    let overflow = KernelError::Overflow { what, argument: "padded input" };
    let limit = isize::MAX as usize / 4;
    let padded = input
        .checked_add(before)
        .and_then(|sum| sum.checked_add(after))
        .filter(|&sum| sum < limit)
        .ok_or_else(|| overflow.clone())?;
    let extent = (kernel - 1).checked_mul(dilation).filter(|&size| size < limit).ok_or(overflow)? + 1;
    if extent > padded {
        return Err(KernelError::Shape {
            what,
            problem: format!(
                "{axis}: the dilated kernel covers {extent} pixels, the padded input has {padded}"
            ),
        });
    }
    if stride >= limit {
        return Err(KernelError::Overflow { what, argument: "stride" });
    }
    Ok((padded - extent) / stride + 1)
}
