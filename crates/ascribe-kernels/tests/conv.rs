//! Compares convolutions with a naive reference, and checks that they do not depend on threads and batch.

mod common;

use ascribe_kernels::{
    Activation, ConvParams, ConvShape, Epilogue, Float, KernelError, PackedConv, conv2d, conv2d_input_grad,
    conv2d_weight_grad,
};
use common::bounds::{self, gamma};
use common::{error, layer, on_threads, to_f64, values};
use proptest::prelude::*;

fn forward<T: Float>(s: &ConvShape, x: &[T], w: &[T], bias: Option<&[T]>) -> Vec<T> {
    let mut y = vec![T::from_f64(7.0); s.output_len()];
    conv2d(s, x, w, bias, &mut y).unwrap();
    y
}

fn backward<T: Float>(s: &ConvShape, dy: &[T], w: &[T]) -> Vec<T> {
    let mut dx = vec![T::from_f64(7.0); s.input_len()];
    conv2d_input_grad(s, dy, w, &mut dx).unwrap();
    dx
}

fn agrees<T: Float>(s: &ConvShape, seed: u64) -> Result<(), TestCaseError> {
    let x = values::<T>(seed, s.input_len());
    let w = values::<T>(seed + 1, s.weight_len());
    let b = values::<T>(seed + 2, s.out_channels);
    let dy = values::<T>(seed + 3, s.output_len());
    let (x64, w64, b64, dy64) = (to_f64(&x), to_f64(&w), to_f64(&b), to_f64(&dy));
    let [x_size, w_size, b_size, dy_size] = [&x64, &w64, &b64, &dy64].map(|v| bounds::magnitudes(v));
    let y = forward(s, &x, &w, Some(&b));
    let terms = bounds::forward_terms(s);
    let y_bounds = bounds::of_sums::<T>(terms + 1, &common::conv(s, &x_size, &w_size, &b_size));
    bounds::within(&y, &common::conv(s, &x64, &w64, &b64), &y_bounds)?;
    let dx = backward(s, &dy, &w);
    let terms = bounds::input_grad_terms(s);
    let dx_bounds = bounds::of_sums::<T>(terms, &common::conv_input_grad(s, &dy_size, &w_size));
    bounds::within(&dx, &common::conv_input_grad(s, &dy64, &w64), &dx_bounds)?;
    let mut dw = vec![T::from_f64(7.0); s.weight_len()];
    conv2d_weight_grad(s, &x, &dy, &mut dw).unwrap();
    let terms = s.batch * s.output()[0] * s.output()[1];
    let dw_bounds = bounds::of_sums::<T>(terms, &common::conv_weight_grad(s, &x_size, &dy_size));
    bounds::within(&dw, &common::conv_weight_grad(s, &x64, &dy64), &dw_bounds)?;
    // Adjointness: ⟨conv(x), dy⟩ = ⟨x, conv_input_grad(dy)⟩.
    let y = forward(s, &x, &w, None);
    let dot = |a: &[T], b: &[T]| a.iter().zip(b).map(|(a, b)| a.to_f64() * b.to_f64()).sum::<f64>();
    let sum = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let summed = gamma(s.output_len().max(s.input_len()), bounds::DOUBLE);
    let allowed = sum(&y_bounds, &dy_size)
        + sum(&dx_bounds, &x_size)
        + summed
            * (sum(&bounds::magnitudes(&to_f64(&y)), &dy_size)
                + sum(&bounds::magnitudes(&to_f64(&dx)), &x_size));
    prop_assert!((dot(&y, &dy) - dot(&x, &dx)).abs() <= allowed);
    Ok(())
}

proptest! {
    #![proptest_config(ascribe_proptest::config(96))]

    #[test]
    fn agree_with_the_naive_reference_in_f32(s in common::conv_shapes(), seed in 0_u64..1000) {
        agrees::<f32>(&s, seed)?;
    }

    #[test]
    fn agree_with_the_naive_reference_in_f64(s in common::conv_shapes(), seed in 0_u64..1000) {
        agrees::<f64>(&s, seed)?;
    }

    #[test]
    fn same_bits_for_any_number_of_threads_and_any_batch(s in common::conv_shapes(), seed in 0_u64..1000) {
        same_bits::<f32>(&s, seed)?;
    }
}

/// Checks that results are bit-identical for any number of threads, and for each sample alone and in the batch.
fn same_bits<T: Float>(s: &ConvShape, seed: u64) -> Result<(), TestCaseError> {
    let x = values::<T>(seed, s.input_len());
    let w = values::<T>(seed + 1, s.weight_len());
    let dy = values::<T>(seed + 2, s.output_len());
    let run = || (forward(s, &x, &w, None), backward(s, &dy, &w));
    let (y, dx) = on_threads(1, run);
    for threads in [2, 3, 8] {
        let other = on_threads(threads, run);
        prop_assert!(other.0 == y && other.1 == dx, "{} threads", threads);
    }
    let one = s.with_batch(1).unwrap();
    let (x_len, y_len) = (one.input_len(), one.output_len());
    for n in 0..s.batch {
        prop_assert!(forward(&one, &x[n * x_len..][..x_len], &w, None) == y[n * y_len..][..y_len]);
        prop_assert!(backward(&one, &dy[n * y_len..][..y_len], &w) == dx[n * x_len..][..x_len]);
    }
    Ok(())
}

/// Layers like those of common networks, larger than the random ones.
fn layers() -> Vec<ConvShape> {
    vec![
        layer(3, 24, 1, 61, 7, 2),
        layer(3, 32, 1, 40, 3, 2),
        layer(64, 40, 1, 28, 3, 1),
        layer(130, 33, 1, 14, 3, 1),
        layer(90, 530, 1, 7, 1, 1),
        layer(400, 30, 1, 9, 1, 2),
        layer(9, 9, 9, 57, 3, 1),
        layer(7, 7, 7, 112, 3, 2),
        layer(11, 11, 11, 28, 5, 1),
        layer(11, 11, 11, 28, 5, 2),
        layer(17, 17, 17, 7, 5, 1),
        layer(32, 64, 4, 15, 3, 2),
    ]
}

#[test]
fn real_layers_agree_with_the_reference_and_keep_their_bits() {
    for (seed, s) in layers().iter().enumerate() {
        agrees::<f32>(s, seed as u64).unwrap_or_else(|e| panic!("{s:?}: {e}"));
        same_bits::<f32>(s, seed as u64).unwrap_or_else(|e| panic!("{s:?}: {e}"));
    }
}

#[test]
fn the_epilogue_adds_bias_and_residual_and_activates() {
    for s in layers() {
        let x = values::<f64>(1, s.input_len());
        let w = values::<f64>(2, s.weight_len());
        let bias = values::<f64>(3, s.out_channels);
        let residual = values::<f64>(4, s.output_len());
        let plain = forward(&s, &x, &w, Some(&bias));
        let conv = PackedConv::forward(&s, &w).unwrap();
        for activation in [Activation::None, Activation::Relu, Activation::Clip { min: -0.5, max: 1.5 }] {
            let mut y = vec![f64::NAN; s.output_len()];
            let epilogue = Epilogue { bias: Some(&bias), residual: Some(&residual), activation };
            conv.run(s.batch, &x, &epilogue, &mut y).unwrap();
            let expected: Vec<f64> = plain
                .iter()
                .zip(&residual)
                .map(|(y, r)| match activation {
                    Activation::None => y + r,
                    Activation::Relu => (y + r).max(0.0),
                    Activation::Clip { min, max } => (y + r).clamp(min, max),
                })
                .collect();
            assert!(error(&y, &expected) < 1e-14, "{s:?} {activation:?}");
        }
        // The transposed convolution has the same epilogue, also at pixels that depend on no tap.
        let transposed = PackedConv::input_grad(&s, &w).unwrap();
        let bias = values::<f64>(5, s.in_channels);
        let residual = values::<f64>(6, s.input_len());
        let dy = values::<f64>(7, s.output_len());
        let plain = backward(&s, &dy, &w);
        let mut dx = vec![f64::NAN; s.input_len()];
        let epilogue =
            Epilogue { bias: Some(&bias), residual: Some(&residual), activation: Activation::Relu };
        transposed.run(s.batch, &dy, &epilogue, &mut dx).unwrap();
        let plane = s.input[0] * s.input[1];
        let expected: Vec<f64> = plain
            .iter()
            .enumerate()
            .map(|(at, y)| (y + bias[at / plane % s.in_channels] + residual[at]).max(0.0))
            .collect();
        assert!(error(&dx, &expected) < 1e-14, "{s:?} transposed");
    }
}

/// Memory before and after a slice is neither read nor written: with `NaN` around the slices, results are the same, and
/// the `NaN`s are still there.
#[test]
fn neighbouring_memory_is_left_alone() {
    const EDGE: usize = 4096;
    let framed = |inner: &[f32]| {
        let mut all = vec![f32::NAN; EDGE + inner.len() + EDGE];
        all[EDGE..EDGE + inner.len()].copy_from_slice(inner);
        all
    };
    for s in layers() {
        let (x, dy) = (values::<f32>(1, s.input_len()), values::<f32>(2, s.output_len()));
        let w = values::<f32>(3, s.weight_len());
        let (y, dx) = (forward(&s, &x, &w, None), backward(&s, &dy, &w));
        let (x, dy, w) = (framed(&x), framed(&dy), framed(&w));
        let inner = |all: &Vec<f32>| EDGE..all.len() - EDGE;
        let (mut y_all, mut dx_all) = (framed(&y), framed(&dx));
        let (y_range, dx_range) = (inner(&y_all), inner(&dx_all));
        y_all[y_range.clone()].fill(7.0);
        dx_all[dx_range.clone()].fill(7.0);
        conv2d(&s, &x[inner(&x)], &w[inner(&w)], None, &mut y_all[y_range.clone()]).unwrap();
        conv2d_input_grad(&s, &dy[inner(&dy)], &w[inner(&w)], &mut dx_all[dx_range.clone()]).unwrap();
        assert!(y_all[y_range] == y && dx_all[dx_range] == dx, "{s:?}");
        for all in [&y_all, &dx_all] {
            let (before, after) = (&all[..EDGE], &all[all.len() - EDGE..]);
            assert!(before.iter().chain(after).all(|v| v.is_nan()), "{s:?}");
        }
    }
}

#[test]
fn nan_survives_the_activation() {
    let s = ConvShape::new(ConvParams { input: [1, 40], ..Default::default() }).unwrap();
    let mut x = vec![1.0_f32; 40];
    x[5] = f32::NAN;
    let conv = PackedConv::forward(&s, &[1.0]).unwrap();
    for activation in [Activation::Relu, Activation::Clip { min: 0.0, max: 6.0 }] {
        let mut y = vec![0.0; 40];
        conv.run(1, &x, &Epilogue { activation, ..Default::default() }, &mut y).unwrap();
        assert!(y[5].is_nan());
        assert!(y.iter().enumerate().all(|(at, v)| at == 5 || *v == 1.0));
    }
}

#[test]
fn wrong_lengths_and_sizes_are_errors() {
    let params = ConvParams { in_channels: 2, input: [4, 4], kernel: [3, 3], ..Default::default() };
    let s = ConvShape::new(params).unwrap();
    let (x, w) = (vec![0.0_f32; 32], vec![0.0_f32; 18]);
    let mut y = vec![0.0_f32; 4];
    assert_eq!(
        conv2d(&s, &x[1..], &w, None, &mut y),
        Err(KernelError::Length { kernel: "convolution", argument: "source", expected: 32, found: 31 })
    );
    assert!(conv2d(&s, &x, &w[1..], None, &mut y).is_err());
    assert!(conv2d(&s, &x, &w, Some(&[0.0, 0.0]), &mut y).is_err());
    assert!(conv2d(&s, &x, &w, None, &mut y[1..]).is_err());
    assert!(conv2d_input_grad(&s, &x, &w, &mut y).is_err());
    assert!(conv2d_weight_grad(&s, &x, &y, &mut [0.0]).is_err());
    for bad in [
        ConvParams { in_channels: 0, ..params },
        ConvParams { groups: 2, ..params },
        ConvParams { stride: [0, 1], ..params },
        ConvParams { kernel: [5, 3], ..params },
        ConvParams { dilation: [1, 2], ..params },
        ConvParams { padding: [usize::MAX, 0, 1, 0], ..params },
        ConvParams { batch: usize::MAX, ..params },
        ConvParams { in_channels: usize::MAX / 2, ..params },
        ConvParams { dilation: [usize::MAX, 1], ..params },
    ] {
        assert!(ConvShape::new(bad).is_err(), "{bad:?}");
    }
}
