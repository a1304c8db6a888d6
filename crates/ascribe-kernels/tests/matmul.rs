//! Compares matrix products with a naive reference, and checks that they do not depend on threads and batch.

mod common;

use ascribe_kernels::{KernelError, MatmulShape, matmul};
use common::{bounds, on_threads, to_f64, values};
use proptest::prelude::*;

fn product(s: &MatmulShape, a: &[f32], b: &[f32]) -> Vec<f32> {
    let mut c = vec![7.0; s.batch * s.m * s.n];
    matmul(s, a, b, &mut c).unwrap();
    c
}

fn shapes() -> impl Strategy<Value = MatmulShape> {
    let size = || prop_oneof![1_usize..20, 30_usize..120];
    let inner = prop_oneof![0_usize..20, 180_usize..420];
    (0_usize..4, size(), size(), inner, any::<bool>(), any::<bool>())
        .prop_map(|(batch, m, n, k, trans_a, trans_b)| MatmulShape { batch, m, n, k, trans_a, trans_b })
}

proptest! {
    #![proptest_config(ascribe_proptest::config(64))]

    #[test]
    fn agrees_with_the_naive_reference(
        s in shapes(), seed in 0_u64..1000, share_a in any::<bool>(), share_b in any::<bool>(),
    ) {
        let entries = |shared| if shared { 1 } else { s.batch };
        let a = values::<f32>(seed, entries(share_a) * s.m * s.k);
        let b = values::<f32>(seed + 1, entries(share_b) * s.k * s.n);
        let c = product(&s, &a, &b);
        let (a, b) = (to_f64(&a), to_f64(&b));
        let expected = common::matmul(&s, &a, &b);
        let magnitudes = common::matmul(&s, &bounds::magnitudes(&a), &bounds::magnitudes(&b));
        bounds::within(&c, &expected, &bounds::of_sums::<f32>(s.k, &magnitudes))?;
        let mut c = vec![7.0; s.batch * s.m * s.n];
        matmul(&s, &a, &b, &mut c).unwrap();
        bounds::within(&c, &expected, &bounds::of_sums::<f64>(s.k, &magnitudes))?;
    }

    #[test]
    fn same_bits_for_any_number_of_threads(s in shapes(), seed in 0_u64..1000) {
        let a = values::<f32>(seed, s.batch * s.m * s.k);
        let b = values::<f32>(seed + 1, s.batch * s.k * s.n);
        let c = on_threads(1, || product(&s, &a, &b));
        for threads in [2, 3, 8] {
            prop_assert!(on_threads(threads, || product(&s, &a, &b)) == c, "{} threads", threads);
        }
    }

    #[test]
    fn a_row_does_not_depend_on_the_other_rows(s in shapes(), seed in 0_u64..1000, row in 0_usize..120) {
        let s = MatmulShape { batch: 1, trans_a: false, ..s };
        let a = values::<f32>(seed, s.m * s.k);
        let b = values::<f32>(seed + 1, s.k * s.n);
        let c = product(&s, &a, &b);
        let row = row % s.m;
        let alone = product(&MatmulShape { m: 1, ..s }, &a[row * s.k..][..s.k], &b);
        prop_assert!(alone == c[row * s.n..][..s.n]);
    }

    #[test]
    fn transposing_an_operand_does_not_move_a_rounding(s in shapes(), seed in 0_u64..1000) {
        let s = MatmulShape { batch: 1, trans_a: false, trans_b: false, ..s };
        let a = values::<f32>(seed, s.m * s.k);
        let b = values::<f32>(seed + 1, s.k * s.n);
        let transpose = |x: &[f32], rows: usize, columns: usize| -> Vec<f32> {
            (0..rows * columns).map(|at| x[at % rows * columns + at / rows]).collect()
        };
        let (a_t, b_t) = (transpose(&a, s.m, s.k), transpose(&b, s.k, s.n));
        let c = product(&s, &a, &b);
        let (ta, tb) = (MatmulShape { trans_a: true, ..s }, MatmulShape { trans_b: true, ..s });
        prop_assert!(product(&ta, &a_t, &b) == c);
        prop_assert!(product(&tb, &a, &b_t) == c);
        let both = MatmulShape { trans_b: true, ..ta };
        prop_assert!(product(&both, &a_t, &b_t) == c);
    }
}

#[test]
fn wrong_lengths_are_errors() {
    let s = MatmulShape { batch: 2, m: 2, n: 3, k: 4, ..Default::default() };
    let x = [0.0_f32; 24];
    let mut c = [0.0_f32; 12];
    assert!(matmul(&s, &x[..16], &x, &mut c).is_ok());
    assert_eq!(
        matmul(&s, &x[..9], &x, &mut c),
        Err(KernelError::Length { kernel: "matmul", argument: "a", expected: 16, found: 9 })
    );
    assert!(matmul(&s, &x[..16], &x[..13], &mut c).is_err());
    assert!(matmul(&s, &x[..16], &x, &mut c[1..]).is_err());
    let huge = MatmulShape { m: usize::MAX, ..s };
    assert!(matmul(&huge, &x, &x, &mut c).is_err());
}
