//! Compares pooling with a naive reference and with results computed by hand.

mod common;

use ascribe_kernels::{
    KernelError, PoolParams, PoolShape, avg_pool2d, avg_pool2d_input_grad, max_pool2d, max_pool2d_input_grad,
};
use common::{error, on_threads, to_f64, values};
use proptest::prelude::*;

/// The divisor of each window of an average pooling: the pixels that count, by the definition.
fn divisors(s: &PoolShape, include_pad: bool) -> Vec<f64> {
    let mut counts = vec![0.0; s.output_len()];
    let mut wide = *s.params();
    if include_pad {
        let [top, left, bottom, right] = s.padding;
        wide.input = [s.input[0] + top + bottom, s.input[1] + left + right];
        wide.padding = [0; 4];
    }
    common::each_pooled(&PoolShape::new(wide).unwrap(), |_, o| counts[o] += 1.0);
    counts
}

proptest! {
    #![proptest_config(ascribe_proptest::config(128))]

    #[test]
    fn average_and_its_gradient_agree_with_the_definition(
        s in common::pool_shapes(1..4), include_pad in any::<bool>(), seed in 0_u64..1000,
    ) {
        let x = values::<f64>(seed, s.input_len());
        let dy = values::<f64>(seed + 1, s.output_len());
        let divisors = divisors(&s, include_pad);
        let (mut expected_y, mut expected_dx) = (vec![0.0; s.output_len()], vec![0.0; s.input_len()]);
        common::each_pooled(&s, |i, o| {
            expected_y[o] += x[i] / divisors[o];
            expected_dx[i] += dy[o] / divisors[o];
        });
        let run = || {
            let (mut y, mut dx) = (vec![7.0; s.output_len()], vec![7.0; s.input_len()]);
            avg_pool2d(&s, include_pad, &x, &mut y).unwrap();
            avg_pool2d_input_grad(&s, include_pad, &dy, &mut dx).unwrap();
            (y, dx)
        };
        let (y, dx) = on_threads(1, run);
        prop_assert!(error(&y, &expected_y) < 1e-14);
        prop_assert!(error(&dx, &expected_dx) < 1e-14);
        prop_assert!(on_threads(3, run) == (y, dx));
    }

    #[test]
    fn maximum_and_its_gradient_agree_with_the_definition(s in common::pool_shapes(1..4), seed in 0_u64..1000, ties in any::<bool>()) {
        // Windows that contain only padding are an error.
        let mut seen = vec![false; s.output_len()];
        common::each_pooled(&s, |_, o| seen[o] = true);
        prop_assume!(s.batch > 0 && seen.iter().all(|&seen| seen));
        let mut x = values::<f32>(seed, s.input_len());
        if ties {
            for v in &mut x {
                *v = (*v * 2.0).round();
            }
        }
        let plane = s.input[0] * s.input[1];
        let mut expected = vec![(f32::NEG_INFINITY, 0); s.output_len()];
        common::each_pooled(&s, |i, o| if x[i] > expected[o].0 { expected[o] = (x[i], i) });
        let (mut y, mut argmax) = (vec![7.0; s.output_len()], vec![7; s.output_len()]);
        max_pool2d(&s, &x, &mut y, &mut argmax).unwrap();
        let dy = values::<f32>(seed + 1, s.output_len());
        let mut expected_dx = vec![0.0; s.input_len()];
        for (o, &(value, i)) in expected.iter().enumerate() {
            prop_assert_eq!((y[o], argmax[o] as usize), (value, i % plane));
            expected_dx[i] += f64::from(dy[o]);
        }
        let mut dx = vec![7.0; s.input_len()];
        max_pool2d_input_grad(&s, &dy, &argmax, &mut dx).unwrap();
        prop_assert!(error(&dx, &expected_dx) < 1e-6);
        prop_assert_eq!(to_f64(&x).len(), dx.len());
    }
}

#[test]
fn the_first_maximum_and_any_nan_win() {
    let s = PoolShape::new(PoolParams {
        input: [1, 6],
        output: [1, 3],
        kernel: [1, 2],
        stride: [1, 2],
        ..Default::default()
    })
    .unwrap();
    let (mut y, mut argmax) = ([0.0_f32; 3], [9; 3]);
    max_pool2d(&s, &[1.0, 1.0, f32::NAN, 5.0, f32::NEG_INFINITY, f32::NEG_INFINITY], &mut y, &mut argmax)
        .unwrap();
    assert_eq!(argmax, [0, 2, 4]);
    assert!(y[0] == 1.0 && y[1].is_nan() && y[2] == f32::NEG_INFINITY);
}

#[test]
fn ceil_mode_does_not_count_what_lies_beyond_the_padding() {
    // Width 5, padding 1 on both sides, windows of 3 in steps of 3: the third window covers the padding on the right
    // and two columns beyond it, which never count.
    let s = PoolShape::new(PoolParams {
        input: [1, 5],
        output: [1, 3],
        kernel: [1, 3],
        stride: [1, 3],
        padding: [0, 1, 0, 1],
        ..Default::default()
    })
    .unwrap();
    let x = [3.0_f64, 6.0, 9.0, 12.0, 15.0];
    let mut y = [0.0; 3];
    avg_pool2d(&s, true, &x, &mut y).unwrap();
    assert!(error(&y, &[3.0, 12.0, 0.0]) < 1e-15);
    avg_pool2d(&s, false, &x, &mut y).unwrap();
    assert!(error(&y, &[4.5, 12.0, 0.0]) < 1e-15);
}

#[test]
fn wrong_sizes_lengths_and_indices_are_errors() {
    let params =
        PoolParams { input: [4, 4], output: [2, 2], kernel: [2, 2], stride: [2, 2], ..Default::default() };
    let s = PoolShape::new(params).unwrap();
    let (x, mut y, mut argmax) = ([0.0_f32; 16], [0.0_f32; 4], [0; 4]);
    assert!(max_pool2d(&s, &x[1..], &mut y, &mut argmax).is_err());
    assert!(max_pool2d(&s, &x, &mut y, &mut argmax[1..]).is_err());
    assert_eq!(
        max_pool2d_input_grad(&s, &y, &[0, 16, 0, 0], &mut [0.0; 16]),
        Err(KernelError::Index { kernel: "max_pool2d_input_grad", argument: "argmax", found: 16, limit: 16 })
    );
    assert!(PoolShape::new(PoolParams { output: [4, 2], ..params }).is_err());
    assert!(PoolShape::new(PoolParams { kernel: [5, 2], ..params }).is_err());
    // Kernel 1 with padding: the first window holds no pixel.
    let empty = PoolShape::new(PoolParams {
        output: [6, 6],
        kernel: [1, 1],
        stride: [1, 1],
        padding: [1; 4],
        ..params
    })
    .unwrap();
    assert!(max_pool2d(&empty, &x, &mut [0.0; 36], &mut [0; 36]).is_err());
    let mut y = [7.0; 36];
    avg_pool2d(&empty, false, &x, &mut y).unwrap();
    assert_eq!(y[0], 0.0);
}
