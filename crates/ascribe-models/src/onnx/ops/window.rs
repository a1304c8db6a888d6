//! The sliding windows of convolutions and poolings.

use ascribe_core::ops::Window;

use super::Call;
use crate::onnx::value::{Res, Value};

/// Largest kernel size, stride, dilation or padding that is accepted. No network has larger ones, and products with
/// sizes of values cannot overflow.
const LIMIT: i64 = 1 << 20;

/// How the borders are padded.
pub(super) enum Padding {
    /// By explicit numbers (`pads`).
    Given,
    /// So that the output has ⌈input / stride⌉ positions. If the total padding is odd, the additional pixel is at the
    /// end, or with `before` at the start.
    Same { before: bool },
}

/// The attributes of a window over one or two axes. If there is only one spatial axis, it becomes the second of two.
pub(super) struct Attributes {
    pub window: Window,
    pub padding: Padding,
    /// Number of spatial axes: 1 or 2.
    pub axes: usize,
}

/// `value` if it is within the limits; an error that names the attribute `what` otherwise.
pub(super) fn number(value: i64, least: i64, what: &str) -> Res<usize> {
    if !(least..=LIMIT).contains(&value) {
        return Err(format!("{what} {value} is out of range; expected {least} to {LIMIT}").into());
    }
    Ok(value as usize)
}

/// An attribute with one number per spatial axis, at least `least`; `default` for each axis if it is absent.
pub(super) fn per_axis(
    call: &Call<'_>,
    name: &str,
    axes: usize,
    least: i64,
    default: usize,
) -> Res<[usize; 2]> {
    let Some(list) = call.attributes.ints(name) else { return Ok([default; 2]) };
    let missing = usize::from(name != "output_padding");
    match (list, axes) {
        (&[w], 1) => Ok([missing, number(w, least, name)?]),
        (&[h, w], 2) => Ok([number(h, least, name)?, number(w, least, name)?]),
        _ => Err(format!("{name} {list:?} does not fit {axes} spatial axes").into()),
    }
}

/// The number of spatial axes of a value `[N, C, L]` or `[N, C, H, W]`.
pub(super) fn spatial(x: &Value) -> Res<usize> {
    match x.rank()? {
        3 => Ok(1),
        4 => Ok(2),
        rank => Err(format!(
            "is supported only for [N, C, L], [N, C, H, W] and [N, C, D, H, W]; the input has {rank} axes"
        )
        .into()),
    }
}

/// Reads the attributes that convolutions and poolings share. `kernel` is the kernel size of a convolution's weight.
pub(super) fn attributes(call: &Call<'_>, axes: usize, kernel: Option<[usize; 2]>) -> Res<Attributes> {
    let given = match (call.attributes.ints("kernel_shape"), kernel) {
        (None, None) => return Err("has no kernel_shape".into()),
        (None, Some(kernel)) => kernel,
        (Some(_), _) => per_axis(call, "kernel_shape", axes, 1, 1)?,
    };
    if kernel.is_some_and(|kernel| kernel != given) {
        return Err(
            format!("kernel_shape is {given:?}, but the kernel size of the weight is {kernel:?}").into()
        );
    }
    let mut window = Window::new(given);
    let single = axes == 1;
    window.stride = per_axis(call, "strides", axes, 1, 1)?;
    window.dilation = per_axis(call, "dilations", axes, 1, 1)?;
    window.ceil_mode = call.attributes.flag("ceil_mode", false)?;
    if single {
        (window.stride[0], window.dilation[0]) = (1, 1);
    }
    let padding = match call.mode("auto_pad", "NOTSET")? {
        "SAME_UPPER" => Padding::Same { before: false },
        "SAME_LOWER" => Padding::Same { before: true },
        "VALID" => Padding::Given,
        _ => {
            let pads = call.attributes.ints("pads").unwrap_or(&[]);
            let n = |i: usize| number(pads[i], 0, "pads");
            window.padding = match (pads.len(), axes) {
                (0, _) => [0; 4],
                (2, 1) => [0, n(0)?, 0, n(1)?],
                (4, 2) => [n(0)?, n(1)?, n(2)?, n(3)?],
                _ => return Err(format!("pads {pads:?} do not fit {axes} spatial axes").into()),
            };
            Padding::Given
        }
    };
    Ok(Attributes { window, padding, axes })
}

/// Distributes a total padding over start and end; `before` is whether an odd pixel goes to the start.
pub(super) fn halves(total: usize, before: bool) -> (usize, usize) {
    let (less, more) = (total / 2, total - total / 2);
    if before { (more, less) } else { (less, more) }
}

impl Attributes {
    /// The window, with the padding that `auto_pad` implies for this input.
    pub fn window(&self, x: &Value) -> Res<Window> {
        let mut window = self.window;
        if let Padding::Same { before } = self.padding {
            // With this padding, windows fit exactly, so that ceil mode makes no difference.
            window.ceil_mode = false;
            let shape = x.shapes()?;
            for axis in 2 - self.axes..2 {
                let side = shape[0][axis + self.axes];
                let stride = window.stride[axis];
                let extent = window.dilation[axis] * (window.kernel[axis] - 1) + 1;
                let reach = (side.div_ceil(stride).max(1) - 1) * stride + extent;
                let (first, last) = halves(reach.saturating_sub(side), before);
                window.padding[axis] = first;
                window.padding[axis + 2] = last;
            }
        }
        Ok(window)
    }
}

#[cfg(test)]
mod tests {
    use super::halves;

    #[test]
    fn odd_padding_goes_to_the_end_named() {
        assert_eq!(halves(3, false), (1, 2));
        assert_eq!(halves(3, true), (2, 1));
    }
}
