//! Sums along rows in an order that depends only on the length, in a form that compilers vectorise.

use ascribe_kernels::Float;

use super::fast::Element;

/// Number of independent partial sums: enough for the widest vector registers, and fixed, so that the result is
/// the same on every machine.
const LANES: usize = 16;

/// `Σ f(aᵢ, bᵢ)` with [`LANES`] partial sums.
pub(super) fn sum_pairs<T: Element>(a: &[T], b: &[T], f: impl Fn(T, T) -> T) -> T {
    let mut lanes = [T::zero_(); LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a_chunks.remainder().iter().zip(b_chunks.remainder());
    let rest = rest.fold(T::zero_(), |sum, (&a, &b)| sum + f(a, b));
    for (a, b) in a_chunks.zip(b_chunks) {
        for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += f(a, b);
        }
    }
    lanes.into_iter().fold(rest, |sum, lane| sum + lane)
}

/// The mean of `f(aᵢ, bᵢ)`.
pub(super) fn mean<T: Element>(a: &[T], b: &[T], f: impl Fn(T, T) -> T) -> T {
    sum_pairs(a, b, f) / <T as Float>::from_f64(a.len() as f64)
}

/// The largest value; −∞ if there is none, and NaN may be passed over.
pub(super) fn largest<T: Element>(x: &[T]) -> T {
    let larger = |a: T, b: T| if b > a { b } else { a };
    let mut lanes = [T::NEG_INFINITY; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder().iter().fold(T::NEG_INFINITY, |best, &v| larger(best, v));
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, &v)| *lane = larger(*lane, v));
    }
    lanes.into_iter().fold(rest, larger)
}
