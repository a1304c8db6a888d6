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

fn reductions() -> impl Strategy<Value = ScatterReduction> {
    use ScatterReduction::{Add, Max, Min, Mul, Replace};
    prop::sample::select(vec![Replace, Add, Mul, Max, Min])
}

proptest! {
    #![proptest_config(ascribe_proptest::config(32))]

    #[test]
    fn elements(
        data in prop::collection::vec(1_usize..5, 1..4),
        shorter in prop::collection::vec(0_usize..2, 3),
        length in 1_usize..6,
        axis in 0_usize..3,
        reduction in reductions(),
        seed: u64,
    ) {
        let axis = axis % data.len();
        let mut shape: Vec<usize> = data.iter().zip(&shorter).map(|(&d, &s)| (d - s).max(1)).collect();
        shape[axis] = length;
        let index = indices(&shape, data[axis], seed);
        let x = random(&data, -1.0, 1.0, seed);
        let places = Places::Elements { axis };
        check(&GatherAt { places }, &[x.clone(), index.clone()], &[true, false], seed);
        let updates = random(&shape, -1.0, 1.0, seed ^ 1);
        check(&ScatterAt { places, reduction }, &[x, index, updates], &[true, false, true], seed);
    }

    #[test]
    fn slices(
        data in prop::collection::vec(1_usize..4, 2..5),
        outer in prop::collection::vec(1_usize..4, 0..3),
        depth in 1_usize..3,
        batch_dims in 0_usize..2,
        reduction in reductions(),
        seed: u64,
    ) {
        prop_assume!(batch_dims + depth <= data.len());
        let sides = &data[batch_dims..batch_dims + depth];
        let shape = [&data[..batch_dims], &outer].concat();
        let columns: Vec<Tensor> = sides.iter().enumerate().map(|(a, &s)| indices(&shape, s, seed ^ a as u64)).collect();
        let index = Tensor::stack(&columns, shape.len()).unwrap();
        let x = random(&data, -1.0, 1.0, seed);
        let places = Places::Slices { batch_dims };
        check(&GatherAt { places }, &[x.clone(), index.clone()], &[true, false], seed);
        let updates = random(&[&shape, &data[batch_dims + depth..]].concat(), -1.0, 1.0, seed ^ 7);
        check(&ScatterAt { places, reduction }, &[x, index, updates], &[true, false, true], seed);
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
    assert_eq!(run(&GatherAt { places: Places::Elements { axis: 1 } }, &[&x, &index]), [1.0, 1.0, 4.0, 3.0]);
    let rows = Tensor::new(&[[1_i64], [0]], device).unwrap();
    assert_eq!(run(&GatherAt { places: Places::Slices { batch_dims: 1 } }, &[&x, &rows]), [2.0, 3.0]);
    assert_eq!(
        run(&GatherAt { places: Places::Slices { batch_dims: 0 } }, &[&x, &rows]),
        [3.0, 4.0, 1.0, 2.0]
    );

    let line = Tensor::new(&[[1.0, 2.0, 3.0, 4.0, 5.0]], device).unwrap();
    let places = Tensor::new(&[[1_i64, 1]], device).unwrap();
    let updates = Tensor::new(&[[1.1, 2.1]], device).unwrap();
    let at = Places::Elements { axis: 1 };
    let of = |reduction| run(&ScatterAt { places: at, reduction }, &[&line, &places, &updates])[1];
    assert_eq!(of(ScatterReduction::Add), 2.0 + 1.1 + 2.1);
    assert_eq!(of(ScatterReduction::Replace), 2.1);
    assert_eq!(of(ScatterReduction::Mul), 2.0 * 1.1 * 2.1);
    assert_eq!([of(ScatterReduction::Max), of(ScatterReduction::Min)], [2.1, 1.1]);

    let eight = Tensor::new(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], device).unwrap();
    let places = Tensor::new(&[[4_i64], [3], [1], [7]], device).unwrap();
    let updates = Tensor::new(&[9.0, 10.0, 11.0, 12.0], device).unwrap();
    let written = run(
        &ScatterAt { places: Places::Slices { batch_dims: 0 }, reduction: ScatterReduction::Replace },
        &[&eight, &places, &updates],
    );
    assert_eq!(written, [1.0, 11.0, 3.0, 10.0, 9.0, 6.0, 7.0, 12.0]);
}

#[test]
fn what_does_not_fit_is_named() {
    let message = |result: Result<Vec<usize>>| result.unwrap_err().to_string();
    let gather = GatherAt { places: Places::Elements { axis: 1 } };
    assert!(message(gather.output_shape(&[&[2, 3], &[3, 3]])).contains("except along axis 1"));
    let nd = GatherAt { places: Places::Slices { batch_dims: 1 } };
    assert!(message(nd.output_shape(&[&[2, 3], &[3, 1]])).contains("in common"));
    assert!(message(nd.output_shape(&[&[2, 3], &[2, 2]])).contains("[…, depth]"));
    let scatter =
        ScatterAt { places: Places::Slices { batch_dims: 0 }, reduction: ScatterReduction::Replace };
    assert!(message(scatter.output_shape(&[&[2, 3], &[1, 1], &[1, 2]])).contains("[1, 3]"));
    let x = random(&[2, 3], 0.0, 1.0, 1);
    let index = Tensor::new(&[[0_i64, 5, 0], [0, 0, 0]], &Device::Cpu).unwrap();
    let error = gather.forward(&[&x, &index], Backend::Auto).unwrap_err().to_string();
    assert!(error.contains("index: 5") && error.contains("3 values"), "{error}");
}

#[test]
fn products_with_zeros_and_ties_have_gradients() {
    let device = &Device::Cpu;
    let x = Tensor::new(&[[0.0, 3.0, 2.0]], device).unwrap();
    let index = Tensor::new(&[[0_i64, 0, 1]], device).unwrap();
    let updates = Tensor::new(&[[2.0, 5.0, 3.0]], device).unwrap();
    let grad = Tensor::ones((1, 3), DType::F64, device).unwrap();
    let of = |reduction| {
        let op = ScatterAt { places: Places::Elements { axis: 1 }, reduction };
        let inputs = [&x, &index, &updates];
        let output = op.forward(&inputs, Backend::Auto).unwrap();
        let args = Vjp {
            inputs: &inputs,
            output: &output,
            grad: &grad,
            needs: &[true, false, true],
            backend: Backend::Auto,
        };
        let grads = op.vjp(&args).unwrap();
        [0, 2].map(|i| numbers(grads[i].as_ref().unwrap()))
    };
    assert_eq!(of(ScatterReduction::Mul), [vec![10.0, 3.0, 1.0], vec![0.0, 0.0, 3.0]]);
    assert_eq!(of(ScatterReduction::Max), [vec![0.0, 0.5, 1.0], vec![0.0, 1.0, 0.5]]);
}

#[test]
fn unpooling_puts_values_back() {
    let device = &Device::Cpu;
    let x = random(&[2, 3, 2, 2], 0.0, 1.0, 3);
    let index: Vec<i64> = (0..6).flat_map(|plane| [0, 5, 10, 15].map(|at| plane * 16 + at)).collect();
    let index = Tensor::from_vec(index, (2, 3, 2, 2), device).unwrap();
    let op = MaxUnpool { sides: vec![4, 4] };
    check(&op, &[x.clone(), index.clone()], &[true, false], 4);
    let y = op.forward(&[&x, &index], Backend::Auto).unwrap();
    let diagonal: Vec<f64> =
        numbers(&y).chunks(16).flat_map(|plane| [0, 5, 10, 15].map(|at| plane[at])).collect();
    assert_eq!(diagonal, numbers(&x));
    assert!((numbers(&y).iter().sum::<f64>() - numbers(&x).iter().sum::<f64>()).abs() < 1e-12);
}
