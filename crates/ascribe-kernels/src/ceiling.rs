//! Measures the peak arithmetic rate of the processor.

use std::hint::black_box;
use std::time::Instant;

use crate::float::Float;
use crate::simd::{Isa, Kernel, Simd};

/// Number of independent accumulators: enough to hide the latency of a fused multiply-add on any processor.
const CHAINS: usize = 12;

/// A loop of fused multiply-adds that only touches registers.
struct MultiplyAdd {
    rounds: usize,
}

impl Kernel<f32> for MultiplyAdd {
    /// The number of floating-point operations done.
    type Output = f64;

    #[inline(always)]
    unsafe fn run<S: Simd<T = f32>>(self) -> f64 {
        // SAFETY: the caller provides the instruction set; no memory is read or written.
        unsafe {
            let (half, one) = (S::splat(black_box(0.5)), S::splat(black_box(1.0)));
            let mut sums = [one; CHAINS];
            for _ in 0..self.rounds {
                for sum in &mut sums {
                    *sum = S::fma(*sum, half, one);
                }
            }
            black_box(&sums);
        }
        (2 * CHAINS * S::LANES * self.rounds) as f64
    }
}

/// GFLOP/s of fused multiply-adds in registers, on all threads of the current rayon pool. No kernel that does the
/// multiplications of its definition can be faster; Winograd convolutions do fewer. The best of twenty runs of a few
/// milliseconds each.
pub fn arithmetic_ceiling() -> f64 {
    const ROUNDS: usize = 500_000;
    let isa = Isa::detect();
    let once = || {
        let start = Instant::now();
        let done = rayon::broadcast(|_| f32::dispatch(isa, MultiplyAdd { rounds: ROUNDS }));
        done.into_iter().sum::<f64>() / start.elapsed().as_secs_f64()
    };
    (0..20).map(|_| once()).fold(0.0, f64::max) * 1e-9
}
