//! Compares exported models of scikit-learn, XGBoost and LightGBM with onnxruntime, and checks what their inputs and outputs say.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ascribe_core::{
    DType, Device, Differentiable, Error as Core, Inputs, OutputKind, Outputs, Role, Target, Tensor,
};
use ascribe_models::onnx::{self, LoadOptions, LoadedModel};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden/onnx-ml")
}

fn names() -> Vec<String> {
    let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let models = files.filter(|path| path.extension().is_some_and(|e| e == "onnx"));
    let mut names: Vec<String> =
        models.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    names.sort();
    assert!(names.len() > 45);
    names
}

fn load(name: &str, options: &LoadOptions) -> LoadedModel {
    let path = folder().join(format!("{name}.onnx"));
    onnx::load(path, options).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn data(name: &str) -> HashMap<String, Tensor> {
    let path = folder().join(format!("{name}.safetensors"));
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

/// The inputs of a model: numbers in its type, categories as integers.
fn inputs(model: &LoadedModel, data: &HashMap<String, Tensor>) -> Inputs {
    let named = model.inputs.iter().map(|input| {
        let dtype = if input.integer { DType::I64 } else { model.graph.dtype() };
        (input.name.clone(), data[&input.name].to_dtype(dtype).unwrap())
    });
    Inputs::named(named).unwrap()
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// The largest difference, relative to the largest value.
fn distance(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.dims(), expected.dims());
    let (found, expected) = (numbers(found), numbers(expected));
    let largest = expected.iter().fold(1e-30, |largest: f64, value| largest.max(value.abs()));
    found.iter().zip(expected).map(|(a, b)| (a - b).abs() / largest).fold(0.0, f64::max)
}

fn label(outputs: &Outputs) -> Option<&Tensor> {
    outputs.iter().find(|(name, _)| name.contains("label")).map(|(_, value)| value)
}

fn check(name: &str) -> Result<(), String> {
    let data = data(name);
    let expected = &data["output"];
    let whole = load(name, &LoadOptions::default().peel(false));
    if whole.fixed_batch.is_some() {
        return Err(format!("batch fixed: {:?}", whole.notes));
    }
    let x = inputs(&whole, &data);
    let outputs = whole.graph.forward(&x).map_err(|e| e.to_string())?;
    let error = distance(outputs.primary(), expected);
    if error > 1e-5 {
        return Err(format!("differs by {error:.1e}"));
    }
    for sample in 0..x.batch().unwrap() {
        let alone = whole.graph.forward(&x.select(&[sample]).unwrap()).map_err(|e| e.to_string())?;
        let own = outputs.primary().narrow(0, sample, 1).unwrap();
        if distance(alone.primary(), &own) > 1e-6 {
            return Err(format!("sample {sample} alone differs"));
        }
    }
    if let (Some(found), Some(expected)) = (label(&outputs), data.get("label"))
        && numbers(found) != numbers(expected)
    {
        return Err(format!("labels {:?}, expected {:?}", numbers(found), numbers(expected)));
    }
    // What is removed at the end changes no probability.
    let model = load(name, &LoadOptions::default());
    let outputs = model.graph.forward(&x).map_err(|e| e.to_string())?;
    let claims = model.graph.output_kind().is_some_and(OutputKind::has_probabilities);
    let found = if claims { outputs.probabilities().unwrap() } else { outputs.primary().clone() };
    let error = distance(&found, expected);
    if error > 1e-5 {
        return Err(format!("as {}, differs by {error:.1e}", outputs.kind()));
    }
    let canonical = model.graph.to_dtype(DType::F64).unwrap().canonical().map_err(|e| e.to_string())?;
    let x = x.with_explained(x.explained().map(|i| i.value.to_dtype(DType::F64).unwrap()).collect()).unwrap();
    let exact = canonical.forward(&x).map_err(|e| e.to_string())?;
    let error = distance(exact.primary(), outputs.primary());
    if error > 1e-4 { Err(format!("canonical in f64 differs by {error:.1e}")) } else { Ok(()) }
}

#[test]
fn models_agree_with_onnxruntime() {
    let names = names();
    let failures: Vec<String> =
        names.iter().filter_map(|name| check(name).err().map(|e| format!("{name}: {e}"))).collect();
    assert!(failures.is_empty(), "{} of {} fail:\n{}", failures.len(), names.len(), failures.join("\n"));
}

#[test]
fn outputs_say_what_they_hold() {
    use OutputKind::{Classes, Probabilities};
    for (name, kind, labels) in [
        ("logistic_regression", Some(Classes), None),
        ("logistic_regression_multi", Some(Classes), Some("cat dog eel")),
        ("random_forest", Some(Probabilities), Some("cat dog eel")),
        ("random_forest_binary", Some(Probabilities), None),
        ("gradient_boosting", Some(Classes), Some("cat dog")),
        ("gradient_boosting_multi", Some(Classes), None),
        ("xgboost", Some(Classes), None),
        ("xgboost_multi", Some(Classes), None),
        ("lightgbm", Some(Classes), None),
        ("mlp", Some(Classes), Some("cat dog eel")),
        ("mlp_binary", Some(Classes), None),
        ("svc_binary_probability", Some(Probabilities), None),
        ("svc_probability", Some(Probabilities), Some("cat dog eel")),
        ("stacking", Some(Classes), None),
        ("voting", Some(Probabilities), None),
        ("bagging", Some(Probabilities), None),
        ("columns_ordinal", Some(Probabilities), Some("cat dog eel")),
        ("ridge_classifier", None, None),
        ("random_forest_regressor", None, None),
        ("linear_regression", None, None),
    ] {
        let model = load(name, &LoadOptions::default());
        assert_eq!(model.graph.output_kind(), kind, "{name}: {:?}", model.notes);
        let found = model.labels.as_ref().map(|labels| labels.join(" "));
        assert_eq!(found.as_deref(), labels, "{name}");
        let classifier = model.graph.output_names().count() > 1;
        let first = model.graph.output_names().next().unwrap();
        assert!(!classifier || !first.contains("label"), "{name}: {first}");
        assert_eq!(model.notes.iter().any(|note| note.contains("is explained")), classifier, "{name}");
    }
    let x = data("random_forest_regressor");
    let model = load("random_forest_regressor", &LoadOptions::default());
    assert_eq!(model.graph.forward(&inputs(&model, &x)).unwrap().kind(), OutputKind::Number);
}

#[test]
fn an_output_that_is_named_comes_first() {
    let model = load("random_forest", &LoadOptions::default().output("output_label"));
    assert_eq!(model.graph.output_names().next(), Some("output_label"));
    assert!(!model.notes.iter().any(|note| note.contains("is explained")), "{:?}", model.notes);
    assert!(model.notes.iter().any(|note| note.contains("cat, dog, eel")), "{:?}", model.notes);
}

#[test]
fn columns_of_text_are_positions_in_their_categories() {
    let model = load("columns_one_hot", &LoadOptions::default());
    let of = |name: &str| model.inputs.iter().find(|input| input.name == name).unwrap();
    assert_eq!(of("sex").categories, ["f", "m"]);
    assert_eq!(of("port").categories, ["C", "Q", "S"]);
    assert!(of("sex").integer && of("age").categories.is_empty());
    // Integers that are read as numbers are explained like numbers.
    assert!(!of("count").integer);
    let data = data("columns_one_hot");
    let x = inputs(&model, &data);
    let explained: Vec<&str> = x.explained().map(|input| input.name.as_str()).collect();
    assert_eq!(explained, ["age", "fare", "count"]);
    assert!(
        model.notes.iter().any(|note| note.contains("'sex'") && note.contains("f, m")),
        "{:?}",
        model.notes
    );
    // An unknown text is none of the categories.
    let outputs = |port: i64| {
        let mut data = data.clone();
        data.insert("port".into(), Tensor::full(port, (6, 1), &Device::Cpu).unwrap());
        numbers(model.graph.forward(&inputs(&model, &data)).unwrap().primary())
    };
    assert!(outputs(-1) != outputs(0) && outputs(0) != outputs(1));
    let ordinal = load("columns_ordinal", &LoadOptions::default());
    let count = ordinal.inputs.iter().find(|input| input.name == "count").unwrap();
    assert!(count.integer && count.categories.is_empty(), "a category that is an integer");
}

#[test]
fn trees_have_no_gradient_and_say_so() {
    for name in [
        "random_forest",
        "xgboost",
        "gradient_boosting_regressor",
        "isolation_forest",
        "hist_gradient_boosting",
    ] {
        let model = load(name, &LoadOptions::default());
        let x = inputs(&model, &data(name));
        let samples: Vec<usize> = (0..x.batch().unwrap()).collect();
        match model.graph.gradient(&x, &Target::Class(0), &samples) {
            Err(error @ Core::Flat { .. }) => {
                let message = error.to_string();
                let own = ["TreeEnsemble", "Gather", "Cast"].iter().any(|op| message.contains(op));
                assert!(own, "{name}: {message}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

/// Compares gradients with central differences.
#[test]
fn linear_models_kernels_and_networks_have_gradients() {
    for name in [
        "linear_regression",
        "logistic_regression_multi",
        "svc",
        "svr",
        "mlp",
        "mlp_binary",
        "gaussian_nb",
        "polynomial_pipeline",
        "columns_one_hot",
        "sgd_classifier",
        "calibrated",
    ] {
        let model = load(name, &LoadOptions::default().dtype(DType::F64));
        let mut data = data(name);
        for input in model.inputs.iter().filter(|input| !input.integer) {
            // No missing values, which have no derivative.
            let values: Vec<f64> =
                numbers(&data[&input.name]).into_iter().map(|v| if v.is_nan() { 0.3 } else { v }).collect();
            let value = Tensor::from_vec(values, data[&input.name].dims(), &Device::Cpu).unwrap();
            data.insert(input.name.clone(), value);
        }
        let x = inputs(&model, &data).select(&[1]).unwrap();
        let target = Target::Class(0);
        let found = model.graph.gradient(&x, &target, &[0]).unwrap_or_else(|e| panic!("{name}: {e}"));
        let score = |x: &Inputs| numbers(&target.score(&model.graph.forward(x).unwrap(), &[0]).unwrap())[0];
        let slope: Vec<f64> = found.values.iter().flat_map(numbers).collect();
        assert!(slope.iter().any(|value| *value != 0.0), "{name}");
        let explained: Vec<Tensor> = x.explained().map(|input| input.value.clone()).collect();
        let moved = |step: f64| {
            let values = explained.iter().map(|value| (value + step).unwrap()).collect();
            score(&x.with_explained(values).unwrap())
        };
        let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        let error = (slope.iter().sum::<f64>() - expected).abs() / (1.0 + expected.abs());
        assert!(error < 1e-6, "{name}: {error:.1e}");
        assert!(x.iter().filter(|input| input.role == Role::Explained).count() > 0);
    }
}
