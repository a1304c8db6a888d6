//! Tests of targets, of baselines, and of models that are not graphs.

mod common;

use ascribe_core::{
    Autograd, Baseline, BlackBox, DType, Device, Differentiable, Inputs, OutputKind, Outputs, Predictor,
    Role, Target, Tensor, blur,
};
use common::{distance, normal, numbers, pictures, residual, same};

const ROWS: [[f64; 3]; 2] = [[0.5, -1.0, 2.0], [3.0, 0.25, -0.5]];

fn outputs() -> Outputs {
    let second = Tensor::new(&[[1.0, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
    Outputs::new(vec![("logits".into(), Tensor::new(&ROWS, &Device::Cpu).unwrap()), ("boxes".into(), second)])
        .unwrap()
}

fn probabilities(row: [f64; 3]) -> [f64; 3] {
    let total: f64 = row.iter().map(|v| v.exp()).sum();
    row.map(|v| v.exp() / total)
}

/// Compares scores and seeds with the expected ones.
fn check(target: &Target, scores: [f64; 2], seeds: [[f64; 3]; 2]) {
    let (found, grads) = target.seed(&outputs(), &[0, 1]).unwrap();
    let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
    assert!(close(&numbers(&found), &scores), "{target:?}");
    assert!(close(&numbers(&target.score(&outputs(), &[0, 1]).unwrap()), &scores), "{target:?}");
    assert!(close(&numbers(&grads[0]), seeds.as_flattened()), "{target:?}");
    assert_eq!(grads.len(), 2);
    assert_eq!(numbers(&grads[1]), [0.0; 4], "no gradient for the other output");
}

#[test]
fn closed_forms() {
    check(&Target::Class(2), [2.0, -0.5], [[0.0, 0.0, 1.0]; 2]);
    check(&Target::Classes(vec![1, 0]), [-1.0, 3.0], [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]);
    check(&Target::Difference(0, 1), [1.5, 2.75], [[1.0, -1.0, 0.0]; 2]);
    check(&Target::Difference(1, 1), [0.0; 2], [[0.0; 3]; 2]);
    check(&Target::Neuron(vec![1]), [-1.0, 0.25], [[0.0, 1.0, 0.0]; 2]);
    let p = ROWS.map(probabilities);
    let kept = |i: usize, j: usize| f64::from(u8::from(i == j));
    check(
        &Target::Probability(1),
        p.map(|p| p[1]),
        p.map(|p| std::array::from_fn(|i| p[1] * (kept(i, 1) - p[i]))),
    );
    let classes = [2, 0];
    check(
        &Target::Probabilities(classes.to_vec()),
        std::array::from_fn(|row| p[row][classes[row]]),
        std::array::from_fn(|row| {
            let class = classes[row];
            std::array::from_fn(|i| p[row][class] * (kept(i, class) - p[row][i]))
        }),
    );
    check(
        &Target::LogProbability(0),
        p.map(|p| p[0].ln()),
        p.map(|p| std::array::from_fn(|i| kept(i, 0) - p[i])),
    );
    let squares = Target::custom("squares", |y, _| Ok(y.primary().sqr()?.sum(1)?));
    check(&squares, ROWS.map(|r| r.iter().map(|v| v * v).sum()), ROWS.map(|r| r.map(|v| 2.0 * v)));
}

#[test]
fn extreme_logits_have_finite_probabilities() {
    let rows = Tensor::new(&[[1e4, -1e4, 0.0]], &Device::Cpu).unwrap();
    let outputs = Outputs::new(vec![("y".into(), rows)]).unwrap();
    for target in [Target::Probability(1), Target::LogProbability(1), Target::LogProbability(0)] {
        let (scores, seeds) = target.seed(&outputs, &[0]).unwrap();
        assert!(numbers(&scores).iter().chain(&numbers(&seeds[0])).all(|v| v.is_finite()), "{target:?}");
    }
}

#[test]
fn targets_may_use_every_output() {
    let boxes = Target::custom("boxes", |y, samples| {
        let boxes = y.get("boxes").unwrap().sum(1)?;
        let index = Tensor::new(samples.iter().map(|&s| s as f64).collect::<Vec<_>>(), &Device::Cpu)?;
        Ok((boxes * index)?)
    });
    let (scores, seeds) = boxes.seed(&outputs(), &[5, 2]).unwrap();
    assert_eq!(numbers(&scores), [15.0, 14.0]);
    assert_eq!(numbers(&seeds[0]), [0.0; 6]);
    assert_eq!(numbers(&seeds[1]), [5.0, 5.0, 2.0, 2.0]);
}

#[test]
fn the_top_class_is_resolved_once() {
    let target = Target::Top1.resolve(&outputs()).unwrap();
    assert_eq!((target.class(0), target.class(1)), (Some(2), Some(0)));
    assert_eq!(target.describe_sample(1), "0");
    assert!(Target::Top1.score(&outputs(), &[0, 1]).unwrap_err().to_string().contains("not resolved"));
    // Rows may be variations of samples in any order.
    let swapped = target.score(&outputs(), &[1, 0]).unwrap();
    assert_eq!(numbers(&swapped), [ROWS[0][0], ROWS[1][2]]);
}

#[test]
fn targets_that_do_not_fit_are_errors() {
    let message = |target: Target| target.resolve(&outputs()).unwrap_err().to_string();
    assert!(message(Target::Class(3)).contains("class 3; expected a class from 0 to 2"));
    assert!(message(Target::Classes(vec![0, 7])).contains("class 7"));
    assert!(message(Target::Classes(vec![0])).contains("1 classes given"));
    assert!(message(Target::Probabilities(vec![0, 7])).contains("class 7"));
    assert!(message(Target::Difference(0, 9)).contains("class 9"));
    assert!(message(Target::Probability(3)).contains("class 3"));
    assert!(message(Target::Neuron(vec![3])).contains("neuron"));
    assert!(message(Target::Neuron(vec![0, 0])).contains("neuron"));
    assert!(message(Target::custom("wrong", |y, _| Ok(y.primary().clone()))).contains("'wrong'"));
    let map = Outputs::new(vec![("map".into(), normal(&[2, 3, 4, 4], 1, DType::F64))]).unwrap();
    for target in [Target::Class(0), Target::Probability(0), Target::LogProbability(0)] {
        assert!(target.resolve(&map).unwrap_err().to_string().contains("[2, 3, 4, 4]"));
    }
    assert!(Target::Neuron(vec![2, 3, 3]).resolve(&map).is_ok());
    assert!(Target::Class(0).score(&outputs(), &[0]).is_err());
}

#[test]
fn baselines() {
    let x = normal(&[2, 3, 5, 6], 3, DType::F64);
    let of = |b: &Baseline| b.reference(&x, 0, 9).unwrap();
    assert_eq!(numbers(&of(&Baseline::Zero)), [0.0; 180]);
    assert_eq!(numbers(&of(&Baseline::Constant(0.5))), [0.5; 180]);
    let channels = numbers(&of(&Baseline::Channels(vec![1.0, 2.0, 3.0])));
    assert!(channels.iter().enumerate().all(|(i, v)| *v == (i / 30 % 3 + 1) as f64));
    let white = numbers(&of(&Baseline::pixel(1.0, &[0.5, 0.4, 0.3], &[0.25, 0.2, 0.1])));
    assert!(
        (white[0] - 2.0).abs() < 1e-12 && (white[30] - 3.0).abs() < 1e-12 && (white[60] - 7.0).abs() < 1e-12
    );

    let uniform = Baseline::Uniform { low: 2.0, high: 3.0 };
    assert!(numbers(&of(&uniform)).iter().all(|v| (2.0..3.0).contains(v)));
    for random in [uniform, Baseline::Gaussian { std: 0.1 }] {
        assert!(same(&of(&random), &of(&random)), "the seed decides");
        assert!(!same(&of(&random), &random.reference(&x, 0, 10).unwrap()));
        // The reference of a sample does not depend on the batch that contains it.
        let second = x.narrow(0, 1, 1).unwrap().contiguous().unwrap();
        let alone = random.reference(&second, 0, 9).unwrap();
        assert!(same(&of(&random).narrow(0, 1, 1).unwrap().contiguous().unwrap(), &alone));
    }
    let noise = (of(&Baseline::Gaussian { std: 0.1 }) - &x).unwrap();
    assert!(numbers(&noise).iter().all(|v| v.abs() < 0.6));

    let far = numbers(&of(&Baseline::MaxDistance { low: -1.0, high: 3.0 }));
    assert!(numbers(&x).iter().zip(far).all(|(x, far)| far == if *x > 1.0 { -1.0 } else { 3.0 }));

    let one = normal(&[1, 3, 5, 6], 4, DType::F32);
    assert_eq!(of(&Baseline::Tensor(one.clone())).dims(), x.dims());
    assert_eq!(of(&Baseline::Tensor(one)).dtype(), DType::F64);
    let rows = normal(&[4, 3, 5, 6], 5, DType::F64);
    let samples = Baseline::Samples(rows.clone());
    assert_eq!(samples.count().unwrap(), 4);
    let third = samples.reference(&x, 2, 0).unwrap();
    assert!(same(
        &third.narrow(0, 1, 1).unwrap().contiguous().unwrap(),
        &rows.narrow(0, 2, 1).unwrap().contiguous().unwrap()
    ));
}

#[test]
fn baselines_that_do_not_fit_are_errors() {
    let x = normal(&[2, 3, 5, 6], 3, DType::F64);
    let message = |b: Baseline| b.reference(&x, 0, 0).unwrap_err().to_string();
    assert!(message(Baseline::Channels(vec![0.0; 4])).contains("4 channels"));
    assert!(message(Baseline::Tensor(normal(&[3, 3, 5, 6], 1, DType::F64))).contains("[3, 3, 5, 6]"));
    assert!(message(Baseline::Blurred { sigma: -1.0 }).contains("sigma"));
    assert!(message(Baseline::Blurred { sigma: f64::NAN }).contains("sigma"));
    assert!(Baseline::Samples(normal(&[1, 3], 1, DType::F64).narrow(0, 0, 0).unwrap()).count().is_err());
}

#[test]
fn blurring_as_scipy() {
    // scipy.ndimage.gaussian_filter(x, 0.8, mode="reflect")
    let x = Tensor::new(&BLUR_IN, &Device::Cpu).unwrap().reshape((1, 1, 3, 4)).unwrap();
    let golden = Tensor::new(&BLUR_OUT, &Device::Cpu).unwrap().reshape((1, 1, 3, 4)).unwrap();
    assert!(distance(&blur(&x, 0.8).unwrap(), &golden) < 1e-12);
    // A constant image is unchanged for any width of the blur.
    let flat = Tensor::full(0.7, (1, 2, 3, 5), &Device::Cpu).unwrap();
    assert!(distance(&blur(&flat, 20.0).unwrap(), &flat) < 1e-12);
    assert!(blur(&Tensor::full(0.7, (1, 5), &Device::Cpu).unwrap(), 1.0).is_err());
}

/// The network of [`residual`] in candle's own operations.
fn module(graph: &ascribe_core::Graph) -> impl Fn(&Tensor) -> candle_core::Result<Tensor> + Send + Sync {
    let constant = |name: &str| graph.node(graph.find(name).unwrap()).constant().unwrap().clone();
    let names = ["conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias", "fc.weight", "fc.bias"];
    let [w1, b1, w2, b2, w3, b3] = names.map(constant);
    move |x: &Tensor| {
        let conv = |x: &Tensor, w: &Tensor, b: &Tensor| {
            x.conv2d(w, 1, 1, 1, 1)?.broadcast_add(&b.reshape((1, (), 1, 1))?)
        };
        let relu1 = conv(x, &w1, &b1)?.relu()?;
        let relu2 = (&relu1 + conv(&relu1, &w2, &b2)?)?.relu()?;
        relu2.mean((2, 3))?.matmul(&w3.t()?)?.broadcast_add(&b3)
    }
}

#[test]
fn closures_and_modules_agree_with_the_graph() {
    let graph = residual(4, DType::F64);
    let x = pictures(3, 7, DType::F64);
    let black_box = BlackBox::new(module(&graph));
    let autograd = Autograd::new(module(&graph));
    let expected = graph.predict(&x).unwrap();
    assert!(distance(black_box.predict(&x).unwrap().primary(), expected.primary()) < 1e-12);
    assert!(distance(autograd.predict(&x).unwrap().primary(), expected.primary()) < 1e-12);
    for target in [Target::Classes(vec![0, 4, 2]), Target::LogProbability(1), Target::Difference(0, 3)] {
        let own = graph.gradient(&x, &target, &[0, 1, 2]).unwrap();
        let other = autograd.gradient(&x, &target, &[0, 1, 2]).unwrap();
        assert!(distance(&own.scores, &other.scores) < 1e-12);
        assert!(distance(&own.values[0], &other.values[0]) < 1e-12, "{target:?}");
    }
}

#[test]
fn modules_say_what_they_cannot_do() {
    let constant = Autograd::new(|x: &Tensor| Tensor::ones((x.dim(0)?, 2), DType::F64, x.device()));
    let x = Inputs::single(normal(&[2, 2], 1, DType::F64)).unwrap();
    let message = constant.gradient(&x, &Target::Class(0), &[0, 1]).unwrap_err().to_string();
    assert!(message.contains("gradient") && message.contains("did not reach"), "{message}");
    let identity = Autograd::new(|x: &Tensor| Ok(x.clone()));
    let fixed = Inputs::single(normal(&[2, 2], 1, DType::F64)).unwrap().fix("").unwrap();
    assert!(identity.gradient(&fixed, &Target::Class(0), &[0, 1]).is_err());
    let two = x.clone().with("more", normal(&[2, 2], 1, DType::F64), Role::Fixed).unwrap();
    assert!(identity.predict(&two).unwrap_err().to_string().contains("2 given"));
}

#[test]
fn inputs_are_checked() {
    let t = |shape: &[usize]| normal(shape, 1, DType::F64);
    assert!(
        Inputs::single(Tensor::new(1.0, &Device::Cpu).unwrap()).unwrap_err().to_string().contains("scalar")
    );
    assert!(Inputs::single(t(&[2, 3]).narrow(0, 0, 0).unwrap()).is_err());
    let message = Inputs::named([("a", t(&[2, 3])), ("b", t(&[3, 3]))]).unwrap_err().to_string();
    assert!(message.contains("input 'b': has 3 samples; expected 2"), "{message}");
    let nan = Tensor::new(&[[1.0, f64::NAN], [f64::INFINITY, 0.0]], &Device::Cpu).unwrap();
    let message = Inputs::named([("a", nan)]).unwrap().check_finite().unwrap_err().to_string();
    assert!(message.contains("'a'") && message.contains("NaN at [0, 1]"), "{message}");
    let x = Inputs::single(t(&[3, 2])).unwrap();
    assert!(x.select(&[0, 3]).unwrap_err().to_string().contains("number 3"));
    assert_eq!(x.select(&[2, 2, 0, 1]).unwrap().batch().unwrap(), 4);
    assert!(x.clone().fix("no").is_err());
    assert!(x.with_explained(vec![]).is_err());
    assert!(x.with_explained(vec![t(&[3, 2]), t(&[3, 2])]).is_err());
}

const BLUR_IN: [f64; 12] = [1.0, -2.0, 0.5, 3.0, 0.0, 4.0, 1.0, -1.0, 2.0, 2.0, -3.0, 0.25];
#[allow(clippy::unreadable_literal)] // as scipy prints them
const BLUR_OUT: [f64; 12] = [
    0.47272469262788874,
    0.1577081296901506,
    0.6809554436008292,
    1.5354535288943407,
    1.0430441751533464,
    1.1634282376063232,
    0.4885941785758761,
    0.24149402848767687,
    1.6335418464010598,
    1.133819310860117,
    -0.3749320578709444,
    -0.4258315140266613,
];

#[test]
fn classes_and_closures_follow_their_samples() -> ascribe_core::Result<()> {
    let target = Target::Classes(vec![4, 7]).for_rows(&[1, 1, 0])?;
    assert_eq!(target.describe(), "[7, 7, 4]");
    assert!(Target::Classes(vec![4]).for_rows(&[1]).is_err());
    let target = Target::Probabilities(vec![4, 7]).for_rows(&[1, 1, 0])?;
    assert_eq!(target.describe(), "prob:[7, 7, 4]");

    let number = Target::custom("sample", |_, samples| {
        let numbers: Vec<f64> = samples.iter().map(|&s| s as f64).collect();
        Ok(Tensor::from_vec(numbers, samples.len(), &Device::Cpu)?)
    });
    let target = number.for_rows(&[3, 5])?;
    let outputs = Outputs::new(vec![("y".into(), Tensor::zeros((2, 1), DType::F64, &Device::Cpu)?)])?;
    assert_eq!(target.score(&outputs, &[0, 1])?.to_vec1::<f64>()?, [3.0, 5.0]);
    Ok(())
}

#[test]
fn class_targets_become_probabilities() {
    for (target, words, of_second) in [
        (Target::Class(2), "prob:2", "prob:2"),
        (Target::LogProbability(2), "prob:2", "prob:2"),
        (Target::Classes(vec![2, 1]), "prob:[2, 1]", "prob:1"),
        (Target::Top1, "top1", "top1"),
        (Target::Difference(0, 1), "0-1", "0-1"),
    ] {
        let target = target.probability(OutputKind::Classes);
        assert_eq!((target.describe().as_str(), target.describe_sample(1).as_str()), (words, of_second));
    }
    assert_eq!(Target::Probabilities(vec![2, 1]).class(1), Some(1));
}
