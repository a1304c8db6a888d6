//! Checks that every method and metric of the catalogue gives the same bits for any number of threads and any batch
//! budget, and that a batch gives the same bits as its samples one by one.

use ascribe::catalogue;
use ascribe::core::{Attribution, DType, Device, Graph, Inputs, OutputKind, Run, Target, Tensor, random};
use ascribe::metrics::localisation::{Object, Scene};
use ascribe::metrics::{Case, Evaluation};
use ascribe::models::{onnx, weights::StateDict, zoo};
use ascribe_testing::{bits, golden};
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error>;

const THREADS: [usize; 4] = [1, 2, 3, 8];
const BUDGETS: [usize; 4] = [1, 3, 7, 64];

/// Settings that make a method cheap enough to be run many times; the budgets do not divide its number of rows.
fn config(id: &str) -> Value {
    match id {
        "occlusion" => json!({ "window": [7], "stride": [6] }),
        "rise" => json!({ "masks": 20, "cells": 5 }),
        "integrated-gradients" => json!({ "steps": 10 }),
        "smooth-grad" | "smooth-grad-sq" => json!({ "samples": 5 }),
        "var-grad" => {
            json!({ "samples": 3, "explainer": { "method": "integrated-gradients", "config": { "steps": 3 } } })
        }
        _ => json!({}),
    }
}

/// Networks that together use the kernels and the portable operators, overlapping pooling, depthwise and strided
/// convolutions, residuals and gates: name, graph, two samples.
fn networks() -> Result<Vec<(&'static str, Graph, Inputs)>, Failure> {
    let shapes = [env!("CARGO_MANIFEST_DIR"), "../../fixtures/models/shapes.safetensors"].iter();
    let parameters = StateDict::load(shapes.collect::<std::path::PathBuf>())?;
    let shapes = zoo::build("shapes-cnn", &parameters, &zoo::BuildOptions::default())?;
    let mut all = vec![("shapes-cnn", shapes, inputs(&[2, 3, 32, 32], DType::F32)?)];
    for (name, side, dtype) in [("plain", 20, DType::F64), ("depthwise", 16, DType::F32)] {
        let options = onnx::LoadOptions::default().dtype(dtype);
        let graph = onnx::load(golden::folder(name).join("model.onnx"), &options)?.graph.canonical()?;
        all.push((name, graph, inputs(&[2, 3, side, side], dtype)?));
    }
    Ok(all)
}

fn inputs(shape: &[usize], dtype: DType) -> Result<Inputs, Failure> {
    Ok(Inputs::single(random::normal(
        &mut random::stream(3, random::Domain::DATA, 3),
        shape,
        dtype,
        &Device::Cpu,
    )?)?)
}

/// Everything in an attribution except times.
fn record(found: &Attribution) -> Result<(Vec<u64>, Value), Failure> {
    let mut provenance = serde_json::to_value(&found.provenance)?;
    provenance["seconds"] = Value::Null;
    Ok((bits(found)?, provenance))
}

#[test]
fn methods() -> Result<(), Failure> {
    for (name, graph, x) in networks()? {
        let plain = catalogue::METHODS.entries().map(|entry| (entry.card.id, config(entry.card.id)));
        let summed = ("smooth-grad", json!({ "samples": 5, "spread": false }));
        for (id, config) in plain.chain([summed]) {
            let method = catalogue::explainer(id, &config)?;
            let target = method.score().of(Target::Classes(vec![1, 3]), OutputKind::Classes);
            let explain = |x: &Inputs, target: &Target, run: &Run| method.explain(&graph, x, target, run);
            let run = Run::new().seed(11);
            let expected = record(&explain(&x, &target, &run)?)?;
            assert!(expected.0.iter().any(|b| *b != 0), "{id} of {name}: nothing to compare");
            for threads in THREADS {
                for budget in BUDGETS {
                    let found = explain(&x, &target, &run.clone().threads(threads).batch(budget))?;
                    let (bits, provenance) = record(&found)?;
                    let what = format!("{id} of {name}: {threads} threads, budget {budget}");
                    assert_eq!(provenance, expected.1, "{what}");
                    assert!(bits == expected.0, "{what}");
                }
            }
            let mut alone = Vec::new();
            for (sample, class) in [1, 3].into_iter().enumerate() {
                let target = method.score().of(Target::Class(class), OutputKind::Classes);
                alone.push(explain(&x.select(&[sample])?, &target, &run)?);
            }
            let (first, second) = (&alone[0].parts[0], &alone[1].parts[0]);
            let joined = |a: &Tensor, b: &Tensor| Tensor::cat(&[a, b], 0);
            let mut both = alone[0].clone();
            both.parts[0].values = joined(&first.values, &second.values)?;
            both.parts[0].spread =
                first.spread.as_ref().zip(second.spread.as_ref()).map(|(a, b)| joined(a, b)).transpose()?;
            assert!(bits(&both)? == expected.0, "{id} of {name}: a batch is not its samples");
        }
    }
    Ok(())
}

#[test]
fn metrics() -> Result<(), Failure> {
    let record = |found: &Evaluation| serde_json::to_string(found);
    for (name, graph, x) in networks()? {
        let method = catalogue::explainer("smooth-grad", &config("smooth-grad"))?;
        let (target, seeded) = (Target::Classes(vec![1, 3]), Run::new().seed(11));
        let attribution = method.explain(&graph, &x, &target, &seeded)?;
        let scenes = [1, 3]
            .map(|class| Object { class, bounds: [2.0, 3.0, 9.0, 9.0], difficult: false })
            .map(|object| Scene::new(vec![object]).into());
        for entry in catalogue::metrics() {
            let id = entry.card.id;
            let config = match id {
                "insertion" | "deletion" => json!({ "step": 37 }),
                _ => json!({}),
            };
            let metric = entry.build(&config)?;
            let evaluate = |run: &Run| -> Result<String, Failure> {
                let case =
                    Case::new(&graph, &x, &target, &attribution, run).explained_by(&*method).showing(&scenes);
                Ok(record(&run.install(|| metric.evaluate(&case))?)?)
            };
            let expected = evaluate(&seeded)?;
            for threads in THREADS {
                for budget in BUDGETS {
                    let found = evaluate(&seeded.clone().threads(threads).batch(budget))?;
                    assert_eq!(found, expected, "{id} of {name}: {threads} threads, budget {budget}");
                }
            }
        }
    }
    Ok(())
}
