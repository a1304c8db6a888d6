//! Compares ONNX models with onnxruntime: single operators, and whole networks from both of PyTorch's exporters.

#[path = "support/fill.rs"]
#[allow(dead_code)]
mod fill;

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use ascribe_core::{Composite, DType, Device, Inputs, Keep, Tensor};
use ascribe_models::Error;
use ascribe_models::onnx::{self, LoadOptions, LoadedModel};

fn golden(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden").join(part)
}

fn tensors(path: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(path, &Device::Cpu).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn norm(x: &Tensor) -> f64 {
    x.to_dtype(DType::F64).unwrap().sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt()
}

/// Relative L2 distance.
fn distance(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.dims(), expected.dims());
    let f64s = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
    let difference = norm(&(f64s(found) - f64s(expected)).unwrap());
    if difference == 0.0 { 0.0 } else { difference / norm(expected) }
}

/// The output of the model for some samples of the named inputs.
fn run(model: &LoadedModel, inputs: &HashMap<String, Tensor>, samples: std::ops::Range<usize>) -> Tensor {
    let named = model.inputs.iter().map(|i| {
        let x = inputs[&i.name].narrow(0, samples.start, samples.len()).unwrap().contiguous().unwrap();
        // Integers that are read as numbers are numbers.
        let x = if i.integer { x } else { x.to_dtype(model.graph.dtype()).unwrap() };
        (i.name.clone(), x)
    });
    let inputs = Inputs::named(named).unwrap();
    model.graph.forward(&inputs).unwrap_or_else(|e| panic!("{e}")).primary().clone()
}

/// Checks one file with its inputs and output, for the whole batch and for each sample alone.
fn check_operator(name: &str) -> Result<(), String> {
    let path = golden("onnx-ops").join(format!("{name}.onnx"));
    let mut data = tensors(&path.with_extension("safetensors"));
    let expected = data.remove("output").ok_or("no output")?;
    let model = onnx::load(&path, &LoadOptions::default().peel(false)).map_err(|e| e.to_string())?;
    if let Some(batch) = model.fixed_batch {
        return Err(format!("batch fixed to {batch}"));
    }
    let close = |found: &Tensor, expected: &Tensor, what: &str| {
        if found.dims() != expected.dims() {
            return Err(format!("{what}: shape {:?}, expected {:?}", found.dims(), expected.dims()));
        }
        let error = distance(found, expected);
        if error < 1e-5 { Ok(()) } else { Err(format!("{what}: relative error {error:.1e}")) }
    };
    let found = run(&model, &data, 0..2);
    close(&found, &expected, "batch of two")?;
    for i in 0..2 {
        close(&run(&model, &data, i..i + 1), &expected.narrow(0, i, 1).unwrap(), &format!("sample {i}"))?;
    }
    // The canonical form must compute the same function.
    let canonical = onnx::LoadedModel { graph: model.graph.to_dtype(DType::F64).unwrap(), ..model };
    close(&run(&canonical, &data, 0..2), &expected, "in f64")
}

/// Files whose samples can only be computed one at a time.
const SINGLE: [&str; 2] = ["dynamic_conv_bias_13", "if_computed_13"];

/// The names of all files of single operators, but for those.
fn operator_names() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(golden("onnx-ops"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "onnx"))
        .map(|p| p.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert!(names.len() > 250);
    // Its output has the batch on the second axis (see below).
    names.retain(|n| n != "transpose_default_9" && !SINGLE.contains(&n.as_str()));
    names
}

#[test]
fn operators_agree_with_onnxruntime() {
    let names = operator_names();
    let failures: Vec<String> =
        names.iter().filter_map(|n| check_operator(n).err().map(|e| format!("{n}: {e}"))).collect();
    assert!(failures.is_empty(), "{} of {} fail:\n{}", failures.len(), names.len(), failures.join("\n"));
}

/// Copies the file of a network to a folder and writes the weights to which it refers next to it.
fn with_weights(file: &str, folder: &Path) -> PathBuf {
    let list = fill::FillFile::read(&format!("{file}.fill.json"));
    let mut data =
        std::io::BufWriter::new(std::fs::File::create(folder.join(format!("{file}.data"))).unwrap());
    for tensor in &list.tensors {
        let values: Vec<f32> = tensor.tensor().flatten_all().unwrap().to_vec1().unwrap();
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        data.write_all(&bytes).unwrap();
    }
    data.flush().unwrap();
    let copy = folder.join(file);
    std::fs::copy(golden("logits").join(file), &copy).unwrap();
    copy
}

/// Checks that the logits of a network are within 1e-4 of onnxruntime's, whatever batch size the file fixes.
fn check_network(name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = with_weights(&format!("{name}.onnx"), folder.path());
    let model = onnx::load(&path, &LoadOptions::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(model.fixed_batch, None, "{name}: {:?}", model.notes);
    let expected = &tensors(&golden("logits").join(format!("{name}.safetensors")))["logits"];
    let batch = expected.dims()[0];
    let shape = [&[2], model.inputs[0].sides.as_slice()].concat();
    let inputs = HashMap::from([(model.inputs[0].name.clone(), fill::input(&shape))]);
    let found = run(&model, &inputs, 0..2);
    let error = distance(&found.narrow(0, 0, batch).unwrap(), expected);
    let alone = distance(&run(&model, &inputs, 1..2), &found.narrow(0, 1, 1).unwrap());
    println!("{name}: {error:.1e}, sample alone {alone:.1e}, {} nodes", model.graph.len());
    assert!(error < 1e-4, "{name}: relative error {error:.1e}");
    assert!(alone < 1e-5, "{name}: a sample alone differs by {alone:.1e}");
}

macro_rules! networks {
    ($($(#[$attribute:meta])* $test:ident: $name:literal,)*) => {$(
        #[test]
        $(#[$attribute])*
        fn $test() {
            check_network($name);
        }
    )*};
}

networks! {
    alexnet_dynamo: "alexnet-dynamo",
    alexnet_legacy: "alexnet-legacy",
    convnext_tiny_dynamo: "convnext_tiny-dynamo",
    convnext_tiny_legacy: "convnext_tiny-legacy",
    densenet121_dynamo: "densenet121-dynamo",
    densenet121_legacy: "densenet121-legacy",
    efficientnet_b0_dynamo: "efficientnet_b0-dynamo",
    efficientnet_b0_legacy: "efficientnet_b0-legacy",
    googlenet_dynamo: "googlenet-dynamo",
    googlenet_legacy: "googlenet-legacy",
    inception_v3_dynamo: "inception_v3-dynamo",
    inception_v3_legacy: "inception_v3-legacy",
    mobilenet_v2_dynamo: "mobilenet_v2-dynamo",
    mobilenet_v2_legacy: "mobilenet_v2-legacy",
    mobilenet_v3_small_dynamo: "mobilenet_v3_small-dynamo",
    mobilenet_v3_small_legacy: "mobilenet_v3_small-legacy",
    regnet_y_400mf_dynamo: "regnet_y_400mf-dynamo",
    regnet_y_400mf_legacy: "regnet_y_400mf-legacy",
    resnet18_dynamo: "resnet18-dynamo",
    resnet18_legacy: "resnet18-legacy",
    resnet50_dynamo: "resnet50-dynamo",
    resnet50_legacy: "resnet50-legacy",
    shufflenet_v2_x0_5_dynamo: "shufflenet_v2_x0_5-dynamo",
    shufflenet_v2_x0_5_legacy: "shufflenet_v2_x0_5-legacy",
    squeezenet1_1_dynamo: "squeezenet1_1-dynamo",
    squeezenet1_1_legacy: "squeezenet1_1-legacy",
    swin_t_dynamo: "swin_t-dynamo",
    swin_t_legacy: "swin_t-legacy",
    vgg11_bn_dynamo: "vgg11_bn-dynamo",
    vgg11_bn_legacy: "vgg11_bn-legacy",
    vit_b_16_dynamo: "vit_b_16-dynamo",
    vit_b_16_legacy: "vit_b_16-legacy",
}

#[test]
fn method_networks_load_in_f64() {
    for name in ["depthwise", "functional", "mlp", "plain", "residual", "smooth"] {
        let folder = golden("methods").join(name);
        let model = onnx::load(folder.join("model.onnx"), &LoadOptions::default().dtype(DType::F64))
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let logits = folder.join("logits.safetensors");
        if !logits.exists() {
            continue;
        }
        let x = tensors(&folder.join("inputs.safetensors"))["input"].clone();
        let inputs = HashMap::from([(model.inputs[0].name.clone(), x)]);
        let expected = &tensors(&logits)["logits"];
        let error = distance(&run(&model, &inputs, 0..3), expected);
        println!("{name}: {error:.1e}");
        assert!(error < 1e-12, "{name}: {error:.1e}");
    }
}

#[test]
fn softmax_at_the_end_is_removed_and_said() {
    let path = golden("onnx-ops").join("tf_conv_relu6_9.onnx");
    let with = onnx::load(&path, &LoadOptions::default().peel(false)).unwrap();
    let without = onnx::load(&path, &LoadOptions::default()).unwrap();
    assert!(with.notes.is_empty());
    assert!(without.notes[0].contains("softmax"), "{:?}", without.notes);
    let data = tensors(&path.with_extension("safetensors"));
    let (probabilities, logits) = (run(&with, &data, 0..2), run(&without, &data, 0..2));
    let exp = logits.exp().unwrap();
    let normalised = exp.broadcast_div(&exp.sum_keepdim(1).unwrap()).unwrap();
    assert!(distance(&normalised, &probabilities) < 1e-6);
}

#[test]
fn all_unsupported_nodes_are_listed_at_once() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/malformed/unsupported-ops.onnx");
    match onnx::load(&path, &LoadOptions::default()) {
        Err(Error::Nodes { nodes, .. }) => {
            assert!(nodes.len() > 1, "{nodes:?}");
            assert!(nodes.iter().all(|n| !n.name.is_empty() && !n.why.is_empty()));
        }
        other => panic!("{other:?}"),
    }
}

/// The output of this file is [5, 3, N], that of its graph [N, 5, 3].
#[test]
fn samples_of_an_output_come_first() {
    let path = golden("onnx-ops/transpose_default_9.onnx");
    let data = tensors(&path.with_extension("safetensors"));
    let model = onnx::load(&path, &LoadOptions::default()).unwrap();
    let expected = data["output"].permute((1, 0, 2)).unwrap();
    assert_eq!(distance(&run(&model, &data, 0..2), &expected), 0.0);
}

/// Numbers between −1 and 1 that look random.
fn direction(shape: &[usize], seed: usize) -> Tensor {
    let count = shape.iter().product::<usize>();
    let value = |i: usize| ((i + 1) as f64 * 12.9898 + seed as f64 * 78.233).sin() * 43_758.547 % 1.0;
    Tensor::from_vec((0..count).map(value).collect::<Vec<f64>>(), shape, &Device::Cpu).unwrap()
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    (a * b).unwrap().sum_all().unwrap().to_scalar().unwrap()
}

/// Compares the derivative along a direction of the inputs with central differences, in f64.
fn check_gradient(name: &str) -> Result<(), String> {
    let path = golden("onnx-ops").join(format!("{name}.onnx"));
    let data = tensors(&path.with_extension("safetensors"));
    let options = LoadOptions::default().peel(false).dtype(DType::F64);
    let graph = onnx::load(&path, &options).map_err(|e| e.to_string())?.graph;
    assert_eq!(graph.dtype(), DType::F64);
    let named: Vec<(String, Tensor)> = graph
        .inputs()
        .iter()
        .map(|&id| {
            let x = &data[graph.node(id).name()];
            let integer = graph.input_spec(id).unwrap().integer;
            let x = if integer { x.clone() } else { x.to_dtype(DType::F64).unwrap() };
            (graph.node(id).name().to_string(), x)
        })
        .collect();
    let moved = |step: f64| {
        let moved = named.iter().enumerate().map(|(i, (name, x))| {
            let x = if x.dtype().is_float() {
                (x + (direction(x.dims(), i) * step).unwrap()).unwrap()
            } else {
                x.clone()
            };
            (name.clone(), x)
        });
        Inputs::named(moved).unwrap()
    };
    let trace = graph.trace(&moved(0.0), Keep::All).map_err(|e| e.to_string())?;
    let output = graph.outputs()[0];
    let seed = direction(trace.value(output).unwrap().dims(), 7);
    let wanted = graph.inputs().to_vec();
    let signals = graph
        .backward(&trace, None, &[(output, seed.clone())], &wanted, &Composite::gradient())
        .map_err(|e| e.to_string())?;
    let mut found = 0.0;
    for (i, (&id, (_, x))) in wanted.iter().zip(&named).enumerate() {
        if x.dtype().is_float() {
            found += dot(&signals.get_or_zeros(id, &trace).unwrap(), &direction(x.dims(), i));
        }
    }
    let at = |step: f64| dot(graph.forward(&moved(step)).unwrap().primary(), &seed);
    let expected = (at(1e-6) - at(-1e-6)) / 2e-6;
    let error = (found - expected).abs() / (1.0 + expected.abs());
    if error < 1e-5 { Ok(()) } else { Err(format!("derivative {found}, central difference {expected}")) }
}

#[test]
fn gradients_agree_with_central_differences() {
    let mut names = operator_names();
    // Rounding has no derivative; the gradient passes through it.
    let rounds = ["quantize_", "qlinear_", "dynamic_", "matmul_integer_"];
    names.retain(|n| !rounds.iter().any(|prefix| n.starts_with(prefix)));
    // Infinities and NaN have none either.
    names.retain(|n| !n.starts_with("is_"));
    // Values at thresholds are where trees and the like jump.
    let jump = ["tree_", "binarizer_", "imputer_", "one_hot_encoder_"];
    names.retain(|n| !jump.iter().any(|start| n.starts_with(start)));
    // The iteration for probabilities of classes stops early; its gradient is that of the exact solution.
    names.retain(|n| !n.starts_with("svm_") || !n.contains("probability"));
    let failures: Vec<String> =
        names.iter().filter_map(|n| check_gradient(n).err().map(|e| format!("{n}: {e}"))).collect();
    assert!(failures.is_empty(), "{} of {} fail:\n{}", failures.len(), names.len(), failures.join("\n"));
}

fn load(name: &str) -> LoadedModel {
    let path = golden("onnx-ops").join(format!("{name}.onnx"));
    onnx::load(&path, &LoadOptions::default()).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Every rule sees the gates of a recurrent layer, and its weights are those of affine nodes.
#[test]
fn recurrent_layers_are_unrolled_into_named_nodes() {
    use ascribe_core::ops::Kind;
    let model = load("lstm_bidirectional_hidden_14");
    let kind = |part: &str| {
        let suffix = format!("/{part}");
        let (id, _) = model
            .graph
            .nodes()
            .find(|(_, node)| node.name().ends_with(&suffix))
            .unwrap_or_else(|| panic!("no node {part}"));
        model.graph.kind(id)
    };
    assert_eq!(kind("forward/input"), Kind::Affine);
    assert_eq!(kind("reverse/t1/recurrent"), Kind::Affine);
    for gate in ["input gate", "output gate", "forget gate", "candidate"] {
        assert_eq!(kind(&format!("forward/t3/{gate}")), Kind::Activation);
    }
    assert_eq!(kind("forward/t2/cell"), Kind::Sum);
    assert_eq!(kind("reverse/t2/hidden"), Kind::Product);
}

#[test]
fn quantised_models_say_so() {
    let model = load("qlinear_conv_13");
    assert!(model.notes.iter().any(|note| note.contains("quantised")), "{:?}", model.notes);
    assert!(load("conv_3d_13").notes.is_empty());
}

/// What depends on all values of a sample at once is computed for each sample, in a graph for a batch of one.
#[test]
fn samples_are_computed_one_at_a_time_where_they_have_to_be() {
    for name in SINGLE {
        let model = load(name);
        assert_eq!(model.fixed_batch, Some(1), "{name}");
        let data = tensors(&golden("onnx-ops").join(format!("{name}.safetensors")));
        let error = distance(&run(&model, &data, 0..2), &data["output"]);
        assert!(error < 1e-5, "{name}: relative error {error:.1e}");
    }
}

/// No rule sees the scales of a dynamic quantisation: a layer is affine in rounded values, which gradients pass.
#[test]
fn dynamically_quantised_layers_are_affine() {
    use ascribe_core::ops::Kind;
    let model = load("dynamic_conv_integer_13");
    assert!(model.notes.iter().any(|note| note.contains("quantised")), "{:?}", model.notes);
    let kinds: Vec<Kind> = model.graph.nodes().map(|(id, _)| model.graph.kind(id)).collect();
    assert!(!kinds.contains(&Kind::Product) && !kinds.contains(&Kind::Blocking), "{kinds:?}");
    let data = tensors(&golden("onnx-ops/dynamic_conv_integer_13.safetensors"));
    let x = Inputs::named([("input".to_string(), data["input"].clone())]).unwrap();
    let trace = model.graph.trace(&x, Keep::All).unwrap();
    let (input, output) = (model.graph.inputs()[0], model.graph.outputs()[0]);
    let seed = trace.value(output).unwrap().ones_like().unwrap();
    let signals =
        model.graph.backward(&trace, None, &[(output, seed)], &[input], &Composite::gradient()).unwrap();
    let gradient = signals.get_or_zeros(input, &trace).unwrap();
    assert!(norm(&gradient) > 0.1);
}

#[test]
fn sequences_and_loops_become_named_nodes() {
    let model = load("loop_13");
    let has = |part: &str| model.graph.nodes().any(|(_, node)| node.name().contains(part));
    assert!(has("/0/") && has("/2/") && !has("/3/"), "three iterations");
}
