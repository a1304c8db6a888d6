use std::sync::Arc;

use ascribe_core::ops::{
    Backend, Binary, Compare, Grads, Kind, Linear, MatMul, Op, Operator, Pointwise, Softmax, Structure, Vjp,
    Where,
};
use ascribe_core::{Device, Error, GraphBuilder, Inputs, Method, NodeId, Run, Target};

use super::*;

fn tensor<const R: usize, const C: usize>(values: [[f64; C]; R]) -> Result<Tensor> {
    Ok(Tensor::from_vec(values.concat(), (R, C), &Device::Cpu)?)
}

fn flat(t: &Tensor) -> Result<Vec<f64>> {
    Ok(t.flatten_all()?.to_vec1()?)
}

/// W is [1, 3] and x [1, 3]: one output, relevance z.
const X: [f64; 3] = [1.0, -2.0, 3.0];
const W: [f64; 3] = [2.0, -1.0, -1.0];

fn linear(bias: f64) -> Result<Graph> {
    let mut b = GraphBuilder::new();
    let x = b.input("x", &[Some(3)]);
    let w = b.constant("w", tensor([W])?);
    let c = b.constant("b", Tensor::new(&[bias], &Device::Cpu)?);
    let y = b.op("fc", Linear, &[x, w, c])?;
    b.finish(&[y])
}

fn relevance(method: &Lrp, graph: &Graph) -> Result<Vec<f64>> {
    let x = Inputs::single(tensor([X])?)?;
    flat(method.explain(graph, &x, &Target::Class(0), &Run::new())?.values())
}

fn close(a: &[f64], b: &[f64]) {
    assert!(a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12), "{a:?} {b:?}");
}

fn exact(composite: LrpComposite) -> Lrp {
    Lrp::default().composite(composite).epsilon(0.0).stabiliser(0.0).gamma(1.0)
}

#[test]
fn rules_by_hand() -> Result<()> {
    // Contributions 2, 2, −3; bias 1: z = 2.
    let graph = linear(1.0)?;
    close(&relevance(&exact(LrpComposite::Epsilon), &graph)?, &[2.0, 2.0, -3.0]);
    close(&relevance(&exact(LrpComposite::Epsilon).bias(Bias::Zero), &graph)?, &[4.0, 4.0, -6.0]);
    close(&relevance(&exact(LrpComposite::Epsilon).epsilon(2.0), &graph)?, &[1.0, 1.0, -1.5]);
    // Positive contributions 2 + 2 + 1 (bias).
    close(&relevance(&exact(LrpComposite::ZPlus), &graph)?, &[0.8, 0.8, 0.0]);
    close(&relevance(&exact(LrpComposite::ZPlus).bias(Bias::Zero), &graph)?, &[1.0, 1.0, 0.0]);
    // z > 0: positive contributions count twice, 4 + 4 − 3 + 2.
    let by = 2.0 / 7.0;
    close(&relevance(&exact(LrpComposite::Gamma), &graph)?, &[4.0 * by, 4.0 * by, -3.0 * by]);
    // z = −1 with bias −2: negative ones count twice, 2 + 2 − 6 − 4.
    let by = -1.0 / -6.0;
    close(&relevance(&exact(LrpComposite::Gamma), &linear(-2.0)?)?, &[2.0 * by, 2.0 * by, -6.0 * by]);
    // z = 0 passes nothing.
    close(&relevance(&exact(LrpComposite::Gamma), &linear(-1.0)?)?, &[0.0; 3]);
    close(&relevance(&exact(LrpComposite::Epsilon), &linear(-1.0)?)?, &[0.0; 3]);
    Ok(())
}

#[test]
fn gamma_without_the_relevance_of_biases_still_gates_by_outputs_with_bias() -> Result<()> {
    // W x = (−1, 4), z = (2, −1): both outputs have another sign than without their bias. zennit 0.5.1 gives the same,
    // `Gamma(1.0, stabilizer=0.0, zero_params="bias")`.
    let graph = |dtype| {
        let mut b = GraphBuilder::new();
        let x = b.input("x", &[Some(2)]);
        let w = b.constant("w", tensor([[1.0, -1.0], [-1.0, 2.0]])?);
        let c = b.constant("b", Tensor::new(&[3.0, -5.0], &Device::Cpu)?);
        let y = b.op("fc", Linear, &[x, w, c])?;
        b.finish(&[y])?.to_dtype(dtype)
    };
    let method = exact(LrpComposite::Gamma).bias(Bias::Zero);
    for dtype in [ascribe_core::DType::F64, ascribe_core::DType::F32] {
        let x = Inputs::single(tensor([[2.0, 3.0]])?.to_dtype(dtype)?)?;
        // z₀ = 2 > 0: contributions 2 · 2 · 1 and −3, their sum is 1. z₁ = −1 < 0: −2 · 2 and 6, their sum is 2.
        for (class, expected) in [(0, [8.0, -6.0]), (1, [2.0, -3.0])] {
            let found = method.explain(&graph(dtype)?, &x, &Target::Class(class), &Run::new())?;
            close(&flat(&found.values().to_dtype(ascribe_core::DType::F64)?)?, &expected);
        }
    }
    Ok(())
}

#[test]
fn every_way_to_write_a_layer_gives_the_same() -> Result<()> {
    type Layer = fn(&mut GraphBuilder, NodeId) -> Result<NodeId>;
    let layers: [Layer; 4] = [
        |b, x| {
            let w = b.constant("w", Tensor::from_vec(W.to_vec(), (3, 1), &Device::Cpu)?);
            let c = b.constant("c", Tensor::new(&[1.0], &Device::Cpu)?);
            let y = b.op("product", MatMul, &[x, w])?;
            b.op("sum", Binary::Add, &[y, c])
        },
        |b, x| {
            // −(c − x Wᵀ) with the negated weight, then divided by −1.
            let w = b.constant("w", Tensor::from_vec(W.to_vec(), (3, 1), &Device::Cpu)?);
            let c = b.constant("c", Tensor::new(&[-1.0], &Device::Cpu)?);
            let y = b.op("product", MatMul, &[x, w])?;
            let y = b.op("difference", Binary::Sub, &[c, y])?;
            b.op("negation", Pointwise::Neg, &[y])
        },
        |b, x| {
            let w = b.constant("w", tensor([W.map(|w| 2.0 * w)])?);
            let c = b.constant("c", Tensor::new(&[-1.0], &Device::Cpu)?);
            let two = b.constant("two", Tensor::new(&[2.0], &Device::Cpu)?);
            let y = b.op("fc", Linear, &[x, w])?;
            let y = b.op("half", Binary::Div, &[y, two])?;
            b.op("difference", Binary::Sub, &[y, c])
        },
        |b, x| {
            let w = b.constant("w", tensor([W])?);
            let ones = b.constant("ones", tensor([[1.0; 3]])?);
            let c = b.constant("c", Tensor::new(&[1.0], &Device::Cpu)?);
            let y = b.op("scaled", Binary::Mul, &[x, w])?;
            b.op("fc", Linear, &[y, ones, c])
        },
    ];
    for layer in layers {
        let mut b = GraphBuilder::new();
        let x = b.input("x", &[Some(3)]);
        let y = layer(&mut b, x)?;
        let graph = b.finish(&[y])?;
        close(&relevance(&exact(LrpComposite::Epsilon), &graph)?, &[2.0, 2.0, -3.0]);
    }
    // Element-wise: y = c − x has the weight −1 and no operand for it.
    let mut b = GraphBuilder::new();
    let x = b.input("x", &[Some(3)]);
    let c = b.constant("c", tensor([[1.0, -1.0, -1.0]])?);
    let y = b.op("difference", Binary::Sub, &[c, x])?;
    let graph = b.finish(&[y])?;
    let at = |class: usize, method: &Lrp| {
        let x = Inputs::single(tensor([X])?)?;
        flat(method.explain(&graph, &x, &Target::Class(class), &Run::new())?.values())
    };
    // y = (0, 1, −4); positive contributions: −x⁻ = 2 and b⁺ of the second.
    close(&at(1, &exact(LrpComposite::Epsilon))?, &[0.0, 2.0, 0.0]);
    close(&at(1, &exact(LrpComposite::ZPlus))?, &[0.0, 1.0, 0.0]);
    close(&at(2, &exact(LrpComposite::ZPlus))?, &[0.0; 3]);
    Ok(())
}

/// The graph with its output multiplied by one: the constant determines the data type of the computation.
fn scaled(mut b: GraphBuilder, y: NodeId) -> Result<Graph> {
    let one = b.constant("one", Tensor::new(&[1_f64], &Device::Cpu)?);
    let y = b.op("times-one", Binary::Mul, &[y, one])?;
    b.finish(&[y])
}

#[test]
fn sums_averages_activations_and_maxima() -> Result<()> {
    let mut b = GraphBuilder::new();
    let x = b.input("x", &[Some(3)]);
    let a = b.op("act", Pointwise::Relu, &[x])?;
    let twice = b.op("twice", Binary::Sub, &[x, a])?;
    let graph = scaled(b, twice)?;
    let x = Inputs::single(tensor([X])?)?;
    let run = |class, graph: &Graph| {
        flat(exact(LrpComposite::Epsilon).explain(graph, &x, &Target::Class(class), &Run::new())?.values())
    };
    // x₁ − ReLU(x₁) = −2: all of it comes from the direct path.
    close(&run(1, &graph)?, &[0.0, -2.0, 0.0]);
    // x₂ − ReLU(x₂) = 0: nothing to distribute.
    close(&run(2, &graph)?, &[0.0; 3]);
    let mut b = GraphBuilder::new();
    let x = b.input("x", &[Some(3)]);
    let other = b.op("other", Pointwise::Abs, &[x])?;
    let most = b.op("most", Binary::Max, &[x, other])?;
    let sum = b.op("sum", Binary::Add, &[most, x])?;
    let graph = scaled(b, sum)?;
    let x = Inputs::single(tensor([[1.0, -2.0, -3.0]])?)?;
    let found = exact(LrpComposite::Epsilon).explain(&graph, &x, &Target::Difference(1, 2), &Run::new())?;
    // |x| + x = 0 for negative x.
    close(&flat(found.values())?, &[0.0; 3]);
    assert_eq!(found.provenance.completeness_gap, Some(vec![0.0]));
    Ok(())
}

#[test]
fn nodes_without_a_rule_are_named() -> Result<()> {
    let mut b = GraphBuilder::new();
    let x = b.input("x", &[Some(3)]);
    let gate = b.op("gate", Pointwise::Tanh, &[x])?;
    let y = b.op("gated", Binary::Mul, &[x, gate])?;
    let y = b.op("flat", Structure::Flatten { axis: 1 }, &[y])?;
    let graph = scaled(b, y)?;
    let x = Inputs::single(tensor([X])?)?;
    let error = Lrp::default().explain(&graph, &x, &Target::Class(0), &Run::new()).err();
    let message = error.map(|e| e.to_string()).unwrap_or_default();
    assert!(message.contains("'gated'") && message.contains("Mul"), "{message}");
    let linear = linear(0.0)?;
    assert!(relevance(&Lrp::default().layer("cf", LrpRule::Gamma), &linear).is_err(), "unknown node");
    assert!(relevance(&Lrp::default().epsilon(f64::NAN), &linear).is_err());
    Ok(())
}

#[test]
fn rules_by_name_and_position() -> Result<()> {
    let graph = linear(1.0)?;
    let plus = relevance(&exact(LrpComposite::ZPlus), &graph)?;
    close(&relevance(&exact(LrpComposite::Epsilon).layer("fc", LrpRule::ZPlus), &graph)?, &plus);
    close(&relevance(&exact(LrpComposite::Epsilon).first(LrpRule::ZPlus), &graph)?, &plus);
    Ok(())
}

#[test]
fn configuration_survives_json() -> Result<()> {
    let method =
        Lrp::default().composite(LrpComposite::EpsilonGamma).layer("fc", LrpRule::ZPlus).bias(Bias::Zero);
    let json = method.config();
    assert_eq!(json["composite"], "epsilon-gamma");
    let back: Lrp = serde_json::from_value(json).map_err(|e| Error::invalid("json", e.to_string(), "lrp"))?;
    assert_eq!(back, method);
    assert!(serde_json::from_str::<Lrp>(r#"{"epsilom": 1}"#).is_err());
    Ok(())
}

#[test]
fn relevance_of_layers_is_collected_on_the_way() -> Result<()> {
    let mut b = GraphBuilder::new();
    let x = b.input("x", &[Some(3)]);
    let v = b.constant("v", tensor([[2.0, -1.0, -1.0], [1.0, 1.0, 1.0]])?);
    let h = b.op("layer.0", Linear, &[x, v])?;
    let a = b.op("act.0", Pointwise::Relu, &[h])?;
    let w = b.constant("w", tensor([[1.0, 3.0]])?);
    let y = b.op("layer.1", Linear, &[a, w])?;
    let graph = b.finish(&[y])?;
    // h = (1, 2), and the score is 1 + 6.
    let method = Lrp { collect: vec!["act.0".into(), "layer.*".into()], ..exact(LrpComposite::Epsilon) };
    let x = Inputs::single(tensor([X])?)?;
    let found = method.explain(&graph, &x, &Target::Class(0), &Run::new())?;
    let names: Vec<&str> = found.extras.keys().map(String::as_str).collect();
    assert_eq!(names, ["relevance.act.0", "relevance.layer.0", "relevance.layer.1"]);
    close(&flat(&found.extras["relevance.act.0"])?, &[1.0, 6.0]);
    close(&flat(&found.extras["relevance.layer.0"])?, &[1.0, 6.0]);
    close(&flat(&found.extras["relevance.layer.1"])?, &[7.0]);
    let plain = exact(LrpComposite::Epsilon).explain(&graph, &x, &Target::Class(0), &Run::new())?;
    close(&flat(found.values())?, &flat(plain.values())?);
    let wrong = Lrp { collect: vec!["no*".into()], ..Lrp::default() };
    let error = wrong.explain(&graph, &x, &Target::Class(0), &Run::new()).unwrap_err().to_string();
    assert!(error.contains("'no*'"), "{error}");
    Ok(())
}

/// An operator that cannot be computed.
#[derive(Debug)]
struct Incomputable;

impl Operator for Incomputable {
    fn name(&self) -> &'static str {
        "Incomputable"
    }

    fn kind(&self, _: &[bool]) -> Kind {
        Kind::Activation
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        Ok(inputs[0].to_vec())
    }

    fn forward(&self, _: &[&Tensor], _: Backend) -> Result<Tensor> {
        Err(Error::invalid("Incomputable", "was computed", "nothing"))
    }

    fn vjp(&self, _: &Vjp<'_>) -> Result<Grads> {
        Err(Error::invalid("Incomputable", "was differentiated", "nothing"))
    }
}

#[test]
fn nodes_without_a_rule_are_an_error_before_anything_is_computed() -> Result<()> {
    let explain = |build: &dyn Fn(&mut GraphBuilder, NodeId) -> Result<NodeId>| -> Result<String> {
        let mut b = GraphBuilder::new();
        let x = b.input("x", &[Some(3)]);
        let h = b.op("slow", Op::Custom(Arc::new(Incomputable)), &[x])?;
        let y = build(&mut b, h)?;
        let (graph, x) = (b.finish(&[y])?, Inputs::single(tensor([X])?)?);
        let error = Lrp::default().explain(&graph, &x, &Target::Top1, &Run::new()).err();
        Ok(error.map(|e| e.to_string()).unwrap_or_default())
    };
    let squared = explain(&|b, h| b.op("square", Binary::Mul, &[h, h]))?;
    assert!(squared.contains("'square'") && squared.contains("multiplies"), "{squared}");
    let softmax = explain(&|b, h| {
        let p = b.op("attention", Softmax { axis: 1, log: false }, &[h])?;
        b.op("y", Pointwise::Relu, &[p])
    })?;
    assert!(softmax.contains("'attention'"), "{softmax}");
    // No signal passes a comparison, so that what is before it needs no rule.
    let masked = explain(&|b, h| {
        let p = b.op("probabilities", Softmax { axis: 1, log: false }, &[h])?;
        let third = b.constant("third", Tensor::new(&[1.0 / 3.0], &Device::Cpu)?);
        let mask = b.op("mask", Compare::Greater, &[p, third])?;
        b.op("y", Where, &[mask, h, third])
    })?;
    assert!(masked.contains("was computed"), "{masked}");
    Ok(())
}
