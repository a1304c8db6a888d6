//! Every golden case of this crate's methods, in f64 and f32: see `fixtures/golden/methods/README.md`.

use ascribe_core::{Baseline, DType, Explainer, Graph, Inputs, Run, Tensor};
use ascribe_core::{Location, explain_at};
use ascribe_gradient::{
    Bias, DeconvNet, GradCam, GuidedBackprop, GuidedGradCam, InputXGradient, IntegratedGradients,
    Interpolation, Lrp, LrpComposite, NoiseTunnel, Quadrature, Saliency,
};
use ascribe_testing::golden::{Answers, Case, Failure, Network, compare};
use serde_json::Value;

/// Cases of the folder that belong to other crates.
const ELSEWHERE: [&str; 4] = ["occlusion", "rise", "insertion", "deletion"];

fn explain(network: &Network, method: &dyn Explainer<Graph>, at: &Location) -> Result<Tensor, Failure> {
    let found =
        explain_at(method, &network.graph, &network.inputs()?, &network.target(), at, &Run::new().batch(2))?;
    Ok(found.values().clone())
}

/// What this crate computes for each tensor of a case that it can compute.
fn answers(network: &Network, case: &Case) -> Result<Answers, Failure> {
    let about = &case.about;
    let config = &about["config"];
    let node = about["layer"]["node"].as_str().unwrap_or_default();
    let at_layer = Location::Layer(node.into());
    let at_input = |method: &dyn Explainer<Graph>| explain(network, method, &Location::Input);
    let only = |answer: Tensor| Ok(vec![("attribution", answer)]);
    match case.method() {
        "logits" => {
            let x = Inputs::single(network.value("input")?)?;
            Ok(vec![("logits", network.graph.forward(&x)?.primary().clone())])
        }
        "saliency" => only(at_input(&Saliency::default())?),
        "input-x-gradient" => only(at_input(&InputXGradient::default())?),
        "guided-backprop" => only(at_input(&GuidedBackprop::default())?),
        "deconvnet" => only(at_input(&DeconvNet::default())?),
        "layer-gradient-x-activation" => only(explain(network, &InputXGradient::default(), &at_layer)?),
        "neuron-gradient" => {
            let index = config["neuron"].as_array().into_iter().flatten();
            let index = index.filter_map(Value::as_u64).map(|i| i as usize).collect();
            only(explain(network, &Saliency::default(), &Location::Neuron(node.into(), index))?)
        }
        "grad-cam" => {
            let method = GradCam::default().layer(node);
            let own = at_input(&method.clone().upsample(false))?;
            Ok(vec![
                ("pytorch_grad_cam", own.squeeze(1)?),
                ("attribution", own),
                ("relu", at_input(&method.clone().upsample(false).relu(true))?),
                ("upsampled", at_input(&method)?),
                ("relu_upsampled", at_input(&method.clone().relu(true))?),
            ])
        }
        "guided-grad-cam" => {
            let method = GuidedGradCam::default().layer(node);
            let nearest = method.clone().interpolate(Interpolation::Nearest);
            Ok(vec![("attribution", at_input(&method)?), ("nearest", at_input(&nearest)?)])
        }
        "integrated-gradients" => integrated(network, case, config, node),
        "smooth-grad" | "smooth-grad-sq" | "var-grad" => {
            let inner = Saliency::default();
            let method = match case.method() {
                "smooth-grad" => NoiseTunnel::smooth_grad(inner),
                "smooth-grad-sq" => NoiseTunnel::smooth_grad_sq(inner),
                _ => NoiseTunnel::var_grad(inner),
            };
            only(at_input(&method.with_noise(network.value("noise")?)?)?)
        }
        "lrp" => {
            let method = relevance(config)?;
            let mut answers = vec![("attribution", at_input(&method)?)];
            if let Some(inner) = about["inner"]["node"].as_str() {
                answers.push(("inner", explain(network, &method, &Location::Layer(inner.into()))?));
            }
            Ok(answers)
        }
        other if ELSEWHERE.contains(&other) => Ok(Vec::new()),
        other => Err(format!("nobody answers for the method '{other}'").into()),
    }
}

fn integrated(network: &Network, case: &Case, config: &Value, node: &str) -> Result<Answers, Failure> {
    let quadrature: Quadrature = serde_json::from_value(config["quadrature"].clone())?;
    let baseline = match config["baseline"].as_str() {
        Some("random") => Baseline::Tensor(network.value("baseline")?),
        _ => Baseline::Zero,
    };
    let steps = config["steps"].as_u64().ok_or("no steps")? as usize;
    let method = IntegratedGradients::exactly(steps).quadrature(quadrature).baseline(baseline);
    let location = if node.is_empty() { Location::Input } else { Location::Layer(node.into()) };
    let x = Inputs::single(network.value("input")?)?;
    let target = network.target();
    let found = explain_at(&method, &network.graph, &x, &target, &location, &Run::new().batch(16))?;
    if network.dtype == DType::F64 {
        let gaps = found.provenance.completeness_gap.clone().ok_or("no completeness gap")?;
        for (ours, theirs) in gaps.iter().zip(case.tensor("delta")?.to_vec1::<f64>()?) {
            if (ours - theirs).abs() > 1e-9 {
                return Err(format!("completeness gap {ours} instead of {theirs}").into());
            }
        }
    }
    Ok(vec![("attribution", found.values().clone())])
}

/// The configuration of an LRP case.
fn relevance(config: &Value) -> Result<Lrp, Failure> {
    let name = config["rule"].as_str().or(config["composite"].as_str()).or(config["conv"]["rule"].as_str());
    let composite = match name {
        Some("epsilon") => LrpComposite::Epsilon,
        Some("z-plus") => LrpComposite::ZPlus,
        Some("epsilon-plus") => LrpComposite::EpsilonPlus,
        Some("gamma") => LrpComposite::EpsilonGamma,
        other => return Err(format!("unknown rule {other:?}").into()),
    };
    let zero = config["zero_bias"].as_bool().unwrap_or(false);
    let method = Lrp::default().composite(composite).bias(if zero { Bias::Zero } else { Bias::Absorb });
    let method = match config["epsilon"].as_f64() {
        Some(epsilon) => method.epsilon(epsilon),
        None => method,
    };
    Ok(match config["conv"]["gamma"].as_f64() {
        Some(gamma) => method.gamma(gamma),
        None => method,
    })
}

fn check(name: &str) -> Result<(), Failure> {
    let compared = compare(name, answers)?;
    assert!(compared.tensors > 20, "{name}: only {} tensors compared", compared.tensors);
    Ok(())
}

#[test]
fn plain() -> Result<(), Failure> {
    check("plain")
}

#[test]
fn residual() -> Result<(), Failure> {
    check("residual")
}

#[test]
fn functional() -> Result<(), Failure> {
    check("functional")
}

#[test]
fn depthwise() -> Result<(), Failure> {
    check("depthwise")
}

#[test]
fn smooth() -> Result<(), Failure> {
    check("smooth")
}

#[test]
fn mlp() -> Result<(), Failure> {
    check("mlp")
}

/// The layer that Grad-CAM picks by itself is the activation before the last pooling.
#[test]
fn grad_cam_finds_the_layer() -> Result<(), Failure> {
    for (name, node) in [
        ("plain", "/act3/Relu"),
        ("residual", "/block2/act_1/Relu"),
        ("functional", "node_relu_4"),
        ("depthwise", "n4_6"),
    ] {
        let network = Network::load(name, DType::F32)?;
        let found = ascribe_gradient::last_spatial_layer(&network.graph, &network.inputs()?)?;
        assert_eq!(network.graph.node(found).name(), node, "{name}");
    }
    Ok(())
}
