//! Localisation with known ground truth: whether attributions point at the shape that the small network was trained
//! to classify.

use ascribe::catalogue;
use ascribe::core::{Dataset, Run};
use ascribe::evaluator::{Evaluator, Row};
use ascribe::viz::report::{Claim, Column, Section, Table};
use serde_json::{Value, json};

use super::{Setting, network_of_shapes, verdict};
use crate::shapes::Shapes;

/// Name, identifier and configuration of each method.
fn methods() -> [(&'static str, &'static str, Value); 4] {
    [
        ("saliency", "saliency", json!({ "abs": true })),
        ("integrated gradients", "integrated-gradients", json!({ "steps": 20, "tolerance": null })),
        ("Grad-CAM", "grad-cam", json!({})),
        ("occlusion", "occlusion", json!({ "window": [6], "stride": [2] })),
    ]
}

/// Number of progress steps: one per method.
pub fn steps(_: &Setting) -> u64 {
    methods().len() as u64
}

/// Mean fraction of a picture that its shape covers.
fn chance(data: &dyn Dataset) -> anyhow::Result<f64> {
    let mut total = 0.0;
    for sample in data.samples() {
        for region in sample?.truth.iter().filter_map(|truth| truth.masks()).flat_map(|masks| &masks.regions)
        {
            total += region.mask.area() as f64 / region.mask.inside().len() as f64;
        }
    }
    Ok(total / data.len() as f64)
}

/// Compares the fraction of pictures whose largest attribution is on the shape with the fraction of the picture that
/// the shape covers.
pub fn run(setting: &Setting) -> anyhow::Result<Vec<Section>> {
    let model = network_of_shapes()?;
    let data = Shapes { seed: 5, count: if setting.quick { 24 } else { 100 } };
    let (count, chance) = (data.len(), chance(&data)?);
    // The chance level plus two standard errors for the same number of random points.
    let least = chance + 2.0 * (chance * (1.0 - chance) / count as f64).sqrt();
    let mut table =
        Table::new([Column::text("method"), Column::number("maxima on the shape", 3).higher_is_better()]);
    let mut section = Section::new("Localisation on shapes with known masks").text(format!(
        "{count} new pictures; a point drawn at random lies on the shape with probability {chance:.3}."
    ));
    let mut claims = Vec::new();
    for (name, id, config) in methods() {
        setting.bar.set_message(format!("localisation: {name}"));
        let metric = catalogue::metric("pointing-game", &json!({ "tolerance": 0.0 }))?;
        let method = catalogue::explainer(id, &config)?;
        let rows = Evaluator::new(&model, vec![method], vec![metric]).rows(&data, &Run::new())?;
        // The mean over pictures, like the chance level, not over classes.
        let hit = |row: &&Row| row.value == Some(1.0);
        let share = rows.iter().filter(hit).count() as f64 / rows.len() as f64;
        table = table.row([name.into(), share.into()]);
        claims.push(
            Claim::new(format!("The maximum of {name} lies on the shape."), verdict(share > least))
                .source("the truth is known, because the pictures are generated; pointing game of Zhang et al. 2018, without tolerance")
                .measured(format!("{share:.3} of the maxima on the shape, {chance:.3} expected by chance"))
                .criterion(format!("above {least:.3}: chance plus two standard errors")),
        );
        setting.bar.inc(1);
    }
    section = section.table(table);
    for claim in claims {
        section = section.claim(claim);
    }
    Ok(vec![section])
}
