//! Checks that every operator must pass; used by the unit tests of each family.

use candle_core::{DType, Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Backend, Operator, Vjp};

/// Uniform random f64 tensor in `[low, high)`.
pub(crate) fn random(shape: &[usize], low: f64, high: f64, seed: u64) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| rng.random_range(low..high)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    (a * b).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap()
}

/// Largest absolute difference.
pub(crate) fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    if a.elem_count() == 0 {
        return 0.0;
    }
    let d = (a.to_dtype(DType::F64).unwrap() - b.to_dtype(DType::F64).unwrap()).unwrap().abs().unwrap();
    d.flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

/// Checks shape inference, the vector-Jacobian product against central differences in f64 along random
/// directions, and both backends against each other in f64 and f32.
pub(crate) fn check(op: &dyn Operator, inputs: &[Tensor], differentiable: &[bool], seed: u64) {
    let refs: Vec<&Tensor> = inputs.iter().collect();
    let shapes: Vec<&[usize]> = inputs.iter().map(Tensor::dims).collect();
    let expected = op.output_shape(&shapes).unwrap();
    let output = op.forward(&refs, Backend::Portable).unwrap();
    assert_eq!(output.dims(), expected, "{op:?}: shape inference");
    let fast = op.forward(&refs, Backend::Auto).unwrap();
    assert!(distance(&output, &fast) < 1e-11, "{op:?}: backends differ by {}", distance(&output, &fast));

    let grad = random(output.dims(), -1.0, 1.0, seed ^ 0xabcd);
    let args = |backend| Vjp { inputs: &refs, output: &output, grad: &grad, needs: differentiable, backend };
    let grads = op.vjp(&args(Backend::Portable)).unwrap();
    let fast = op.vjp(&args(Backend::Auto)).unwrap();
    assert_eq!(grads.len(), inputs.len(), "{op:?}: one entry per input");
    let step = 1e-6;
    for (i, input) in inputs.iter().enumerate().filter(|(i, _)| differentiable[*i]) {
        let zero = input.zeros_like().unwrap();
        let own = grads[i].clone().unwrap_or_else(|| zero.clone());
        let own_fast = fast[i].clone().unwrap_or(zero);
        assert!(distance(&own, &own_fast) < 1e-11, "{op:?}: gradients of the backends differ");
        for draw in 0..3 {
            let direction = random(input.dims(), -1.0, 1.0, seed ^ (100 + draw));
            let at = |sign: f64| {
                let mut moved = inputs.to_vec();
                moved[i] = (input + (&direction * (sign * step)).unwrap()).unwrap();
                let moved: Vec<&Tensor> = moved.iter().collect();
                dot(&op.forward(&moved, Backend::Portable).unwrap(), &grad)
            };
            let numeric = (at(1.0) - at(-1.0)) / (2.0 * step);
            let analytic = dot(&own, &direction);
            let scale = 1.0 + numeric.abs().max(analytic.abs());
            assert!(
                (numeric - analytic).abs() / scale < 1e-5,
                "{op:?}: gradient of input {i} is {analytic}, central difference says {numeric}"
            );
        }
    }

    // Views that are not contiguous hold the same values.
    let views: Vec<Tensor> = inputs.iter().map(strided).collect();
    let views: Vec<&Tensor> = views.iter().collect();
    for backend in [Backend::Portable, Backend::Auto] {
        let same = op.forward(&views, backend).unwrap();
        assert!(distance(&output, &same) < 1e-11, "{op:?}: strided inputs, {backend:?}");
        let args = Vjp {
            inputs: &views,
            output: &strided(&output),
            grad: &strided(&grad),
            needs: differentiable,
            backend,
        };
        for (own, same) in grads.iter().zip(op.vjp(&args).unwrap()) {
            if let (Some(own), Some(same)) = (own, same) {
                assert!(distance(own, &same) < 1e-11, "{op:?}: strided gradients, {backend:?}");
            }
        }
    }

    let single: Vec<Tensor> = inputs.iter().map(to_f32).collect();
    let single: Vec<&Tensor> = single.iter().collect();
    let portable = op.forward(&single, Backend::Portable).unwrap();
    let auto = op.forward(&single, Backend::Auto).unwrap();
    let scale = 1.0
        + portable
            .abs()
            .and_then(|t| t.flatten_all())
            .and_then(|t| t.to_dtype(DType::F64))
            .and_then(|t| t.max(0))
            .and_then(|t| t.to_scalar::<f64>())
            .unwrap_or(1.0);
    assert!(distance(&portable, &auto) / scale < 1e-5, "{op:?}: f32 backends differ");
    assert!(distance(&output, &auto) / scale < 1e-4, "{op:?}: f32 differs from f64");
    let grad = to_f32(&grad);
    let vjp = |backend| {
        op.vjp(&Vjp { inputs: &single, output: &portable, grad: &grad, needs: differentiable, backend })
            .unwrap()
    };
    for (portable, auto) in vjp(Backend::Portable).iter().zip(vjp(Backend::Auto)) {
        if let (Some(portable), Some(auto)) = (portable, auto) {
            let scale = 1.0 + distance(portable, &portable.zeros_like().unwrap());
            assert!(distance(portable, &auto) / scale < 1e-5, "{op:?}: f32 gradients of the backends differ");
        }
    }
}

/// The same values in another order in memory.
fn strided(t: &Tensor) -> Tensor {
    if t.rank() < 2 {
        return t.clone();
    }
    t.transpose(0, t.rank() - 1).unwrap().contiguous().unwrap().transpose(0, t.rank() - 1).unwrap()
}

fn to_f32(t: &Tensor) -> Tensor {
    if t.dtype() == DType::F64 { t.to_dtype(DType::F32).unwrap() } else { t.clone() }
}
