//! Sanity checks: Adebayo et al. 2018, model parameter randomisation.

use ascribe::core::{Explainer, Graph, Inputs, Run, Target};
use ascribe::gradient::{GradCam, GuidedBackprop, GuidedGradCam, Saliency};
use ascribe::metrics::{Case, Evaluation, Metric, ModelRandomisation};
use ascribe::viz::report::{Cell, Claim, Column, Figure, Section, Table, Verdict};
use ascribe::viz::{Plot, Series};

use super::{Setting, network_of_shapes, verdict};
use crate::{paths, shapes};

const SOURCE: &str = "Adebayo et al. 2018, Sanity Checks for Saliency Maps";

struct Subject {
    name: &'static str,
    graph: Graph,
    x: Inputs,
    target: Target,
    randomisation: ModelRandomisation,
}

fn methods() -> [(&'static str, Box<dyn Explainer<Graph>>); 4] {
    [
        ("gradient", Box::new(Saliency::new())),
        ("Grad-CAM", Box::new(GradCam::new())),
        ("guided backpropagation", Box::new(GuidedBackprop::new())),
        ("guided Grad-CAM", Box::new(GuidedGradCam::new())),
    ]
}

/// One step per network and method.
pub fn steps(_: &Setting) -> u64 {
    2 * methods().len() as u64
}

/// Cascading randomisation of EfficientNet-Lite0 and of the network trained on shapes.
pub fn run(setting: &Setting) -> anyhow::Result<Vec<Section>> {
    let mut sections = Vec::new();
    for subject in [efficientnet(setting)?, shapes_network(setting)?] {
        sections.push(one(setting, &subject)?);
    }
    Ok(sections)
}

fn efficientnet(setting: &Setting) -> anyhow::Result<Subject> {
    let path = paths::root().join("fixtures/images/cat.png");
    let loaded = setting.model.read(&path)?;
    let graph = setting.model.graph.clone();
    let target = Target::Top1.resolve(&graph.forward(&loaded.inputs)?)?;
    let steps = if setting.quick { 6 } else { 16 };
    let randomisation = ModelRandomisation { steps, ..ModelRandomisation::default() };
    Ok(Subject { name: "EfficientNet-Lite0, a cat", graph, x: loaded.inputs, target, randomisation })
}

fn shapes_network(setting: &Setting) -> anyhow::Result<Subject> {
    let graph = network_of_shapes()?;
    let count = if setting.quick { 16 } else { 64 };
    let pictures: Vec<shapes::ShapePicture> = (0..count).map(|n| shapes::picture(4, n)).collect();
    let x = Inputs::single(shapes::batch(&pictures)?)?;
    let target = Target::Classes(pictures.iter().map(|p| p.class).collect());
    Ok(Subject {
        name: "small network, shapes",
        graph,
        x,
        target,
        randomisation: ModelRandomisation::default(),
    })
}

/// Mean over samples of one number of each step.
fn means(found: &Evaluation, key: &str) -> Vec<Option<f64>> {
    let steps = found.details.first().and_then(|d| d.as_array()).map_or(0, Vec::len);
    (0..steps)
        .map(|step| {
            let values: Vec<f64> = found.details.iter().filter_map(|d| d[step][key].as_f64()).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        })
        .collect()
}

fn one(setting: &Setting, subject: &Subject) -> anyhow::Result<Section> {
    let run = Run::new();
    let mut table = Table::new([
        Column::text("method"),
        Column::number("rank correlation, first step", 3),
        Column::number("all layers random", 3),
        Column::number("mean", 3),
        Column::number("SSIM, all layers random", 3),
    ]);
    let mut plot =
        Plot::new("randomised groups of layers, from the output", "rank correlation of |attribution|");
    let mut mean_of = Vec::new();
    for (name, method) in methods() {
        setting.bar.set_message(format!("sanity: {name}"));
        let attribution = method.explain(&subject.graph, &subject.x, &subject.target, &run)?;
        let case =
            Case::new(&subject.graph, &subject.x, &subject.target, &attribution, &run).explained_by(&*method);
        let found = subject.randomisation.evaluate(&case)?;
        let ranks = means(&found, "spearman");
        let ssim = means(&found, "ssim");
        let ends = |all: &[Option<f64>]| (all.first().copied().flatten(), all.last().copied().flatten());
        let (first, last) = ends(&ranks);
        let mean = found.mean();
        table = table.row([name.into(), Cell::from(first), last.into(), mean.into(), ends(&ssim).1.into()]);
        // A map that is zero for every randomised network has no rank correlation, and no line.
        let points: Vec<(f64, f64)> =
            ranks.iter().enumerate().filter_map(|(i, v)| v.map(|v| ((i + 1) as f64, v))).collect();
        if !points.is_empty() {
            plot = plot.series(Series::new(name, points));
        }
        mean_of.push(mean);
        setting.bar.inc(1);
    }
    let picture = plot.title(subject.name).y_range(-0.2, 1.0).auc(false).render()?;
    let [gradient, cam, guided, guided_cam] = mean_of[..] else {
        anyhow::bail!("four methods were expected")
    };
    let words = |mean: Option<f64>| {
        mean.map_or_else(|| "undefined: the map is constant".into(), |m| format!("{m:.3}"))
    };
    let claim = |text: &str, holds: Option<bool>, measured: String, criterion: &str| {
        Claim::new(format!("{text} ({})", subject.name), holds.map_or(Verdict::NotChecked, verdict))
            .source(format!("{SOURCE}, figures 2 to 4"))
            .measured(measured)
            .criterion(criterion)
    };
    let changes = |mean: Option<f64>| mean.map(|m| m < 0.5);
    let less = |a: Option<f64>, b: Option<f64>| a.zip(b).map(|(a, b)| a > b + 0.1);
    Ok(Section::new(format!("Sanity checks: {}", subject.name))
        .text("Parameters are replaced by random ones with the same mean and variance, from the output to the input; maps are compared with those of the trained network.")
        .figure(Figure::new(&picture, "Rank correlation with the trained network's map.")?)
        .table(table)
        .claim(claim(
            "Gradients change when the network is randomised.",
            changes(gradient),
            format!("mean rank correlation {}", words(gradient)),
            "below 0.5",
        ))
        .claim(claim(
            "Grad-CAM changes when the network is randomised.",
            changes(cam),
            format!("mean rank correlation {}", words(cam)),
            "below 0.5",
        ))
        .claim(claim(
            "Guided backpropagation changes less than the gradient.",
            less(guided, gradient),
            format!("mean rank correlation {} against {}", words(guided), words(gradient)),
            "at least 0.1 more",
        ))
        .claim(claim(
            "Guided Grad-CAM changes less than Grad-CAM.",
            less(guided_cam, cam),
            format!("mean rank correlation {} against {}", words(guided_cam), words(cam)),
            "at least 0.1 more",
        )))
}
