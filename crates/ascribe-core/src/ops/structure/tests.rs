//! Tests of operators that move values.

use candle_core::Device;
use proptest::prelude::*;

use super::*;
use crate::ops::testing::{check, random};

fn numbers(op: &Structure, inputs: &[&Tensor]) -> Vec<f64> {
    op.forward(inputs, Backend::Auto).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn count(shape: &[usize]) -> Tensor {
    let n: usize = shape.iter().product();
    Tensor::arange(0.0, n as f64, &Device::Cpu).unwrap().reshape(shape).unwrap()
}

proptest! {
    #![proptest_config(ascribe_proptest::config(32))]

    #[test]
    fn derivatives(
        shape in prop::collection::vec(1_usize..5, 1..5),
        picks in any::<[u8; 4]>(),
        repeats in prop::collection::vec(1_usize..4, 4),
        seed in any::<u64>(),
    ) {
        let rank = shape.len();
        let x = random(&shape, -1.0, 1.0, seed);
        let axis = usize::from(picks[0]) % rank;
        let mut order: Vec<usize> = (0..rank).collect();
        order.rotate_left(axis);
        order.swap(0, usize::from(picks[1]) % rank);
        let side = shape[axis];
        let start = usize::from(picks[2]) % side;
        let (step, reach) = if picks[3] % 2 == 0 { (1 + isize::from(picks[3] / 2 % 3), side - 1 - start) } else {
            (-1 - isize::from(picks[3] / 2 % 3), start)
        };
        let len = reach / step.unsigned_abs() + 1;
        let repeats = repeats[..rank].to_vec();
        let ops = [
            Structure::Identity,
            Structure::Flatten { axis },
            Structure::Reshape { shape: vec![Side::Infer, Side::Same(axis)] },
            Structure::Reshape { shape: shape.iter().rev().map(|&s| Side::Fixed(s)).collect() },
            Structure::Transpose { order },
            Structure::Slice { axis, start, len, step },
            Structure::Tile { repeats },
        ];
        for op in ops {
            check(&op, std::slice::from_ref(&x), &[true], seed);
        }
    }

    #[test]
    fn derivatives_of_repeating(
        shape in prop::collection::vec(1_usize..4, 1..4),
        mask in any::<u8>(),
        batch in 1_usize..4,
        seed in any::<u64>(),
    ) {
        let thin: Vec<usize> =
            shape.iter().enumerate().map(|(i, &side)| if mask >> i & 1 == 1 { 1 } else { side }).collect();
        let x = random(&thin, -1.0, 1.0, seed);
        check(&Structure::Expand { shape: [&[2], shape.as_slice()].concat() }, &[x], &[true], seed);
        let x = random(&[&[1], shape.as_slice()].concat(), -1.0, 1.0, seed);
        let like = random(&[batch, 2], -1.0, 1.0, seed ^ 1);
        check(&Structure::ExpandBatch, &[x, like], &[true, true], seed);
    }

    #[test]
    fn derivatives_of_joining(
        shape in prop::collection::vec(1_usize..4, 1..4),
        sides in prop::collection::vec(1_usize..4, 1..4),
        axis in 0_usize..4,
        single in any::<u8>(),
        seed in any::<u32>(),
    ) {
        let axis = axis % shape.len();
        let parts: Vec<Tensor> = sides
            .iter()
            .enumerate()
            .map(|(i, &side)| {
                let mut part = shape.clone();
                part[axis] = side;
                if axis != 0 && single >> i & 1 == 1 {
                    part[0] = 1;
                }
                random(&part, -1.0, 1.0, u64::from(seed) + i as u64)
            })
            .collect();
        check(&Structure::Concat { axis }, &parts, &vec![true; parts.len()], u64::from(seed));
    }
}

#[test]
fn values_go_where_numpy_puts_them() {
    let x = count(&[2, 3]);
    assert_eq!(numbers(&Structure::Transpose { order: vec![1, 0] }, &[&x]), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    let slice = Structure::Slice { axis: 1, start: 2, len: 2, step: -2 };
    assert_eq!(numbers(&slice, &[&x]), [2.0, 0.0, 5.0, 3.0]);
    let tile = Structure::Tile { repeats: vec![1, 2] };
    assert_eq!(numbers(&tile, &[&x]), [0.0, 1.0, 2.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 3.0, 4.0, 5.0]);
    let join = Structure::Concat { axis: 1 };
    assert_eq!(numbers(&join, &[&count(&[1, 1]), &x]), [0.0, 0.0, 1.0, 2.0, 0.0, 3.0, 4.0, 5.0]);
}

#[test]
fn integers_are_moved_too() {
    let x = Tensor::new(&[[1_i64, 2, 3]], &Device::Cpu).unwrap();
    let slice = Structure::Slice { axis: 1, start: 1, len: 2, step: 1 };
    assert_eq!(slice.forward(&[&x], Backend::Auto).unwrap().to_vec2::<i64>().unwrap(), [[2, 3]]);
}

#[test]
fn impossible_shapes_are_errors() {
    let error = |op: Structure, shapes: &[&[usize]]| op.output_shape(shapes).unwrap_err().to_string();
    let reshape = |shape: Vec<Side>| Structure::Reshape { shape };
    assert!(error(reshape(vec![Side::Fixed(4)]), &[&[2, 3]]).contains("[2, 3], 6 values"));
    assert!(error(reshape(vec![Side::Fixed(4), Side::Infer]), &[&[2, 3]]).contains("6 values"));
    assert!(error(reshape(vec![Side::Same(2)]), &[&[2, 3]]).contains("an axis 2"));
    assert!(error(reshape(vec![Side::Infer, Side::Infer]), &[&[2, 3]]).contains("one side"));
    let huge = Side::Fixed(1 << 33);
    assert!(error(reshape(vec![huge, huge]), &[&[2, 3]]).contains("6 values"));
    assert!(error(Structure::Transpose { order: vec![0, 0] }, &[&[2, 3]]).contains("order"));
    assert!(error(Structure::Slice { axis: 1, start: 2, len: 2, step: 1 }, &[&[2, 3]]).contains("axis 1"));
    assert!(error(Structure::Slice { axis: 2, start: 0, len: 1, step: 1 }, &[&[2, 3]]).contains("axis 2"));
    assert!(error(Structure::Slice { axis: 1, start: 0, len: 1, step: 0 }, &[&[2, 3]]).contains("axis 1"));
    assert!(error(Structure::Tile { repeats: vec![2] }, &[&[2, 3]]).contains("axes"));
    assert!(error(Structure::Tile { repeats: vec![usize::MAX, 2] }, &[&[2, 3]]).contains("repeats"));
    assert!(error(Structure::Tile { repeats: vec![0, 2] }, &[&[2, 3]]).contains("repeats"));
    assert!(error(Structure::Flatten { axis: 3 }, &[&[2, 3]]).contains("axes"));
    assert!(error(Structure::Concat { axis: 0 }, &[&[2, 3], &[2, 4]]).contains("axis 0"));
    assert!(error(Structure::Concat { axis: 2 }, &[&[2, 3]]).contains("axis"));
    assert!(error(Structure::Concat { axis: 0 }, &[]).contains("none given"));
    assert!(error(Structure::ExpandBatch, &[&[2, 3], &[4, 1]]).contains("first axis"));
    assert!(error(Structure::Expand { shape: vec![2, 2] }, &[&[2, 3]]).contains("sides"));
}
