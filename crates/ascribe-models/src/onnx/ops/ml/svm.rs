//! Support vector machines.

use ascribe_core::ops::{
    ArgExtreme, Binary, Cast, Compare, Linear, PairwiseCoupling, Pointwise, Reduce, ReduceFn, Structure,
    Where,
};

use super::super::Call;
use super::scores::{Pair, Transform, largest};
use super::{Labels, class_labels, floats, ints, list, rows};
use crate::onnx::context::Context;
use crate::onnx::value::{Elem, Res, Value};

/// A number of support vectors.
fn whole(count: i64) -> Res<usize> {
    let count = usize::try_from(count).ok().filter(|&count| count <= 1 << 24);
    count.ok_or_else(|| "has a number of support vectors that is negative or too large".into())
}

/// The kernel of each sample with each of some vectors `[vectors, F]`: `[N, vectors]`.
fn kernel(cx: &mut Context, call: &Call<'_>, x: &Value, vectors: &[f64], count: usize) -> Res<Value> {
    let features = x.shapes()?[0][1];
    if count.checked_mul(features) != Some(vectors.len()) {
        return Err(format!(
            "has {} numbers of vectors; expected {count} vectors of {features} features",
            vectors.len()
        )
        .into());
    }
    let parameters = floats(call, "kernel_params");
    let (gamma, constant, degree) = match parameters[..] {
        [] => (0.0, 0.0, 0.0),
        [gamma, constant, degree] => (gamma, constant, degree),
        _ => {
            return Err(
                format!("has {} kernel_params; expected gamma, coef0 and degree", parameters.len()).into()
            );
        }
    };
    let kind = if ints(call, "vectors_per_class").is_empty() && call.attributes.int_or("n_supports", 0)? == 0
    {
        // Without support vectors, the coefficients are those of a linear model.
        "LINEAR"
    } else {
        call.mode("kernel_type", "LINEAR")?
    };
    if kind == "RBF" {
        let vectors = list(cx, &call.sub("support_vectors"), vectors, &[1, count, features])?;
        let own = cx.reshape_by(&call.sub("samples"), x, |s| Ok(vec![s[0], 1, s[1]]))?;
        let difference = cx.apply(&call.sub("differences"), Binary::Sub, &[&own, &vectors], Elem::Float)?;
        let square = Pointwise::Pow { exponent: 2.0 };
        let squares = cx.apply(&call.sub("squares"), square, &[&difference], Elem::Float)?;
        let sum = Reduce { function: ReduceFn::Sum, axes: vec![2], keep: false };
        let distances = cx.apply(&call.sub("distances"), sum, &[&squares], Elem::Float)?;
        let factor = cx.number(&call.sub("gamma"), -gamma)?;
        let scaled = cx.apply(&call.sub("exponents"), Binary::Mul, &[&distances, &factor], Elem::Float)?;
        return cx.apply(&call.sub("kernel"), Pointwise::Exp, &[&scaled], Elem::Float);
    }
    let vectors = list(cx, &call.sub("support_vectors"), vectors, &[count, features])?;
    let product = cx.apply(&call.sub("products"), Linear, &[x, &vectors], Elem::Float)?;
    if kind == "LINEAR" {
        return Ok(product);
    }
    let (factor, constant) =
        (cx.number(&call.sub("gamma"), gamma)?, cx.number(&call.sub("coef0"), constant)?);
    let scaled = cx.apply(&call.sub("scaled"), Binary::Mul, &[&product, &factor], Elem::Float)?;
    let moved = cx.apply(&call.sub("shifted"), Binary::Add, &[&scaled, &constant], Elem::Float)?;
    let function = if kind == "POLY" { Pointwise::Pow { exponent: degree } } else { Pointwise::Tanh };
    cx.apply(&call.sub("kernel"), function, &[&moved], Elem::Float)
}

/// The value `[N, 1]`: `Σ coefficient · k(x, vector) + ρ`; its sign with `one_class`.
pub(super) fn regressor(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let (x, features) = rows(cx, call)?;
    let (coefficients, rho) = (floats(call, "coefficients"), floats(call, "rho"));
    let rho = *rho.first().ok_or("has no rho")?;
    let count = whole(call.attributes.int_or("n_supports", 0)?)?;
    let sign = call.attributes.flag("one_class", false)?;
    // onnxruntime does not transform the value (post_transform).
    let name = if sign { call.sub("value") } else { call.name.to_string() };
    let value = if count == 0 {
        let weight = list(cx, &call.sub("coefficients"), &coefficients, &[1, features])?;
        let bias = list(cx, &call.sub("rho"), &[rho], &[1])?;
        cx.apply(&name, Linear, &[&x, &weight, &bias], Elem::Float)?
    } else {
        let kernel = kernel(cx, call, &x, &floats(call, "support_vectors"), count)?;
        let weight = list(cx, &call.sub("coefficients"), &coefficients, &[1, count])?;
        let bias = list(cx, &call.sub("rho"), &[rho], &[1])?;
        cx.apply(&name, Linear, &[&kernel, &weight, &bias], Elem::Float)?
    };
    if !sign {
        return Ok(value);
    }
    let zero = cx.number(&call.sub("zero"), 0.0)?;
    let (inside, outside) = (cx.number(&call.sub("inside"), 1.0)?, cx.number(&call.sub("outside"), -1.0)?);
    let positive = cx.apply(&call.sub("positive"), Compare::Greater, &[&value, &zero], Elem::Bool)?;
    cx.apply(call.name, Where, &[&positive, &inside, &outside], Elem::Float)
}

/// All pairs of classes `i < j`.
fn pairs(classes: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..classes).flat_map(move |i| (i + 1..classes).map(move |j| (i, j)))
}

/// Labels `[N]` and scores: of each class with probabilities or without support vectors, of two classes, or of each pair of
/// classes.
pub(super) fn classifier(cx: &mut Context, call: &Call<'_>) -> Res<Vec<Value>> {
    let labels = class_labels(cx, call)?;
    let (classes, transform) = (labels.len(), Transform::of(call)?);
    let counts = ints(call, "vectors_per_class");
    if counts.is_empty() {
        return linear(cx, call, &labels, transform);
    }
    if counts.len() != classes {
        return Err(format!("vectors_per_class has {} entries for {classes} classes", counts.len()).into());
    }
    if classes > 1 << 10 {
        return Err(format!("has {classes} classes; at most 1024 are supported").into());
    }
    let scores = decisions(cx, call, classes, counts)?;
    // Votes: a positive score is one for the first class of the pair.
    let places = pairs(classes).count();
    let (a, b) = (floats(call, "prob_a"), floats(call, "prob_b"));
    if (!a.is_empty() || !b.is_empty()) && (a.len() != places || b.len() != places) {
        return Err(
            format!("prob_a and prob_b have {} and {} entries; expected {places}", a.len(), b.len()).into()
        );
    }
    let label = votes(cx, call, &scores, classes)?;
    let label = labels.at(cx, &call.sub("label"), &label)?;
    if !a.is_empty() {
        let name = if transform == Transform::None { call.name.into() } else { call.sub("probabilities") };
        let probabilities = coupled(cx, call, &name, &scores, [&a, &b], classes)?;
        return Ok(vec![label, transform.apply(cx, call, &probabilities)?]);
    }
    if classes == 2 {
        if transform == Transform::None {
            let own = labels.texts();
            cx.notes.push(format!(
                "{} '{}' gives two classes the scores [−s, s], where s > 0 stands for the first class, '{}', as in onnxruntime: the \
                 larger score is that of the class that is not predicted",
                call.op, call.name, own[0]
            ));
        }
        let pair = match transform {
            Transform::None => Pair::Negated,
            Transform::Logistic => Pair::Logistic,
            Transform::Probit => {
                return Err("post_transform PROBIT of a single score is not supported".into());
            }
            Transform::Softmax | Transform::SoftmaxZero => Pair::Complement,
        };
        return Ok(vec![label, pair.apply(cx, call, &scores)?]);
    }
    let scores = if transform == Transform::None {
        cx.apply(call.name, Structure::Identity, &[&scores], Elem::Float)?
    } else {
        transform.apply(cx, call, &scores)?
    };
    Ok(vec![label, scores])
}

/// The score of each pair of classes: `Σ coefficient · k(x, vector) + ρ` over the support vectors of both.
fn decisions(cx: &mut Context, call: &Call<'_>, classes: usize, counts: &[i64]) -> Res<Value> {
    let (x, _) = rows(cx, call)?;
    let counts = counts.iter().map(|&count| whole(count)).collect::<Res<Vec<usize>>>()?;
    let total: usize = counts.iter().sum();
    let (coefficients, rho) = (floats(call, "coefficients"), floats(call, "rho"));
    let places = pairs(classes).count();
    if coefficients.len() != (classes - 1) * total || rho.len() != places {
        return Err(format!(
            "has {} coefficients and {} values of rho; expected {} for {total} support vectors, and {places}",
            coefficients.len(),
            rho.len(),
            (classes - 1) * total
        )
        .into());
    }
    let starts: Vec<usize> =
        counts.iter().scan(0, |next, &count| Some(std::mem::replace(next, *next + count))).collect();
    cx.spend(&[places, total])?;
    let mut weight = vec![0.0; places * total];
    for (row, (i, j)) in pairs(classes).enumerate() {
        // Row k of the coefficients of a class is that against the class k, or k + 1 from its own place on.
        for (class, against) in [(i, j - 1), (j, i)] {
            for vector in starts[class]..starts[class] + counts[class] {
                weight[row * total + vector] = coefficients[against * total + vector];
            }
        }
    }
    let kernel = kernel(cx, call, &x, &floats(call, "support_vectors"), total)?;
    let weight = list(cx, &call.sub("coefficients"), &weight, &[places, total])?;
    let bias = list(cx, &call.sub("rho"), &rho, &[places])?;
    cx.apply(&call.sub("decisions"), Linear, &[&kernel, &weight, &bias], Elem::Float)
}

/// The probabilities of classes: Platt's probability `σ(−(a s + b))` of the first class of each pair with the score s, and their
/// coupling.
fn coupled(
    cx: &mut Context,
    call: &Call<'_>,
    name: &str,
    scores: &Value,
    [a, b]: [&[f64]; 2],
    classes: usize,
) -> Res<Value> {
    let slope = list(cx, &call.sub("prob_a"), a, &[a.len()])?;
    let shift = list(cx, &call.sub("prob_b"), b, &[b.len()])?;
    let scaled = cx.apply(&call.sub("scaled scores"), Binary::Mul, &[scores, &slope], Elem::Float)?;
    let moved = cx.apply(&call.sub("shifted scores"), Binary::Add, &[&scaled, &shift], Elem::Float)?;
    let logits = cx.apply(&call.sub("logits"), Pointwise::Neg, &[&moved], Elem::Float)?;
    let pairs = cx.apply(&call.sub("pairs"), Pointwise::Sigmoid, &[&logits], Elem::Float)?;
    let bounds = Pointwise::Clip { low: Some(1e-7), high: Some(1.0 - 1e-7) };
    let pairs = cx.apply(&call.sub("bounded pairs"), bounds, &[&pairs], Elem::Float)?;
    cx.apply(name, PairwiseCoupling { classes }, &[&pairs], Elem::Float)
}

/// The class that most pairs vote for, the first of them: `[N]`.
fn votes(cx: &mut Context, call: &Call<'_>, scores: &Value, classes: usize) -> Res<Value> {
    let zero = cx.number(&call.sub("zero"), 0.0)?;
    let first = cx.apply(&call.sub("first of pair"), Compare::Greater, &[scores, &zero], Elem::Bool)?;
    let first = cx.apply(&call.sub("votes of pairs"), Cast { to: cx.dtype }, &[&first], Elem::Float)?;
    let places = pairs(classes).count();
    // A vote v for the first class of a pair is one of 1 − v for the second.
    let (mut weight, mut bias) = (vec![0.0; classes * places], vec![0.0; classes]);
    for (place, (i, j)) in pairs(classes).enumerate() {
        weight[i * places + place] = 1.0;
        weight[j * places + place] = -1.0;
        bias[j] += 1.0;
    }
    let weight = list(cx, &call.sub("pairs won"), &weight, &[classes, places])?;
    let bias = list(cx, &call.sub("pairs lost"), &bias, &[classes])?;
    let votes = cx.apply(&call.sub("votes"), Linear, &[&first, &weight, &bias], Elem::Float)?;
    let op = ArgExtreme { axis: 1, largest: true, last: false, keep: false };
    cx.apply(&call.sub("place"), op, &[&votes], Elem::Int)
}

/// A classifier without support vectors: one row of coefficients per class.
fn linear(cx: &mut Context, call: &Call<'_>, labels: &Labels, transform: Transform) -> Res<Vec<Value>> {
    let (x, features) = rows(cx, call)?;
    let (coefficients, rho) = (floats(call, "coefficients"), floats(call, "rho"));
    let rho = *rho.first().ok_or("has no rho")?;
    if labels.len().checked_mul(features) != Some(coefficients.len()) {
        let expected = format!("{} times the {features} features", labels.len());
        return Err(format!("has {} coefficients; expected {expected}", coefficients.len()).into());
    }
    let weight = list(cx, &call.sub("coefficients"), &coefficients, &[labels.len(), features])?;
    let bias = list(cx, &call.sub("rho"), &vec![rho; labels.len()], &[labels.len()])?;
    let raw = cx.apply(&transform.before(call), Linear, &[&x, &weight, &bias], Elem::Float)?;
    let scores = transform.apply(cx, call, &raw)?;
    if labels.len() == 2 {
        // onnxruntime chooses the label of two classes by a rule of its own.
        let why = "the label of two classes without support vectors is not supported";
        return Ok(vec![Value::Missing(Some(why.into())), scores]);
    }
    Ok(vec![largest(cx, call, &raw, labels)?, scores])
}
