//! Standardisation of the rows of a matrix: the core of layer, group and instance norm.

use ascribe_kernels::Float;
use candle_core::Tensor;
use rayon::prelude::*;

use super::chunks_per_task;
use crate::error::Result;
use crate::ops::fast::{self, Element};
use crate::ops::lanes::mean;
use crate::ops::operator::Backend;

/// Writes `(x − mean) / √(variance + ε)` of a row and returns `1 / √(variance + ε)`.
fn standardise_row<T: Element>(x: &[T], y: &mut [T], epsilon: f64) -> T {
    let centre = mean(x, x, |x, _| x);
    let variance = <T as Float>::to_f64(mean(x, x, |x, _| (x - centre) * (x - centre)));
    let inverse = <T as Float>::from_f64(1.0 / (variance + epsilon).sqrt());
    y.iter_mut().zip(x).for_each(|(y, &x)| *y = (x - centre) * inverse);
    inverse
}

/// `(x − mean) / √(variance + ε)` for each row of `[rows, len]`, with the biased variance.
pub(super) fn standardise(x: &Tensor, epsilon: f64, backend: Backend) -> Result<Tensor> {
    let (_, len) = x.dims2()?;
    let x = x.contiguous()?;
    fast::dispatch!(backend, [&x], T => {
        let values = fast::slice::<T>(&x)?;
        let values: &[T] = &values;
        let mut y = vec![<T as Element>::zero_(); values.len()];
        let rows = y.par_chunks_mut(len).zip(values.par_chunks(len));
        rows.with_min_len(chunks_per_task(len)).for_each(|(y, x)| {
            standardise_row(x, y, epsilon);
        });
        return fast::tensor(y, x.dims());
    });
    let (centred, inverse) = portable(&x, epsilon)?;
    Ok(centred.broadcast_mul(&inverse)?)
}

/// The gradient of [`standardise`]: `(g − mean(g) − y · mean(g · y)) / √(variance + ε)` with `y` the output.
pub(super) fn standardise_grad(x: &Tensor, grad: &Tensor, epsilon: f64, backend: Backend) -> Result<Tensor> {
    let (_, len) = x.dims2()?;
    let (x, grad) = (x.contiguous()?, grad.contiguous()?);
    fast::dispatch!(backend, [&x, &grad], T => {
        let (values, grads) = (fast::slice::<T>(&x)?, fast::slice::<T>(&grad)?);
        let (values, grads): (&[T], &[T]) = (&values, &grads);
        let mut dx = vec![<T as Element>::zero_(); values.len()];
        let rows = dx.par_chunks_mut(len).zip(values.par_chunks(len)).zip(grads.par_chunks(len));
        rows.with_min_len(chunks_per_task(len)).for_each(|((dx, x), g)| {
            // The row of dx holds y until its own value replaces it.
            let inverse = standardise_row(x, dx, epsilon);
            let plain = mean(g, g, |g, _| g);
            let along = mean(g, dx, |g, y| g * y);
            dx.iter_mut().zip(g).for_each(|(y, &g)| *y = (g - plain - *y * along) * inverse);
        });
        return fast::tensor(dx, x.dims());
    });
    let (centred, inverse) = portable(&x, epsilon)?;
    let y = centred.broadcast_mul(&inverse)?;
    let along = y.broadcast_mul(&(&grad * &y)?.mean_keepdim(1)?)?;
    Ok((grad.broadcast_sub(&grad.mean_keepdim(1)?)? - along)?.broadcast_mul(&inverse)?)
}

/// `x − mean` and `1 / √(variance + ε)` of each row, by candle operations.
fn portable(x: &Tensor, epsilon: f64) -> Result<(Tensor, Tensor)> {
    let centred = x.broadcast_sub(&x.mean_keepdim(1)?)?;
    let variance = centred.sqr()?.mean_keepdim(1)?;
    let inverse = (variance + epsilon)?.sqrt()?.recip()?;
    Ok((centred, inverse))
}
