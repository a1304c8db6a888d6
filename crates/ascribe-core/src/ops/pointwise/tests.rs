//! Tests of functions of one value; the golden numbers are PyTorch's, in double precision.

use candle_core::{DType, Device};
use proptest::prelude::*;

use super::*;
use crate::ops::testing::{check, distance, random};

const SELU: Pointwise = Pointwise::Selu { alpha: 1.673_263_242_354_377_2, gamma: 1.050_700_987_355_480_5 };

/// Every function, with the arguments at which it has a kink.
fn all() -> Vec<(Pointwise, Vec<f64>)> {
    vec![
        (Pointwise::Relu, vec![0.0]),
        (Pointwise::Clip { low: Some(0.0), high: Some(6.0) }, vec![0.0, 6.0]),
        (Pointwise::Clip { low: None, high: Some(0.5) }, vec![0.5]),
        (Pointwise::Clip { low: Some(-0.5), high: None }, vec![-0.5]),
        (Pointwise::LeakyRelu { slope: 0.1 }, vec![0.0]),
        (Pointwise::Elu { alpha: 0.7 }, vec![0.0]),
        (SELU, vec![0.0]),
        (Pointwise::Celu { alpha: 1.3 }, vec![0.0]),
        (Pointwise::Gelu, vec![]),
        (Pointwise::GeluTanh, vec![]),
        (Pointwise::Silu, vec![]),
        (Pointwise::HardSwish, vec![-3.0, 3.0]),
        (Pointwise::HardSigmoid { alpha: 0.2, beta: 0.5 }, vec![-2.5, 2.5]),
        (Pointwise::Sigmoid, vec![]),
        (Pointwise::Tanh, vec![]),
        (Pointwise::Softplus, vec![]),
        (Pointwise::Softsign, vec![0.0]),
        (Pointwise::Mish, vec![]),
        (Pointwise::Erf, vec![]),
        (Pointwise::Exp, vec![]),
        (Pointwise::Pow { exponent: 2.0 }, vec![]),
        (Pointwise::Pow { exponent: 3.0 }, vec![]),
        (Pointwise::Pow { exponent: 0.0 }, vec![]),
        (Pointwise::Abs, vec![0.0]),
        (Pointwise::Neg, vec![]),
        (Pointwise::Sin, vec![]),
        (Pointwise::Cos, vec![]),
        (Pointwise::Atan, vec![]),
        (Pointwise::Sinh, vec![]),
        (Pointwise::Cosh, vec![]),
        (Pointwise::Asinh, vec![]),
        (Pointwise::Shrink { threshold: 0.5, bias: 0.2 }, vec![-0.5, 0.5]),
    ]
}

fn is_steep(op: Pointwise) -> bool {
    matches!(op, Pointwise::Exp | Pointwise::Sinh | Pointwise::Cosh | Pointwise::Pow { .. })
}

/// Functions of positive numbers.
fn positive() -> Vec<Pointwise> {
    let powers = [0.5, 1.0, -1.0, 1.7, -2.0].map(|exponent| Pointwise::Pow { exponent });
    [vec![Pointwise::Log, Pointwise::Sqrt, Pointwise::Reciprocal], powers.to_vec()].concat()
}

/// Moves values away from the kinks.
fn avoid(x: &Tensor, kinks: &[f64]) -> Tensor {
    let values = x.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let moved = values
        .into_iter()
        .map(|v| kinks.iter().fold(v, |v, k| if (v - k).abs() < 2e-3 { v + 5e-3 } else { v }));
    Tensor::from_vec(moved.collect::<Vec<_>>(), x.shape(), x.device()).unwrap()
}

proptest! {
    #![proptest_config(ascribe_proptest::config(24))]
    #[test]
    fn derivatives(
        shape in prop::collection::vec(1_usize..5, 1..4),
        reach in prop::sample::select(vec![0.5, 4.0, 8.0]),
        seed in any::<u64>(),
    ) {
        for (op, kinks) in all() {
            // Steep functions are checked where finite differences are accurate.
            let reach = if is_steep(op) { 2.0 } else { reach };
            check(&op, &[avoid(&random(&shape, -reach, reach, seed), &kinks)], &[true], seed);
        }
        for op in positive() {
            check(&op, &[random(&shape, 0.2, 3.0, seed)], &[true], seed);
        }
        for op in [Pointwise::Tan, Pointwise::Asin, Pointwise::Acos, Pointwise::Atanh] {
            check(&op, &[random(&shape, -0.9, 0.9, seed)], &[true], seed);
        }
        check(&Pointwise::Acosh, &[random(&shape, 1.2, 3.0, seed)], &[true], seed);
    }
}

/// Values and derivatives in f64 by candle operations.
fn exact(op: Pointwise, x: &[f64]) -> (Vec<f64>, Vec<f64>) {
    run(op, &Tensor::new(x, &Device::Cpu).unwrap(), Backend::Portable)
}

fn run(op: Pointwise, x: &Tensor, backend: Backend) -> (Vec<f64>, Vec<f64>) {
    let y = op.forward(&[x], backend).unwrap();
    let grad = y.ones_like().unwrap();
    let inputs = [x];
    let args = Vjp { inputs: &inputs, output: &y, grad: &grad, needs: &[true], backend };
    let dx = op.vjp(&args).unwrap().remove(0).unwrap();
    let numbers = |t: &Tensor| t.to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
    (numbers(&y), numbers(&dx))
}

#[test]
fn values_and_derivatives_as_pytorch() {
    for (op, values, derivatives) in GOLDEN {
        let (y, dx) = exact(*op, &POINTS);
        for i in 0..POINTS.len() {
            let x = POINTS[i];
            assert!((y[i] - values[i]).abs() < 2e-15 * values[i].abs().max(1.0), "{op:?}({x}) = {}", y[i]);
            let error = (dx[i] - derivatives[i]).abs();
            assert!(error < 2e-14 * derivatives[i].abs().max(1.0), "{op:?}'({x}) = {}", dx[i]);
        }
    }
}

#[test]
fn derivatives_at_the_kinks_as_pytorch() {
    let at = |op: Pointwise, x: f64| {
        let values = [Backend::Portable, Backend::Auto]
            .map(|b| run(op, &Tensor::new(&[x], &Device::Cpu).unwrap(), b).1[0]);
        assert_eq!(values[0], values[1]);
        values[0]
    };
    assert_eq!(at(Pointwise::Relu, 0.0), 0.0);
    assert_eq!(at(Pointwise::Clip { low: Some(0.0), high: Some(6.0) }, 6.0), 0.0);
    assert_eq!(at(Pointwise::LeakyRelu { slope: 0.1 }, 0.0), 0.1);
    assert_eq!(at(Pointwise::Elu { alpha: 0.7 }, 0.0), 0.7);
    assert_eq!(at(Pointwise::Abs, 0.0), 0.0);
    assert_eq!(at(Pointwise::Pow { exponent: 0.0 }, 0.0), 0.0);
    assert_eq!(at(Pointwise::Pow { exponent: 1.0 }, 0.0), 1.0);
    assert_eq!(at(Pointwise::Pow { exponent: 2.0 }, 0.0), 0.0);
}

#[test]
fn extreme_arguments_do_not_overflow() {
    let x = [-1e3, -100.0, -88.5, -20.0, 20.0, 88.5, 100.0, 1e3];
    let single = Tensor::new(&x, &Device::Cpu).unwrap().to_dtype(DType::F32).unwrap();
    for (op, _) in
        all().into_iter().filter(|(op, _)| !matches!(op, Pointwise::Exp | Pointwise::Sinh | Pointwise::Cosh))
    {
        let (values, derivatives) = exact(op, &x);
        for backend in [Backend::Portable, Backend::Auto] {
            let (y, dx) = run(op, &single, backend);
            for i in 0..x.len() {
                let close = |a: f64, b: f64| (a - b).abs() <= 1e-5 * b.abs().max(1.0);
                assert!(
                    close(y[i], values[i]),
                    "{op:?}({}) = {} by {backend:?}, not {}",
                    x[i],
                    y[i],
                    values[i]
                );
                assert!(close(dx[i], derivatives[i]), "{op:?}'({}) = {} by {backend:?}", x[i], dx[i]);
            }
        }
    }
}

#[test]
fn kernels_and_candle_agree_in_single_precision() {
    let x = random(&[4, 1000], -12.0, 12.0, 3).to_dtype(DType::F32).unwrap();
    let grad = random(&[4, 1000], -1.0, 1.0, 4).to_dtype(DType::F32).unwrap();
    for (op, _) in
        all().into_iter().filter(|(op, _)| !matches!(op, Pointwise::Exp | Pointwise::Sinh | Pointwise::Cosh))
    {
        let results = [Backend::Portable, Backend::Auto].map(|backend| {
            let y = op.forward(&[&x], backend).unwrap();
            let inputs = [&x];
            let args = Vjp { inputs: &inputs, output: &y, grad: &grad, needs: &[true], backend };
            (y.clone(), op.vjp(&args).unwrap().remove(0).unwrap())
        });
        let scale = 1.0 + distance(&results[0].0, &results[0].0.zeros_like().unwrap());
        assert!(distance(&results[0].0, &results[1].0) / scale < 1e-6, "{op:?}");
        // At a kink, functions such as HardSwish may use the derivative of either side.
        assert!(
            distance(&results[0].1, &results[1].1) < 3e-6,
            "{op:?} {}",
            distance(&results[0].1, &results[1].1)
        );
    }
}

#[test]
fn small_arguments_keep_their_digits() {
    let x = Tensor::new(&[-1e-6_f32, -30.0], &Device::Cpu).unwrap();
    let relative =
        |op: Pointwise, i: usize, exact: f64| (run(op, &x, Backend::Auto).0[i] / exact - 1.0).abs();
    assert!(relative(Pointwise::Elu { alpha: 1.0 }, 0, -1e-6) < 1e-5);
    assert!(relative(Pointwise::Softplus, 1, (-30.0_f64).exp()) < 1e-5);
    assert!(relative(Pointwise::Sigmoid, 1, (-30.0_f64).exp()) < 1e-5);
    assert!(relative(Pointwise::Silu, 1, -30.0 * (-30.0_f64).exp()) < 1e-5);
    assert!(relative(Pointwise::Tanh, 0, -1e-6) < 1e-6);
}

#[test]
fn steps_round_as_onnx_and_pass_nothing_back() {
    let x = Tensor::new(&[-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.2, -0.7], &Device::Cpu).unwrap();
    let of = |op: Pointwise| op.forward(&[&x], Backend::Auto).unwrap().to_vec1::<f64>().unwrap();
    assert_eq!(of(Pointwise::Round), [-2.0, -2.0, 0.0, 0.0, 2.0, 2.0, 0.0, -1.0]);
    assert_eq!(of(Pointwise::Floor), [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 0.0, -1.0]);
    assert_eq!(of(Pointwise::Ceil), [-2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 1.0, 0.0]);
    assert_eq!(of(Pointwise::Sign), [-1.0, -1.0, -1.0, 1.0, 1.0, 1.0, 1.0, -1.0]);
    for op in [Pointwise::Round, Pointwise::Floor, Pointwise::Ceil, Pointwise::Sign] {
        check(
            &op,
            &[avoid(
                &random(&[30], -3.0, 3.0, 5),
                &[-2.0, -1.0, 0.0, 1.0, 2.0, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5],
            )],
            &[true],
            5,
        );
        assert_eq!(op.kind(&[true]), Kind::Blocking);
    }
}

#[test]
fn integers_are_refused_where_they_make_no_sense() {
    let x = Tensor::new(&[-2_i64, 0, 5], &Device::Cpu).unwrap();
    let of = |op: Pointwise| op.forward(&[&x], Backend::Auto).unwrap().to_vec1::<i64>().unwrap();
    assert_eq!(of(Pointwise::Relu), [0, 0, 5]);
    assert_eq!(of(Pointwise::Abs), [2, 0, 5]);
    assert_eq!(of(Pointwise::Neg), [2, 0, -5]);
    assert_eq!(of(Pointwise::Round), [-2, 0, 5]);
    assert_eq!(of(Pointwise::Clip { low: Some(-1.0), high: Some(3.0) }), [-1, 0, 3]);
    let message = Pointwise::Gelu.forward(&[&x], Backend::Auto).unwrap_err().to_string();
    assert!(message.contains("holds I64; expected floating point"), "{message}");
    let bytes = x.to_dtype(DType::U8).unwrap();
    assert!(Pointwise::Neg.forward(&[&bytes], Backend::Auto).is_err());
}

#[test]
fn rectifiers_are_known() {
    for op in [
        Pointwise::Relu,
        Pointwise::Gelu,
        Pointwise::Silu,
        SELU,
        Pointwise::Clip { low: Some(0.0), high: Some(6.0) },
    ] {
        assert!(op.is_rectifier(), "{op:?}");
    }
    for op in [
        Pointwise::Tanh,
        Pointwise::Sigmoid,
        Pointwise::Abs,
        Pointwise::Clip { low: Some(-1.0), high: Some(1.0) },
    ] {
        assert!(!op.is_rectifier(), "{op:?}");
    }
}

const POINTS: [f64; 5] = [-4.0, -1.25, -0.3, 0.7, 3.5];

/// Function, values and derivatives at [`POINTS`].
#[allow(clippy::unreadable_literal)] // as PyTorch prints them
#[rustfmt::skip]
const GOLDEN: &[(Pointwise, [f64; 5], [f64; 5])] = &[
    (Pointwise::Relu,
        [0.0, 0.0, 0.0, 0.7, 3.5],
        [0.0, 0.0, 0.0, 1.0, 1.0]),
    (Pointwise::LeakyRelu { slope: 0.1 },
        [-0.4, -0.125, -0.03, 0.7, 3.5],
        [0.1, 0.1, 0.1, 1.0, 1.0]),
    (Pointwise::Elu { alpha: 0.7 },
        [-0.687179052777886, -0.4994466421978669, -0.1814272455227975, 0.7, 3.5],
        [0.012820947222113924, 0.20055335780213304, 0.5185727544772025, 1.0, 1.0]),
    (SELU,
        [-1.7258986281898945, -1.2543954463378648, -0.45566731537912203, 0.7354906911488363, 3.677453455744182],
        [0.03220071265748214, 0.5037038945095117, 1.3024320254682547, 1.0507009873554805, 1.0507009873554805]),
    (Pointwise::Celu { alpha: 2.0 },
        [-1.7293294335267746, -0.9294771429620196, -0.2785840471498844, 0.7, 3.5],
        [0.1353352832366127, 0.5352614285189903, 0.8607079764250578, 1.0, 1.0]),
    (Pointwise::Gelu,
        [-0.00012668496733247991, -0.13206221708356905, -0.1146265733433142, 0.5306254434438489, 3.4991857982233756],
        [-0.0005036496612264215, -0.12266158306942215, 0.26767223317289013, 0.9766141011336599, 1.0028217603536247]),
    (Pointwise::GeluTanh,
        [-7.024594819227126e-05, -0.13228579703028542, -0.11462907645724074, 0.5305701347051167, 3.499383802344626],
        [-0.00033512319712218684, -0.12249263224964865, 0.26770454836119817, 0.976357218656104, 1.0024226437601167]),
    (Pointwise::Silu,
        [-0.07194483984836623, -0.27837517353163604, -0.1276672449565023, 0.46773144051771626, 3.3974071923702525],
        [-0.05266461489107291, 0.00631915508468757, 0.3522199896811173, 0.8233867834733425, 1.0702733528277182]),
    (Pointwise::HardSwish,
        [0.0, -0.3645833333333333, -0.135, 0.43166666666666664, 3.5],
        [0.0, 0.08333333333333331, 0.4, 0.7333333333333334, 1.0]),
    (Pointwise::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 },
        [0.0, 0.2916666666666667, 0.45, 0.6166666666666667, 1.0],
        [0.0, 0.16666666666666666, 0.16666666666666666, 0.16666666666666666, 0.0]),
    (Pointwise::Sigmoid,
        [0.01798620996209156, 0.22270013882530884, 0.425557483188341, 0.6681877721681662, 0.9706877692486436],
        [0.017662706213291118, 0.173104786992497, 0.24445831169074586, 0.22171287329310904, 0.028453023879735598]),
    (Pointwise::Tanh,
        [-0.999329299739067, -0.8482836399575129, -0.2913126124515909, 0.6043677771171635, 0.9981778976111987],
        [0.0013409506830259165, 0.28041486618043265, 0.9151369618266292, 0.6347395899824586, 0.0036408847204873578]),
    (Pointwise::Softplus,
        [0.018149927917809738, 0.2519290813453729, 0.5543552444685271, 1.103186048885458, 3.5297504182726205],
        [0.017986209962091555, 0.22270013882530884, 0.425557483188341, 0.6681877721681662, 0.9706877692486436]),
    (Pointwise::Softsign,
        [-0.8, -0.5555555555555556, -0.23076923076923075, 0.4117647058823529, 0.7777777777777778],
        [0.04000000000000001, 0.19753086419753083, 0.5917159763313609, 0.34602076124567477, 0.04938271604938271]),
    (Pointwise::Mish,
        [-0.07259174079202535, -0.30841396114152775, -0.15113317713833455, 0.5611483776438518, 3.4939907151175196],
        [-0.05377320979348033, -0.014697562473019468, 0.40851087693570215, 0.9687948682001859, 1.0099393249951327]),
    (Pointwise::Erf,
        [-0.9999999845827421, -0.9229001282564583, -0.3286267594591274, 0.6778011938374184, 0.9999992569016276],
        [1.2698234671866558e-07, 0.23652112244729076, 1.031260909618963, 0.6912748604105386, 5.399426777384782e-06]),
];

/// Values and derivatives that are known in closed form.
#[test]
fn elementary_functions_at_known_points() {
    use std::f64::consts::{FRAC_PI_3, FRAC_PI_4, FRAC_PI_6, LN_2};
    let golden = 1.618_033_988_749_895_f64;
    let cases = [
        (Pointwise::Tan, FRAC_PI_4, 1.0, 2.0),
        (Pointwise::Asin, 0.5, FRAC_PI_6, 2.0 / 3.0_f64.sqrt()),
        (Pointwise::Acos, 0.5, FRAC_PI_3, -2.0 / 3.0_f64.sqrt()),
        (Pointwise::Atan, 1.0, FRAC_PI_4, 0.5),
        (Pointwise::Sinh, LN_2, 0.75, 1.25),
        (Pointwise::Cosh, LN_2, 1.25, 0.75),
        (Pointwise::Asinh, 0.5, golden.ln(), 2.0 / 5.0_f64.sqrt()),
        (Pointwise::Acosh, 1.25, LN_2, 4.0 / 3.0),
        (Pointwise::Atanh, 0.6, LN_2, 1.0 / 0.64),
        (Pointwise::Shrink { threshold: 0.5, bias: 0.1 }, -0.75, -0.65, 1.0),
        (Pointwise::Shrink { threshold: 0.5, bias: 0.1 }, 0.5, 0.0, 0.0),
        (Pointwise::Shrink { threshold: 0.5, bias: 0.1 }, 2.0, 1.9, 1.0),
    ];
    for (op, x, value, derivative) in cases {
        let (y, dx) = exact(op, &[x]);
        assert!((y[0] - value).abs() < 1e-15, "{op:?}({x}) = {}", y[0]);
        assert!((dx[0] - derivative).abs() < 1e-14, "{op:?}'({x}) = {}", dx[0]);
    }
}
