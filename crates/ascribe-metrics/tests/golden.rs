//! Compares statistics and localisation with the reference values in `fixtures/golden/methods/metrics`.

use ascribe_core::{BlackBox, Inputs, Run, Target, Tensor};
use ascribe_metrics::localisation::{Object, Scene};
use ascribe_metrics::statistics::{Ssim, spearman};
use ascribe_metrics::{Case, Metric, PointingGame, Truth};
use ascribe_testing::golden::{self, Failure, folder};
use ascribe_testing::{attribution, flat};

fn case(name: &str) -> Result<golden::Case, Failure> {
    golden::Case::read(&folder("metrics").join(name).with_extension("safetensors"))
}

fn maps(tensor: &Tensor) -> Result<Vec<Vec<f64>>, Failure> {
    Ok(tensor.flatten_from(1)?.to_vec2()?)
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
