use proptest::prelude::*;

use super::*;
use crate::ops::testing::{check, random};
use crate::ops::{Conv, ConvTranspose};

prop_compose! {
    fn lines()(kernel in 1_usize..4, stride in 1_usize..3, dilation in 1_usize..3, padding in prop::array::uniform2(0_usize..3))
        -> Line { Line { kernel, stride, dilation, padding } }
}

fn plane(rows: Line, cols: Line) -> Window {
    Window {
        kernel: [rows.kernel, cols.kernel],
        stride: [rows.stride, cols.stride],
        dilation: [rows.dilation, cols.dilation],
        padding: [rows.padding[0], cols.padding[0], rows.padding[1], cols.padding[1]],
        ceil_mode: false,
    }
}

proptest! {
    #![proptest_config(ascribe_proptest::config(24))]

    #[test]
    fn convolution(depth in lines(), rows in lines(), cols in lines(), groups in 1_usize..3, side in 3_usize..6, seed: u64) {
        let op = Conv3d { depth, window: plane(rows, cols), groups };
        let x = random(&[2, 2, side, 4, 5], -1.0, 1.0, seed);
        let weight = random(&[2, 2 / groups, depth.kernel, rows.kernel, cols.kernel], -1.0, 1.0, seed ^ 1);
        let bias = random(&[2], -1.0, 1.0, seed ^ 2);
        prop_assume!(op.output_shape(&[x.dims(), weight.dims(), bias.dims()]).is_ok());
        check(&op, &[x, weight, bias], &[true, true, true], seed);
    }

    #[test]
    fn transposed(
        depth in lines(), rows in lines(), cols in lines(), groups in 1_usize..3, extra in prop::array::uniform3(0_usize..2),
        side in 1_usize..4, seed: u64,
    ) {
        let op = ConvTranspose3d { depth, window: plane(rows, cols), groups, output_padding: extra };
        let x = random(&[2, 2, side, 3, 2], -1.0, 1.0, seed);
        let weight = random(&[2, 1, depth.kernel, rows.kernel, cols.kernel], -1.0, 1.0, seed ^ 1);
        let bias = random(&[groups], -1.0, 1.0, seed ^ 2);
        prop_assume!(op.output_shape(&[x.dims(), weight.dims(), bias.dims()]).is_ok());
        check(&op, &[x, weight, bias], &[true, true, true], seed);
    }

    /// A kernel of depth 1 convolves each plane.
    #[test]
    fn single_planes(rows in lines(), cols in lines(), seed: u64) {
        let window = plane(rows, cols);
        let x = random(&[1, 2, 1, 5, 6], -1.0, 1.0, seed);
        let weight = random(&[2, 2, 1, rows.kernel, cols.kernel], -1.0, 1.0, seed ^ 1);
        let (flat, kernel) = (x.squeeze(2).unwrap(), weight.squeeze(2).unwrap());
        let same = |a: Result<Tensor>, b: Result<Tensor>| match (a, b) {
            (Ok(a), Ok(b)) => crate::ops::testing::distance(&a.squeeze(2).unwrap(), &b) < 1e-12,
            (a, b) => a.is_err() && b.is_err(),
        };
        let run = |op: &dyn Operator, x: &Tensor, w: &Tensor| {
            op.output_shape(&[x.dims(), w.dims()])?;
            op.forward(&[x, w], Backend::Auto)
        };
        let depth = Line::new(1);
        let (volume, image) = (Conv3d { depth, window, groups: 1 }, Conv { window, groups: 1 });
        prop_assert!(same(run(&volume, &x, &weight), run(&image, &flat, &kernel)));
        let volume = ConvTranspose3d { depth, window, groups: 1, output_padding: [0; 3] };
        let image = ConvTranspose { window, groups: 1, output_padding: [0; 2] };
        prop_assert!(same(run(&volume, &x, &weight), run(&image, &flat, &kernel)));
    }
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let op = Conv3d { depth: Line::new(3), window: Window::new([2, 2]), groups: 1 };
    let message = |x: &[usize], w: &[usize]| op.output_shape(&[x, w]).unwrap_err().to_string();
    assert!(message(&[1, 2, 2, 4, 4], &[1, 2, 3, 2, 2]).contains("covers 3 values of depth"));
    assert!(message(&[1, 2, 4, 4], &[1, 2, 3, 2, 2]).contains("[N, C, D, H, W]"));
    assert!(message(&[1, 2, 4, 4, 4], &[1, 2, 2, 2, 2]).contains("kernel [3, 2, 2]"));
    assert!(message(&[1, 3, 4, 4, 4], &[1, 2, 3, 2, 2]).contains("3 channels"));
}
