//! Statistics and localisation against the reference values under `fixtures/golden/methods/metrics`.

use ascribe_core::Graph;
use ascribe_core::{Baseline, BlackBox, Inputs, Run, Target, Tensor};
use ascribe_metrics::localisation::{Object, Scene};
use ascribe_metrics::statistics::{Ssim, spearman};
use ascribe_metrics::{Case, Deletion, Insertion, Metric, PixelCurve, PointingGame, Truth};
use ascribe_testing::golden::{self, Answers, Failure, Network, compare, folder};
use ascribe_testing::{attribution, flat};

fn case(name: &str) -> Result<golden::Case, Failure> {
    golden::Case::read(&folder("metrics").join(name).with_extension("safetensors"))
}

fn maps(tensor: &Tensor) -> Result<Vec<Vec<f64>>, Failure> {
    Ok(tensor.flatten_from(1)?.to_vec2()?)
}

/// Insertion and deletion with the reference's maps, steps and blurred pictures.
fn curves(network: &Network, case: &golden::Case) -> Result<Answers, Failure> {
    type Build = fn(PixelCurve) -> Box<dyn Metric<Graph>>;
    let build: Build = match case.method() {
        "insertion" => |curve| Box::new(Insertion(curve)),
        "deletion" => |curve| Box::new(Deletion(curve)),
        _ => return Ok(Vec::new()),
    };
    let config = &case.about["config"];
    let baseline = match config["baseline"].as_str() {
        Some("zero") => Baseline::Zero,
        Some("blurred") => Baseline::Tensor(case.tensor("blurred")?.clone()),
        other => return Err(format!("unknown baseline {other:?}").into()),
    };
    let step = config["step"].as_u64().ok_or("no step")? as usize;
    let curve = build(PixelCurve::default().step(step).baseline(baseline));
    let (x, target, run) = (network.inputs()?, network.target(), Run::new().batch(7));
    let given = attribution(case.tensor("map")?.unsqueeze(1)?, vec![String::new(); network.targets.len()]);
    let found = curve.evaluate(&Case::new(&network.graph, &x, &target, &given, &run))?;
    let device = given.values().device();
    let column = |values: Vec<f64>| Tensor::from_vec(values, network.targets.len(), device);
    let values: Option<Vec<f64>> = found.values.iter().copied().collect();
    let equal: Option<Vec<f64>> = found.details.iter().map(|d| d["auc_equal"].as_f64()).collect();
    let points: Vec<Vec<f64>> = found.curves.iter().map(|c| c.y.clone()).collect();
    let fractions = &found.curves.first().ok_or("no curve")?.x;
    Ok(vec![
        ("curve", Tensor::new(points, device)?),
        ("fractions", Tensor::new(fractions.as_slice(), device)?),
        ("auc", column(values.ok_or("a sample without a value")?)?),
        ("auc_equal", column(equal.ok_or("a sample without an area")?)?),
    ])
}

#[test]
fn insertion_and_deletion_are_brute_force() -> Result<(), Failure> {
    let compared = compare("plain", curves)?;
    // Two steps, one of which does not divide the number of pixels, by four pairs of start and goal.
    assert_eq!((compared.cases, compared.tensors), (8, 8 * 4 * 2));
    Ok(())
}

#[test]
fn rank_correlation_with_ties_is_scipys() -> Result<(), Failure> {
    let case = case("spearman")?;
    let values = flat(case.tensor("value")?)?;
    for ((a, b), value) in maps(case.tensor("a")?)?.iter().zip(maps(case.tensor("b")?)?).zip(&values) {
        let own = spearman(a, &b)?.ok_or("no correlation")?;
        assert!((own - value).abs() < 1e-12, "{own} against {value}");
    }
    assert!(values.len() > 4);
    Ok(())
}

#[test]
fn structural_similarity_is_scikit_images() -> Result<(), Failure> {
    let case = case("ssim")?;
    let range = case.about["data_range"].as_f64().ok_or("no range")?;
    for (name, ssim) in [
        ("value_gaussian", Ssim::default()),
        ("value_uniform7", Ssim { sample_covariance: true, ..Ssim::uniform(7) }),
        ("value_uniform11_population", Ssim::uniform(11)),
    ] {
        let values = flat(case.tensor(name)?)?;
        for ((a, b), value) in maps(case.tensor("a")?)?.iter().zip(maps(case.tensor("b")?)?).zip(&values) {
            let own = ssim.compare(a, &b, [16, 20], range)?;
            assert!((own - value).abs() < 1e-10, "{name}: {own} against {value}");
        }
        assert!(values.len() > 4);
    }
    Ok(())
}

#[test]
fn pointing_game_is_torchrays() -> Result<(), Failure> {
    let case = case("pointing-game")?;
    let values = case.tensor("maps")?.unsqueeze(1)?;
    let scenes: Vec<Truth> = maps(case.tensor("boxes")?)?
        .iter()
        .map(|b| Object { class: 4, bounds: [b[0], b[1], b[2], b[3]], difficult: false })
        .map(|object| Scene::new(vec![object]).into())
        .collect();
    let given = attribution(values.clone(), vec!["4".into(); scenes.len()]);
    let model = BlackBox::new(|x: &Tensor| Ok(x.clone()));
    let (x, target, run) = (Inputs::single(values)?, Target::Class(4), Run::new());
    let (hits, distances) = (maps(case.tensor("hits")?)?, flat(case.tensor("distances")?)?);
    for (column, tolerance) in [0.0, 5.0, 15.0].into_iter().enumerate() {
        let game = PointingGame { tolerance, ..PointingGame::default() };
        let found = game.evaluate(&Case::new(&model, &x, &target, &given, &run).showing(&scenes))?;
        for (i, distance) in distances.iter().enumerate() {
            assert_eq!(found.values[i], Some(hits[i][column]), "map {i}, tolerance {tolerance}");
            let own = found.details[i]["distance"].as_f64().ok_or("no distance")?;
            assert!((own - distance).abs() < 1e-12);
        }
    }
    Ok(())
}
