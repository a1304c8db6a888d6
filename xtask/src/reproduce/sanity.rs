//! Sanity checks: Adebayo et al. 2018, cascading randomisation of the parameters.
//!
//! The paper's finding: gradients and Grad-CAM pass; guided backpropagation and guided Grad-CAM are invariant to the
//! parameters of higher layers, and so fail. Grad-CAM is rectified, as there. Where the randomised network's map is
//! negative everywhere, the rectified one is zero, and so is its product with guided backpropagation: such a map has
//! vanished, which is a change, not a missing number.

use ascribe::core::{Explainer, Graph, Inputs, Run, Target};
use ascribe::gradient::{GradCam, GuidedBackprop, GuidedGradCam, Saliency};
use ascribe::metrics::{Case, Metric, ModelRandomisation};
use ascribe::viz::report::{Cell, Claim, Column, Figure, Section, Table};
use ascribe::viz::{Plot, Series};

use super::{Setting, network_of_shapes, verdict};
use crate::{paths, shapes};

const SOURCE: &str = "Adebayo et al. 2018, Sanity Checks for Saliency Maps, §4.1 and figures 2 to 4";
const PICTURES: [&str; 6] =
    ["cat.png", "coffee.png", "tripod.png", "rocket.jpg", "uniform.jpg", "astronaut.jpg"];

struct Subject {
    name: &'static str,
    graph: Graph,
    x: Inputs,
    target: Target,
    randomisation: ModelRandomisation,
}

/// The methods with the verdict of the paper: whether their maps change with the parameters of higher layers.
fn methods() -> [(&'static str, Box<dyn Explainer<Graph>>, bool); 4] {
    [
        ("the gradient", Box::new(Saliency::default()), true),
        ("Grad-CAM", Box::new(GradCam::default().relu(true)), true),
        ("guided backpropagation", Box::new(GuidedBackprop::default()), false),
        ("guided Grad-CAM", Box::new(GuidedGradCam::default()), false),
    ]
}

/// How often the parameters are drawn.
fn draws(setting: &Setting) -> u64 {
    if setting.quick { 1 } else { 3 }
}

/// One step per network, method and draw.
pub fn steps(setting: &Setting) -> u64 {
    2 * methods().len() as u64 * draws(setting)
}

/// Cascading randomisation of EfficientNet-Lite0 and of the network trained on shapes.
pub fn run(setting: &Setting) -> anyhow::Result<Vec<Section>> {
    [efficientnet(setting)?, shapes_network(setting)?].iter().map(|subject| one(setting, subject)).collect()
}

fn efficientnet(setting: &Setting) -> anyhow::Result<Subject> {
    let graph = setting.model.graph.clone();
    let count = if setting.quick { 2 } else { PICTURES.len() };
    let pictures: anyhow::Result<Vec<_>> = PICTURES[..count]
        .iter()
        .map(|name| {
            let loaded = setting.model.read(paths::root().join("fixtures/images").join(name))?;
            let Some(input) = loaded.inputs.iter().next() else { anyhow::bail!("{name} made no input") };
            Ok(input.value.clone())
        })
        .collect();
    let x = Inputs::single(ascribe::core::Tensor::cat(&pictures?, 0)?)?;
    let target = Target::Top1.resolve(&graph.forward(&x)?)?;
    let steps = if setting.quick { 6 } else { 16 };
    let randomisation = ModelRandomisation { steps, ..ModelRandomisation::default() };
    Ok(Subject { name: "EfficientNet-Lite0, photographs", graph, x, target, randomisation })
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

/// What randomisation did to the maps of one method, over samples and draws.
#[derive(Default)]
struct Found {
    /// Rank correlations of each step; a map that vanished has none.
    ranks: Vec<Vec<Option<f64>>>,
    /// Structural similarities of each step.
    ssim: Vec<Vec<f64>>,
}

impl Found {
    /// Mean rank correlation of a step; a map that has vanished counts as 0.
    fn rank(&self, step: usize) -> f64 {
        mean(self.ranks.get(step).into_iter().flatten().map(|r| r.unwrap_or(0.0)))
    }

    fn ssim(&self, step: usize) -> Option<f64> {
        self.ssim.get(step).filter(|all| !all.is_empty()).map(|all| mean(all.iter().copied()))
    }

    /// Number of maps that have vanished by a step, of how many.
    fn vanished(&self, step: usize) -> (usize, usize) {
        let all = self.ranks.get(step).map_or(&[][..], Vec::as_slice);
        (all.iter().filter(|r| r.is_none()).count(), all.len())
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (count, sum) = values.fold((0_usize, 0.0), |(n, sum), v| (n + 1, sum + v));
    sum / count.max(1) as f64
}

fn measure(setting: &Setting, subject: &Subject, method: &dyn Explainer<Graph>) -> anyhow::Result<Found> {
    let mut found = Found::default();
    for seed in 0..draws(setting) {
        let run = Run::new().seed(seed);
        let attribution = method.explain(&subject.graph, &subject.x, &subject.target, &run)?;
        let case =
            Case::new(&subject.graph, &subject.x, &subject.target, &attribution, &run).explained_by(method);
        let evaluation = subject.randomisation.evaluate(&case)?;
        for sample in &evaluation.details {
            for (step, detail) in sample.as_array().into_iter().flatten().enumerate() {
                if found.ranks.len() <= step {
                    found.ranks.push(Vec::new());
                    found.ssim.push(Vec::new());
                }
                found.ranks[step].push(detail["spearman"].as_f64());
                found.ssim[step].extend(detail["ssim"].as_f64());
            }
        }
        setting.bar.inc(1);
    }
    Ok(found)
}

fn one(setting: &Setting, subject: &Subject) -> anyhow::Result<Section> {
    let mut table = Table::new([
        Column::text("method"),
        Column::number("rank correlation, higher layers random", 3),
        Column::number("all layers random", 3),
        Column::number("SSIM, higher layers random", 3),
        Column::number("all layers random", 3),
        Column::text("maps that vanished"),
    ]);
    let mut plot =
        Plot::new("randomised groups of layers, from the output", "rank correlation of |attribution|");
    let mut claims = Vec::new();
    for (name, method, changes) in methods() {
        setting.bar.set_message(format!("sanity: {name}"));
        let found = measure(setting, subject, &*method)?;
        let count = found.ranks.len();
        // The third of the layers that is nearest to the output.
        let (higher, last) = (count.div_ceil(3).saturating_sub(1), count.saturating_sub(1));
        let (gone, of) = found.vanished(higher);
        table = table.row([
            name.into(),
            found.rank(higher).into(),
            found.rank(last).into(),
            Cell::from(found.ssim(higher)),
            found.ssim(last).into(),
            format!("{gone} of {of}").into(),
        ]);
        plot = plot.series(Series::new(name, (0..count).map(|i| ((i + 1) as f64, found.rank(i)))));
        let rank = found.rank(higher);
        let relation = if changes { "depends on" } else { "is invariant to" };
        let statement = format!("The map of {name} {relation} the parameters of higher layers.");
        let mut measured = vec![format!("mean rank correlation {rank:.3} after randomising the upper third")];
        if gone > 0 {
            measured.push(format!("{gone} of {of} maps vanished, because Grad-CAM is positive nowhere"));
        }
        let (holds, criterion) = if changes {
            (rank < 0.5, "below 0.5; a map that vanished counts as 0")
        } else {
            (rank > 0.7, "above 0.7; a map that vanished counts as 0")
        };
        claims.push(
            Claim::new(format!("{statement} ({})", subject.name), verdict(holds))
                .source(SOURCE)
                .measured(measured.join("; "))
                .criterion(criterion),
        );
    }
    let picture = plot.title(subject.name).y_range(-0.5, 1.0).auc(false).render()?;
    let mut section = Section::new(format!("Sanity checks: {}", subject.name))
        .text("Parameters are replaced by random ones with the same mean and variance, from the output to the input; magnitudes of maps are compared with those of the trained network.")
        .text("Guided Grad-CAM is guided backpropagation times the rectified Grad-CAM. The fine structure comes from the first factor; where it shows, and whether at all, changes with the second one.")
        .figure(Figure::new(&picture, "Rank correlation with the trained network's map, mean over pictures and draws; a map that vanished counts as 0.")?)
        .table(table);
    for claim in claims {
        section = section.claim(claim);
    }
    Ok(section)
}
