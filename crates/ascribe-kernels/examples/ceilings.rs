//! Measures the peak arithmetic rate of this machine (multiply-adds in registers) and its read bandwidth from each
//! level of the memory hierarchy.
//!
//! `cargo run --release -p ascribe-kernels --example ceilings`

use std::hint::black_box;
use std::time::Instant;

#[allow(dead_code)]
#[path = "conv_table.rs"]
mod conv_table;
use conv_table::ceiling;

/// Bytes that each thread reads repeatedly, with the level of the memory hierarchy that holds them on most machines.
const SETS: [(&str, usize); 5] = [
    ("24 KiB, first-level cache", 24 << 10),
    ("256 KiB, second-level cache", 256 << 10),
    ("1 MiB, second-level cache", 1 << 20),
    ("6 MiB, third-level cache", 6 << 20),
    ("512 MiB, main memory", 512 << 20),
];

/// Least number of bytes to read per measurement and thread.
const READ: usize = 1 << 30;

fn main() -> Result<(), rayon::ThreadPoolBuildError> {
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    for threads in [1, all] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        println!("{threads} threads: {:.0} GFLOP/s", ceiling(&pool));
        for (name, bytes) in SETS {
            println!("  reads {:5.0} GB/s ({name})", bandwidth(&pool, bytes));
        }
    }
    Ok(())
}

/// Gigabytes per second that all threads together read, each from its own memory; the best of three measurements.
fn bandwidth(pool: &rayon::ThreadPool, bytes: usize) -> f64 {
    let rounds = (READ / bytes).max(1);
    let best = (0..3)
        .map(|_| {
            let times = pool.broadcast(|_| {
                let memory = vec![1.0_f32; bytes / size_of::<f32>()];
                let start = Instant::now();
                for _ in 0..rounds {
                    black_box(sum(black_box(&memory)));
                }
                start.elapsed().as_secs_f64()
            });
            times.into_iter().fold(0.0, f64::max)
        })
        .fold(f64::INFINITY, f64::min);
    (bytes * rounds * pool.current_num_threads()) as f64 / best * 1e-9
}

#[cfg(target_arch = "x86_64")]
fn sum(memory: &[f32]) -> f32 {
    use std::arch::x86_64::{_mm512_add_ps, _mm512_loadu_ps, _mm512_reduce_add_ps, _mm512_setzero_ps};

    #[target_feature(enable = "avx512f")]
    fn wide(memory: &[f32]) -> f32 {
        let mut sums = [_mm512_setzero_ps(); 8];
        for lines in memory.as_chunks::<128>().0 {
            for (sum, line) in sums.iter_mut().zip(lines.as_chunks::<16>().0) {
                // SAFETY: a chunk has sixteen numbers.
                *sum = _mm512_add_ps(*sum, unsafe { _mm512_loadu_ps(line.as_ptr()) });
            }
        }
        sums.into_iter().map(|sum| _mm512_reduce_add_ps(sum)).sum()
    }

    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has the feature.
        return unsafe { wide(memory) };
    }
    narrow(memory)
}

#[cfg(not(target_arch = "x86_64"))]
fn sum(memory: &[f32]) -> f32 {
    narrow(memory)
}

fn narrow(memory: &[f32]) -> f32 {
    let mut sums = [0.0; 64];
    for line in memory.as_chunks::<64>().0 {
        sums.iter_mut().zip(line).for_each(|(sum, value)| *sum += value);
    }
    sums.iter().sum()
}
