//! Invalid requests: exit status 2, and a message that says what is wrong and what is expected.

use crate::{Place, Test, fixture, shapes};

/// Arguments after `explain square.png --model … --arch shapes-cnn`, and words that the message must contain.
const EXPLAIN: &[(&[&str], &[&str])] = &[
    // Methods and their configuration.
    (
        &["--method", "intgrated-gradients"],
        &["no method 'intgrated-gradients'", "did you mean 'integrated-gradients'"],
    ),
    (&["--set", "stpes=3"], &["integrated-gradients", "unknown field `stpes`", "`steps`"]),
    (&["--set", "steps=many"], &["integrated-gradients", "many"]),
    (&["--set", "steps=0"], &["steps", "0", "at least 1"]),
    (&["--set", "steps"], &["--set 'steps'", "KEY=VALUE"]),
    (&["--set", "=3"], &["KEY=VALUE"]),
    (&["--set", "quadrature=simpson"], &["simpson", "gauss-legendre"]),
    (&["--config", "nowhere.json"], &["--config nowhere.json"]),
    (&["--config", "labels.txt"], &["--config labels.txt", "line 1"]),
    (&["--method", "occlusion", "--set", "window=[0]"], &["window", "at least 1"]),
    (
        &["--method", "occlusion", "--set", "window=[4,4,4]", "--set", "stride=[2]"],
        &["3 sides and 2 strides", "same number"],
    ),
    (&["--method", "rise", "--set", "probability=0"], &["probability", "above 0"]),
    (&["--method", "rise", "--set", "masks=0"], &["0 masks", "at least 1"]),
    (&["--method", "smooth-grad", "--set", "explainer=nothing"], &["no method 'nothing'"]),
    // Targets.
    (&["--target", "4"], &["target", "class 4", "from 0 to 3"]),
    (&["--target", "1-9"], &["class 9", "from 0 to 3"]),
    (&["--target", "top0"], &["'top0'", "top1"]),
    (&["--target", "circle"], &["'circle' is not a number", "--labels"]),
    (&["--target", "cirle", "--labels", "labels.txt"], &["cirle", "circle"]),
    (&["--target", "logit:"], &["target"]),
    (&["--labels", "nowhere.txt"], &["nowhere.txt"]),
    // Layers and neurons.
    (&["--layer", "conv33"], &["no node is called 'conv33'", "did you mean 'conv3'"]),
    (&["--neuron", "conv3"], &["neuron", "'conv3'", "NODE:INDEX"]),
    (&["--neuron", "conv3:1,x"], &["NODE:INDEX"]),
    (&["--neuron", "conv3:1,2"], &["neuron", "[1, 2]", "[32, 8, 8]"]),
    (&["--neuron", "conv3:32,0,0"], &["neuron", "[32, 0, 0]", "[32, 8, 8]"]),
    (&["--neuron", "conv3:1,2,3", "--target", "1"], &["--target", "--neuron"]),
    (&["--method", "grad-cam", "--layer", "fc"], &["fc"]),
    // Baselines.
    (&["--baseline", "grey"], &["--baseline 'grey'", "black, white"]),
    (&["--baseline", "uniform:1"], &["--baseline", "'1'", "2 finite number(s)"]),
    (&["--baseline", "blur:0"], &["sigma", "positive"]),
    (&["--baseline", "nowhere.npy"], &["nowhere.npy"]),
    (&["--method", "saliency", "--baseline", "zero"], &["--baseline", "'saliency' has no baseline"]),
    // Runs and outputs.
    (&["--threads", "0"], &["--threads", "at least 1"]),
    (&["--batch", "0"], &["--batch", "at least 1"]),
    (&["--seed", "-1"], &["--seed", "'-1'"]),
    (&["--smoothing", "-1"], &["--smoothing -1", "0 or more"]),
    (&["--smoothing", "nan"], &["--smoothing NaN", "0 or more"]),
    (&["--dtype", "f16"], &["f16", "f32", "f64"]),
    (&["-o", "why.bmp"], &["why.bmp", "'bmp'", ".png"]),
    (&["-o", "why"], &["why", ".png"]),
    (&["-o", "why.csv"], &["why.csv", ".json"]),
    (&["-o", "nowhere/why.png"], &["nowhere/why.png", "no folder 'nowhere'"]),
    // Preprocessing.
    (&["--mean", "0.5,0.5"], &["mean", "3"]),
    (&["--mean", "a,b,c"], &["--mean"]),
    (&["--std", "1,0,1"], &["std", "0"]),
    (&["--crop", "0"], &["crop"]),
    (&["--crop", "1,2,3"], &["--crop has 3 numbers", "HEIGHT,WIDTH"]),
    (&["--resize", "999999999"], &["resize"]),
    // Unknown options and commands.
    (&["--metod", "saliency"], &["--metod", "--method"]),
    (&["another.png"], &["another.png"]),
];

#[test]
fn explain_says_what_is_wrong() -> Test {
    let place = Place::new()?;
    let wrong: Vec<String> = EXPLAIN
        .iter()
        .filter_map(|(args, words)| place.fails(2, &shapes(&["explain", "square.png"], args), words).err())
        .map(|e| e.to_string())
        .collect();
    assert!(wrong.is_empty(), "{} requests:\n{}", wrong.len(), wrong.join("\n"));
    assert!(place.written()?.is_empty());
    Ok(())
}

#[test]
fn models_and_commands_say_what_is_wrong() -> Test {
    let place = Place::new()?;
    let parameters = fixture("models/shapes.safetensors");
    let values = fixture("golden/methods/metrics/ssim.safetensors");
    let lists: &[(&[&str], &[&str])] = &[
        (&[], &["Usage"]),
        (&["explian", "square.png"], &["explian", "explain"]),
        (&["explain"], &["INPUT"]),
        (&["explain", "nowhere.png"], &["nowhere.png"]),
        (
            &["explain", "square.png", "--model", "efficientnet-lite"],
            &["efficientnet-lite", "efficientnet-lite0"],
        ),
        (&["explain", "square.png", "--model", "nowhere.onnx"], &["nowhere.onnx"]),
        (&["explain", "square.png", "--model", &parameters], &["shapes.safetensors", "--arch"]),
        (&["explain", "square.png", "--model", &parameters, "--arch", "shapes"], &["'shapes'", "shapes-cnn"]),
        (
            &["explain", "square.png", "--model", &parameters, "--arch", "resnet18"],
            &["layer1.0.conv1.weight"],
        ),
        (&["inspect", "--model", "nowhere.onnx"], &["nowhere.onnx"]),
        (&["compare", "square.png", "-o", "grid.png"], &["--methods"]),
        (&["compare", "square.png", "--methods", "saliency"], &["--output"]),
        (&["compare", "square.png", "--methods", "salency", "-o", "grid.png"], &["'salency'", "'saliency'"]),
        (&["evaluate", "--data", ".", "--methods", "saliency"], &["--metrics"]),
    ];
    for (args, words) in lists {
        place.fails(2, args, words)?;
    }
    let compare = |more: &[&str], words: &[&str]| {
        let start = ["compare", "square.png", "--methods", "saliency,rise"];
        place.fails(2, &shapes(&start, &[&["-o", "grid.png"], more].concat()), words).map(|_| ())
    };
    compare(&["--target", "top2"], &["one target"])?;
    compare(&["--set", "maks=3"], &["maks", "saliency: ", "rise: ", "masks"])?;
    compare(&[&values], &["ssim.safetensors", "no tensor 'input'", "value_uniform7"])?;
    compare(&["-o", "grid.csv"], &["grid.csv", ".html"])?;
    let npy = place.path("input.npy");
    let zeros =
        ascribe::core::Tensor::zeros((1, 3, 32, 32), ascribe::core::DType::F32, &ascribe::core::Device::Cpu)?;
    ascribe::models::tensors::write_npy(&npy, &zeros)?;
    place.fails(2, &shapes(&["explain", &npy, "-o", "why.png"], &[]), &["picture", "tensor file"])?;
    place.fails(2, &shapes(&["compare", &npy, "-o", "why.png"], &["--methods", "rise"]), &["tensor file"])?;
    std::fs::remove_file(npy)?;
    assert!(place.written()?.is_empty());
    Ok(())
}

#[test]
fn an_unknown_instruction_set_is_refused() -> Test {
    let output = Place::new()?.command(&["methods"]).env("ASCRIBE_ISA", "sse").output()?;
    let message = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("ASCRIBE_ISA is 'sse'") && message.contains("portable"), "{message}");
    Ok(())
}
