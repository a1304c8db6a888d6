//! Sanity checks: Adebayo et al. 2018, cascading randomisation of the parameters.
//!
//! The paper's finding: gradients and Grad-CAM pass; guided backpropagation and guided Grad-CAM are invariant to the
//! parameters of higher layers, and so fail. Grad-CAM is rectified, as in the paper. Where the randomised network's
//! map is negative everywhere, the rectified one is zero, and so is its product with guided backpropagation: such a
//! map has vanished, which counts as a change, not as a missing value.

use ascribe::core::{Dataset, Run};
use ascribe::evaluator::{Asked, Evaluator};
use ascribe::metrics::training::Training;
use ascribe::metrics::{Overall, StudyCase};
use ascribe::pictures::Pictures;
use ascribe::viz::report::{Cell, Claim, Column, Figure, Section, Table};
use ascribe::viz::{Plot, Series};
use ascribe::{Model, catalogue};
use serde_json::{Value, json};

use super::{Setting, network_of_shapes, verdict};
use crate::paths;
use crate::shapes::{Shapes, untrained};

const SOURCE: &str = "Adebayo et al. 2018, Sanity Checks for Saliency Maps, §4.1 and figures 2 to 4";
const PICTURES: [&str; 6] =
    ["cat.png", "coffee.png", "tripod.png", "rocket.jpg", "uniform.jpg", "astronaut.jpg"];

struct Subject<'a> {
    name: &'static str,
    model: &'a Model,
    data: &'a dyn Dataset,
    target: Asked,
    /// Settings of the randomisation.
    config: Value,
}

/// A method that the claims are about.
struct Checked {
    name: &'static str,
    id: &'static str,
    config: Value,
    /// The paper's finding: whether its maps change with the parameters of higher layers.
    changes: bool,
}

fn methods() -> [Checked; 4] {
    let of = |name, id, config, changes| Checked { name, id, config, changes };
    [
        of("the gradient", "saliency", json!({}), true),
        of("Grad-CAM", "grad-cam", json!({ "relu": true }), true),
        of("guided backpropagation", "guided-backprop", json!({}), false),
        of("guided Grad-CAM", "guided-grad-cam", json!({}), false),
    ]
}

/// Number of random draws of the parameters.
fn draws(setting: &Setting) -> u64 {
    if setting.quick { 1 } else { 3 }
}

/// Number of progress steps: one per network, method and draw, and one for the networks that are trained.
pub fn steps(setting: &Setting) -> u64 {
    2 * methods().len() as u64 * draws(setting) + 1
}

/// Cascading randomisation of EfficientNet-Lite0 and of the network trained on shapes, and permuted labels of shapes.
pub fn run(setting: &Setting) -> anyhow::Result<Vec<Section>> {
    let folder = paths::root().join("fixtures/images");
    let count = if setting.quick { 2 } else { PICTURES.len() };
    let pictures = PICTURES[..count].iter().map(|name| folder.join(name)).collect();
    let small = network_of_shapes()?;
    let subjects = [
        Subject {
            name: "EfficientNet-Lite0, photographs",
            model: &setting.model,
            data: &Pictures::new(&setting.model, pictures),
            target: Asked::Words("top1".into()),
            config: json!({ "steps": if setting.quick { 6 } else { 16 } }),
        },
        Subject {
            name: "small network, shapes",
            model: &small,
            data: &Shapes { seed: 4, count: if setting.quick { 16 } else { 64 } },
            target: Asked::Label,
            config: json!({}),
        },
    ];
    let parameters = subjects.iter().map(|subject| one(setting, subject));
    parameters.chain([labels(setting)]).collect()
}

/// The effect of randomisation on the maps of one method, over samples and draws.
#[derive(Default)]
struct Found {
    /// Rank correlations of each step; `None` for a map that vanished.
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

    /// Number of maps that have vanished by a step, and the number of all maps.
    fn vanished(&self, step: usize) -> (usize, usize) {
        let all = self.ranks.get(step).map_or(&[][..], Vec::as_slice);
        (all.iter().filter(|r| r.is_none()).count(), all.len())
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (count, sum) = values.fold((0_usize, 0.0), |(n, sum), v| (n + 1, sum + v));
    sum / count.max(1) as f64
}

fn measure(setting: &Setting, subject: &Subject<'_>, method: &Checked) -> anyhow::Result<Found> {
    let mut found = Found::default();
    for seed in 0..draws(setting) {
        let method = catalogue::explainer(method.id, &method.config)?;
        let metric = catalogue::metric("model-randomisation", &subject.config)?;
        let evaluator = Evaluator {
            target: subject.target.clone(),
            // The networks are randomised once for all samples.
            batch: subject.data.len(),
            ..Evaluator::new(subject.model, vec![method], vec![metric])
        };
        for row in evaluator.rows(subject.data, &Run::new().seed(seed))? {
            let sample = &row.detail;
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

fn one(setting: &Setting, subject: &Subject<'_>) -> anyhow::Result<Section> {
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
    for method in methods() {
        let Checked { name, changes, .. } = method;
        setting.bar.set_message(format!("sanity: {name}"));
        let found = measure(setting, subject, &method)?;
        let count = found.ranks.len();
        // The third of the layers that is closest to the output.
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

/// Data randomisation: the network of shapes, trained on the labels of some pictures and on the same labels permuted.
fn labels(setting: &Setting) -> anyhow::Result<Section> {
    setting.bar.set_message("sanity: permuted labels");
    let (count, steps) = if setting.quick { (48, 150) } else { (128, 600) };
    let train = Training::new(untrained()?).steps(steps);
    let (training, data) =
        (Shapes { seed: 6, count }, Shapes { seed: 7, count: if setting.quick { 16 } else { 64 } });
    let explainers = methods().into_iter().map(|method| catalogue::explainer(method.id, &method.config));
    let explainers = explainers.collect::<ascribe::Result<Vec<_>>>()?;
    let study = catalogue::study("data-randomisation", &Value::Null)?;
    let run = Run::new();
    let case = StudyCase { methods: &explainers, train: &train, training: &training, data: &data, run: &run };
    let rows = study.conduct(&case)?;
    setting.bar.inc(1);
    let mut table = Table::new([
        Column::text("method"),
        Column::number("rank correlation", 3),
        Column::number("from", 3),
        Column::number("to", 3),
    ]);
    let mut claims = Vec::new();
    for Checked { name, id, .. } in methods() {
        let summary = Overall::of(id, &*study, &rows, run.get_seed()).summary;
        let interval = summary.interval;
        table = table.row([
            name.into(),
            Cell::from(summary.mean),
            Cell::from(interval.map(|i| i.low)),
            Cell::from(interval.map(|i| i.high)),
        ]);
        claims.push((name, summary));
    }
    let shares = rows.first().map(|row| row.detail["accuracy"].clone()).unwrap_or_default();
    let share = |network: usize| shares[network].as_f64().unwrap_or(f64::NAN) * 100.0;
    let mut section = Section::new("Sanity checks: permuted labels")
        .text(format!(
            "The small network is trained twice on {count} pictures of shapes, by their labels and by the same labels \
             permuted, of which it learns {:.1} and {:.1} %. Magnitudes of the maps of {} other pictures are compared; 95 % \
             confidence intervals.",
            share(0),
            share(1),
            data.len()
        ))
        .table(table);
    for (name, summary) in claims.into_iter().take(2) {
        let mean = summary.mean.unwrap_or(f64::NAN);
        section = section.claim(
            Claim::new(format!("The map of {name} depends on the labels."), verdict(mean < 0.5))
                .source("Adebayo et al. 2018, Sanity Checks for Saliency Maps, §4.2")
                .measured(format!("mean rank correlation {mean:.3} with the network of the permuted labels"))
                .criterion("below 0.5"),
        );
    }
    Ok(section)
}
