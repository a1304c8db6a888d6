//! Completeness and sensitivity: Sundararajan, Taly & Yan 2017.

use anyhow::Context;
use ascribe::catalogue;
use ascribe::core::ops::{Binary, Pointwise};
use ascribe::core::{Attribution, Baseline, Device, Explainer, GraphBuilder, Inputs, Run, Target, Tensor};
use ascribe::evaluator::Evaluator;
use ascribe::gradient::{IntegratedGradients, Quadrature, Saliency};
use ascribe::pictures::Pictures;
use ascribe::viz::report::{Cell, Claim, Column, Section, Table};
use serde_json::{Value, json};

use super::{Setting, verdict};
use crate::paths;

const SOURCE: &str = "Sundararajan, Taly & Yan 2017, Axiomatic Attribution for Deep Networks";
const PICTURES: [&str; 3] = ["cat.png", "coffee.png", "tripod.png"];

fn pictures(setting: &Setting) -> &'static [&'static str] {
    if setting.quick { &PICTURES[..1] } else { &PICTURES }
}

/// Identifier and configuration of each method. According to the paper (§5), 20 to 300 steps are enough.
fn methods(steps: usize) -> [(&'static str, Value); 4] {
    let ig = json!({ "steps": steps, "tolerance": null, "quadrature": "gauss-legendre" });
    [
        ("integrated-gradients", ig),
        ("saliency", json!({})),
        ("guided-backprop", json!({})),
        ("input-x-gradient", json!({})),
    ]
}

/// Number of progress steps: one per picture and method.
pub fn steps(setting: &Setting) -> u64 {
    (pictures(setting).len() * methods(0).len()) as u64
}

/// Relative gaps |Σ A − (S(x) − S(x′))| / |S(x) − S(x′)| of four methods, and the worked example of §2.1.
pub fn run(setting: &Setting) -> anyhow::Result<Vec<Section>> {
    let steps = if setting.quick { 50 } else { 300 };
    let mut table = Table::new([
        Column::text("picture"),
        Column::text("method"),
        Column::number("sum", 4),
        Column::number("S(x) − S(x′)", 4),
        Column::number("relative gap", 5),
    ]);
    let mut gaps: Vec<(&str, f64)> = Vec::new();
    for picture in pictures(setting) {
        let path = paths::root().join("fixtures/images").join(picture);
        let data = Pictures::new(&setting.model, vec![path]);
        for (id, config) in methods(steps) {
            setting.bar.set_message(format!("completeness: {id}"));
            let method = catalogue::explainer(id, &config)?;
            let metric = catalogue::metric("completeness", &Value::Null)?;
            let evaluator = Evaluator::new(&setting.model, vec![method], vec![metric]);
            for row in evaluator.rows(&data, &Run::new())? {
                let number = |key: &str| row.detail[key].as_f64().with_context(|| format!("no {key}"));
                let change = number("score")? - number("baseline_score")?;
                let gap = row.value.context("no value")?;
                table = table.row([
                    (*picture).into(),
                    id.into(),
                    Cell::from(number("sum")?),
                    change.into(),
                    gap.into(),
                ]);
                gaps.push((id, gap));
            }
            setting.bar.inc(1);
        }
    }
    let of = |id: &str| gaps.iter().filter(|g| g.0 == id).map(|g| g.1).collect::<Vec<_>>();
    let largest = |id: &str| of(id).into_iter().fold(0.0, f64::max);
    let smallest = |id: &str| of(id).into_iter().fold(f64::INFINITY, f64::min);
    let mut section = Section::new("Completeness")
        .text(
            "The sum of an attribution against the change of the score from a baseline of zeros, which is the mean colour.",
        )
        .table(table)
        .claim(
            Claim::new(
                "Integrated gradients add up to S(x) − S(x′).",
                verdict(largest("integrated-gradients") < 0.05),
            )
            .source(format!("{SOURCE}, proposition 1; §5: 20 to 300 points are within 5 %"))
            .measured(format!(
                "largest relative gap {:.2e} with {steps} points",
                largest("integrated-gradients")
            ))
            .criterion("below 0.05"),
        );
    for (id, statement) in [
        ("saliency", "Gradients do not add up to S(x) − S(x′)."),
        ("guided-backprop", "Guided backpropagation does not add up to S(x) − S(x′)."),
    ] {
        section = section.claim(
            Claim::new(statement, verdict(smallest(id) > 0.05))
                .source(format!("{SOURCE}, §2"))
                .measured(format!("smallest relative gap {:.3}", smallest(id)))
                .criterion("above 0.05"),
        );
    }
    Ok(vec![section, sensitivity()?])
}

/// f(x) = 1 − ReLU(1 − x) at x = 2 from 0: the function changes by 1, the gradient at x is 0.
fn sensitivity() -> anyhow::Result<Section> {
    let mut b = GraphBuilder::new();
    let x = b.input("x", &[Some(1)]);
    let one = b.constant("one", Tensor::new(&[1_f64], &Device::Cpu)?);
    let inner = b.op("inner", Binary::Sub, &[one, x])?;
    let relu = b.op("relu", Pointwise::Relu, &[inner])?;
    let f = b.op("f", Binary::Sub, &[one, relu])?;
    let graph = b.finish(&[f])?;
    let x = Inputs::single(Tensor::new(&[[2_f64]], &Device::Cpu)?)?;
    let value =
        |a: &Attribution| -> anyhow::Result<f64> { Ok(a.values().flatten_all()?.to_vec1::<f64>()?[0]) };
    let (target, run) = (Target::Class(0), Run::new());
    let gradient = value(&Saliency::default().explain(&graph, &x, &target, &run)?)?;
    let ig =
        IntegratedGradients::exactly(1000).quadrature(Quadrature::RiemannMiddle).baseline(Baseline::Zero);
    let integrated = value(&ig.explain(&graph, &x, &target, &run)?)?;
    Ok(Section::new("Sensitivity")
        .text("f(x) = 1 − ReLU(1 − x) rises from 0 to 1 between x = 0 and x = 1, and is flat at x = 2.")
        .claim(
            Claim::new(
                "Gradients break sensitivity: the only input, on which f depends, gets 0.",
                verdict(gradient == 0.0),
            )
            .source(format!("{SOURCE}, §2.1"))
            .measured(format!("gradient {}", gradient.abs()))
            .criterion("exactly 0"),
        )
        .claim(
            Claim::new(
                "Integrated gradients satisfy it: the input gets the whole change of 1.",
                verdict((integrated - 1.0).abs() < 1e-9),
            )
            .source(format!("{SOURCE}, §3"))
            .measured(format!("{integrated:.12}"))
            .criterion("1 to 9 digits"),
        ))
}
