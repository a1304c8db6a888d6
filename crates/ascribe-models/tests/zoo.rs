//! Compares the zoo with torch: logits of every architecture, trained weights, parameter names of other projects; also
//! checks errors.

#[path = "support/fill.rs"]
mod fill;

use ascribe_core::{DType, Device, Graph, Inputs, Tensor};
use ascribe_models::weights::StateDict;
use ascribe_models::zoo::{self, BuildOptions};
use fill::FillFile;

/// The parameters of a golden network.
fn parameters(architecture: &str) -> StateDict {
    let file = FillFile::read(&format!("{architecture}-torch.fill.json"));
    file.tensors.iter().map(|t| (t.name.clone(), t.tensor())).collect()
}

fn logits(graph: &Graph, x: &Tensor) -> Tensor {
    graph.forward(&Inputs::single(x.clone()).unwrap()).unwrap().primary().clone()
}

/// Relative L2 distance.
fn relative_error(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.dims(), expected.dims());
    let found = found.to_dtype(DType::F64).unwrap();
    let expected = expected.to_dtype(DType::F64).unwrap();
    let norm = |t: &Tensor| t.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt();
    norm(&(found - &expected).unwrap()) / norm(&expected)
}

/// Compares the logits of a golden network, and those of its canonical form, with torch's.
fn check(architecture: &str, options: &BuildOptions, key: &str, tolerance: f64) {
    let file = FillFile::read(&format!("{architecture}-torch.fill.json"));
    let golden = StateDict::load(fill::golden(&format!("{architecture}-torch.safetensors"))).unwrap();
    let options = options.clone().input([file.input[2], file.input[3]]);
    let graph = zoo::build(architecture, &parameters(architecture), &options).unwrap();
    let x = fill::input(&file.input).to_dtype(options.dtype).unwrap();
    for (form, graph) in [("as built", &graph), ("canonical", &graph.canonical().unwrap())] {
        let error = relative_error(&logits(graph, &x), golden.get(key).unwrap());
        println!("{architecture} {key} {:?} {form}: {error:.2e}", options.dtype);
        assert!(error < tolerance, "{architecture} {key} {form}: {error:.2e}, tolerance {tolerance:.0e}");
    }
}

macro_rules! golden {
    ($($(#[$attribute:meta])* $test:ident: $architecture:literal,)*) => {$(
        #[test]
        $(#[$attribute])*
        fn $test() {
            check($architecture, &BuildOptions::default(), "logits", 1e-4);
        }
    )*};
}

golden! {
    resnet18: "resnet18",
    resnet34: "resnet34",
    resnet50: "resnet50",
    googlenet: "googlenet",
    inception_v3: "inception_v3",
    densenet121: "densenet121",
    squeezenet1_0: "squeezenet1_0",
    squeezenet1_1: "squeezenet1_1",
    mobilenet_v2: "mobilenet_v2",
    efficientnet_lite0: "efficientnet-lite0",
    efficientnet_lite1: "efficientnet-lite1",
    efficientnet_lite2: "efficientnet-lite2",
    efficientnet_lite3: "efficientnet-lite3",
    efficientnet_lite4: "efficientnet-lite4",
    alexnet: "alexnet",
    resnet101: "resnet101",
    resnet152: "resnet152",
    vgg11: "vgg11",
    #[ignore = "fills half a gigabyte"]
    vgg11_bn: "vgg11_bn",
    #[ignore = "fills half a gigabyte"]
    vgg13: "vgg13",
    #[ignore = "fills half a gigabyte"]
    vgg13_bn: "vgg13_bn",
    #[ignore = "fills half a gigabyte"]
    vgg16: "vgg16",
    vgg16_bn: "vgg16_bn",
    #[ignore = "fills half a gigabyte"]
    vgg19: "vgg19",
    #[ignore = "fills half a gigabyte"]
    vgg19_bn: "vgg19_bn",
}

/// Compares the names and shapes of all parameters, also for networks whose logits take too long to compute in every
/// run.
#[test]
fn every_architecture_expects_torchs_parameters() {
    // The small network of this project does not exist in torchvision.
    for architecture in zoo::architectures().iter().filter(|a| a.name != "shapes-cnn") {
        let options = BuildOptions::default();
        let error = zoo::build(architecture.name, &StateDict::new(), &options).unwrap_err();
        let ascribe_models::Error::Parameters(mut mismatch) = error else { panic!("{error}") };
        let mut file = architecture.name.to_owned();
        if !file.starts_with("efficientnet") {
            file = file.replace('-', "_");
        }
        let file = FillFile::read(&format!("{file}-torch.fill.json"));
        let heads = ["aux1.", "aux2.", "AuxLogits."];
        let used = file.tensors.into_iter().filter(|t| !heads.iter().any(|head| t.name.starts_with(head)));
        let mut expected: Vec<_> = used.map(|t| (t.name, t.shape)).collect();
        expected.sort();
        mismatch.missing.sort();
        assert_eq!(mismatch.missing, expected, "{}", architecture.name);
    }
}

/// In f64, rounding errors cannot hide a wrong ε or a wrong padding.
#[test]
fn double_precision() {
    let double = BuildOptions::default().dtype(DType::F64);
    for architecture in
        ["resnet18", "googlenet", "densenet121", "squeezenet1_1", "mobilenet_v2", "efficientnet-lite0"]
    {
        check(architecture, &double, "logits", 1e-10);
    }
}

#[test]
fn transformed_input() {
    let options = BuildOptions::default().transform_input(true);
    check("googlenet", &options, "logits_transform_input", 1e-4);
    check("inception_v3", &options.dtype(DType::F64), "logits_transform_input", 1e-10);
}

/// Trained weights in f16, with the photograph of a cat.
#[test]
fn trained_efficientnet_lite0() {
    let models = fill::fixtures().join("models");
    let weights = StateDict::load(models.join("efficientnet-lite0.safetensors")).unwrap();
    let reference = StateDict::load(models.join("efficientnet-lite0.reference.safetensors")).unwrap();
    for (dtype, key, tolerance) in [(DType::F32, "logits", 1e-5), (DType::F64, "logits_f64", 1e-10)] {
        let options = BuildOptions::default().dtype(dtype);
        let graph = zoo::build("efficientnet-lite0", &weights, &options).unwrap();
        for variant in ["", "_full"] {
            let x = reference.get_as(&format!("input{variant}"), dtype).unwrap();
            let expected = reference.get(&format!("{key}{variant}")).unwrap();
            let found = logits(&graph, &x);
            let error = relative_error(&found, expected);
            assert!(error < tolerance, "{key}{variant}: {error:.2e}");
            let top = |t: &Tensor| t.argmax(1).unwrap().to_vec1::<u32>().unwrap();
            assert_eq!(top(&found), top(expected));
        }
    }
}

/// Renames the parameters of a network of inverted residual blocks to timm's names, which number blocks within each
/// stage.
fn to_timm(
    name: &str,
    repeats: &[usize],
    blocks: &str,
    first: &[(&str, &str)],
    table: &[(&str, &str)],
) -> String {
    let Some(rest) = name.strip_prefix(blocks) else {
        let (module, timm) = table.iter().find(|(m, _)| name.starts_with(m)).unwrap();
        return format!("{timm}{}", &name[module.len()..]);
    };
    let (number, rest) = rest.split_once('.').unwrap();
    let (mut stage, mut block) = (0, number.parse::<usize>().unwrap());
    while block >= repeats[stage] {
        block -= repeats[stage];
        stage += 1;
    }
    let parts = if stage == 0 { first } else { table };
    let (part, timm) = parts.iter().find(|(p, _)| rest.starts_with(p)).unwrap();
    format!("blocks.{stage}.{block}.{timm}{}", &rest[part.len()..])
}

#[test]
fn timm_names_of_efficientnet_lite() {
    let first = [
        ("_depthwise_conv.", "conv_dw."),
        ("_bn1.", "bn1."),
        ("_project_conv.", "conv_pw."),
        ("_bn2.", "bn2."),
    ];
    let inner = [
        ("_expand_conv.", "conv_pw."),
        ("_bn0.", "bn1."),
        ("_depthwise_conv.", "conv_dw."),
        ("_bn1.", "bn2."),
        ("_project_conv.", "conv_pwl."),
        ("_bn2.", "bn3."),
    ];
    let outer = [
        ("_conv_stem.", "conv_stem."),
        ("_bn0.", "bn1."),
        ("_conv_head.", "conv_head."),
        ("_bn1.", "bn2."),
        ("_fc.", "classifier."),
    ];
    let own = parameters("efficientnet-lite1");
    let timm = own.clone().rename(|name| {
        let table = if name.starts_with("_blocks.") { &inner[..] } else { &outer[..] };
        to_timm(name, &[1, 3, 3, 4, 4, 5, 1], "_blocks.", &first, table)
    });
    let timm = timm.unwrap();
    assert!(timm.contains("blocks.6.0.conv_pwl.weight") && timm.contains("blocks.0.0.conv_pw.weight"));
    same_logits("efficientnet-lite1", &own, &timm, 33);
}

#[test]
fn timm_names_of_mobilenet_v2() {
    let own = parameters("mobilenet_v2");
    let timm = own.clone().rename(|name| {
        let first =
            [("conv.0.0.", "conv_dw."), ("conv.0.1.", "bn1."), ("conv.1.", "conv_pw."), ("conv.2.", "bn2.")];
        let inner = [
            ("conv.0.0.", "conv_pw."),
            ("conv.0.1.", "bn1."),
            ("conv.1.0.", "conv_dw."),
            ("conv.1.1.", "bn2."),
            ("conv.2.", "conv_pwl."),
            ("conv.3.", "bn3."),
        ];
        let outer = [
            ("features.0.0.", "conv_stem."),
            ("features.0.1.", "bn1."),
            ("features.18.0.", "conv_head."),
            ("features.18.1.", "bn2."),
            ("classifier.1.", "classifier."),
        ];
        if let Some((own, timm)) = outer.iter().find(|(own, _)| name.starts_with(own)) {
            return format!("{timm}{}", &name[own.len()..]);
        }
        let (number, rest) = name["features.".len()..].split_once('.').unwrap();
        let shifted = format!("blocks-{}.{rest}", number.parse::<usize>().unwrap() - 1);
        to_timm(&shifted, &[1, 2, 3, 4, 3, 3, 1], "blocks-", &first, &inner)
    });
    same_logits("mobilenet-v2", &own, &timm.unwrap(), 32);
}

fn same_logits(architecture: &str, own: &StateDict, other: &StateDict, side: usize) {
    assert!(own.names().zip(other.names()).all(|(a, b)| a != b));
    let options = BuildOptions::default().input([side, side]);
    let x = fill::input(&[1, 3, side, side]);
    let [own, other] = [own, other].map(|weights| {
        let graph = zoo::build(architecture, weights, &options).unwrap();
        logits(&graph, &x).to_vec2::<f32>().unwrap()
    });
    assert_eq!(own, other);
}

/// Parameters of a small network with another number of classes.
fn squeezenet(classes: usize) -> StateDict {
    let file = FillFile::read("squeezenet1_1-torch.fill.json");
    let resized = file.tensors.into_iter().map(|mut t| {
        if t.name.starts_with("classifier.1.") {
            t.shape[0] = classes;
        }
        (t.name.clone(), t.tensor())
    });
    resized.collect()
}

#[test]
fn the_classifier_says_how_many_classes_there_are() {
    let graph = zoo::build("squeezenet1-1", &squeezenet(7), &BuildOptions::default()).unwrap();
    assert_eq!(logits(&graph, &fill::input(&[2, 3, 40, 50])).dims(), [2, 7]);
}

#[test]
fn all_differences_are_in_one_error() {
    let mut weights = squeezenet(7);
    weights.remove("features.0.bias").unwrap();
    weights.remove("features.12.expand3x3.weight").unwrap();
    weights.insert("features.3.squeeze.bias", Tensor::zeros(5, DType::F32, &Device::Cpu).unwrap());
    weights.insert("classifier.1.bias", Tensor::zeros(1000, DType::F32, &Device::Cpu).unwrap());
    weights.insert("ema.decay", Tensor::zeros((), DType::F32, &Device::Cpu).unwrap());
    weights.insert("features.3.num_batches_tracked", Tensor::zeros((), DType::I64, &Device::Cpu).unwrap());
    let error = zoo::build("squeezenet1_1", &weights, &BuildOptions::default()).unwrap_err();
    let ascribe_models::Error::Parameters(mismatch) = &error else { panic!("{error}") };
    let names = |list: &[(String, Vec<usize>)]| list.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>();
    assert_eq!(names(&mismatch.missing), ["features.0.bias", "features.12.expand3x3.weight"]);
    assert_eq!(names(&mismatch.extra), ["ema.decay"]);
    assert_eq!(
        mismatch.misshaped,
        [
            ("features.3.squeeze.bias".to_owned(), vec![16], vec![5]),
            ("classifier.1.bias".to_owned(), vec![7], vec![1000])
        ]
    );
    let text = error.to_string();
    assert!(text.contains("missing: features.12.expand3x3.weight [256, 64, 3, 3]"), "{text}");
}

#[test]
fn without_a_classifier_a_thousand_classes_are_expected() {
    let mut weights = squeezenet(7);
    weights.remove("classifier.1.weight").unwrap();
    weights.remove("classifier.1.bias").unwrap();
    let text = zoo::build("squeezenet1-1", &weights, &BuildOptions::default()).unwrap_err().to_string();
    assert!(text.contains("missing: classifier.1.weight [1000, 512, 1, 1]"), "{text}");
}

#[test]
fn only_auxiliary_classifiers_may_be_superfluous() {
    let all = parameters("googlenet");
    let aux: Vec<String> = all.names().filter(|n| n.starts_with("aux")).map(str::to_owned).collect();
    assert!(aux.len() > 10);
    let mut few = all.clone();
    for name in &aux {
        few.remove(name);
    }
    zoo::build("googlenet", &few, &BuildOptions::default()).unwrap();
    let mut weights = squeezenet(7);
    weights.insert("aux1.fc1.bias", Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap());
    let text = zoo::build("squeezenet1-1", &weights, &BuildOptions::default()).unwrap_err().to_string();
    assert!(text.contains("unexpected: aux1.fc1.bias"), "{text}");
}

#[test]
fn unusable_values_are_errors_that_name_the_parameter() {
    let cpu = Device::Cpu;
    let build = |architecture: &str, weights: &StateDict, name: &str, value: Tensor| {
        let mut weights = weights.clone();
        weights.insert(name, value);
        zoo::build(architecture, &weights, &BuildOptions::default()).unwrap_err().to_string()
    };
    let squeezenet = squeezenet(7);
    let bias = "features.3.squeeze.bias";
    for (value, word) in [
        (Tensor::full(f32::NAN, 16, &cpu).unwrap(), "NaN"),
        (Tensor::full(1e300_f64, 16, &cpu).unwrap(), "inf"),
        (Tensor::zeros(16, DType::U8, &cpu).unwrap(), "U8"),
    ] {
        let text = build("squeezenet1-1", &squeezenet, bias, value);
        assert!(text.contains(bias) && text.contains(word), "{text}");
    }
    let mobilenet = parameters("mobilenet_v2");
    let variance = "features.0.1.running_var";
    let text = build("mobilenet-v2", &mobilenet, variance, Tensor::full(-0.5_f32, 32, &cpu).unwrap());
    assert!(text.contains(variance) && text.contains("-0.5"), "{text}");
    // The values are large but finite; their sum overflows.
    let mut weights = squeezenet;
    weights.insert(bias, Tensor::full(f32::MAX, 16, &cpu).unwrap());
    zoo::build("squeezenet1-1", &weights, &BuildOptions::default()).unwrap();
}

#[test]
fn options_that_do_not_fit_are_errors() {
    let weights = squeezenet(7);
    let fails = |architecture: &str, options: BuildOptions, words: &[&str]| {
        let text = zoo::build(architecture, &weights, &options).unwrap_err().to_string();
        assert!(words.iter().all(|w| text.contains(w)), "{text}");
    };
    let default = BuildOptions::default;
    fails("squeezenet", default(), &["'squeezenet'", "squeezenet1-"]);
    fails("squeezenet1-1", default().transform_input(true), &["transform_input", "inception-v3"]);
    fails("squeezenet1-1", default().dtype(DType::F16), &["F16", "f32 or f64"]);
    fails("squeezenet1-1", default().input([40, 6]), &["40×6", "features.5", "224×224"]);
    fails("efficientnet-lite0", default().input([0, 224]), &["0×224"]);
}

#[test]
fn efficientnet_lite_is_built_for_one_size() {
    let graph = zoo::build("efficientnet-lite0", &parameters("efficientnet-lite0"), &BuildOptions::default());
    let x = Inputs::single(fill::input(&[1, 3, 225, 224])).unwrap();
    let text = graph.unwrap().forward(&x).unwrap_err().to_string();
    assert!(text.contains("224"), "{text}");
}

#[test]
fn nodes_have_the_names_of_modules() {
    let graph = |architecture: &str| {
        zoo::build(architecture, &parameters(architecture), &BuildOptions::default()).unwrap()
    };
    for (architecture, names) in [
        (
            "resnet18",
            &[
                "conv1",
                "relu",
                "layer1.0.conv1",
                "layer1.0.relu",
                "layer1.0.relu_2",
                "layer1.0",
                "layer4",
                "fc",
            ][..],
        ),
        ("googlenet", &["conv1.conv", "conv1", "inception3a.branch4.0", "inception5b", "avgpool"]),
        ("densenet121", &["features.denseblock4.denselayer16.conv2", "features.denseblock4", "features"]),
        ("squeezenet1_1", &["features.12", "features.12.squeeze_activation", "features"]),
        ("mobilenet_v2", &["features.0.2", "features.1.conv.2", "features.3", "features.18", "features"]),
        ("efficientnet-lite0", &["_relu_2", "_blocks.2._relu_2", "_blocks.2", "_blocks.15"]),
    ] {
        let graph = graph(architecture);
        for name in names {
            graph.find(name).unwrap_or_else(|e| panic!("{architecture}: {e}"));
        }
        assert_eq!(graph.node(graph.inputs()[0]).name(), "input");
    }
    let graph = graph("resnet18").canonical().unwrap();
    assert_eq!(graph.node(graph.find("layer4").unwrap()).name(), "layer4.1.relu_2");
    assert_eq!(graph.find("layer2").unwrap(), graph.find("layer2.1").unwrap());
}
