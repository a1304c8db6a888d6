//! Element-wise operations on large slices, split into chunks of fixed size that threads share.

use crate::error::{Result, check_len};
use crate::float::Float;
use crate::parallel::{SharedMut, run_tasks};
use crate::simd::{Isa, Kernel, Simd};

/// Elements per task: enough work to outweigh the cost of starting a task, few enough for the second-level cache.
const CHUNK: usize = 32 * 1024;

/// yᵢ = f(xᵢ).
///
/// # Errors
/// [`crate::KernelError::Length`] when the slices differ in length.
pub fn map<T: Float>(x: &[T], y: &mut [T], f: impl Fn(T) -> T + Sync) -> Result<()> {
    check_len("map", "y", x.len(), y.len())?;
    chunked(y, |start, y| {
        for (y, &x) in y.iter_mut().zip(&x[start..]) {
            *y = f(x);
        }
    });
    Ok(())
}

/// xᵢ ← f(xᵢ).
pub fn map_in_place<T: Float>(x: &mut [T], f: impl Fn(T) -> T + Sync) {
    chunked(x, |_, x| {
        for x in x {
            *x = f(*x);
        }
    });
}

/// xᵢ ← `value`.
pub fn fill<T: Float>(x: &mut [T], value: T) {
    chunked(x, |_, x| x.fill(value));
}

/// yᵢ = f(aᵢ, bᵢ).
///
/// # Errors
/// [`crate::KernelError::Length`] when the slices differ in length.
pub fn zip_map<T: Float>(a: &[T], b: &[T], y: &mut [T], f: impl Fn(T, T) -> T + Sync) -> Result<()> {
    check_len("zip_map", "b", a.len(), b.len())?;
    check_len("zip_map", "y", a.len(), y.len())?;
    chunked(y, |start, y| {
        for ((y, &a), &b) in y.iter_mut().zip(&a[start..]).zip(&b[start..]) {
            *y = f(a, b);
        }
    });
    Ok(())
}

/// aᵢ ← f(aᵢ, bᵢ).
///
/// # Errors
/// [`crate::KernelError::Length`] when the slices differ in length.
pub fn zip_in_place<T: Float>(a: &mut [T], b: &[T], f: impl Fn(T, T) -> T + Sync) -> Result<()> {
    check_len("zip_in_place", "b", a.len(), b.len())?;
    chunked(a, |start, a| {
        for (a, &b) in a.iter_mut().zip(&b[start..]) {
            *a = f(*a, b);
        }
    });
    Ok(())
}

/// yᵢ = max(0, xᵢ); `NaN` stays `NaN`.
///
/// # Errors
/// [`crate::KernelError::Length`] when the slices differ in length.
pub fn relu<T: Float>(x: &[T], y: &mut [T]) -> Result<()> {
    map(x, y, |x| if x < T::ZERO { T::ZERO } else { x })
}

/// dxᵢ = dyᵢ where yᵢ > 0, else 0; y is the output of the `ReLU`.
///
/// # Errors
/// [`crate::KernelError::Length`] when the slices differ in length.
pub fn relu_input_grad<T: Float>(y: &[T], dy: &[T], dx: &mut [T]) -> Result<()> {
    zip_map(y, dy, dx, |y, dy| if y > T::ZERO { dy } else { T::ZERO })
}

/// yᵢ = min(max(xᵢ, `min`), `max`); `NaN` stays `NaN`.
///
/// # Errors
/// [`crate::KernelError::Length`] when the slices differ in length.
pub fn clip<T: Float>(min: T, max: T, x: &[T], y: &mut [T]) -> Result<()> {
    map(x, y, |x| {
        let x = if x < min { min } else { x };
        if x > max { max } else { x }
    })
}

/// dxᵢ = dyᵢ where `min` < yᵢ < `max`, else 0; y is the output of the clip. The gradient is 0 where y equals a bound,
/// as in `PyTorch`'s `ReLU6`: y does not tell whether x was at the bound or beyond it.
///
/// # Errors
/// [`crate::KernelError::Length`] when the slices differ in length.
pub fn clip_input_grad<T: Float>(min: T, max: T, y: &[T], dy: &[T], dx: &mut [T]) -> Result<()> {
    zip_map(y, dy, dx, |y, dy| if y > min && y < max { dy } else { T::ZERO })
}

/// yᵢ = aᵢ + bᵢ.
///
/// # Errors
/// [`crate::KernelError::Length`] when the slices differ in length.
pub fn add<T: Float>(a: &[T], b: &[T], y: &mut [T]) -> Result<()> {
    zip_map(a, b, y, |a, b| a + b)
}

/// aᵢ ← aᵢ + bᵢ.
///
/// # Errors
/// [`crate::KernelError::Length`] when the slices differ in length.
pub fn add_assign<T: Float>(a: &mut [T], b: &[T]) -> Result<()> {
    zip_in_place(a, b, |a, b| a + b)
}

/// aᵢ ← aᵢ + s · bᵢ; the product and the sum are rounded separately.
///
/// # Errors
/// [`crate::KernelError::Length`] when the slices differ in length.
pub fn add_scaled<T: Float>(a: &mut [T], s: T, b: &[T]) -> Result<()> {
    zip_in_place(a, b, |a, b| a + s * b)
}

/// Runs `body(start, chunk)` in parallel for every chunk of `out`, compiled for the processor's widest vectors.
fn chunked<T: Float>(out: &mut [T], body: impl Fn(usize, &mut [T]) + Sync) {
    let len = out.len();
    let out = SharedMut::new(out);
    let isa = Isa::detect();
    run_tasks(
        len.div_ceil(CHUNK),
        || (),
        |(), task| {
            let start = task * CHUNK;
            // SAFETY: chunks do not overlap.
            let chunk = unsafe { out.range(start, CHUNK.min(len - start)) };
            T::dispatch(isa, Chunk { start, out: chunk, body: &body });
        },
    );
}

/// One chunk of the output and what computes it.
struct Chunk<'a, T, B> {
    start: usize,
    out: &'a mut [T],
    body: &'a B,
}

impl<T, B: Fn(usize, &mut [T])> Kernel<T> for Chunk<'_, T, B> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        (self.body)(self.start, self.out);
    }
}
