//! Compares the speed of blocked convolutions with those on NCHW, on the layers of [`conv_table`](conv_table.rs). The
//! peak arithmetic rate of the machine is measured in the same run.
//!
//! `cargo run --release -p ascribe-kernels --example blocked_table -- [batch] [threads] [filter]`
//!
//! Prints a tab-separated line per layer: how often the network has it, then for the forward pass and for the input
//! gradient the GFLOP/s of the blocked kernel, its milliseconds, and the milliseconds on NCHW. GFLOP/s count the
//! operations of a direct convolution, whatever the algorithm. For a layer without a blocked kernel, the time on NCHW
//! is used. After a 3 × 3 layer follows a line with the GFLOP/s of Winograd convolution, which is not part of the
//! totals.

#[allow(dead_code)]
#[path = "conv_table.rs"]
mod conv_table;

use ascribe_kernels::blocked::{BLOCK, BlockedConv, BlockedEpilogue, BlockedShape, Buffer};
use ascribe_kernels::{Activation, ConvParams, ConvShape, Epilogue, Isa, PackedConv};
use conv_table::{LAYERS, best, ceiling};

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
    println!("layer\tcount\tfwd GFLOP/s\tfwd ms\tnchw ms\tgrad GFLOP/s\tgrad ms\tnchw ms");
    let mut totals = Vec::<(&str, f64, [f64; 4])>::new();
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
        let times = times(&shape)?;
        let rate = |seconds: f64| shape.flops() / seconds * 1e-9;
        println!(
            "{name}\t{count}\t{:.0}\t{:.3}\t{:.3}\t{:.0}\t{:.3}\t{:.3}",
            rate(times[0]),
            times[0] * 1e3,
            times[1] * 1e3,
            rate(times[2]),
            times[2] * 1e3,
            times[3] * 1e3
        );
        if let Some(times) = winograd(&shape)? {
            let [forward, small, large] = times.map(rate);
            println!("  Winograd\t\tF(2×2) {forward:.0}\t\t\tF(2×2) {small:.0}, F(4×4) {large:.0}");
        }
        let w = values(shape.weight_len());
        if let (Some(forward), Some(gradient)) =
            (BlockedConv::forward_split(&shape, &w)?, BlockedConv::input_grad_split(&shape, &w)?)
        {
            let forward = time_forward(&shape, false, &forward)?;
            let gradient = time_gradient(&shape, false, &gradient)?;
            println!(
                "  on AMX\t\t{:.0}\t{:.3}\t\t{:.0}\t{:.3}",
                rate(forward),
                forward * 1e3,
                rate(gradient),
                gradient * 1e3
            );
        }
        let at = totals.iter().position(|total| total.0 == network).unwrap_or_else(|| {
            totals.push((network, 0.0, [0.0; 4]));
            totals.len() - 1
        });
        totals[at].1 += count as f64 * shape.flops();
        totals[at].2.iter_mut().zip(times).for_each(|(total, time)| *total += count as f64 * time);
    }
    for (network, flops, times) in totals {
        println!(
            "{network} total\t\t{:.0}\t{:.3}\t{:.3}\t{:.0}\t{:.3}\t{:.3}",
            flops / times[0] * 1e-9,
            times[0] * 1e3,
            times[1] * 1e3,
            flops / times[2] * 1e-9,
            times[2] * 1e3,
            times[3] * 1e3
        );
    }
    Ok(())
}

/// Seconds of the forward pass, blocked and on NCHW, and of the input gradient, blocked and on NCHW.
fn times(shape: &ConvShape) -> ascribe_kernels::Result<[f64; 4]> {
    let batch = shape.batch;
    let w = values(shape.weight_len());
    let bias = values(shape.out_channels);

    let (x, mut y) = (values(shape.input_len()), values(shape.output_len()));
    let packed = PackedConv::forward(shape, &w)?;
    let epilogue = Epilogue { bias: Some(&bias), residual: None, activation: Activation::Relu };
    let nchw = best(|| packed.run(batch, &x, &epilogue, &mut y))?;
    let packed = PackedConv::input_grad(shape, &w)?;
    let mut x = x;
    let nchw_grad = best(|| packed.run(batch, &y, &Epilogue::default(), &mut x))?;
    drop((x, y, packed));

    let planar = shape.in_channels < BLOCK;
    let forward =
        if planar { BlockedConv::forward_planar(shape, &w)? } else { BlockedConv::forward(shape, &w)? };
    let forward = forward.map_or(Ok(nchw), |conv| time_forward(shape, planar, &conv))?;
    let gradient =
        if planar { BlockedConv::input_grad_planar(shape, &w)? } else { BlockedConv::input_grad(shape, &w)? };
    let gradient = gradient.map_or(Ok(nchw_grad), |conv| time_gradient(shape, planar, &conv))?;
    Ok([forward, nchw, gradient, nchw_grad])
}

/// Input and output, without borders.
fn sides(shape: &ConvShape) -> (BlockedShape, BlockedShape) {
    let input =
        BlockedShape { batch: shape.batch, channels: shape.in_channels, size: shape.input, pad: [0, 0] };
    (input, BlockedShape { channels: shape.out_channels, size: shape.output(), ..input })
}

/// Seconds of a forward pass with bias and ReLU, which also records the bit mask for the gradient of the ReLU.
fn time_forward(shape: &ConvShape, planar: bool, conv: &BlockedConv) -> ascribe_kernels::Result<f64> {
    let (input, output) = sides(shape);
    let src = BlockedShape { pad: conv.source_pad(), ..input };
    let x = values(if planar { shape.input_len() } else { src.len() });
    let bias = values(output.blocks() * BLOCK);
    let (mut y, mut record) = (Buffer::new(output.len()), vec![0; output.mask_len()]);
    best(|| {
        let epilogue = BlockedEpilogue {
            bias: Some(&bias),
            activation: Activation::Relu,
            record: Some(&mut record),
            ..Default::default()
        };
        if planar {
            conv.run_planar(shape.batch, &x, epilogue, &output, &mut y)
        } else {
            conv.run(&src, &x, epilogue, &output, &mut y)
        }
    })
}

/// Seconds of an input gradient, multiplied by the gradient of the activation in front of the layer.
fn time_gradient(shape: &ConvShape, planar: bool, conv: &BlockedConv) -> ascribe_kernels::Result<f64> {
    let (input, output) = sides(shape);
    let src = BlockedShape { pad: conv.source_pad(), ..output };
    let (dy, mut dx) = (values(src.len()), Buffer::new(input.len()));
    let mask = vec![0x6b35; input.mask_len()];
    best(|| {
        let epilogue = BlockedEpilogue { mask: Some(&mask), ..Default::default() };
        if planar {
            conv.run_to_planar(&src, &dy, &mut dx[..shape.input_len()])
        } else {
            conv.run(&src, &dy, epilogue, &input, &mut dx)
        }
    })
}

/// Seconds of Winograd convolutions: forward F(2 × 2), input gradient F(2 × 2) and F(4 × 4).
fn winograd(shape: &ConvShape) -> ascribe_kernels::Result<Option<[f64; 3]>> {
    let w = values(shape.weight_len());
    let gradient = |outputs| BlockedConv::input_grad_winograd(shape, outputs, &w);
    let (Some(forward), Some(small), Some(large)) =
        (BlockedConv::forward_winograd(shape, &w)?, gradient(2)?, gradient(4)?)
    else {
        return Ok(None);
    };
    Ok(Some([
        time_forward(shape, false, &forward)?,
        time_gradient(shape, false, &small)?,
        time_gradient(shape, false, &large)?,
    ]))
}

fn values(len: usize) -> Buffer {
    let mut values = Buffer::new(len);
    values.iter_mut().enumerate().for_each(|(at, value)| *value = (at % 17) as f32 - 8.0);
    values
}
