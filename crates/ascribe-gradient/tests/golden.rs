//! Every golden case of this crate's methods, in f64 and f32: see `fixtures/golden/methods/README.md`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ascribe_core::{Baseline, DType, Device, Explainer, Graph, Inputs, Run, Target, Tensor};
use ascribe_gradient::{
    Bias, DeconvNet, GradCam, GuidedBackprop, GuidedGradCam, InputXGradient, IntegratedGradients,
    Interpolation, Location, Lrp, LrpComposite, NoiseTunnel, Quadrature, Saliency, explain_at,
};
use ascribe_models::onnx::{LoadOptions, load};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

type Failure = Box<dyn std::error::Error>;
type Tensors = BTreeMap<String, Tensor>;

/// Cases of the folder that belong to other crates.
const ELSEWHERE: [&str; 4] = ["occlusion", "rise", "insertion", "deletion"];

fn folder(network: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../fixtures/golden/methods", network].iter().collect()
}

/// All tensors of a file, in f64, and its case.
fn read(path: &PathBuf) -> Result<(Tensors, Value), Failure> {
    let bytes = std::fs::read(path)?;
    let (_, metadata) = SafeTensors::read_metadata(&bytes)?;
    let case = metadata.metadata().as_ref().and_then(|m| m.get("case")).map_or("null", String::as_str);
    let case = serde_json::from_str(case)?;
    let file = SafeTensors::deserialize(&bytes)?;
    let mut tensors = Tensors::new();
    for (name, view) in file.tensors() {
        let values: Vec<f64> = match view.dtype() {
            Dtype::F64 => words(view.data()).map(f64::from_le_bytes).collect(),
            Dtype::I64 => words(view.data()).map(|w| i64::from_le_bytes(w) as f64).collect(),
            Dtype::F32 => {
                view.data().as_chunks().0.iter().map(|w| f64::from(f32::from_le_bytes(*w))).collect()
            }
            other => return Err(format!("{}: {name} holds {other:?}", path.display()).into()),
        };
        tensors.insert(name, Tensor::from_vec(values, view.shape(), &Device::Cpu)?);
    }
    Ok((tensors, case))
}

fn words(bytes: &[u8]) -> impl Iterator<Item = [u8; 8]> {
    bytes.as_chunks().0.iter().copied()
}

/// A network of the folder in one precision, and its inputs.
struct Network {
    graph: Graph,
    inputs: Tensors,
    targets: Vec<usize>,
    dtype: DType,
}

impl Network {
    fn load(name: &str, dtype: DType) -> Result<Self, Failure> {
        let graph = load(&folder(name).join("model.onnx"), &LoadOptions::default().dtype(dtype))?.graph;
        let (inputs, _) = read(&folder(name).join("inputs.safetensors"))?;
        let targets = inputs["targets"].to_vec1::<f64>()?.into_iter().map(|t| t as usize).collect();
        Ok(Self { graph, inputs, targets, dtype })
    }

    fn value(&self, name: &str) -> Result<Tensor, Failure> {
        Ok(self.inputs[name].to_dtype(self.dtype)?)
    }

    fn explain(&self, method: &dyn Explainer<Graph>, at: &Location) -> Result<Tensor, Failure> {
        let x = Inputs::single(self.value("input")?)?;
        let target = Target::Classes(self.targets.clone());
        let found = explain_at(method, &self.graph, &x, &target, at, &Run::new().batch(2))?;
        Ok(found.values().clone())
    }

    /// What this crate computes for each tensor of a case that it can compute.
    fn answers(&self, case: &Value, expected: &Tensors) -> Result<Vec<(&'static str, Tensor)>, Failure> {
        let config = &case["config"];
        let node = case["layer"]["node"].as_str().unwrap_or_default();
        let at_layer = Location::Layer(node.into());
        let at_input = |method: &dyn Explainer<Graph>| self.explain(method, &Location::Input);
        let only = |answer: Tensor| Ok(vec![("attribution", answer)]);
        match case["method"].as_str().unwrap_or_default() {
            "logits" => {
                let x = Inputs::single(self.value("input")?)?;
                Ok(vec![("logits", self.graph.forward(&x)?.primary().clone())])
            }
            "saliency" => only(at_input(&Saliency::new())?),
            "input-x-gradient" => only(at_input(&InputXGradient::new())?),
            "guided-backprop" => only(at_input(&GuidedBackprop::new())?),
            "deconvnet" => only(at_input(&DeconvNet::new())?),
            "layer-gradient-x-activation" => only(self.explain(&InputXGradient::new(), &at_layer)?),
            "neuron-gradient" => {
                let index = config["neuron"].as_array().into_iter().flatten();
                let index = index.filter_map(Value::as_u64).map(|i| i as usize).collect();
                only(self.explain(&Saliency::new(), &Location::Neuron(node.into(), index))?)
            }
            "grad-cam" => {
                let method = GradCam::new().layer(node);
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
                let method = GuidedGradCam::new().layer(node);
                let nearest = method.clone().interpolate(Interpolation::Nearest);
                Ok(vec![("attribution", at_input(&method)?), ("nearest", at_input(&nearest)?)])
            }
            "integrated-gradients" => self.integrated(config, node, expected),
            "smooth-grad" | "smooth-grad-sq" | "var-grad" => {
                let inner = Saliency::new();
                let method = match case["method"].as_str() {
                    Some("smooth-grad") => NoiseTunnel::smooth_grad(inner),
                    Some("smooth-grad-sq") => NoiseTunnel::smooth_grad_sq(inner),
                    _ => NoiseTunnel::var_grad(inner),
                };
                only(at_input(&method.with_noise(self.value("noise")?)?)?)
            }
            "lrp" => {
                let method = relevance(config)?;
                let mut answers = vec![("attribution", at_input(&method)?)];
                if let Some(inner) = case["inner"]["node"].as_str() {
                    answers.push(("inner", self.explain(&method, &Location::Layer(inner.into()))?));
                }
                Ok(answers)
            }
            other if ELSEWHERE.contains(&other) => Ok(Vec::new()),
            other => Err(format!("nobody answers for the method '{other}'").into()),
        }
    }

    fn integrated(
        &self,
        config: &Value,
        node: &str,
        expected: &Tensors,
    ) -> Result<Vec<(&'static str, Tensor)>, Failure> {
        let quadrature: Quadrature = serde_json::from_value(config["quadrature"].clone())?;
        let baseline = match config["baseline"].as_str() {
            Some("random") => Baseline::Tensor(self.value("baseline")?),
            _ => Baseline::Zero,
        };
        let steps = config["steps"].as_u64().ok_or("no steps")? as usize;
        let method = IntegratedGradients::new().quadrature(quadrature).steps(steps).baseline(baseline);
        let location = if node.is_empty() { Location::Input } else { Location::Layer(node.into()) };
        let x = Inputs::single(self.value("input")?)?;
        let target = Target::Classes(self.targets.clone());
        let found = explain_at(&method, &self.graph, &x, &target, &location, &Run::new().batch(16))?;
        if self.dtype == DType::F64 {
            let gaps = found.provenance.completeness_gap.clone().ok_or("no completeness gap")?;
            for (ours, theirs) in gaps.iter().zip(expected["delta"].to_vec1::<f64>()?) {
                if (ours - theirs).abs() > 1e-9 {
                    return Err(format!("completeness gap {ours} instead of {theirs}").into());
                }
            }
        }
        Ok(vec![("attribution", found.values().clone())])
    }
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
    let method = Lrp::new().composite(composite).bias(if zero { Bias::Zero } else { Bias::Absorb });
    let method = match config["epsilon"].as_f64() {
        Some(epsilon) => method.epsilon(epsilon),
        None => method,
    };
    Ok(match config["conv"]["gamma"].as_f64() {
        Some(gamma) => method.gamma(gamma),
        None => method,
    })
}

/// ‖ours − theirs‖ / ‖theirs‖, or ‖ours‖ where theirs is zero.
fn distance(ours: &Tensor, theirs: &Tensor) -> Result<f64, Failure> {
    if ours.dims() != theirs.dims() {
        return Err(format!("shape {:?} instead of {:?}", ours.dims(), theirs.dims()).into());
    }
    let norm = |t: Tensor| -> Result<f64, Failure> { Ok(t.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt()) };
    let size = norm(theirs.clone())?;
    let difference = norm((ours.to_dtype(DType::F64)? - theirs)?)?;
    Ok(if size > 0.0 { difference / size } else { difference })
}

/// Runs all cases of a network and reports everything that is off.
fn check(name: &str) -> Result<(), Failure> {
    let networks = [Network::load(name, DType::F64)?, Network::load(name, DType::F32)?];
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder(name))?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    paths.sort();
    let (mut compared, mut worst, mut wrong) = (0, [0.0_f64; 2], Vec::new());
    for path in paths.iter().filter(|p| p.extension().is_some_and(|e| e == "safetensors")) {
        let file = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let (expected, case) = read(path)?;
        if file == "inputs" {
            continue;
        }
        for (precision, network) in networks.iter().enumerate() {
            let answers = match network.answers(&case, &expected) {
                Ok(answers) => answers,
                Err(error) => {
                    wrong.push(format!("{file} in {:?}: {error}", network.dtype));
                    continue;
                }
            };
            for (tensor, answer) in answers {
                let error = distance(&answer, &expected[tensor])?;
                let theirs = case["f32_errors"][tensor].as_f64().unwrap_or(0.0);
                let allowed = if network.dtype == DType::F64 { 1e-7 } else { (2.0 * theirs).max(1e-5) };
                compared += 1;
                worst[precision] = worst[precision].max(error);
                if error.is_nan() || error > allowed {
                    wrong.push(format!(
                        "{file} in {:?}: {tensor} is off by {error:.2e}, allowed {allowed:.1e}",
                        network.dtype
                    ));
                }
            }
        }
    }
    println!("{name}: {compared} tensors, largest error {:.1e} in f64, {:.1e} in f32", worst[0], worst[1]);
    assert!(wrong.is_empty(), "{name}: {} of {compared} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 20, "{name}: only {compared} tensors compared");
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
        let found =
            ascribe_gradient::last_spatial_layer(&network.graph, &Inputs::single(network.value("input")?)?)?;
        assert_eq!(network.graph.node(found).name(), node, "{name}");
    }
    Ok(())
}
