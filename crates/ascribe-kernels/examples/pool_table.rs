//! Measures the speed of blocked poolings of common networks, forward and backward.
//!
//! `cargo run --release -p ascribe-kernels --example pool_table -- [batch] [threads] [rounds]`
//!
//! Prints a tab-separated line per pooling: milliseconds of the forward pass and of the input gradient, each with the
//! GB/s of what has to be read and written. The input gradient is multiplied by the gradient of an activation in front
//! of the pooling. A round measures all poolings in turn; the least time of all rounds is printed.

use std::time::Instant;

use ascribe_kernels::blocked::{
    BlockedShape, Buffer, avg_pool, avg_pool_input_grad, max_pool, max_pool_input_grad, winners_len,
};
use ascribe_kernels::{Isa, PoolParams, PoolShape, Result};

/// A pooling: name, whether it is maximum pooling, channels, size, kernel, stride, padding.
type Pooling = (&'static str, bool, usize, usize, usize, usize, usize);

const POOLINGS: &[Pooling] = &[
    ("ResNet 64 112 k3 s2 p1", true, 64, 112, 3, 2, 1),
    ("VGG 64 224 k2 s2", true, 64, 224, 2, 2, 0),
    ("VGG 256 56 k2 s2", true, 256, 56, 2, 2, 0),
    ("VGG 512 14 k2 s2", true, 512, 14, 2, 2, 0),
    ("SqueezeNet 96 109 k3 s2", true, 96, 109, 3, 2, 0),
    ("Inception 288 28 k3 s1 p1", true, 288, 28, 3, 1, 1),
    ("DenseNet 128 56 k2 s2", false, 128, 56, 2, 2, 0),
    ("Inception 192 28 k3 s1 p1", false, 192, 28, 3, 1, 1),
    ("ResNet 2048 7 k7", false, 2048, 7, 7, 1, 0),
];

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let batch = arguments.next().map_or(Ok(4), |text| text.parse())?;
    let threads = arguments.next().map_or(Ok(2), |text| text.parse())?;
    let rounds = arguments.next().map_or(Ok(30), |text| text.parse())?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    println!("# {threads} threads, batch {batch}, {}", Isa::detect());
    println!("pooling\tfwd ms\tGB/s\tgrad ms\tGB/s");
    pool.install(|| table(batch, rounds))?;
    Ok(())
}

/// A pooling with its tensors, and the best times of forward pass and input gradient so far.
struct Case {
    maximum: bool,
    shape: PoolShape,
    sides: [BlockedShape; 2],
    x: Buffer,
    y: Buffer,
    winners: Vec<u8>,
    mask: Vec<u16>,
    best: [f64; 2],
}

impl Case {
    fn new(batch: usize, &(_, maximum, channels, size, kernel, stride, pad): &Pooling) -> Result<Self> {
        let shape = PoolShape::new(PoolParams {
            batch,
            channels,
            input: [size; 2],
            output: [(size + 2 * pad - kernel) / stride + 1; 2],
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [pad; 4],
            ..Default::default()
        })?;
        let input = BlockedShape { batch, channels, size: shape.input, pad: [0, 0] };
        let output = BlockedShape { size: shape.output, ..input };
        let mut x = Buffer::new(input.len());
        x.iter_mut().enumerate().for_each(|(at, value)| *value = (at * 7919 % 2003) as f32 - 1000.0);
        Ok(Self {
            maximum,
            shape,
            sides: [input, output],
            x,
            y: Buffer::new(output.len()),
            winners: vec![0; winners_len(&shape)],
            mask: vec![0x6b35; input.mask_len()],
            best: [f64::INFINITY; 2],
        })
    }

    fn round(&mut self) -> Result<()> {
        let Self { shape, sides: [input, output], x, y, winners, mask, .. } = self;
        let start = Instant::now();
        if self.maximum {
            max_pool(shape, input, x, output, y, winners)?;
        } else {
            avg_pool(shape, false, input, x, output, y)?;
        }
        let middle = Instant::now();
        if self.maximum {
            max_pool_input_grad(shape, output, y, winners, Some(mask), input, x)?;
        } else {
            avg_pool_input_grad(shape, false, output, y, Some(mask), input, x)?;
        }
        let times = [(middle - start).as_secs_f64(), middle.elapsed().as_secs_f64()];
        self.best.iter_mut().zip(times).for_each(|(best, time)| *best = best.min(time));
        Ok(())
    }
}

fn table(batch: usize, rounds: usize) -> Result<()> {
    let mut cases: Vec<_> =
        POOLINGS.iter().map(|pooling| Case::new(batch, pooling)).collect::<Result<_>>()?;
    for _ in 0..rounds {
        cases.iter_mut().try_for_each(Case::round)?;
    }
    for (case, (name, ..)) in cases.iter().zip(POOLINGS) {
        let winners = if case.maximum { case.winners.len() } else { 0 };
        let bytes = 4 * (case.x.len() + case.y.len()) + winners;
        let [forward, gradient] = [(case.best[0], bytes), (case.best[1], bytes + 2 * case.mask.len())]
            .map(|(seconds, bytes)| format!("{:.3}\t{:.1}", seconds * 1e3, bytes as f64 / seconds * 1e-9));
        println!("{name}\t{forward}\t{gradient}");
    }
    Ok(())
}
