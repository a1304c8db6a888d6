//! Known truth: do attributions point at the shape that the small network was trained to name?

use ascribe::core::{Explainer, Graph, Inputs, Reduction, Run, Target};
use ascribe::gradient::{GradCam, IntegratedGradients, Saliency};
use ascribe::perturb::Occlusion;
use ascribe::viz::report::{Claim, Column, Section, Table};

use super::{Setting, network_of_shapes, verdict};
use crate::shapes::{self, ShapePicture};

fn methods() -> [(&'static str, Box<dyn Explainer<Graph>>); 4] {
    [
        ("saliency", Box::new(Saliency::default().abs(true))),
        ("integrated gradients", Box::new(IntegratedGradients::exactly(20))),
        ("Grad-CAM", Box::new(GradCam::default())),
        ("occlusion", Box::new(Occlusion::new(6, 2))),
    ]
}

/// One step per method.
pub fn steps(_: &Setting) -> u64 {
    methods().len() as u64
}

/// Share of pictures whose largest attribution lies on the shape, beside the share of the picture that the shape covers.
pub fn run(setting: &Setting) -> anyhow::Result<Vec<Section>> {
    let graph = network_of_shapes()?;
    let count = if setting.quick { 24 } else { 100 };
    let pictures: Vec<ShapePicture> = (0..count).map(|n| shapes::picture(5, n)).collect();
    let x = Inputs::single(shapes::batch(&pictures)?)?;
    let target = Target::Classes(pictures.iter().map(|p| p.class).collect());
    let area = |p: &ShapePicture| p.mask.iter().filter(|m| **m).count() as f64 / p.mask.len() as f64;
    let chance = pictures.iter().map(area).sum::<f64>() / pictures.len() as f64;
    // Two standard errors of the share of as many random points.
    let least = chance + 2.0 * (chance * (1.0 - chance) / pictures.len() as f64).sqrt();
    let mut table =
        Table::new([Column::text("method"), Column::number("maxima on the shape", 3).higher_is_better()]);
    let mut section = Section::new("Localisation on shapes with known masks").text(format!(
        "{count} new pictures; a point drawn at random lies on the shape with probability {chance:.3}."
    ));
    let mut claims = Vec::new();
    for (name, method) in methods() {
        setting.bar.set_message(format!("localisation: {name}"));
        let found = method.explain(&graph, &x, &target, &Run::new())?;
        let maps = Reduction::Sum.reduce(found.values())?.flatten_from(1)?.to_vec2::<f64>()?;
        let hits = maps.iter().zip(&pictures).filter(|(map, picture)| {
            let best = map.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(i, _)| i);
            best.is_some_and(|i| picture.mask[i])
        });
        let share = hits.count() as f64 / pictures.len() as f64;
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
