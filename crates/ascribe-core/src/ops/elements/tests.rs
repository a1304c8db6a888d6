use proptest::prelude::*;

use super::*;
use crate::ops::testing::{check, random};

/// Indices below `side`, some of them counted from the end.
fn indices(shape: &[usize], side: usize, seed: u64) -> Tensor {
    let count: usize = shape.iter().product();
    let draws = random(&[count.max(1)], 0.0, 1.0, seed).to_vec1::<f64>().unwrap();
    let values: Vec<i64> =
        draws[..count].iter().map(|d| (d * 2.0 * side as f64) as i64 - side as i64).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

proptest! {
    #![proptest_config(ascribe_proptest::config(32))]

    #[test]
    fn elements(
        data in prop::collection::vec(1_usize..5, 1..4),
        shorter in prop::collection::vec(0_usize..2, 3),
        length in 1_usize..6,
        axis in 0_usize..3,
        add: bool,
        seed: u64,
    ) {
        let axis = axis % data.len();
        let mut shape: Vec<usize> = data.iter().zip(&shorter).map(|(&d, &s)| (d - s).max(1)).collect();
        shape[axis] = length;
        let index = indices(&shape, data[axis], seed);
        let x = random(&data, -1.0, 1.0, seed);
        check(&GatherElements { axis }, &[x.clone(), index.clone()], &[true, false], seed);
        let updates = random(&shape, -1.0, 1.0, seed ^ 1);
        check(&ScatterElements { axis, add }, &[x, index, updates], &[true, false, true], seed);
    }

    #[test]
    fn slices(
        data in prop::collection::vec(1_usize..4, 2..5),
        outer in prop::collection::vec(1_usize..4, 0..3),
        depth in 1_usize..3,
        batch_dims in 0_usize..2,
        add: bool,
        seed: u64,
    ) {
        prop_assume!(batch_dims + depth <= data.len());
        let sides = &data[batch_dims..batch_dims + depth];
        let shape = [&data[..batch_dims], &outer].concat();
        let columns: Vec<Tensor> = sides.iter().enumerate().map(|(a, &s)| indices(&shape, s, seed ^ a as u64)).collect();
        let index = Tensor::stack(&columns, shape.len()).unwrap();
        let x = random(&data, -1.0, 1.0, seed);
        check(&GatherNd { batch_dims }, &[x.clone(), index.clone()], &[true, false], seed);
        let updates = random(&[&shape, &data[batch_dims + depth..]].concat(), -1.0, 1.0, seed ^ 7);
        check(&ScatterNd { batch_dims, add }, &[x, index, updates], &[true, false, true], seed);
    }
}

fn numbers(t: &Tensor) -> Vec<f64> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

/// The examples of the ONNX specification.
#[test]
fn examples() {
    let device = &Device::Cpu;
    let x = Tensor::new(&[[1.0, 2.0], [3.0, 4.0]], device).unwrap();
    let index = Tensor::new(&[[0_i64, 0], [1, 0]], device).unwrap();
    let run = |op: &dyn Operator, inputs: &[&Tensor]| numbers(&op.forward(inputs, Backend::Auto).unwrap());
    assert_eq!(run(&GatherElements { axis: 1 }, &[&x, &index]), [1.0, 1.0, 4.0, 3.0]);
    let rows = Tensor::new(&[[1_i64], [0]], device).unwrap();
    assert_eq!(run(&GatherNd { batch_dims: 1 }, &[&x, &rows]), [2.0, 3.0]);
    assert_eq!(run(&GatherNd { batch_dims: 0 }, &[&x, &rows]), [3.0, 4.0, 1.0, 2.0]);

    let line = Tensor::new(&[[1.0, 2.0, 3.0, 4.0, 5.0]], device).unwrap();
    let places = Tensor::new(&[[1_i64, 1]], device).unwrap();
    let updates = Tensor::new(&[[1.1, 2.1]], device).unwrap();
    let of = |add| run(&ScatterElements { axis: 1, add }, &[&line, &places, &updates]);
    assert_eq!(of(true)[1], 2.0 + 1.1 + 2.1);
    assert_eq!(of(false)[1], 2.1);

    let eight = Tensor::new(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], device).unwrap();
    let places = Tensor::new(&[[4_i64], [3], [1], [7]], device).unwrap();
    let updates = Tensor::new(&[9.0, 10.0, 11.0, 12.0], device).unwrap();
    let written = run(&ScatterNd { batch_dims: 0, add: false }, &[&eight, &places, &updates]);
    assert_eq!(written, [1.0, 11.0, 3.0, 10.0, 9.0, 6.0, 7.0, 12.0]);
}

#[test]
fn what_does_not_fit_is_named() {
    let message = |result: Result<Vec<usize>>| result.unwrap_err().to_string();
    let gather = GatherElements { axis: 1 };
    assert!(message(gather.output_shape(&[&[2, 3], &[3, 3]])).contains("except along axis 1"));
    let nd = GatherNd { batch_dims: 1 };
    assert!(message(nd.output_shape(&[&[2, 3], &[3, 1]])).contains("in common"));
    assert!(message(nd.output_shape(&[&[2, 3], &[2, 2]])).contains("[…, depth]"));
    let scatter = ScatterNd { batch_dims: 0, add: false };
    assert!(message(scatter.output_shape(&[&[2, 3], &[1, 1], &[1, 2]])).contains("[1, 3]"));
    let x = random(&[2, 3], 0.0, 1.0, 1);
    let index = Tensor::new(&[[0_i64, 5, 0], [0, 0, 0]], &Device::Cpu).unwrap();
    let error = gather.forward(&[&x, &index], Backend::Auto).unwrap_err().to_string();
    assert!(error.contains("index: 5") && error.contains("3 values"), "{error}");
}
