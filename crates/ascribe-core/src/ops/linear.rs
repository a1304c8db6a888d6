//! Linear layers and matrix products.

use ascribe_kernels as kernels;
use candle_core::Tensor;

use super::binary::{Binary, sum_to};
use super::conv::parametric_kind;
use super::fast;
use super::operator::{Backend, Grads, Kind, Operator, Slot, Vjp, input, shapes};
use crate::error::{Error, Result};

/// Linear layer on the last axis: inputs `x [N, …, in]`, `weight [out, in]` and optionally `bias [out]`;
/// `y = x Wᵀ + b`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Linear;

/// Matrix product `[…, m, k] · […, k, n]` with broadcast batch axes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MatMul;

/// `a [rows, k] · b`, with `b` stored as `[k, n]`, or as `[n, k]` if `b_transposed`.
///
/// Each row of the result depends on its own row of `a` only, down to the last bit.
fn product(a: &Tensor, b: &Tensor, b_transposed: bool, backend: Backend) -> Result<Tensor> {
    let (rows, k) = a.dims2()?;
    let n = if b_transposed { b.dim(0)? } else { b.dim(1)? };
    let (a, b) = (fast::contiguous(a, backend)?, fast::contiguous(b, backend)?);
    fast::dispatch!(backend, [&a, &b], T => {
        let (a, b) = (fast::slice::<T>(&a)?, fast::slice::<T>(&b)?);
        let mut c = vec![<T as fast::Element>::zero_(); rows * n];
        kernels::matmul(&kernels::MatmulShape { batch: 1, m: rows, n, k, trans_a: false, trans_b: b_transposed }, &a, &b, &mut c)?;
        return fast::tensor(c, &[rows, n]);
    });
    Ok(if b_transposed { a.matmul(&b.t()?)? } else { a.matmul(&b)? })
}

impl Operator for Linear {
    fn name(&self) -> &'static str {
        "Linear"
    }

    fn kind(&self, dynamic: &[bool]) -> Kind {
        parametric_kind(dynamic)
    }

    fn slot(&self, slot: usize, _: &[bool]) -> Slot {
        [Slot::Data, Slot::Weight, Slot::Bias].get(slot).copied().unwrap_or(Slot::Other)
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let ([x, weight] | [x, weight, _]) = *inputs else {
            return Err(Error::invalid("inputs", format!("{} given", inputs.len()), "x, weight, bias"));
        };
        let &[out, width] = weight else {
            return Err(Error::invalid("weight", format!("has shape {weight:?}"), "[out, in]"));
        };
        if x.len() < 2 || x.last() != Some(&width) {
            return Err(Error::invalid(
                "input",
                format!("has shape {x:?}"),
                format!("[N, …, {width}] for a weight {weight:?}"),
            ));
        }
        if let Some(bias) = inputs.get(2)
            && bias.iter().product::<usize>() != out
        {
            return Err(Error::invalid("bias", format!("has shape {bias:?}"), format!("[{out}]")));
        }
        let mut shape = x.to_vec();
        shape[x.len() - 1] = out;
        Ok(shape)
    }

    fn forward(&self, inputs: &[&Tensor], backend: Backend) -> Result<Tensor> {
        let (x, weight) = (input(inputs, 0)?, input(inputs, 1)?);
        let mut shape = x.dims().to_vec();
        let last = shape.len() - 1;
        let rows = x.reshape(((), shape[last]))?;
        shape[last] = weight.dim(0)?;
        let mut y = product(&rows, weight, true, backend)?;
        if let Some(bias) = inputs.get(2) {
            y = Binary::Add.forward(&[&y, &bias.flatten_all()?], backend)?;
        }
        Ok(y.reshape(shape)?)
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        let (x, weight) = (args.input(0)?, args.input(1)?);
        let (out, width) = weight.dims2()?;
        let grad = args.grad.reshape(((), out))?;
        let dx = if args.wants(0) {
            Some(product(&grad, weight, false, args.backend)?.reshape(x.shape())?)
        } else {
            None
        };
        let dw = if args.wants(1) {
            let x = x.reshape(((), width))?;
            Some(product(&grad.t()?, &x, false, args.backend)?)
        } else {
            None
        };
        let mut grads = vec![dx, dw];
        if let Some(bias) = args.inputs.get(2) {
            grads.push(if args.wants(2) { Some(grad.sum(0)?.reshape(bias.shape())?) } else { None });
        }
        Ok(grads)
    }
}

impl MatMul {
    /// `op(a) · op(b)`, where op exchanges the last two axes of those in `transposed`; brings both sides to the same batch
    /// axes.
    fn product(a: &Tensor, b: &Tensor, transposed: [bool; 2], backend: Backend) -> Result<Tensor> {
        let dims = |t: &Tensor, transposed: bool| {
            let mut dims = t.dims().to_vec();
            let rank = dims.len();
            if transposed && rank > 1 {
                dims.swap(rank - 2, rank - 1);
            }
            dims
        };
        let (batch, m, k, n) = Self::sizes(&dims(a, transposed[0]), &dims(b, transposed[1]))?;
        if b.rank() == 2 && !transposed[0] {
            let mut shape = a.dims()[..a.rank() - 1].to_vec();
            shape.push(n);
            return Ok(product(&a.reshape(((), k))?, b, transposed[1], backend)?.reshape(shape)?);
        }
        let side = |t: &Tensor| -> Result<Tensor> {
            let own = &t.dims()[t.rank() - 2..];
            let whole: Vec<usize> = batch.iter().chain(own).copied().collect();
            Ok(fast::contiguous(&t.broadcast_as(whole)?, backend)?.reshape(((), own[0], own[1]))?)
        };
        let (left, right) = (side(a)?, side(b)?);
        let count = left.dim(0)?;
        let mut shape = batch.clone();
        shape.extend([m, n]);
        let [trans_a, trans_b] = transposed;
        fast::dispatch!(backend, [&left, &right], T => {
            let (a, b) = (fast::slice::<T>(&left)?, fast::slice::<T>(&right)?);
            let mut c = vec![<T as fast::Element>::zero_(); count * m * n];
            kernels::matmul(&kernels::MatmulShape { batch: count, m, n, k, trans_a, trans_b }, &a, &b, &mut c)?;
            return fast::tensor(c, &shape);
        });
        let [left, right] = [(left, trans_a), (right, trans_b)]
            .map(|(t, transposed)| if transposed { t.transpose(1, 2)?.contiguous() } else { Ok(t) });
        Ok(left?.matmul(&right?)?.reshape(shape)?)
    }

    /// Broadcast batch axes, m, k and n.
    fn sizes(a: &[usize], b: &[usize]) -> Result<(Vec<usize>, usize, usize, usize)> {
        let (&[ref a_batch @ .., m, k], &[ref b_batch @ .., k2, n]) = (a, b) else {
            return Err(Error::invalid(
                "inputs",
                format!("have shapes {a:?} and {b:?}"),
                "at least 2 axes each",
            ));
        };
        if k != k2 {
            return Err(Error::invalid(
                "inputs",
                format!("have shapes {a:?} and {b:?}"),
                "the last axis of the first to be as long as the last but one of the second",
            ));
        }
        Ok((super::binary::broadcast_shape(a_batch, b_batch)?, m, k, n))
    }
}

impl Operator for MatMul {
    fn name(&self) -> &'static str {
        "MatMul"
    }

    fn kind(&self, dynamic: &[bool]) -> Kind {
        if dynamic.iter().filter(|&&d| d).count() > 1 { Kind::Product } else { Kind::Affine }
    }

    fn slot(&self, slot: usize, dynamic: &[bool]) -> Slot {
        if dynamic.get(slot).copied().unwrap_or(false) { Slot::Data } else { Slot::Weight }
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [a, b] = shapes(inputs)?;
        let (mut batch, m, _, n) = Self::sizes(a, b)?;
        batch.extend([m, n]);
        Ok(batch)
    }

    fn forward(&self, inputs: &[&Tensor], backend: Backend) -> Result<Tensor> {
        Self::product(input(inputs, 0)?, input(inputs, 1)?, [false, false], backend)
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        let (a, b) = (args.input(0)?, args.input(1)?);
        let da = if args.wants(0) {
            Some(sum_to(&Self::product(args.grad, b, [false, true], args.backend)?, a.dims())?)
        } else {
            None
        };
        let db = if args.wants(1) {
            Some(sum_to(&Self::product(a, args.grad, [true, false], args.backend)?, b.dims())?)
        } else {
            None
        };
        Ok(vec![da, db])
    }
}

#[cfg(test)]
mod tests;
