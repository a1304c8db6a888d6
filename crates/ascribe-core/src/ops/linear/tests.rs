//! Tests of linear layers and matrix products.

use proptest::prelude::*;

use super::*;
use crate::ops::testing::{check, distance, random};

fn thin(shape: &[usize], mask: u8) -> Vec<usize> {
    shape.iter().enumerate().map(|(i, &side)| if mask >> i & 1 == 1 { 1 } else { side }).collect()
}

proptest! {
    #![proptest_config(ascribe_proptest::config(32))]

    #[test]
    fn derivatives_of_linear(
        rows in prop::collection::vec(1_usize..4, 1..4),
        (width, out) in (1_usize..9, 1_usize..9),
        bias in any::<bool>(),
        seed in any::<u32>(),
    ) {
        let seed = u64::from(seed);
        let mut operands = vec![
            random(&[rows, vec![width]].concat(), -1.0, 1.0, seed),
            random(&[out, width], -1.0, 1.0, seed + 1),
        ];
        if bias {
            operands.push(random(&[out], -1.0, 1.0, seed + 2));
        }
        check(&Linear, &operands, &[true; 3][..operands.len()], seed);
    }

    #[test]
    fn derivatives_of_products(
        batch in prop::collection::vec(1_usize..4, 0..3),
        masks in any::<[u8; 2]>(),
        drop in [0_usize..3, 0_usize..3],
        (m, k, n) in (1_usize..6, 1_usize..6, 1_usize..6),
        seed in any::<u32>(),
    ) {
        let seed = u64::from(seed);
        let side = |i: usize| thin(&batch[drop[i].min(batch.len())..], masks[i]);
        let a = random(&[side(0), vec![m, k]].concat(), -1.0, 1.0, seed);
        let b = random(&[side(1), vec![k, n]].concat(), -1.0, 1.0, seed + 1);
        check(&MatMul, &[a, b], &[true, true], seed);
    }
}

#[test]
fn a_row_does_not_depend_on_its_batch() {
    for dtype in [candle_core::DType::F32, candle_core::DType::F64] {
        let cast = |t: Tensor| t.to_dtype(dtype).unwrap();
        let x = cast(random(&[17, 300], -1.0, 1.0, 1));
        let weight = cast(random(&[70, 300], -1.0, 1.0, 2));
        let all = Linear.forward(&[&x, &weight], Backend::Auto).unwrap();
        for row in 0..17 {
            let one = x.narrow(0, row, 1).unwrap().contiguous().unwrap();
            let one = Linear.forward(&[&one, &weight], Backend::Auto).unwrap();
            assert_eq!(distance(&all.narrow(0, row, 1).unwrap(), &one), 0.0, "row {row}");
        }
    }
}

#[test]
fn wrong_operands_are_named() {
    let message = |shapes: &[&[usize]]| Linear.output_shape(shapes).unwrap_err().to_string();
    assert!(message(&[&[2, 3], &[5, 4]]).contains("[2, 3]"));
    assert!(message(&[&[2, 4], &[5, 4], &[4]]).contains("bias"));
    assert!(message(&[&[2, 4], &[5, 4, 1]]).contains("weight"));
    assert!(message(&[&[2, 4]]).contains("1 given"));
    let message = |shapes: &[&[usize]]| MatMul.output_shape(shapes).unwrap_err().to_string();
    assert!(message(&[&[2, 3], &[4, 5]]).contains("[2, 3] and [4, 5]"));
    assert!(message(&[&[3], &[3, 5]]).contains("2 axes"));
    assert!(message(&[&[2, 2, 3], &[3, 3, 5]]).contains("sides"));
}

#[test]
fn kinds_depend_on_what_is_dynamic() {
    assert_eq!(Linear.kind(&[true, false, false]), Kind::Affine);
    assert_eq!(Linear.kind(&[true, true]), Kind::Product);
    assert_eq!(MatMul.kind(&[true, true]), Kind::Product);
    assert_eq!(MatMul.kind(&[false, true]), Kind::Affine);
    assert_eq!(MatMul.slot(0, &[false, true]), Slot::Weight);
}
