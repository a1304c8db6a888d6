//! Checks that every method and metric gives the same numbers for a network whichever of PyTorch's exporters wrote it, and
//! PyTorch's logits and gradients; the files are made by `fixtures/scripts/exporters.py`.
#![cfg(all(feature = "catalogue", feature = "models"))]

use std::path::{Path, PathBuf};

use ascribe::core::{Attribution, DType, Graph, Inputs, Run, Target};
use ascribe::metrics::Case;
use ascribe::metrics::localisation::{Object, Scene};
use ascribe::models::tensors;
use ascribe::{Model, OpenOptions, catalogue};
use ascribe_testing::{distance, flat};
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error>;

/// Largest relative L2 distance in double precision. Weights that an exporter has changed, as when it folds a batch norm, are
/// rounded to single precision.
const ALLOWED: f64 = 2e-6;

fn folder(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../fixtures/golden/exporters", name].iter().collect()
}

fn config(id: &str, rank: usize) -> Value {
    match id {
        "occlusion" if rank == 3 => json!({ "window": [5], "stride": [4] }),
        "occlusion" => json!({ "window": [5, 5], "stride": [4, 4] }),
        "rise" => json!({ "masks": 10, "cells": 5 }),
        "integrated-gradients" => json!({ "steps": 6 }),
        "smooth-grad" | "smooth-grad-sq" | "var-grad" => json!({ "samples": 3 }),
        _ => json!({}),
    }
}

/// Number of axes of the input.
fn rank(x: &Inputs) -> usize {
    x.explained().next().map_or(0, |input| input.value.rank())
}

/// A file as a user opens it.
fn graph(path: &Path, x: &Inputs) -> Result<Graph, Failure> {
    let options = OpenOptions { double: true, ..OpenOptions::default() };
    Ok(Model::open(&path.to_string_lossy(), &options)?.graph_for(x)?)
}

fn near(found: &[f64], expected: &[f64], what: &str) {
    let apart = distance(found, expected);
    assert!(found.len() == expected.len() && apart <= ALLOWED, "{what}: {apart:.1e}");
}

/// An explanation, or the reason why there is none.
fn explanation(graph: &Graph, x: &Inputs, id: &str) -> Result<Attribution, String> {
    let explain = || -> Result<Attribution, Failure> {
        let method = catalogue::explainer(id, &config(id, rank(x)))?;
        let target = method.score().of(Target::Classes(vec![1, 2]), graph.forward(x)?.kind());
        Ok(method.explain(graph, x, &target, &Run::new().seed(5))?)
    };
    explain().map_err(|error| error.to_string())
}

#[test]
fn the_whole_catalogue() -> Result<(), Failure> {
    for name in ["residual", "squeeze", "tokens", "windows", "recurrent"] {
        let case = tensors::read(folder(name).join("case.safetensors"))?;
        let x = Inputs::single(case.get("x")?.to_dtype(DType::F64)?)?;
        let target = Target::Classes(vec![1, 2]);
        let graphs =
            ["legacy", "dynamo"].map(|how| graph(&folder(name).join(how).with_extension("onnx"), &x));
        let [legacy, dynamo] = graphs;
        let graphs = [legacy?, dynamo?];
        for (how, graph) in ["legacy", "dynamo"].into_iter().zip(&graphs) {
            use ascribe::core::Differentiable;
            let what = format!("{name} by {how}");
            near(&flat(graph.forward(&x)?.primary())?, &flat(case.get("y")?)?, &what);
            let found = graph.gradient(&x, &target, &[0, 1])?;
            near(&flat(&found.values[0])?, &flat(case.get("gradient")?)?, &format!("gradient of {what}"));
        }
        let mut served = 0;
        for entry in catalogue::METHODS.entries() {
            let id = entry.card.id;
            match graphs.each_ref().map(|graph| explanation(graph, &x, id)) {
                [Ok(legacy), Ok(dynamo)] => {
                    near(&flat(dynamo.values())?, &flat(legacy.values())?, &format!("{id} of {name}"));
                    served += 1;
                }
                [Err(_), Err(_)] => {}
                [legacy, dynamo] => {
                    let why = [legacy.err(), dynamo.err()];
                    return Err(format!("{id} of {name} serves one of both: {why:?}").into());
                }
            }
        }
        assert!(served >= 10, "{served} methods explain {name}");
        let attribution = explanation(&graphs[0], &x, "occlusion")?;
        let scenes = [1, 2]
            .map(|class| Object { class, bounds: [2.0, 3.0, 9.0, 9.0], difficult: false })
            .map(|object| Scene::new(vec![object]).into());
        let method = catalogue::explainer("occlusion", &config("occlusion", rank(&x)))?;
        // Exporters store parameters in other forms and orders, so that a seed draws other ones.
        for entry in catalogue::metrics().iter().filter(|entry| entry.card.id != "model-randomisation") {
            let settings = if entry.card.id == "insertion" { json!({ "step": 37 }) } else { json!({}) };
            let metric = entry.build(&settings)?;
            let run = Run::new().seed(5);
            let values = graphs.each_ref().map(|graph| -> Result<Vec<f64>, Failure> {
                let case = Case::new(graph, &x, &target, &attribution, &run);
                let found = metric.evaluate(&case.explained_by(&*method).showing(&scenes))?;
                Ok(found.values.into_iter().flatten().collect())
            });
            match values {
                [Ok(legacy), Ok(dynamo)] => near(&dynamo, &legacy, &format!("{} of {name}", entry.card.id)),
                [Err(_), Err(_)] => {}
                [legacy, dynamo] => {
                    let why = [legacy.err(), dynamo.err()];
                    return Err(format!("{} of {name} serves one of both: {why:?}", entry.card.id).into());
                }
            }
        }
    }
    Ok(())
}
