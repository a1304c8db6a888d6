//! Measures the speed of the convolutions of `ResNet-50` and `EfficientNet-Lite0` on NCHW, and the peak arithmetic rate
//! of the machine in the same run.
//!
//! `cargo run --release -p ascribe-kernels --example conv_table -- [batch] [threads] [filter]`
//!
//! Prints a tab-separated line per layer: how often the network has it, then milliseconds and GFLOP/s of the forward
//! pass and of the input gradient. `benches/peers/conv_table.py` prints the same for `PyTorch`.

use std::time::{Duration, Instant};

use ascribe_kernels::{ConvParams, ConvShape, Epilogue, Isa, PackedConv};

/// A layer: network, how often the network has it, input channels, output channels, groups, input size, kernel, stride.
pub type Layer = (&'static str, usize, usize, usize, usize, usize, usize, usize);

/// The layers that are measured.
pub const LAYERS: &[Layer] = &[
    ("resnet50", 1, 3, 64, 1, 224, 7, 2),
    ("resnet50", 1, 64, 64, 1, 56, 1, 1),
    ("resnet50", 2, 256, 64, 1, 56, 1, 1),
    ("resnet50", 3, 64, 64, 1, 56, 3, 1),
    ("resnet50", 4, 64, 256, 1, 56, 1, 1),
    ("resnet50", 1, 256, 128, 1, 56, 1, 1),
    ("resnet50", 1, 128, 128, 1, 56, 3, 2),
    ("resnet50", 3, 512, 128, 1, 28, 1, 1),
    ("resnet50", 3, 128, 128, 1, 28, 3, 1),
    ("resnet50", 4, 128, 512, 1, 28, 1, 1),
    ("resnet50", 1, 256, 512, 1, 56, 1, 2),
    ("resnet50", 1, 512, 256, 1, 28, 1, 1),
    ("resnet50", 1, 256, 256, 1, 28, 3, 2),
    ("resnet50", 5, 1024, 256, 1, 14, 1, 1),
    ("resnet50", 5, 256, 256, 1, 14, 3, 1),
    ("resnet50", 6, 256, 1024, 1, 14, 1, 1),
    ("resnet50", 1, 512, 1024, 1, 28, 1, 2),
    ("resnet50", 1, 1024, 512, 1, 14, 1, 1),
    ("resnet50", 1, 512, 512, 1, 14, 3, 2),
    ("resnet50", 2, 2048, 512, 1, 7, 1, 1),
    ("resnet50", 2, 512, 512, 1, 7, 3, 1),
    ("resnet50", 3, 512, 2048, 1, 7, 1, 1),
    ("resnet50", 1, 1024, 2048, 1, 14, 1, 2),
    ("lite0", 1, 3, 32, 1, 224, 3, 2),
    ("lite0", 1, 32, 32, 32, 112, 3, 1),
    ("lite0", 1, 32, 16, 1, 112, 1, 1),
    ("lite0", 1, 16, 96, 1, 112, 1, 1),
    ("lite0", 1, 96, 96, 96, 112, 3, 2),
    ("lite0", 1, 96, 24, 1, 56, 1, 1),
    ("lite0", 2, 24, 144, 1, 56, 1, 1),
    ("lite0", 1, 144, 144, 144, 56, 3, 1),
    ("lite0", 1, 144, 24, 1, 56, 1, 1),
    ("lite0", 1, 144, 144, 144, 56, 5, 2),
    ("lite0", 1, 144, 40, 1, 28, 1, 1),
    ("lite0", 2, 40, 240, 1, 28, 1, 1),
    ("lite0", 1, 240, 240, 240, 28, 5, 1),
    ("lite0", 1, 240, 40, 1, 28, 1, 1),
    ("lite0", 1, 240, 240, 240, 28, 3, 2),
    ("lite0", 1, 240, 80, 1, 14, 1, 1),
    ("lite0", 3, 80, 480, 1, 14, 1, 1),
    ("lite0", 2, 480, 480, 480, 14, 3, 1),
    ("lite0", 2, 480, 80, 1, 14, 1, 1),
    ("lite0", 1, 480, 480, 480, 14, 5, 1),
    ("lite0", 1, 480, 112, 1, 14, 1, 1),
    ("lite0", 3, 112, 672, 1, 14, 1, 1),
    ("lite0", 2, 672, 672, 672, 14, 5, 1),
    ("lite0", 2, 672, 112, 1, 14, 1, 1),
    ("lite0", 1, 672, 672, 672, 14, 5, 2),
    ("lite0", 1, 672, 192, 1, 7, 1, 1),
    ("lite0", 4, 192, 1152, 1, 7, 1, 1),
    ("lite0", 3, 1152, 1152, 1152, 7, 5, 1),
    ("lite0", 3, 1152, 192, 1, 7, 1, 1),
    ("lite0", 1, 1152, 1152, 1152, 7, 3, 1),
    ("lite0", 1, 1152, 320, 1, 7, 1, 1),
    ("lite0", 1, 320, 1280, 1, 7, 1, 1),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let batch = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let threads = arguments.next().map_or(Ok(2), |text| text.parse())?;
    let filter = arguments.next().unwrap_or_default();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    println!("# {} threads, batch {batch}, {}", threads, Isa::detect());
    println!("# ceiling {:.0} GFLOP/s", ceiling(&pool));
    pool.install(|| table(batch, &filter))?;
    println!("# ceiling {:.0} GFLOP/s", ceiling(&pool));
    Ok(())
}

fn table(batch: usize, filter: &str) -> ascribe_kernels::Result<()> {
    println!("layer\tcount\tfwd ms\tfwd GFLOP/s\tgrad ms\tgrad GFLOP/s");
    let mut totals = Vec::<(&str, f64, f64, f64)>::new();
    for &(network, count, ic, oc, groups, size, kernel, stride) in LAYERS {
        let name = format!("{network} {ic}-{oc} g{groups} {size} k{kernel} s{stride}");
        if !name.contains(filter) {
            continue;
        }
        let shape = ConvShape::new(ConvParams {
            batch,
            in_channels: ic,
            out_channels: oc,
            groups,
            input: [size, size],
            kernel: [kernel, kernel],
            stride: [stride, stride],
            padding: [kernel / 2; 4],
            ..Default::default()
        })?;
        let fill = |len: usize| (0..len).map(|at| (at % 17) as f32 - 8.0).collect::<Vec<_>>();
        let (x, w, dy) = (fill(shape.input_len()), fill(shape.weight_len()), fill(shape.output_len()));
        let (mut y, mut dx) = (vec![0.0; dy.len()], vec![0.0; x.len()]);
        let (forward, gradient) = (PackedConv::forward(&shape, &w)?, PackedConv::input_grad(&shape, &w)?);
        let bias = fill(oc);
        let epilogue = Epilogue::bias(Some(&bias));
        let forward = best(|| forward.run(batch, &x, &epilogue, &mut y))?;
        let gradient = best(|| gradient.run(batch, &dy, &Epilogue::default(), &mut dx))?;
        let rate = |seconds: f64| shape.flops() / seconds * 1e-9;
        println!(
            "{name}\t{count}\t{:.3}\t{:.0}\t{:.3}\t{:.0}",
            forward * 1e3,
            rate(forward),
            gradient * 1e3,
            rate(gradient)
        );
        let times = count as f64;
        match totals.iter_mut().find(|total| total.0 == network) {
            Some(total) => {
                total.1 += times * shape.flops();
                total.2 += times * forward;
                total.3 += times * gradient;
            }
            None => totals.push((network, times * shape.flops(), times * forward, times * gradient)),
        }
    }
    for (network, flops, forward, gradient) in totals {
        println!(
            "{network} total\t\t{:.3}\t{:.0}\t{:.3}\t{:.0}",
            forward * 1e3,
            flops / forward * 1e-9,
            gradient * 1e3,
            flops / gradient * 1e-9
        );
    }
    Ok(())
}

/// Shortest time of a call in seconds, over at least a fifth of a second and at least five calls. This is least
/// disturbed by other work on the machine.
pub fn best<E>(mut call: impl FnMut() -> Result<(), E>) -> Result<f64, E> {
    call()?;
    let (mut shortest, mut calls) = (f64::INFINITY, 0);
    let start = Instant::now();
    while calls < 5 || start.elapsed() < Duration::from_millis(200) {
        let start = Instant::now();
        call()?;
        shortest = start.elapsed().as_secs_f64().min(shortest);
        calls += 1;
    }
    Ok(shortest)
}

/// GFLOP/s of a loop of fused multiply-adds in registers, on all threads of the pool.
pub fn ceiling(pool: &rayon::ThreadPool) -> f64 {
    pool.install(ascribe_kernels::arithmetic_ceiling)
}
