//! Padding.

use candle_core::Tensor;

use super::operator::{Backend, Grads, Kind, Operator, Slot, Vjp, input};
use super::window::pad_axis;
use crate::error::{Error, Result};

/// What the values beyond the border are.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PadMode {
    /// This value.
    Constant(f64),
    /// Reflected at the centre of the border value: `3 2 | 1 2 3 | 2 1`.
    Reflect,
    /// The border value: `1 1 | 1 2 3 | 3 3`.
    Edge,
    /// Those at the other end: `2 3 | 1 2 3 | 1 2`.
    Wrap,
}

/// Adds values before and after those of each axis.
///
/// Amounts cannot be negative: cropping is a [`super::Structure::Slice`].
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Pad {
    /// Number of values added at the beginning of each axis.
    pub before: Vec<usize>,
    /// Number of values added at the end of each axis.
    pub after: Vec<usize>,
    /// What they are.
    pub mode: PadMode,
}

impl Pad {
    /// Axes that grow, with what is added before and after.
    fn axes(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        self.before
            .iter()
            .zip(&self.after)
            .enumerate()
            .filter(|(_, (before, after))| **before > 0 || **after > 0)
            .map(|(axis, (&before, &after))| (axis, before, after))
    }

    /// For each position of the padded axis, the position that its value comes from.
    fn sources(&self, len: usize, before: usize, after: usize, like: &Tensor) -> Result<Tensor> {
        let n = len as i64;
        let source = |at: i64| match self.mode {
            PadMode::Constant(_) | PadMode::Edge => at.clamp(0, n - 1),
            PadMode::Wrap => at.rem_euclid(n),
            PadMode::Reflect if n == 1 => 0,
            PadMode::Reflect => {
                let turn = at.rem_euclid(2 * (n - 1));
                turn.min(2 * (n - 1) - turn)
            }
        };
        let count = before + len + after;
        let sources: Vec<u32> = (0..count).map(|i| source(i as i64 - before as i64) as u32).collect();
        Ok(Tensor::from_vec(sources, count, like.device())?)
    }
}

impl Operator for Pad {
    fn name(&self) -> &'static str {
        "Pad"
    }

    fn kind(&self, _: &[bool]) -> Kind {
        Kind::Structural
    }

    fn slot(&self, slot: usize, _: &[bool]) -> Slot {
        if slot == 0 { Slot::Data } else { Slot::Other }
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = super::operator::shapes(inputs)?;
        if self.before.len() != x.len() || self.after.len() != x.len() {
            return Err(Error::invalid(
                "pads",
                format!("{:?} before and {:?} after", self.before, self.after),
                format!("one number per axis of the input {x:?}"),
            ));
        }
        let mut shape = x.to_vec();
        for (axis, before, after) in self.axes() {
            if x[axis] == 0 && !matches!(self.mode, PadMode::Constant(_)) {
                return Err(Error::invalid(
                    "input",
                    format!("has shape {x:?}"),
                    format!("values along axis {axis} to pad with"),
                ));
            }
            shape[axis] = x[axis]
                .checked_add(before)
                .and_then(|side| side.checked_add(after))
                .filter(|&side| u32::try_from(side).is_ok())
                .ok_or_else(|| {
                    Error::invalid("pads", format!("{before} and {after}"), "an axis of less than 2³² values")
                })?;
        }
        Ok(shape)
    }

    fn forward(&self, inputs: &[&Tensor], _: Backend) -> Result<Tensor> {
        let x = input(inputs, 0)?.contiguous()?;
        self.axes().try_fold(x, |x, (axis, before, after)| match self.mode {
            PadMode::Constant(value) => pad_axis(&x, axis, before, after, value),
            _ => Ok(x.index_select(&self.sources(x.dim(axis)?, before, after, &x)?, axis)?),
        })
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        if !args.wants(0) {
            return Ok(vec![None]);
        }
        let x = args.input(0)?;
        let mut grad = args.grad.contiguous()?;
        for (axis, before, after) in self.axes() {
            let len = x.dim(axis)?;
            grad = if let PadMode::Constant(_) = self.mode {
                grad.narrow(axis, before, len)?.contiguous()?
            } else {
                let sources = self.sources(len, before, after, &grad)?;
                let mut shape = grad.dims().to_vec();
                shape[axis] = len;
                Tensor::zeros(shape, grad.dtype(), grad.device())?.index_add(&sources, &grad, axis)?
            };
        }
        Ok(vec![Some(grad)])
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use proptest::prelude::*;

    use super::*;
    use crate::ops::testing::{check, random};

    fn mode() -> impl Strategy<Value = PadMode> {
        prop_oneof![
            (-2.0..2.0).prop_map(PadMode::Constant),
            Just(PadMode::Reflect),
            Just(PadMode::Edge),
            Just(PadMode::Wrap),
        ]
    }

    proptest! {
        #![proptest_config(ascribe_proptest::config(48))]
        #[test]
        fn derivatives(
            sides in prop::collection::vec((1_usize..5, 0_usize..4, 0_usize..4), 1..5),
            mode in mode(),
            seed in any::<u64>(),
        ) {
            let shape: Vec<usize> = sides.iter().map(|s| s.0).collect();
            let op = Pad {
                before: sides.iter().map(|s| s.1).collect(),
                after: sides.iter().map(|s| s.2).collect(),
                mode,
            };
            check(&op, &[random(&shape, -1.0, 1.0, seed)], &[true], seed);
        }
    }

    fn pad(mode: PadMode) -> Vec<f64> {
        let x = Tensor::new(&[1.0, 2.0, 3.0], &Device::Cpu).unwrap();
        let op = Pad { before: vec![2], after: vec![4], mode };
        op.forward(&[&x], Backend::Auto).unwrap().to_vec1().unwrap()
    }

    #[test]
    fn modes_as_in_numpy() {
        assert_eq!(pad(PadMode::Constant(9.0)), [9.0, 9.0, 1.0, 2.0, 3.0, 9.0, 9.0, 9.0, 9.0]);
        assert_eq!(pad(PadMode::Reflect), [3.0, 2.0, 1.0, 2.0, 3.0, 2.0, 1.0, 2.0, 3.0]);
        assert_eq!(pad(PadMode::Edge), [1.0, 1.0, 1.0, 2.0, 3.0, 3.0, 3.0, 3.0, 3.0]);
        assert_eq!(pad(PadMode::Wrap), [2.0, 3.0, 1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 1.0]);
    }

    #[test]
    fn wrong_pads_are_named() {
        let op = Pad { before: vec![1], after: vec![1], mode: PadMode::Edge };
        assert!(op.output_shape(&[&[2, 3]]).unwrap_err().to_string().contains("pads"));
        let op = Pad { before: vec![usize::MAX], after: vec![1], mode: PadMode::Edge };
        assert!(op.output_shape(&[&[2]]).is_err());
    }
}
