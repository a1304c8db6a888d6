//! Naive reference implementations in `f64`, and random data.

#![allow(dead_code)]

pub mod bounds;

use ascribe_kernels::blocked::{BLOCK, BlockedShape, from_blocked, to_blocked};
use ascribe_kernels::{ConvParams, ConvShape, Float, MatmulShape, PoolParams, PoolShape};
use proptest::prelude::*;

/// Pseudo-random values in −1..1 that depend on the seed only (splitmix64).
pub fn values<T: Float>(seed: u64, len: usize) -> Vec<T> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    (0..len)
        .map(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            T::from_f64((z >> 11) as f64 / (1_u64 << 52) as f64 - 1.0)
        })
        .collect()
}

pub fn to_f64<T: Float>(x: &[T]) -> Vec<f64> {
    x.iter().map(|v| v.to_f64()).collect()
}

/// Runs `f` on a pool of `threads` threads.
pub fn on_threads<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

/// Largest difference, divided by the largest magnitude of the reference.
pub fn error<T: Float>(found: &[T], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(1e-30_f64, |a, b| a.max(b.abs()));
    found.iter().zip(expected).fold(0.0, |worst: f64, (f, e)| {
        let difference = (f.to_f64() - e).abs();
        if difference.is_nan() { f64::INFINITY } else { worst.max(difference) }
    }) / scale
}

/// Calls `visit` for every product of a convolution, with the indices of input, weight and output.
pub fn each_product(s: &ConvShape, mut visit: impl FnMut(usize, usize, usize)) {
    let [h, w] = s.input;
    let [oh, ow] = s.output();
    let [kh, kw] = s.kernel;
    let (ic, oc) = (s.in_channels / s.groups, s.out_channels / s.groups);
    for n in 0..s.batch {
        for o in 0..s.out_channels {
            for c in 0..ic {
                let channel = o / oc * ic + c;
                for (i, j) in (0..kh * kw).map(|at| (at / kw, at % kw)) {
                    let weight = ((o * ic + c) * kh + i) * kw + j;
                    for y in 0..oh {
                        let row = (y * s.stride[0] + i * s.dilation[0]) as isize - s.padding[0] as isize;
                        if !(0..h as isize).contains(&row) {
                            continue;
                        }
                        let input = ((n * s.in_channels + channel) * h + row as usize) * w;
                        let output = ((n * s.out_channels + o) * oh + y) * ow;
                        for x in 0..ow {
                            let column =
                                (x * s.stride[1] + j * s.dilation[1]) as isize - s.padding[1] as isize;
                            if (0..w as isize).contains(&column) {
                                visit(input + column as usize, weight, output + x);
                            }
                        }
                    }
                }
            }
        }
    }
}

pub fn conv(s: &ConvShape, x: &[f64], w: &[f64], bias: &[f64]) -> Vec<f64> {
    let plane = s.output()[0] * s.output()[1];
    let mut y: Vec<f64> = (0..s.output_len()).map(|at| bias[at / plane % s.out_channels]).collect();
    each_product(s, |i, k, o| y[o] += x[i] * w[k]);
    y
}

pub fn conv_input_grad(s: &ConvShape, dy: &[f64], w: &[f64]) -> Vec<f64> {
    let mut dx = vec![0.0; s.input_len()];
    each_product(s, |i, k, o| dx[i] += dy[o] * w[k]);
    dx
}

pub fn conv_weight_grad(s: &ConvShape, x: &[f64], dy: &[f64]) -> Vec<f64> {
    let mut dw = vec![0.0; s.weight_len()];
    each_product(s, |i, k, o| dw[k] += dy[o] * x[i]);
    dw
}

pub fn matmul(s: &MatmulShape, a: &[f64], b: &[f64]) -> Vec<f64> {
    let (m, n, k) = (s.m, s.n, s.k);
    let mut c = vec![0.0; s.batch * m * n];
    for e in 0..s.batch {
        let a = if a.len() == m * k { a } else { &a[e * m * k..] };
        let b = if b.len() == k * n { b } else { &b[e * k * n..] };
        for (i, j, l) in (0..m * n * k).map(|at| (at / (n * k), at / k % n, at % k)) {
            let a = a[if s.trans_a { l * m + i } else { i * k + l }];
            let b = b[if s.trans_b { j * k + l } else { l * n + j }];
            c[(e * m + i) * n + j] += a * b;
        }
    }
    c
}

/// Calls `visit` for every input pixel of every window of a pooling, with the indices of input and output.
pub fn each_pooled(s: &PoolShape, mut visit: impl FnMut(usize, usize)) {
    let [h, w] = s.input;
    let [oh, ow] = s.output;
    for plane in 0..s.batch * s.channels {
        for (y, x) in (0..oh * ow).map(|at| (at / ow, at % ow)) {
            for (i, j) in (0..s.kernel[0] * s.kernel[1]).map(|at| (at / s.kernel[1], at % s.kernel[1])) {
                let row = (y * s.stride[0] + i * s.dilation[0]) as isize - s.padding[0] as isize;
                let column = (x * s.stride[1] + j * s.dilation[1]) as isize - s.padding[1] as isize;
                if (0..h as isize).contains(&row) && (0..w as isize).contains(&column) {
                    visit((plane * h + row as usize) * w + column as usize, (plane * oh + y) * ow + x);
                }
            }
        }
    }
}

/// One axis of a convolution: input, kernel, stride, dilation, padding before and after.
pub type Axis = (usize, usize, usize, usize, usize, usize);

/// The convolution with these groups, input and output channels per group, and axes; `None` if the kernel does not fit.
pub fn fitting(batch: usize, (groups, ic, oc): (usize, usize, usize), h: Axis, w: Axis) -> Option<ConvShape> {
    ConvShape::new(ConvParams {
        batch,
        in_channels: groups * ic,
        out_channels: groups * oc,
        groups,
        input: [h.0, w.0],
        kernel: [h.1, w.1],
        stride: [h.2, w.2],
        dilation: [h.3, w.3],
        padding: [h.4, w.4, h.5, w.5],
    })
    .ok()
}

/// Convolutions with one group (channels that fill a part of a block, or several blocks), with groups of whole blocks,
/// and depthwise ones.
pub fn blocked_conv_shapes(batch: impl Strategy<Value = usize>) -> impl Strategy<Value = ConvShape> {
    let axis = || (1_usize..24, 1_usize..6, 1_usize..3, 1_usize..3, 0_usize..4, 0_usize..4);
    let channels = prop_oneof![
        (Just(1_usize), 1_usize..40, 1_usize..120),
        (1_usize..50, Just(1_usize), Just(1_usize)),
        (2_usize..4, Just(16_usize), Just(32_usize)),
    ];
    (batch, channels, axis(), axis())
        .prop_filter_map("the kernel has to fit", |(batch, channels, h, w)| fitting(batch, channels, h, w))
}

/// A layer for two square samples, padded so that output and input have the same size for stride 1.
pub fn layer(ic: usize, oc: usize, groups: usize, size: usize, k: usize, stride: usize) -> ConvShape {
    ConvShape::new(ConvParams {
        batch: 2,
        in_channels: ic,
        out_channels: oc,
        groups,
        input: [size, size],
        kernel: [k, k],
        stride: [stride, stride],
        padding: [k / 2; 4],
        ..Default::default()
    })
    .unwrap()
}

/// Small convolutions of every kind; about one in four is depthwise.
pub fn conv_shapes() -> impl Strategy<Value = ConvShape> {
    let axis = || (1_usize..20, 1_usize..6, 1_usize..4, 1_usize..3, 0_usize..4, 0_usize..4);
    let channels = prop_oneof![
        (Just(1_usize), 1_usize..20, 1_usize..20),
        (2_usize..4, 1_usize..5, 1_usize..12),
        (1_usize..12, Just(1_usize), Just(1_usize)),
        (1_usize..6, Just(1_usize), 1_usize..3),
    ];
    (0_usize..4, channels, axis(), axis())
        .prop_filter_map("the kernel has to fit", |(batch, channels, h, w)| fitting(batch, channels, h, w))
}

/// Converts NCHW to the blocked layout.
pub fn blocked(shape: &BlockedShape, nchw: &[f32]) -> Vec<f32> {
    let mut out = vec![f32::NAN; shape.len()];
    to_blocked(shape, nchw, &mut out).unwrap();
    out
}

/// Converts the blocked layout to NCHW.
pub fn planar(shape: &BlockedShape, data: &[f32]) -> Vec<f32> {
    let mut out = vec![f32::NAN; shape.batch * shape.channels * shape.size[0] * shape.size[1]];
    from_blocked(shape, data, &mut out).unwrap();
    out
}

/// Whether border and padded channels are zero.
pub fn clean(shape: &BlockedShape, data: &[f32]) -> bool {
    blocked(shape, &planar(shape, data)) == data
}

/// Converts a bit mask to booleans in NCHW.
pub fn bits(shape: &BlockedShape, mask: &[u16]) -> Vec<bool> {
    let pixels = shape.size[0] * shape.size[1];
    (0..shape.batch * shape.channels * pixels)
        .map(|at| {
            let (n, c, p) = (at / (shape.channels * pixels), at / pixels % shape.channels, at % pixels);
            mask[(n * shape.blocks() + c / BLOCK) * pixels + p] >> (c % BLOCK) & 1 == 1
        })
        .collect()
}

/// Overlapping, padded and dilated poolings in floor and ceil mode. Windows start within the input or the padding
/// before it, as `PyTorch` and ONNX require.
pub fn pool_shapes(channels: std::ops::Range<usize>) -> impl Strategy<Value = PoolShape> {
    let axis = || (1_usize..16, 1_usize..5, 1_usize..4, 1_usize..3, any::<bool>(), 0_usize..3, 0_usize..3);
    (0_usize..3, channels, axis(), axis()).prop_filter_map(
        "the window has to fit",
        |(batch, channels, h, w)| {
            let size = |(input, kernel, stride, dilation, ceil, before, after): (
                usize,
                usize,
                usize,
                usize,
                bool,
                usize,
                usize,
            )| {
                let (before, after) = (before.min(kernel / 2), after.min(kernel / 2));
                let extent = dilation * (kernel - 1) + 1;
                let room = (input + before + after).checked_sub(extent)?;
                let mut output = room / stride + 1;
                if ceil && room % stride != 0 && output * stride < input + before {
                    output += 1;
                }
                Some((output, before, after))
            };
            let ((oh, top, bottom), (ow, left, right)) = (size(h)?, size(w)?);
            PoolShape::new(PoolParams {
                batch,
                channels,
                input: [h.0, w.0],
                output: [oh, ow],
                kernel: [h.1, w.1],
                stride: [h.2, w.2],
                dilation: [h.3, w.3],
                padding: [top, left, bottom, right],
            })
            .ok()
        },
    )
}

/// [`pool_shapes`], and occasionally poolings whose planes are so large that several tasks share one.
pub fn small_and_large_pool_shapes(channels: std::ops::Range<usize>) -> impl Strategy<Value = PoolShape> {
    let large = (20_usize..40, 40_usize..70, 1_usize..4, 1_usize..4, 1_usize..3).prop_map(
        |(height, width, kernel, stride, channels)| {
            let pad = kernel / 2;
            PoolShape::new(PoolParams {
                batch: 2,
                channels,
                input: [height, width],
                output: [height, width].map(|size| (size + 2 * pad - kernel) / stride + 1),
                kernel: [kernel; 2],
                stride: [stride; 2],
                padding: [pad; 4],
                ..Default::default()
            })
            .unwrap()
        },
    );
    prop_oneof![7 => pool_shapes(channels), 1 => large]
}
