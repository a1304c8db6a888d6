//! Functions of two tensors with broadcasting, on slices. Those of candle run on one thread and index every element.

use ascribe_kernels as kernels;
use candle_core::Tensor;
use rayon::prelude::*;

use super::binary::broadcast_shape;
use super::fast::{self, Element};
use crate::error::Result;

/// Elements per task.
const CHUNK: usize = 32 * 1024;

/// `f(a, b)` element by element, for CPU tensors of type `T` with shapes that broadcast.
pub(crate) fn zip<T: Element>(a: &Tensor, b: &Tensor, f: impl Fn(T, T) -> T + Sync) -> Result<Tensor> {
    let shape = broadcast_shape(a.dims(), b.dims())?;
    let (a, b) = (a.contiguous()?, b.contiguous()?);
    let mut y = vec![T::zero_(); shape.iter().product()];
    let (a_dims, b_dims) = (a.dims(), b.dims());
    let (a, b) = (fast::slice::<T>(&a)?, fast::slice::<T>(&b)?);
    if a_dims == b_dims {
        kernels::zip_map(&a, &b, &mut y, f)?;
        return fast::tensor(y, &shape);
    }
    if !y.is_empty() {
        let rows = Rows::new(&shape, a_dims, b_dims);
        let per_task = (CHUNK / rows.len).max(1);
        y.par_chunks_mut(rows.len * per_task).enumerate().for_each(|(task, y)| {
            for (i, y) in y.chunks_mut(rows.len).enumerate() {
                let [at_a, at_b] = rows.offsets(task * per_task + i);
                let (a, b) = (&a[at_a..], &b[at_b..]);
                match rows.moves {
                    [true, true] => {
                        y.iter_mut().zip(a.iter().zip(b)).for_each(|(y, (&a, &b))| *y = f(a, b));
                    }
                    [true, false] => y.iter_mut().zip(a).for_each(|(y, &a)| *y = f(a, b[0])),
                    [false, true] => y.iter_mut().zip(b).for_each(|(y, &b)| *y = f(a[0], b)),
                    [false, false] => y.fill(f(a[0], b[0])),
                }
            }
        });
    }
    fast::tensor(y, &shape)
}

/// A broadcast result as rows, along which each operand either advances or repeats one value.
struct Rows {
    /// Elements per row.
    len: usize,
    /// Whether each operand advances along a row.
    moves: [bool; 2],
    /// The axes outside of the rows, the last one first: side, and stride of each operand.
    outer: Vec<(usize, [usize; 2])>,
}

impl Rows {
    fn new(shape: &[usize], a: &[usize], b: &[usize]) -> Self {
        let (a, b) = (repeating(a, shape.len()), repeating(b, shape.len()));
        let mut axes =
            shape.iter().zip(a.into_iter().zip(b)).rev().filter(|(side, _)| **side != 1).peekable();
        let moves = axes.peek().map_or([false; 2], |(_, (a, b))| [*a != 0, *b != 0]);
        let mut len = 1;
        while let Some((side, _)) = axes.next_if(|(_, (a, b))| [*a != 0, *b != 0] == moves) {
            len *= side;
        }
        let outer = axes.map(|(&side, (a, b))| (side, [a, b])).collect();
        Self { len, moves, outer }
    }

    /// Where each operand's part of a row begins.
    fn offsets(&self, mut row: usize) -> [usize; 2] {
        let mut at = [0; 2];
        for (side, step) in &self.outer {
            let i = row % side;
            row /= side;
            at[0] += i * step[0];
            at[1] += i * step[1];
        }
        at
    }
}

/// The number of values from one index of each axis to the next, for values of this shape in row-major order.
pub fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (0..shape.len().saturating_sub(1)).rev() {
        strides[i] = strides[i + 1] * shape[i + 1];
    }
    strides
}

/// The strides of a contiguous operand along each axis of the result: 0 where it is repeated.
fn repeating(dims: &[usize], rank: usize) -> Vec<usize> {
    let moves = dims.iter().zip(strides(dims)).map(|(&side, step)| if side == 1 { 0 } else { step });
    std::iter::repeat_n(0, rank - dims.len()).chain(moves).collect()
}
