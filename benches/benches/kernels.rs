//! Benchmarks of the kernels that take most of the time of networks, on two threads.
//!
//! Run by `cargo bench -p ascribe-benches --bench kernels`. For a comparison of every layer of two networks with the
//! machine's arithmetic peak, see `crates/ascribe-kernels/examples/conv_table.rs`.

use std::hint::black_box;

use ascribe_kernels::{
    ConvParams, ConvShape, Epilogue, MatmulShape, PackedConv, PoolParams, PoolShape, avg_pool2d,
    avg_pool2d_input_grad, matmul, max_pool2d, max_pool2d_input_grad, relu_input_grad,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn fill(len: usize) -> Vec<f32> {
    (0..len).map(|at| (at * 7919 % 2003) as f32 / 1001.5 - 1.0).collect()
}

/// Input channels, output channels, groups; size, kernel, stride.
const LAYERS: &[(usize, usize, usize, usize, usize, usize)] = &[
    (3, 64, 1, 224, 7, 2),
    (64, 64, 1, 56, 3, 1),
    (64, 256, 1, 56, 1, 1),
    (256, 256, 1, 14, 3, 1),
    (512, 512, 1, 7, 3, 1),
    (1024, 2048, 1, 14, 1, 2),
    (96, 96, 96, 112, 3, 2),
    (240, 240, 240, 28, 5, 1),
];

fn convolution(criterion: &mut Criterion) {
    for batch in [1, 8] {
        let mut group = criterion.benchmark_group(format!("convolution, batch {batch}"));
        for &(in_channels, out_channels, groups, size, kernel, stride) in LAYERS {
            let shape = ConvShape::new(ConvParams {
                batch,
                in_channels,
                out_channels,
                groups,
                input: [size, size],
                kernel: [kernel, kernel],
                stride: [stride, stride],
                padding: [kernel / 2; 4],
                ..Default::default()
            })
            .expect("consistent sizes");
            let name = format!("{in_channels}-{out_channels} g{groups} {size} k{kernel} s{stride}");
            let w = fill(shape.weight_len());
            let (mut x, mut y) = (fill(shape.input_len()), fill(shape.output_len()));
            let forward = PackedConv::forward(&shape, &w).expect("lengths");
            let gradient = PackedConv::input_grad(&shape, &w).expect("lengths");
            let plain = Epilogue::default();
            group.throughput(Throughput::Elements(shape.flops() as u64));
            group.bench_function(BenchmarkId::new("forward", &name), |b| {
                b.iter(|| forward.run(batch, black_box(&x), &plain, &mut y));
            });
            group.bench_function(BenchmarkId::new("input gradient", &name), |b| {
                b.iter(|| gradient.run(batch, black_box(&y), &plain, &mut x));
            });
            group.bench_function(BenchmarkId::new("packing", &name), |b| {
                b.iter(|| PackedConv::forward(&shape, black_box(&w)));
            });
        }
        group.finish();
    }
}

fn products(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("matrix product");
    // Linear layers at several batch sizes (with weights stored as n × k), their gradients, and a square product.
    let shapes = [
        (1, 1000, 2048, true),
        (10, 1000, 2048, true),
        (10, 2048, 1000, false),
        (197, 3072, 768, true),
        (197, 768, 3072, false),
        (1024, 1024, 1024, false),
    ];
    for (m, n, k, trans_b) in shapes {
        let shape = MatmulShape { batch: 1, m, n, k, trans_a: false, trans_b };
        let (a, b, mut c) = (fill(m * k), fill(n * k), vec![0.0; m * n]);
        let name = format!("{m}×{k} · {k}×{n}{}", if trans_b { " (transposed)" } else { "" });
        group.throughput(Throughput::Elements(2 * (m * n * k) as u64));
        group.bench_function(BenchmarkId::new("ours", &name), |bench| {
            bench.iter(|| matmul(&shape, black_box(&a), &b, &mut c));
        });
        group.bench_function(BenchmarkId::new("gemm crate", &name), |bench| {
            bench.iter(|| gemm_crate(&shape, black_box(&a), &b, &mut c));
        });
    }
    group.finish();
}

/// The same product by the crate that candle uses.
#[allow(unsafe_code)]
fn gemm_crate(s: &MatmulShape, a: &[f32], b: &[f32], c: &mut [f32]) {
    assert!(a.len() == s.m * s.k && b.len() == s.n * s.k && c.len() == s.m * s.n);
    let (b_column, b_row) = if s.trans_b { (s.k, 1) } else { (1, s.n) };
    // SAFETY: the slices have the lengths that sizes and strides need.
    unsafe {
        gemm::gemm(
            s.m,
            s.n,
            s.k,
            c.as_mut_ptr(),
            1,
            s.n as isize,
            false,
            a.as_ptr(),
            1,
            s.k as isize,
            b.as_ptr(),
            b_column as isize,
            b_row as isize,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::Rayon(0),
        );
    }
}

fn pooling(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pooling and activation");
    let shape = PoolShape::new(PoolParams {
        batch: 1,
        channels: 64,
        input: [112, 112],
        output: [56, 56],
        kernel: [3, 3],
        stride: [2, 2],
        dilation: [1, 1],
        padding: [1; 4],
    })
    .expect("consistent sizes");
    let x = fill(shape.input_len());
    let (mut y, mut argmax) = (fill(shape.output_len()), vec![0; shape.output_len()]);
    let mut dx = x.clone();
    group.throughput(Throughput::Elements(x.len() as u64));
    group.bench_function("max 3×3 stride 2", |b| {
        b.iter(|| max_pool2d(&shape, black_box(&x), &mut y, &mut argmax));
    });
    group.bench_function("max 3×3 stride 2, gradient", |b| {
        b.iter(|| max_pool2d_input_grad(&shape, black_box(&y), &argmax, &mut dx));
    });
    group.bench_function("average 3×3 stride 2", |b| {
        b.iter(|| avg_pool2d(&shape, false, black_box(&x), &mut y));
    });
    group.bench_function("average 3×3 stride 2, gradient", |b| {
        b.iter(|| avg_pool2d_input_grad(&shape, false, black_box(&y), &mut dx));
    });
    let gradient = x.clone();
    group.bench_function("relu gradient", |b| {
        b.iter(|| relu_input_grad(black_box(&x), &gradient, &mut dx));
    });
    group.finish();
}

fn all(criterion: &mut Criterion) {
    // Two threads, as in every comparison that the project publishes.
    rayon::ThreadPoolBuilder::new().num_threads(2).build_global().expect("the first pool");
    convolution(criterion);
    products(criterion);
    pooling(criterion);
}

criterion_group! {
    name = kernels;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(std::time::Duration::from_millis(200))
        .measurement_time(std::time::Duration::from_millis(800));
    targets = all
}
criterion_main!(kernels);
