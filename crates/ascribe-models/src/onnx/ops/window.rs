//! The sliding windows of convolutions and pools.

use ascribe_core::ops::Window;

use super::Call;
use crate::onnx::value::{Res, Value};

/// Largest kernel side, stride, dilation or padding that is accepted: beyond any network's, and small enough that
/// products with sides of values do not overflow.
const LIMIT: i64 = 1 << 20;

/// How the borders are padded.
pub(super) enum Padding {
    /// By these numbers.
    Given,
    /// So that the output has ⌈input / stride⌉ positions; what is odd goes after, or before.
    Same { before: bool },
}

/// The attributes of a window over one or two axes; a single axis becomes the second of two.
pub(super) struct Attributes {
    pub window: Window,
    pub padding: Padding,
    /// Number of spatial axes: 1 or 2.
    pub axes: usize,
}

fn number(value: i64, least: i64, what: &str) -> Res<usize> {
    if !(least..=LIMIT).contains(&value) {
        return Err(format!("{what} {value}; expected {least} to {LIMIT}").into());
    }
    Ok(value as usize)
}

/// A list of one number per spatial axis.
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
        _ => Err(format!("{name} {list:?} for {axes} spatial axes").into()),
    }
}

/// The number of spatial axes of an image-like value.
pub(super) fn spatial(x: &Value) -> Res<usize> {
    match x.rank()? {
        3 => Ok(1),
        4 => Ok(2),
        rank => Err(format!("is supported for [N, C, L] and [N, C, H, W]; the input has {rank} axes").into()),
    }
}

/// Reads the attributes that convolutions and pools share.
pub(super) fn attributes(call: &Call<'_>, axes: usize, kernel: Option<[usize; 2]>) -> Res<Attributes> {
    let given = match (call.attributes.ints("kernel_shape"), kernel) {
        (None, None) => return Err("has no kernel_shape".into()),
        (None, Some(kernel)) => kernel,
        (Some(_), _) => per_axis(call, "kernel_shape", axes, 1, 1)?,
    };
    if kernel.is_some_and(|kernel| kernel != given) {
        return Err(format!("kernel_shape {given:?}, but the weight's is {kernel:?}").into());
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
                _ => return Err(format!("pads {pads:?} for {axes} spatial axes").into()),
            };
            Padding::Given
        }
    };
    Ok(Attributes { window, padding, axes })
}

/// Distributes padding of this total over the two ends.
pub(super) fn halves(total: usize, before: bool) -> (usize, usize) {
    let (less, more) = (total / 2, total - total / 2);
    if before { (more, less) } else { (less, more) }
}

impl Attributes {
    /// The window, with the padding that `auto_pad` asks for at this input.
    pub fn window(&self, x: &Value) -> Res<Window> {
        let mut window = self.window;
        if let Padding::Same { before } = self.padding {
            // Padding to a whole number of strides leaves nothing for ceil mode.
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
