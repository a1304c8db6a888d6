//! Checks that every method and metric gives the same bits for a network whether its channels are on the second or on the
//! last axis.

use ascribe::catalogue;
use ascribe::core::{
    Arrangement, AxisRole, DType, Device, Graph, Inputs, OutputKind, Run, Target, Tensor, layout, random,
};
use ascribe::metrics::Case;
use ascribe::metrics::localisation::{Object, Scene};
use ascribe::models::onnx;
use ascribe_testing::{bits, golden};
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error>;

fn config(id: &str) -> Value {
    match id {
        "occlusion" => json!({ "window": [7, 5], "stride": [6, 4] }),
        "rise" => json!({ "masks": 10, "cells": 5, "baseline": { "uniform": { "low": -1.0, "high": 1.0 } } }),
        "integrated-gradients" => json!({ "steps": 6, "baseline": { "blurred": { "sigma": 2.0 } } }),
        "smooth-grad" | "smooth-grad-sq" | "var-grad" => json!({ "samples": 3 }),
        _ => json!({}),
    }
}

/// A network, and the same one whose input has the channels last.
fn networks(name: &str, dtype: DType) -> Result<(Graph, Graph), Failure> {
    use AxisRole::{Batch, Channel, Height, Width};
    let options = onnx::LoadOptions::default().dtype(dtype);
    let first = onnx::load(golden::folder(name).join("model.onnx"), &options)?.graph;
    let input = first.node(first.inputs()[0]).name().to_string();
    // With these names of its axes, its second axis becomes the last one.
    let turned = Arrangement::new(&[Batch, Width, Channel, Height])?;
    Ok((first.canonical()?, first.arranged(&[(&input, turned)])?))
}

#[test]
fn the_whole_catalogue() -> Result<(), Failure> {
    for (name, side, dtype) in [("plain", 20, DType::F64), ("depthwise", 16, DType::F32)] {
        let (first, last) = networks(name, dtype)?;
        let input = last.node(last.inputs()[0]).name().to_string();
        let nhwc = layout("nhwc")?;
        // The operators behind the input say it themselves.
        assert_eq!(last.evident_roles(&input)?.as_deref(), Some(nhwc.roles()), "{name}");
        let shape = [2, 3, side, side];
        let stream = &mut random::stream(3, random::Domain::DATA, 3);
        let picture = random::normal(stream, &shape, dtype, &Device::Cpu)?;
        let other = nhwc.restored(&picture)?;
        assert_eq!(other.dims(), [2, side, side, 3]);
        let outputs = |graph: &Graph, x: &Tensor| -> Result<Vec<Vec<f64>>, Failure> {
            Ok(graph.forward(&Inputs::single(x.clone())?)?.primary().to_dtype(DType::F64)?.to_vec2()?)
        };
        let native = outputs(&last, &other)?;
        let last = last.arranged(&[(&input, nhwc.clone())])?.canonical()?;
        let (x, turned) = (Inputs::single(picture.clone())?, Inputs::single(nhwc.arranged(&other)?)?);
        assert_eq!(outputs(&first, &picture)?, outputs(&last, &nhwc.arranged(&other)?)?, "{name}");
        for (a, b) in native.concat().into_iter().zip(outputs(&first, &picture)?.concat()) {
            assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{name}: {a} and {b}");
        }
        let names = |graph: &Graph| -> Vec<String> {
            graph.nodes().map(|(_, node)| format!("{} {}", node.name(), node.op_name())).collect()
        };
        assert_eq!(names(&last), names(&first), "{name}");
        let run = Run::new().seed(5);
        for entry in catalogue::METHODS.entries() {
            let id = entry.card.id;
            let method = catalogue::explainer(id, &config(id))?;
            let target = method.score().of(Target::Classes(vec![1, 3]), OutputKind::Classes);
            let expected = method.explain(&first, &x, &target, &run)?;
            let found = method.explain(&last, &turned, &target, &run)?;
            assert!(bits(&found)? == bits(&expected)?, "{id} of {name}");
            assert_eq!(found.provenance.scores, expected.provenance.scores, "{id} of {name}");
        }
        let method = catalogue::explainer("occlusion", &config("occlusion"))?;
        let target = Target::Classes(vec![1, 3]);
        let scenes = [1, 3]
            .map(|class| Object { class, bounds: [2.0, 3.0, 9.0, 9.0], difficult: false })
            .map(|object| Scene::new(vec![object]).into());
        let attributions =
            [method.explain(&first, &x, &target, &run)?, method.explain(&last, &turned, &target, &run)?];
        for entry in catalogue::metrics() {
            let settings = if entry.card.id == "insertion" { json!({ "step": 37 }) } else { json!({}) };
            let metric = entry.build(&settings)?;
            let evaluate = |graph: &Graph, x: &Inputs, number: usize| -> Result<String, Failure> {
                let case = Case::new(graph, x, &target, &attributions[number], &run);
                let case = case.explained_by(&*method).showing(&scenes);
                Ok(serde_json::to_string(&metric.evaluate(&case)?)?)
            };
            assert_eq!(evaluate(&first, &x, 0)?, evaluate(&last, &turned, 1)?, "{} of {name}", entry.card.id);
        }
    }
    Ok(())
}
