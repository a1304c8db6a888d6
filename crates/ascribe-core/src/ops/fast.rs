//! Passing candle tensors to `ascribe-kernels`, which works on slices.

use std::ops::Deref;

use candle_core::{DType, Device, Storage, Tensor, WithDType};

use super::operator::Backend;
use crate::error::{Error, Result};

/// A number type that the kernels support.
pub(crate) trait Element: ascribe_kernels::Float + WithDType {
    /// Zero.
    fn zero_() -> Self;
}

impl Element for f32 {
    fn zero_() -> Self {
        0.0
    }
}

impl Element for f64 {
    fn zero_() -> Self {
        0.0
    }
}

/// The number type with which all of these tensors can be passed to the kernels, if there is one.
pub(crate) fn kernel_dtype(backend: Backend, tensors: &[&Tensor]) -> Option<DType> {
    if backend == Backend::Portable {
        return None;
    }
    let dtype = tensors.first()?.dtype();
    let fits = |t: &&Tensor| t.dtype() == dtype && matches!(t.device(), Device::Cpu);
    (matches!(dtype, DType::F32 | DType::F64) && tensors.iter().all(fits)).then_some(dtype)
}

/// If the kernels apply, runs the block with `T` bound to the number type; the block must `return`. Otherwise execution
/// continues after the macro.
macro_rules! dispatch {
    ($backend:expr, $tensors:expr, $t:ident => $body:block) => {
        match $crate::ops::fast::kernel_dtype($backend, &$tensors) {
            Some(candle_core::DType::F32) => {
                type $t = f32;
                $body
            }
            Some(candle_core::DType::F64) => {
                type $t = f64;
                $body
            }
            _ => {}
        }
    };
}
pub(crate) use dispatch;

/// A borrow of a contiguous CPU tensor's values in row-major order.
pub(crate) struct Slice<G, T> {
    guard: G,
    start: usize,
    len: usize,
    number: std::marker::PhantomData<T>,
}

impl<G: Deref<Target = Storage>, T: Element> Deref for Slice<G, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &*self.guard {
            Storage::Cpu(storage) => T::cpu_storage_as_slice(storage)
                .ok()
                .and_then(|all| all.get(self.start..self.start + self.len))
                .unwrap_or(&[]),
            _ => &[],
        }
    }
}

/// The values of a contiguous CPU tensor of type `T`.
pub(crate) fn slice<T: Element>(tensor: &Tensor) -> Result<Slice<impl Deref<Target = Storage> + '_, T>> {
    let (guard, layout) = tensor.storage_and_layout();
    let Some((start, end)) = layout.contiguous_offsets() else {
        return Err(Error::invalid("kernel argument", "is not contiguous", "a contiguous tensor"));
    };
    if tensor.dtype() != T::DTYPE || !matches!(tensor.device(), Device::Cpu) {
        return Err(Error::invalid(
            "kernel argument",
            format!("is {:?} on {:?}", tensor.dtype(), tensor.device().location()),
            format!("{:?} on the CPU", T::DTYPE),
        ));
    }
    Ok(Slice { guard, start, len: end - start, number: std::marker::PhantomData })
}

/// The tensor in row-major order, without copying if it is already contiguous.
pub(crate) fn contiguous(tensor: &Tensor, backend: Backend) -> Result<Tensor> {
    if tensor.is_contiguous() {
        return Ok(tensor.clone());
    }
    dispatch!(backend, [tensor], T => {
        let (guard, layout) = tensor.storage_and_layout();
        let all = match &*guard {
            Storage::Cpu(storage) => T::cpu_storage_as_slice(storage)?,
            _ => &[],
        };
        let mut values = vec![T::zero_(); tensor.elem_count()];
        let from = all.get(layout.start_offset()..).unwrap_or(&[]);
        ascribe_kernels::strided_copy(from, tensor.dims(), layout.stride(), &mut values)?;
        return self::tensor(values, tensor.dims());
    });
    Ok(tensor.contiguous()?)
}

/// A CPU tensor from values in row-major order; does not copy.
pub(crate) fn tensor<T: Element>(values: Vec<T>, shape: &[usize]) -> Result<Tensor> {
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}
