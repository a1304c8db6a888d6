//! Checks of all values of a tensor, without copying them.

use candle_core::{DType, Device, Tensor};

use crate::error::Result;
use crate::ops::Backend;
use crate::ops::fast::{self, Element, dispatch};

/// Number of values that are checked before stopping early is considered: enough for SIMD, few enough to stop soon.
const CHUNK: usize = 4096;

/// Position in row-major order and value of the first NaN or infinity.
pub(crate) fn first_not_finite(value: &Tensor) -> Result<Option<(usize, f64)>> {
    fn find<T: Element>(values: &[T]) -> Option<(usize, f64)> {
        let finite = |chunk: &[T]| chunk.iter().fold(true, |all, v| all & number(*v).is_finite());
        let start = values.chunks(CHUNK).position(|chunk| !finite(chunk))? * CHUNK;
        let at = start + values[start..].iter().position(|v| !number(*v).is_finite())?;
        Some((at, number(values[at])))
    }
    let value = value.contiguous()?;
    dispatch!(Backend::Auto, [&value], T => { return Ok(find::<T>(&fast::slice(&value)?)); });
    Ok(find::<f64>(&fast::slice(&on_cpu(&value)?)?))
}

/// The signs that occur among some values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signs {
    /// Whether a value is positive, or NaN.
    pub(crate) positive: bool,
    /// Whether a value is negative.
    pub(crate) negative: bool,
}

/// The signs in each row along the first axis.
pub(crate) fn signs(value: &Tensor) -> Result<Vec<Signs>> {
    fn of<T: Element>(values: &[T]) -> Signs {
        let mut found = Signs::default();
        for chunk in values.chunks(CHUNK) {
            found.positive |=
                chunk.iter().fold(false, |any, v| any | (number(*v) > 0.0) | number(*v).is_nan());
            found.negative |= chunk.iter().fold(false, |any, v| any | (number(*v) < 0.0));
            if found.positive && found.negative {
                break;
            }
        }
        found
    }
    fn rows<T: Element>(values: &[T], len: usize) -> Vec<Signs> {
        values.chunks(len.max(1)).map(of).collect()
    }
    let value = value.contiguous()?;
    let len = value.elem_count() / value.dim(0)?.max(1);
    dispatch!(Backend::Auto, [&value], T => { return Ok(rows::<T>(&fast::slice(&value)?, len)); });
    Ok(rows::<f64>(&fast::slice(&on_cpu(&value)?)?, len))
}

/// All values in row-major order.
pub(crate) fn numbers(value: &Tensor) -> Result<Vec<f64>> {
    let value = value.contiguous()?;
    dispatch!(Backend::Auto, [&value], T => {
        return Ok(fast::slice::<T>(&value)?.iter().copied().map(number).collect());
    });
    Ok(fast::slice::<f64>(&on_cpu(&value)?)?.to_vec())
}

fn number<T: Element>(value: T) -> f64 {
    ascribe_kernels::Float::to_f64(value)
}

fn on_cpu(value: &Tensor) -> Result<Tensor> {
    Ok(value.to_dtype(DType::F64)?.to_device(&Device::Cpu)?.contiguous()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_and_infinity_are_found_behind_many_numbers() -> Result<()> {
        for dtype in [DType::F32, DType::F64, DType::F16] {
            for at in [0, 1, CHUNK - 1, CHUNK, 2 * CHUNK + 7] {
                for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                    let mut values = vec![1.0; 2 * CHUNK + 8];
                    values[at] = bad;
                    let tensor = Tensor::new(values, &Device::Cpu)?.to_dtype(dtype)?;
                    let found = first_not_finite(&tensor)?;
                    assert!(
                        found.is_some_and(|(i, v)| i == at && v.is_nan() == bad.is_nan() && !v.is_finite())
                    );
                }
            }
            let all = Tensor::ones(3 * CHUNK + 1, dtype, &Device::Cpu)?;
            assert_eq!(first_not_finite(&all)?, None);
        }
        Ok(())
    }

    #[test]
    fn signs_are_those_of_each_row() -> Result<()> {
        let x = Tensor::new(&[[0_f32, 0.0], [0.0, 2.0], [-1.0, 0.0], [3.0, -3.0]], &Device::Cpu)?;
        let signs = |positive, negative| Signs { positive, negative };
        let wanted = [signs(false, false), signs(true, false), signs(false, true), signs(true, true)];
        assert_eq!(super::signs(&x)?, wanted);
        assert_eq!(super::signs(&x.to_dtype(DType::BF16)?)?, wanted);
        let columns = [signs(true, true), signs(true, true)];
        assert_eq!(super::signs(&x.t()?)?, columns, "rows of a tensor that does not lie in order");
        Ok(())
    }
}
