//! Determinants.

use candle_core::{DType, Device, Tensor};

use super::operator::{Backend, Grads, Kind, Operator, Vjp, input, shapes};
use crate::error::{Error, Result};

/// The determinant of each matrix: input `x [N, …, m, m]` with `m` up to 32, output `[N, …]`; computed in double
/// precision by Gaussian elimination with pivots. The gradient is the matrix of cofactors, so that it is right for
/// singular matrices too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Determinant;

/// Largest side of a matrix: the cofactors cost the fifth power of it.
const LIMIT: usize = 32;

/// The determinant of a matrix `[side, side]`.
fn determinant(mut matrix: Vec<f64>, side: usize) -> f64 {
    let mut product = 1.0;
    for column in 0..side {
        let size = |row: usize| matrix[row * side + column].abs();
        let pivot =
            (column + 1..side).fold(column, |best, row| if size(row) > size(best) { row } else { best });
        if pivot != column {
            (0..side).for_each(|i| matrix.swap(column * side + i, pivot * side + i));
            product = -product;
        }
        let diagonal = matrix[column * side + column];
        product *= diagonal;
        if diagonal == 0.0 {
            return 0.0;
        }
        for row in column + 1..side {
            let factor = matrix[row * side + column] / diagonal;
            (column..side).for_each(|i| matrix[row * side + i] -= factor * matrix[column * side + i]);
        }
    }
    product
}

/// The signed determinants that remain without the row and the column of each value.
fn cofactors(matrix: &[f64], side: usize) -> impl Iterator<Item = f64> {
    (0..side * side).map(move |at| {
        let (row, column) = (at / side, at % side);
        let rest = (0..side * side).filter(|i| i / side != row && i % side != column).map(|i| matrix[i]);
        let sign = if (row + column).is_multiple_of(2) { 1.0 } else { -1.0 };
        sign * determinant(rest.collect(), side - 1)
    })
}

fn numbers(t: &Tensor) -> Result<Vec<f64>> {
    Ok(t.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

/// A tensor of the type and on the device of another.
fn tensor(values: Vec<f64>, shape: &[usize], like: &Tensor) -> Result<Tensor> {
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(like.dtype())?.to_device(like.device())?)
}

impl Operator for Determinant {
    fn name(&self) -> &'static str {
        "Det"
    }

    fn kind(&self, _: &[bool]) -> Kind {
        Kind::Product
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = shapes(inputs)?;
        match x {
            [outer @ .., rows, columns] if rows == columns && (1..=LIMIT).contains(rows) => {
                Ok(outer.to_vec())
            }
            _ => {
                let expected = format!("square matrices with sides of 1 to {LIMIT} along the last two axes");
                Err(Error::invalid("input", format!("has shape {x:?}"), expected))
            }
        }
    }

    fn forward(&self, inputs: &[&Tensor], _: Backend) -> Result<Tensor> {
        let x = input(inputs, 0)?;
        let shape = self.output_shape(&[x.dims()])?;
        let side = x.dim(x.rank() - 1)?;
        let values = numbers(x)?;
        let found = values.chunks(side * side).map(|m| determinant(m.to_vec(), side)).collect();
        tensor(found, &shape, x)
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        if !args.wants(0) {
            return Ok(vec![None]);
        }
        let x = args.input(0)?;
        let side = x.dim(x.rank() - 1)?;
        let (values, outer) = (numbers(x)?, numbers(args.grad)?);
        let matrices = values.chunks(side * side).zip(outer);
        let found = matrices.flat_map(|(m, g)| cofactors(m, side).map(move |c| g * c)).collect();
        Ok(vec![Some(tensor(found, x.dims(), x)?)])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ops::testing::{check, random};

    proptest! {
        #![proptest_config(ascribe_proptest::config(24))]
        #[test]
        fn derivatives(outer in prop::collection::vec(1_usize..3, 1..3), side in 1_usize..5, seed: u64) {
            check(&Determinant, &[random(&[&outer[..], &[side, side]].concat(), -1.0, 1.0, seed)], &[true], seed);
        }
    }

    #[test]
    fn singular_matrices_have_cofactors() {
        let x = Tensor::new(&[[[1.0, 2.0], [2.0, 4.0]], [[0.0, 3.0], [-2.0, 0.0]]], &Device::Cpu).unwrap();
        let y = Determinant.forward(&[&x], Backend::Auto).unwrap();
        assert_eq!(y.to_vec1::<f64>().unwrap(), [0.0, 6.0]);
        let grad = y.ones_like().unwrap();
        let args = Vjp { inputs: &[&x], output: &y, grad: &grad, needs: &[true], backend: Backend::Auto };
        let dx = Determinant.vjp(&args).unwrap().remove(0).unwrap();
        assert_eq!(numbers(&dx).unwrap(), [4.0, -2.0, -2.0, 1.0, 0.0, 2.0, -3.0, 0.0]);
        assert!(Determinant.output_shape(&[&[2, 3, 4]]).unwrap_err().to_string().contains("square"));
    }
}
