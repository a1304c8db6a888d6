//! Fourier transforms (`DFT`, `STFT`), as products with constant matrices: every rule sees a linear layer or a
//! convolution.
//!
//! For the lengths of speech models a matrix costs no more than the layers behind it, and its size is bounded as that of
//! every constant that is computed at load time.

use std::f64::consts::TAU;

use ascribe_core::ops::{Conv, Linear, Structure, Window};
use ascribe_core::{Device, Tensor};

use super::Call;
use super::window::number;
use crate::onnx::array::axis;
use crate::onnx::context::Context;
use crate::onnx::value::{Elem, Known, Res, Value};

/// A positive length from a constant.
fn length(value: &Value, what: &str) -> Res<usize> {
    number(value.array(what)?.scalar_int()?, 1, what)
}

/// What a transform of `length` values returns.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    /// `X[k] = Σₙ x[n] e^{∓2πi·kn/N}` for all `k`; the inverse divides by `N`.
    Full { inverse: bool },
    /// `X[k]` for `k` from 0 to `N/2`.
    Half,
    /// The real signal whose half spectrum is given.
    Real,
}

/// The matrix of a transform of `length` values, `[frequencies, parts, values, channels]`: parts and channels are real and
/// imaginary parts, or the real part only.
struct Basis {
    length: usize,
    side: Side,
    /// Number of values that are given; those behind them are zero.
    values: usize,
    channels: usize,
}

impl Basis {
    fn frequencies(&self) -> usize {
        if self.side == Side::Half { self.length / 2 + 1 } else { self.length }
    }

    fn parts(&self) -> usize {
        if self.side == Side::Real { 1 } else { 2 }
    }

    /// The number at this position.
    fn number(&self, [k, part, n, channel]: [usize; 4]) -> f64 {
        // The product is reduced before it becomes an angle, so that no precision is lost.
        let angle = TAU * (k * n % self.length) as f64 / self.length as f64;
        let (backwards, factor) = match self.side {
            Side::Half | Side::Full { inverse: false } => (false, 1.0),
            Side::Full { inverse: true } => (true, (self.length as f64).recip()),
            Side::Real => {
                // Frequencies between the first and the middle stand for their conjugates too.
                let once = n == 0 || 2 * n == self.length;
                (true, if once { 1.0 } else { 2.0 } / self.length as f64)
            }
        };
        let sine = if backwards { angle.sin() } else { -angle.sin() };
        // (c + i·s) · (x + i·y) = (c·x − s·y) + i·(s·x + c·y)
        factor
            * match (part, channel) {
                (0, 0) | (1, 1) => angle.cos(),
                (0, _) => -sine,
                _ => sine,
            }
    }

    /// The numbers with the axes in this order, scaled by a window.
    fn tensor(&self, cx: &mut Context, order: [usize; 4], window: &[f64]) -> Res<Tensor> {
        let sides = [self.frequencies(), self.parts(), self.values, self.channels];
        let shape = order.map(|axis| sides[axis]);
        cx.spend(&shape)?;
        let mut values = Vec::with_capacity(shape.iter().product());
        let mut at = [0; 4];
        for flat in 0..shape.iter().product() {
            let mut rest = flat;
            for (&axis, &side) in order.iter().zip(&shape).rev() {
                at[axis] = rest % side;
                rest /= side;
            }
            values.push(self.number(at) * window.get(at[2]).copied().unwrap_or(1.0));
        }
        Ok(Tensor::from_vec(values, &shape, &Device::Cpu)?.to_dtype(cx.dtype)?)
    }
}

/// `DFT` along one axis of values whose last axis holds real and imaginary part, or the real part only.
pub(super) fn dft(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = call.input(0)?;
    let [shape, _] = x.shapes()?;
    let rank = shape.len();
    let along = match (call.opset >= 20, call.optional(2)) {
        (false, _) => call.attributes.int_or("axis", 1)?,
        (true, None) => -2,
        (true, Some(value)) => value.array("its axis")?.scalar_int()?,
    };
    let at = axis(along, rank)?;
    let channels = shape[rank - 1];
    if at + 1 == rank || !(1..=2).contains(&channels) {
        return Err(format!(
            "transforms axis {at} of shape {shape:?}; expected another axis than the last, which has length 1 or 2"
        )
        .into());
    }
    call.not_batch(x, at, "transforms along")?;
    call.not_batch(x, rank - 1, "transforms along")?;
    let (inverse, onesided) =
        (call.attributes.flag("inverse", false)?, call.attributes.flag("onesided", false)?);
    let side = match (inverse, onesided) {
        (inverse, false) => Side::Full { inverse },
        (false, true) => Side::Half,
        (true, true) => Side::Real,
    };
    if (side == Side::Half && channels != 1) || (side == Side::Real && channels != 2) {
        return Err(format!(
            "has onesided = 1 and inverse = {}, for which the last axis of shape {shape:?} should have length {}",
            i32::from(inverse),
            3 - channels
        )
        .into());
    }
    let given = shape[at];
    let length = match call.optional(1) {
        Some(value) => length(value, "dft_length")?,
        None if side == Side::Real => 2 * given.saturating_sub(1).max(1),
        None => given,
    };
    let used = if side == Side::Real { length / 2 + 1 } else { length };
    let basis = Basis { length, side, values: given.min(used), channels };
    // The axis moves in front of the last one, and both become one.
    let mut order: Vec<usize> = (0..rank).filter(|&a| a != at && a + 1 != rank).collect();
    order.extend([at, rank - 1]);
    let mut value = x.clone();
    if basis.values < given {
        let op = Structure::Slice { axis: at, start: 0, len: basis.values, step: 1 };
        value = cx.apply(&call.sub("cut"), op, &[&value], Elem::Float)?;
    }
    let back = inverse_order(&order);
    let moves = at + 2 != rank;
    if moves {
        let op = Structure::Transpose { order };
        value = cx.apply(&call.sub("axis last"), op, &[&value], Elem::Float)?;
    }
    let (parts, frequencies, width) = (basis.parts(), basis.frequencies(), basis.values * channels);
    let flat = |s: &[usize]| Ok([&s[..rank - 2], &[width]].concat());
    value = cx.reshape_by(&call.sub("flat"), &value, flat)?;
    let matrix = basis.tensor(cx, [0, 1, 2, 3], &[])?.reshape((frequencies * parts, width))?;
    let matrix = Known::value(matrix, Elem::Float, &call.sub("basis"));
    let product = if moves { call.sub("spectrum") } else { call.name.to_string() };
    value = cx.apply(&call.sub("product"), Linear, &[&value, &matrix], Elem::Float)?;
    value = cx.reshape_by(&product, &value, |s| Ok([&s[..rank - 2], &[frequencies, parts]].concat()))?;
    if moves {
        value = cx.apply(call.name, Structure::Transpose { order: back }, &[&value], Elem::Float)?;
    }
    Ok(value)
}

/// The permutation that undoes another.
fn inverse_order(order: &[usize]) -> Vec<usize> {
    let mut back = vec![0; order.len()];
    for (to, &from) in order.iter().enumerate() {
        back[from] = to;
    }
    back
}

/// `STFT`: a convolution of the signal `[N, length]` or `[N, length, 1 or 2]` with the windowed basis of a frame, which
/// gives `[N, frames, frequencies, 2]`.
pub(super) fn stft(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = call.input(0)?;
    let [shape, _] = x.shapes()?;
    let (samples, channels) = match shape[..] {
        [_, samples] => (samples, 1),
        [_, samples, channels @ 1..=2] => (samples, channels),
        _ => {
            return Err(format!(
                "has a signal of shape {shape:?}; expected [N, length] or [N, length, 1 or 2]"
            )
            .into());
        }
    };
    call.not_batch(x, 1, "transforms along")?;
    let step = length(call.input(1)?, "frame_step")?;
    let window = call.optional(2).map(|w| w.array("its window")).transpose()?.map(|w| w.to_floats());
    let frame = match (call.optional(3), &window) {
        (Some(value), _) => length(value, "frame_length")?,
        (None, Some(window)) => window.len(),
        (None, None) => samples,
    };
    if window.as_ref().is_some_and(|w| w.len() != frame) || frame > samples || frame == 0 {
        return Err(format!(
            "has frames of {frame} values for a signal of {samples} and a window of {}; expected frames that are no \
             longer than the signal and as long as the window",
            window.map_or(frame, |w| w.len())
        )
        .into());
    }
    let onesided = call.attributes.flag("onesided", true)?;
    if onesided && channels == 2 {
        return Err("has a complex signal, for which onesided should be 0".into());
    }
    let side = if onesided { Side::Half } else { Side::Full { inverse: false } };
    let basis = Basis { length: frame, side, values: frame, channels };
    let frequencies = basis.frequencies();
    // Outputs are ordered [part, frequency], inputs [channel, value].
    let matrix = basis.tensor(cx, [1, 0, 3, 2], window.as_deref().unwrap_or(&[]))?;
    let matrix = matrix.reshape((2 * frequencies, channels, frame))?;
    let matrix = Known::value(matrix, Elem::Float, &call.sub("basis"));
    let signal = if shape.len() == 2 {
        cx.reshape_by(&call.sub("signal"), x, |s| Ok(vec![s[0], 1, s[1]]))?
    } else {
        let op = Structure::Transpose { order: vec![0, 2, 1] };
        cx.apply(&call.sub("signal"), op, &[x], Elem::Float)?
    };
    let window = Window { stride: [1, step], ..Window::new([1, frame]) };
    let op = Conv { window, groups: 1 };
    let spectrum = cx.apply(&call.sub("frames"), op, &[&signal, &matrix], Elem::Float)?;
    let parts = cx.reshape_by(&call.sub("parts"), &spectrum, |s| Ok(vec![s[0], 2, frequencies, s[2]]))?;
    cx.apply(call.name, Structure::Transpose { order: vec![0, 3, 2, 1] }, &[&parts], Elem::Float)
}
