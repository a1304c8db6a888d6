//! Looking values up by index.

use candle_core::{DType, Device, Tensor};

use super::operator::{Backend, Grads, Kind, Operator, Slot, Vjp, input, shapes};
use crate::error::{Error, Result};

/// Takes slices of an axis by index: inputs `data` and integers `index`; the index's axes take the place of
/// the axis, as in ONNX's `Gather` and numpy's `take`. Negative indices count from the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Gather {
    /// The axis of `data` that is indexed.
    pub axis: usize,
}

/// Looks up rows of a table: inputs `table [V, D]` and integers `index [N, …]`; the output is `[N, …, D]`.
///
/// Integers have no gradient: token models are explained at the output of this operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Embedding;

/// The indices as non-negative numbers in one row, on the device of `data`.
fn resolve(index: &Tensor, data: &Tensor, axis: usize) -> Result<Tensor> {
    if !index.dtype().is_int() {
        return Err(Error::invalid("index", format!("holds {:?}", index.dtype()), "integers"));
    }
    let size = data.dim(axis)?;
    let flat = index.to_device(&Device::Cpu)?.to_dtype(DType::I64)?.flatten_all()?.to_vec1::<i64>()?;
    let resolved: Result<Vec<u32>> = flat
        .iter()
        .map(|&i| {
            let from_start = if i < 0 { i + size as i64 } else { i };
            u32::try_from(from_start).ok().filter(|&i| (i as usize) < size).ok_or_else(|| {
                Error::invalid(
                    "index",
                    format!("{i}"),
                    format!(
                        "from {} to {}: axis {axis} holds {size} values",
                        -(size as i64),
                        size as i64 - 1
                    ),
                )
            })
        })
        .collect();
    Ok(Tensor::from_vec(resolved?, flat.len(), data.device())?)
}

fn take(data: &Tensor, index: &Tensor, axis: usize) -> Result<Tensor> {
    let resolved = resolve(index, data, axis)?;
    let shape = [&data.dims()[..axis], index.dims(), &data.dims()[axis + 1..]].concat();
    Ok(data.contiguous()?.index_select(&resolved, axis)?.reshape(shape)?)
}

/// The transpose of [`take`]: adds each slice of the gradient where its values came from.
fn put(grad: &Tensor, data: &Tensor, index: &Tensor, axis: usize) -> Result<Tensor> {
    let resolved = resolve(index, data, axis)?;
    let shape = [&data.dims()[..axis], &[resolved.elem_count()], &data.dims()[axis + 1..]].concat();
    let grad = grad.reshape(shape)?.contiguous()?;
    Ok(data.zeros_like()?.index_add(&resolved, &grad, axis)?)
}

fn check_axis(data: &[usize], axis: usize) -> Result<()> {
    if axis < data.len() {
        return Ok(());
    }
    Err(Error::invalid("axis", axis.to_string(), format!("less than {}, for data {data:?}", data.len())))
}

impl Operator for Gather {
    fn name(&self) -> &'static str {
        "Gather"
    }

    fn kind(&self, _: &[bool]) -> Kind {
        Kind::Structural
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [data, index] = shapes(inputs)?;
        check_axis(data, self.axis)?;
        Ok([&data[..self.axis], index, &data[self.axis + 1..]].concat())
    }

    fn forward(&self, inputs: &[&Tensor], _: Backend) -> Result<Tensor> {
        take(input(inputs, 0)?, input(inputs, 1)?, self.axis)
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        let (data, index) = (args.input(0)?, args.input(1)?);
        let grad = if args.wants(0) { Some(put(args.grad, data, index, self.axis)?) } else { None };
        Ok(vec![grad, None])
    }
}

impl Operator for Embedding {
    fn name(&self) -> &'static str {
        "Embedding"
    }

    fn kind(&self, _: &[bool]) -> Kind {
        Kind::Structural
    }

    fn slot(&self, slot: usize, dynamic: &[bool]) -> Slot {
        match (slot, dynamic.first()) {
            (0, Some(true)) => Slot::Data,
            (0, _) => Slot::Weight,
            _ => Slot::Other,
        }
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [table, index] = shapes(inputs)?;
        let &[_, width] = table else {
            return Err(Error::invalid("table", format!("has shape {table:?}"), "[entries, width]"));
        };
        Ok([index, &[width]].concat())
    }

    fn forward(&self, inputs: &[&Tensor], _: Backend) -> Result<Tensor> {
        take(input(inputs, 0)?, input(inputs, 1)?, 0)
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        let (table, index) = (args.input(0)?, args.input(1)?);
        let grad = if args.wants(0) { Some(put(args.grad, table, index, 0)?) } else { None };
        Ok(vec![grad, None])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ops::testing::{check, random};

    proptest! {
        #![proptest_config(ascribe_proptest::config(48))]
        #[test]
        fn derivatives(
            data in prop::collection::vec(1_usize..5, 1..4),
            index in prop::collection::vec(1_usize..4, 0..3),
            axis in 0_usize..4,
            seed in any::<u64>(),
        ) {
            let axis = axis % data.len();
            let size = data[axis] as i64;
            let count: usize = index.iter().product();
            let indices: Vec<i64> = (0..count as i64).map(|i| (i * 7 + (seed % 5) as i64) % (2 * size) - size).collect();
            let indices = Tensor::from_vec(indices, index, &Device::Cpu).unwrap();
            check(&Gather { axis }, &[random(&data, -1.0, 1.0, seed), indices], &[true, false], seed);
        }
    }

    #[test]
    fn embeddings_add_the_gradients_of_repeated_tokens() {
        let table = random(&[5, 3], -1.0, 1.0, 1);
        let tokens = Tensor::new(&[[0_u32, 4, 4], [2, 0, 1]], &Device::Cpu).unwrap();
        check(&Embedding, &[table.clone(), tokens.clone()], &[true, false], 2);
        let y = Embedding.forward(&[&table, &tokens], Backend::Auto).unwrap();
        assert_eq!(y.dims(), [2, 3, 3]);
        let grad = y.ones_like().unwrap();
        let inputs = [&table, &tokens];
        let args =
            Vjp { inputs: &inputs, output: &y, grad: &grad, needs: &[true, false], backend: Backend::Auto };
        let sums =
            Embedding.vjp(&args).unwrap()[0].clone().unwrap().sum(1).unwrap().to_vec1::<f64>().unwrap();
        assert_eq!(sums, [6.0, 3.0, 3.0, 0.0, 6.0]);
    }

    #[test]
    fn a_scalar_index_removes_the_axis() {
        let data = random(&[2, 4, 3], -1.0, 1.0, 1);
        let last = Tensor::new(-1_i64, &Device::Cpu).unwrap();
        let y = Gather { axis: 1 }.forward(&[&data, &last], Backend::Auto).unwrap();
        let expected = data.narrow(1, 3, 1).unwrap().squeeze(1).unwrap();
        assert_eq!(y.to_vec2::<f64>().unwrap(), expected.to_vec2::<f64>().unwrap());
    }

    #[test]
    fn an_index_out_of_range_is_named() {
        let data = random(&[2, 4], -1.0, 1.0, 1);
        for wrong in [4_i64, -5, i64::MAX, i64::MIN, 1 << 32] {
            let index = Tensor::new(&[0, wrong], &Device::Cpu).unwrap();
            let message =
                Gather { axis: 1 }.forward(&[&data, &index], Backend::Auto).unwrap_err().to_string();
            assert!(
                message.contains(&format!("index: {wrong};")) && message.contains("4 values"),
                "{message}"
            );
        }
        let index = Tensor::new(&[0.5], &Device::Cpu).unwrap();
        assert!(Gather { axis: 1 }.forward(&[&data, &index], Backend::Auto).is_err());
    }
}
