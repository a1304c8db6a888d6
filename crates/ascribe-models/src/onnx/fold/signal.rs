//! Constant folding of the windows and filters of signal processing.

use std::f64::consts::{LN_10, TAU};

use super::{Fold, LIMIT};
use crate::onnx::array::{Array, Data};
use crate::onnx::proto::data_type;
use crate::onnx::tensors::elem_of;
use crate::onnx::value::{Elem, Res};

impl Fold<'_> {
    /// A constant in the type that the attribute `output_datatype` states.
    fn typed(&self, shape: Vec<usize>, values: Vec<f64>) -> Res<Array> {
        let code = self.attributes.int_or("output_datatype", i64::from(data_type::FLOAT))? as i32;
        match elem_of(code)? {
            Elem::Float => Ok(Array { shape, data: Data::Float(values) }),
            _ => Err(format!("output_datatype is {}; expected a floating-point type", data_type::name(code))
                .into()),
        }
    }

    /// `Σⱼ (−1)ʲ aⱼ cos(2πj·i/n)` for `HannWindow`, `HammingWindow` and `BlackmanWindow`, where `n` is the size of the
    /// window, or one less if it is not periodic.
    pub(super) fn window(&self) -> Res<Array> {
        let size = self.input(0)?.scalar_int()?;
        if !(1..=LIMIT as i64).contains(&size) {
            return Err(format!("has a window of {size} values; expected 1 to {LIMIT}").into());
        }
        let factors = match self.op {
            "HannWindow" => [0.5, 0.5, 0.0],
            // The numbers of the specification, which are those of the paper to more digits than the usual 0.54.
            "HammingWindow" => [25.0 / 46.0, 21.0 / 46.0, 0.0],
            _ => [0.42, 0.5, 0.08],
        };
        let period = if self.attributes.flag("periodic", true)? { size } else { size - 1 };
        let value = |i: i64| {
            let angle = TAU * i as f64 / period.max(1) as f64;
            factors[0] - factors[1] * angle.cos() + factors[2] * (2.0 * angle).cos()
        };
        self.typed(vec![size as usize], (0..size).map(value).collect())
    }

    /// `MelWeightMatrix`: `[frequencies, bands]`, each band a triangle over frequencies whose mels are evenly spaced, with
    /// `mel(f) = 2595 · log₁₀(1 + f/700)`.
    pub(super) fn mel(&self) -> Res<Array> {
        let whole = |i: usize| self.input(i)?.scalar_int();
        let (bands, length, rate) = (whole(0)?, whole(1)?, whole(2)?);
        let (lower, upper) = (self.input(3)?.scalar()?, self.input(4)?.scalar()?);
        let frequencies = length / 2 + 1;
        let fits = bands >= 1
            && length >= 1
            && rate >= 1
            && frequencies.saturating_mul(bands) <= LIMIT as i64
            && (0.0..=upper).contains(&lower);
        if !fits {
            return Err(format!(
                "has {bands} bands from {lower} to {upper} Hz for {length} values at {rate} Hz, which does not fit"
            )
            .into());
        }
        let mel = |hertz: f64| 2595.0 * (hertz / 700.0).ln_1p() / LN_10;
        let step = (mel(upper) - mel(lower)) / (bands + 2) as f64;
        // The specification rounds the corners of the triangles down to frequencies of the transform.
        let corner = |i: i64| {
            let hertz = 700.0 * ((i as f64 * step + mel(lower)) / 2595.0 * LN_10).exp_m1();
            ((length + 1) as f64 * hertz / rate as f64).floor() as i64
        };
        let (rows, columns) = (frequencies as usize, bands as usize);
        let mut values = vec![0.0; rows * columns];
        for band in 0..columns {
            let [low, middle, high] = [0, 1, 2].map(|i| corner(band as i64 + i));
            for row in 0..frequencies {
                let value = if (middle..high).contains(&row) {
                    (high - row) as f64 / (high - middle) as f64
                } else if (low..middle).contains(&row) {
                    (row - low) as f64 / (middle - low) as f64
                } else {
                    f64::from(u8::from(row == middle))
                };
                values[row as usize * columns + band] = value;
            }
        }
        self.typed(vec![rows, columns], values)
    }
}
