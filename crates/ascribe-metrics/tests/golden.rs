//! Statistics and localisation against the reference values under `fixtures/golden/methods/metrics`.

use std::collections::HashMap;
use std::path::PathBuf;

use ascribe_core::{Attribution, BlackBox, Cost, Device, Inputs, Provenance, Run, Target, Tensor, Values};
use ascribe_metrics::localisation::{Object, Scene};
use ascribe_metrics::statistics::{Ssim, spearman};
use ascribe_metrics::{Case, Metric, PointingGame};

fn golden(name: &str) -> HashMap<String, Tensor> {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden/methods/metrics").join(name);
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

fn maps(tensor: &Tensor) -> Vec<Vec<f64>> {
    tensor.flatten_from(1).unwrap().to_vec2().unwrap()
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.to_vec1().unwrap()
}

#[test]
fn rank_correlation_with_ties_is_scipys() {
    let case = golden("spearman.safetensors");
    for ((a, b), value) in maps(&case["a"]).iter().zip(maps(&case["b"])).zip(numbers(&case["value"])) {
        let own = spearman(a, &b).unwrap().unwrap();
        assert!((own - value).abs() < 1e-12, "{own} against {value}");
    }
}

#[test]
fn structural_similarity_is_scikit_images() {
    let case = golden("ssim.safetensors");
    let range = 37.880_514_854_739_82;
    for (name, ssim) in [
        ("value_gaussian", Ssim::default()),
        ("value_uniform7", Ssim { sample_covariance: true, ..Ssim::uniform(7) }),
        ("value_uniform11_population", Ssim::uniform(11)),
    ] {
        for ((a, b), value) in maps(&case["a"]).iter().zip(maps(&case["b"])).zip(numbers(&case[name])) {
            let own = ssim.compare(a, &b, [16, 20], range).unwrap();
            assert!((own - value).abs() < 1e-10, "{name}: {own} against {value}");
        }
    }
}

#[test]
fn pointing_game_is_torchrays() {
    let case = golden("pointing-game.safetensors");
    let values = case["maps"].unsqueeze(1).unwrap();
    let count = values.dim(0).unwrap();
    let boxes: Vec<Vec<f64>> = case["boxes"].to_dtype(candle_core::DType::F64).unwrap().to_vec2().unwrap();
    let scenes: Vec<Scene> = boxes
        .iter()
        .map(|b| Scene::new(vec![Object { class: 4, bounds: [b[0], b[1], b[2], b[3]], difficult: false }]))
        .collect();
    let provenance = Provenance {
        method: "given".into(),
        config: serde_json::Value::Null,
        targets: vec!["4".into(); count],
        scores: vec![0.0; count],
        baseline_scores: None,
        completeness_gap: None,
        cost: Cost::default(),
        seconds: 0.0,
        seed: 0,
        notes: Vec::new(),
    };
    let parts = vec![Values { name: String::new(), values: values.clone(), spread: None }];
    let attribution = Attribution { parts, provenance };
    let model = BlackBox::new(|x: &Tensor| Ok(x.clone()));
    let (x, target, run) = (Inputs::single(values).unwrap(), Target::Class(4), Run::new());
    let hits: Vec<Vec<i64>> = case["hits"].to_dtype(candle_core::DType::I64).unwrap().to_vec2().unwrap();
    for (column, tolerance) in [0.0, 5.0, 15.0].into_iter().enumerate() {
        let game = PointingGame { tolerance, ..PointingGame::default() };
        let found =
            game.evaluate(&Case::new(&model, &x, &target, &attribution, &run).showing(&scenes)).unwrap();
        for (i, distance) in numbers(&case["distances"]).into_iter().enumerate() {
            assert_eq!(found.values[i], Some(hits[i][column] as f64), "map {i}, tolerance {tolerance}");
            assert!((found.details[i]["distance"].as_f64().unwrap() - distance).abs() < 1e-12);
        }
    }
}
