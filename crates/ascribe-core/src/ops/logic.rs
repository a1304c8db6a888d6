//! Choosing, comparing and converting.

use candle_core::{DType, Tensor};

use super::binary::{broadcast_shape, sum_to};
use super::operator::{Backend, Grads, Kind, Operator, Slot, Vjp, input, shapes};
use crate::error::{Error, Result};

/// Chooses between two values, element by element and with broadcasting: inputs `condition`, `a` and `b`; the
/// result is `a` where the condition is not zero and `b` elsewhere. Each branch receives the gradient of the
/// elements it was chosen for; the condition receives none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Where;

/// A comparison or logical function with broadcasting; 1 for true, 0 for false, as `u8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compare {
    /// `a = b`.
    Equal,
    /// `a < b`.
    Less,
    /// `a ≤ b`.
    LessOrEqual,
    /// `a > b`.
    Greater,
    /// `a ≥ b`.
    GreaterOrEqual,
    /// `a` is zero. Takes one input.
    Not,
    /// Neither is zero.
    And,
    /// Not both are zero.
    Or,
}

/// Converts to another data type. To integers, values are truncated and no gradient passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cast {
    /// The data type.
    pub to: DType,
}

/// 1 where a value is not zero.
fn truth(x: &Tensor) -> Result<Tensor> {
    Ok(if x.dtype() == DType::U8 { x.clone() } else { x.ne(&x.zeros_like()?)? })
}

fn same_dtype(a: &Tensor, b: &Tensor) -> Result<()> {
    if a.dtype() == b.dtype() {
        return Ok(());
    }
    let problem = format!("are {:?} and {:?}", a.dtype(), b.dtype());
    Err(Error::invalid("inputs", problem, "the same data type"))
}

/// The shape that all three inputs broadcast to.
fn common_shape(inputs: [&[usize]; 3]) -> Result<Vec<usize>> {
    broadcast_shape(&broadcast_shape(inputs[0], inputs[1])?, inputs[2])
}

impl Operator for Where {
    fn name(&self) -> &'static str {
        "Where"
    }

    fn kind(&self, _: &[bool]) -> Kind {
        Kind::Structural
    }

    fn slot(&self, slot: usize, _: &[bool]) -> Slot {
        if slot == 0 { Slot::Other } else { Slot::Data }
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        common_shape(shapes(inputs)?)
    }

    fn forward(&self, inputs: &[&Tensor], _: Backend) -> Result<Tensor> {
        let (condition, a, b) = (input(inputs, 0)?, input(inputs, 1)?, input(inputs, 2)?);
        same_dtype(a, b)?;
        let shape = common_shape([condition.dims(), a.dims(), b.dims()])?;
        let shape = shape.as_slice();
        let chosen = truth(condition)?.broadcast_as(shape)?;
        Ok(chosen.where_cond(&a.broadcast_as(shape)?, &b.broadcast_as(shape)?)?)
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        let (condition, a, b) = (args.input(0)?, args.input(1)?, args.input(2)?);
        let chosen = truth(condition)?.broadcast_as(args.grad.shape())?;
        let zeros = args.grad.zeros_like()?;
        let da = if args.wants(1) {
            Some(sum_to(&chosen.where_cond(args.grad, &zeros)?, a.dims())?)
        } else {
            None
        };
        let db = if args.wants(2) {
            Some(sum_to(&chosen.where_cond(&zeros, args.grad)?, b.dims())?)
        } else {
            None
        };
        Ok(vec![None, da, db])
    }
}

impl Operator for Compare {
    fn name(&self) -> &'static str {
        match self {
            Self::Equal => "Equal",
            Self::Less => "Less",
            Self::LessOrEqual => "LessOrEqual",
            Self::Greater => "Greater",
            Self::GreaterOrEqual => "GreaterOrEqual",
            Self::Not => "Not",
            Self::And => "And",
            Self::Or => "Or",
        }
    }

    fn kind(&self, _: &[bool]) -> Kind {
        Kind::Blocking
    }

    fn slot(&self, _: usize, _: &[bool]) -> Slot {
        Slot::Data
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        if *self == Self::Not {
            let [x] = shapes(inputs)?;
            return Ok(x.to_vec());
        }
        let [a, b] = shapes(inputs)?;
        broadcast_shape(a, b)
    }

    fn forward(&self, inputs: &[&Tensor], _: Backend) -> Result<Tensor> {
        let a = input(inputs, 0)?;
        if *self == Self::Not {
            return Ok(a.eq(&a.zeros_like()?)?);
        }
        let b = input(inputs, 1)?;
        if matches!(self, Self::And | Self::Or) {
            // Truth values other than 1 count as 1.
            let one = |x: &Tensor| Ok::<_, Error>(x.ne(&x.zeros_like()?)?);
            let (a, b) = (one(a)?, one(b)?);
            return Ok(if *self == Self::And { a.broadcast_minimum(&b)? } else { a.broadcast_maximum(&b)? });
        }
        same_dtype(a, b)?;
        Ok(match self {
            Self::Less => a.broadcast_lt(b)?,
            Self::LessOrEqual => a.broadcast_le(b)?,
            Self::Greater => a.broadcast_gt(b)?,
            Self::GreaterOrEqual => a.broadcast_ge(b)?,
            Self::Equal | Self::Not | Self::And | Self::Or => a.broadcast_eq(b)?,
        })
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        Ok(vec![None; args.inputs.len()])
    }
}

impl Operator for Cast {
    fn name(&self) -> &'static str {
        "Cast"
    }

    fn kind(&self, _: &[bool]) -> Kind {
        if self.to.is_float() { Kind::Structural } else { Kind::Blocking }
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = shapes(inputs)?;
        Ok(x.to_vec())
    }

    fn forward(&self, inputs: &[&Tensor], _: Backend) -> Result<Tensor> {
        Ok(input(inputs, 0)?.to_dtype(self.to)?)
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        let x = args.input(0)?;
        if !args.wants(0) || !self.to.is_float() || !x.dtype().is_float() {
            return Ok(vec![None]);
        }
        Ok(vec![Some(args.grad.to_dtype(x.dtype())?)])
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use proptest::prelude::*;

    use super::*;
    use crate::ops::testing::{check, distance, random};

    fn thin(shape: &[usize], mask: u8) -> Vec<usize> {
        shape.iter().enumerate().map(|(i, &side)| if mask >> i & 1 == 1 { 1 } else { side }).collect()
    }

    proptest! {
        #![proptest_config(ascribe_proptest::config(32))]
        #[test]
        fn derivatives_of_where(
            shape in prop::collection::vec(1_usize..4, 1..4),
            masks in any::<[u8; 3]>(),
            drop in 0_usize..2,
            seed in any::<u64>(),
        ) {
            let condition = random(&thin(&shape, masks[0]), -1.0, 1.0, seed).gt(0.0).unwrap();
            let a = random(&thin(&shape, masks[1]), -1.0, 1.0, seed ^ 1);
            let b = random(&thin(&shape[drop..], masks[2]), -1.0, 1.0, seed ^ 2);
            check(&Where, &[condition, a, b], &[false, true, true], seed);
        }
    }

    #[test]
    fn casts_between_floats_pass_gradients() {
        let x = random(&[2, 3], -1.0, 1.0, 1);
        check(&Cast { to: DType::F64 }, std::slice::from_ref(&x), &[true], 1);
        let y = Cast { to: DType::F32 }.forward(&[&x], Backend::Auto).unwrap();
        let grad = y.ones_like().unwrap();
        let vjp = |to: DType, y: &Tensor| {
            let inputs = [&x];
            let args =
                Vjp { inputs: &inputs, output: y, grad: &grad, needs: &[true], backend: Backend::Auto };
            Cast { to }.vjp(&args).unwrap().remove(0)
        };
        let back = vjp(DType::F32, &y).unwrap();
        assert_eq!(back.dtype(), DType::F64);
        assert_eq!(distance(&back, &x.ones_like().unwrap()), 0.0);
        assert!(vjp(DType::I64, &y).is_none());
        assert_eq!(Cast { to: DType::I64 }.kind(&[true]), Kind::Blocking);
    }

    #[test]
    fn truth_tables() {
        let a = Tensor::new(&[1.0, 2.0, 3.0], &Device::Cpu).unwrap();
        let b = Tensor::new(&[2.0], &Device::Cpu).unwrap();
        let table = |op: Compare| op.forward(&[&a, &b], Backend::Auto).unwrap().to_vec1::<u8>().unwrap();
        assert_eq!(table(Compare::Equal), [0, 1, 0]);
        assert_eq!(table(Compare::Less), [1, 0, 0]);
        assert_eq!(table(Compare::LessOrEqual), [1, 1, 0]);
        assert_eq!(table(Compare::Greater), [0, 0, 1]);
        assert_eq!(table(Compare::GreaterOrEqual), [0, 1, 1]);
        let (p, q) = ([0_u8, 0, 2, 5], [0_u8, 3, 0, 1]);
        let (p, q) = (Tensor::new(&p, &Device::Cpu).unwrap(), Tensor::new(&q, &Device::Cpu).unwrap());
        let table = |op: Compare| op.forward(&[&p, &q], Backend::Auto).unwrap().to_vec1::<u8>().unwrap();
        assert_eq!(table(Compare::And), [0, 0, 0, 1]);
        assert_eq!(table(Compare::Or), [0, 1, 1, 1]);
        assert_eq!(
            Compare::Not.forward(&[&p], Backend::Auto).unwrap().to_vec1::<u8>().unwrap(),
            [1, 1, 0, 0]
        );
    }

    #[test]
    fn conditions_may_be_of_any_type() {
        let (a, b) = (random(&[3], 0.0, 1.0, 1), random(&[3], 0.0, 1.0, 2));
        let expected = Tensor::new(&[0_u8, 1, 1], &Device::Cpu).unwrap();
        let expected = Where.forward(&[&expected, &a, &b], Backend::Auto).unwrap();
        for dtype in [DType::U32, DType::I64, DType::F32, DType::F64] {
            let condition = Tensor::new(&[0.0, 0.5, -3.0], &Device::Cpu).unwrap();
            let condition = if dtype.is_float() {
                condition.to_dtype(dtype).unwrap()
            } else {
                Tensor::new(&[0_u32, 1, 7], &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
            };
            let y = Where.forward(&[&condition, &a, &b], Backend::Auto).unwrap();
            assert_eq!(distance(&y, &expected), 0.0);
        }
    }

    #[test]
    fn types_that_differ_are_named() {
        let (a, b) = (Tensor::new(&[1.0_f32], &Device::Cpu).unwrap(), random(&[1], 0.0, 1.0, 1));
        let message = Compare::Less.forward(&[&a, &b], Backend::Auto).unwrap_err().to_string();
        assert!(message.contains("F32 and F64"), "{message}");
        assert!(Where.forward(&[&a, &a, &b], Backend::Auto).is_err());
    }
}
