//! The grid of Das & Rad 2020, figure 19: rows are pictures, columns are methods.

use ascribe::catalogue;
use ascribe::core::{Run, Target};
use ascribe::picture;
use ascribe::viz::report::{Figure, Section};
use ascribe::viz::{Grid, GridRow, Region};

use super::Setting;
use crate::paths;

const PICTURES: [&str; 6] =
    ["cat.png", "coffee.png", "tripod.png", "rocket.jpg", "uniform.jpg", "astronaut.jpg"];
const METHODS: [&str; 9] = [
    "saliency",
    "input-x-gradient",
    "guided-backprop",
    "integrated-gradients",
    "smooth-grad",
    "grad-cam",
    "lrp",
    "occlusion",
    "rise",
];

fn pictures(setting: &Setting) -> &'static [&'static str] {
    if setting.quick { &PICTURES[..2] } else { &PICTURES }
}

/// Number of progress steps: one per picture and method.
pub fn steps(setting: &Setting) -> u64 {
    (pictures(setting).len() * METHODS.len()) as u64
}

/// Draws the grid.
pub fn run(setting: &Setting) -> anyhow::Result<Vec<Section>> {
    let model = &setting.model;
    let titles: Result<Vec<&str>, _> =
        METHODS.iter().map(|id| catalogue::method(id).map(|e| e.card.name)).collect();
    let mut grid = Grid::new(titles?).title("Attributions of EfficientNet-Lite0");
    for name in pictures(setting) {
        let path = paths::root().join("fixtures/images").join(name);
        let loaded = model.read(&path)?;
        let Some(prepared) = &loaded.picture else { anyhow::bail!("{name} is not a picture") };
        let outputs = model.graph.forward(&loaded.inputs)?;
        let target = Target::Top1.resolve(&outputs)?;
        let [height, width] = prepared.geometry.output.map(|n| n as f64);
        let region = Region { x: 0.0, y: 0.0, width, height };
        let mut row = GridRow::new(prepared.image.clone()).region(region);
        for p in model.predictions(&outputs, 0, 1)?.unwrap_or_default() {
            row = row.prediction(p.label.unwrap_or_else(|| p.class.to_string()), Some(p.probability));
        }
        for id in METHODS {
            setting.bar.set_message(format!("gallery: {id}"));
            let explainer = catalogue::explainer(id, &config(id, setting.quick))?;
            let target = explainer.score().of(target.clone(), outputs.kind());
            let attribution = explainer.explain(&model.graph, &loaded.inputs, &target, &Run::new())?;
            let (map, _) = picture::smoothed(picture::heatmap(&attribution, 0)?, prepared, Some(2.0))?;
            row = row.map(map);
            setting.bar.inc(1);
        }
        grid = grid.row(row);
    }
    let figure = Figure::new(
        &grid.render()?,
        "Input with prediction at the left; each cell has its own scale, smoothed by 2 pixels for display.",
    )?;
    Ok(vec![Section::new("Gallery").figure(figure)])
}

fn config(id: &str, quick: bool) -> serde_json::Value {
    match id {
        "integrated-gradients" if quick => serde_json::json!({ "steps": 20, "tolerance": null }),
        "smooth-grad" => serde_json::json!({ "samples": if quick { 10 } else { 50 } }),
        "occlusion" => serde_json::json!({ "window": [32], "stride": [if quick { 32 } else { 16 }] }),
        "rise" => serde_json::json!({ "masks": if quick { 200 } else { 2000 } }),
        _ => serde_json::json!({}),
    }
}
