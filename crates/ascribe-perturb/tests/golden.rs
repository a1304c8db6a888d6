//! Every golden case of occlusion and RISE, in f64 and f32: see `fixtures/golden/methods/README.md`.

use ascribe_core::{Baseline, Explainer, Run, Target};
use ascribe_perturb::{Occlusion, Rise};
use ascribe_testing::flat;
use ascribe_testing::golden::{Answers, Case, Failure, Network, compare};

fn answers(network: &Network, case: &Case) -> Result<Answers, Failure> {
    match case.method() {
        "occlusion" => occlusion(network, case),
        "rise" => rise(network, case),
        _ => Ok(Vec::new()),
    }
}

/// The reference's windows have a side for the channels, too.
fn occlusion(network: &Network, case: &Case) -> Result<Answers, Failure> {
    let config = &case.about["config"];
    let sides = |key: &str| serde_json::from_value::<Vec<usize>>(config[key].clone());
    let baseline = match config["baseline"].as_str() {
        Some("zero") => Baseline::Zero,
        Some("random") => Baseline::Tensor(network.value("baseline")?),
        other => return Err(format!("unknown baseline {other:?}").into()),
    };
    let method = Occlusion::with_window(&sides("window")?, &sides("stride")?).baseline(baseline);
    let x = network.inputs()?;
    let found = method.explain(&network.graph, &x, &network.target(), &Run::new().batch(7))?;
    let windows = flat(case.tensor("windows")?)?.iter().sum::<f64>() as usize;
    let rows = found.provenance.cost.forward;
    if rows != x.batch()? * (windows + 1) {
        return Err(format!("{rows} rows for {windows} windows").into());
    }
    Ok(vec![("attribution", found.values().clone())])
}

/// With the reference's masks.
fn rise(network: &Network, case: &Case) -> Result<Answers, Failure> {
    let config = &case.about["config"];
    let target = match config["score"].as_str() {
        Some("logit") => Target::Classes(network.targets.clone()),
        Some("probability") => Target::Probabilities(network.targets.clone()),
        other => return Err(format!("unknown score {other:?}").into()),
    };
    let method = Rise::with_masks(case.tensor("masks")?.clone())
        .probability(config["p"].as_f64().ok_or("no probability")?);
    let found = method.explain(&network.graph, &network.inputs()?, &target, &Run::new().batch(7))?;
    Ok(vec![("attribution", found.values().squeeze(1)?)])
}

#[test]
fn all_cases() -> Result<(), Failure> {
    // Occlusion in four ways by each network; RISE of logits and of probabilities by two.
    for (name, cases) in
        [("plain", 6), ("residual", 4), ("functional", 4), ("depthwise", 6), ("smooth", 4), ("mlp", 4)]
    {
        assert_eq!(compare(name, answers)?.cases, cases, "{name}");
    }
    Ok(())
}
