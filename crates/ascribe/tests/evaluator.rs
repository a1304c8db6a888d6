//! Tests of the evaluator: its rows are in the order of the samples, and do not depend on which samples are evaluated
//! together.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ascribe::annotations::Annotations;
use ascribe::core::dataset::{Dataset, InMemory, Sample, Subset};
use ascribe::core::{DType, Device, Error, Inputs, Run, Tensor, Truth, random};
use ascribe::evaluator::{Asked, Evaluator, Row};
use ascribe::metrics::localisation::{Mask, Masks, Object, Region, Scene};
use ascribe::models::labels::Labels;
use ascribe::models::preprocess::Preprocessing;
use ascribe::models::{weights::StateDict, zoo};
use ascribe::pictures::Pictures;
use ascribe::{Model, catalogue};
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error>;

fn fixture(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../fixtures", name].iter().collect()
}

fn model() -> Result<Model, Failure> {
    let parameters = StateDict::load(fixture("models/shapes.safetensors"))?;
    let graph = zoo::build("shapes-cnn", &parameters, &zoo::BuildOptions::default())?;
    let preprocessing = Preprocessing { mean: vec![0.5; 3], std: vec![1.0; 3], ..Preprocessing::default() };
    let labels = Labels::new(["circle", "square", "triangle", "cross"]);
    Ok(Model::new("shapes", graph, preprocessing).with_labels(labels))
}

/// Seven samples of alternating sizes, with all kinds of ground truth: boxes, masks, both, a mask for any class,
/// none.
fn data() -> Result<InMemory, Failure> {
    let object =
        |class, left: f64| Object { class, bounds: [left, 3.0, left + 9.0, 12.0], difficult: class == 2 };
    let mut samples = Vec::new();
    for number in 0..7_usize {
        let size = if number % 3 == 1 { [24, 28] } else { [32, 32] };
        let mut rng = random::stream(2, random::Domain::DATA, number as u64);
        let x = (random::normal(&mut rng, &[1, 3, size[0], size[1]], DType::F32, &Device::Cpu)? * 0.3)?;
        let inside = (0..size[0] * size[1]).map(|place| place % 7 < 3 && place > 200).collect();
        let region = |class| Region { class, mask: Mask::new(size, inside).unwrap(), difficult: false };
        let boxes = Scene::new(vec![object(number % 4, 4.0), object(2, 11.0)]);
        let truth = match number {
            0 | 1 => Some(Truth::from(boxes)),
            2 => Some(Masks::of(3, region(None).mask).into()),
            3 => Some(Truth::from(boxes).with_masks(Masks::new(vec![region(Some(1))]))),
            4 | 5 => Some(Masks::new(vec![region(None)]).into()),
            _ => None,
        };
        let label = (number != 5).then_some(number % 4);
        samples.push(Sample { inputs: Inputs::single(x)?, label, truth });
    }
    Ok(InMemory::new(samples)?)
}

fn evaluator(model: &Model) -> Result<Evaluator<'_>, Failure> {
    let methods = [
        ("saliency", json!({})),
        ("smooth-grad", json!({ "samples": 3 })),
        ("rise", json!({ "masks": 7, "cells": 4 })),
        ("integrated-gradients", json!({ "steps": 4, "tolerance": 0.3 })),
    ];
    let metrics = [
        ("completeness", json!({ "baseline": { "gaussian": { "std": 0.5 } } })),
        ("pointing-game", json!({ "tolerance": 2.0 })),
        ("insertion", json!({ "step": 300 })),
        ("model-randomisation", json!({ "steps": 2 })),
    ];
    let methods =
        methods.iter().map(|(id, config)| catalogue::explainer(id, config)).collect::<Result<_, _>>()?;
    let metrics =
        metrics.iter().map(|(id, config)| catalogue::metric(id, config)).collect::<Result<_, _>>()?;
    Ok(Evaluator { target: Asked::Words("top2".into()), ..Evaluator::new(model, methods, metrics) })
}

#[test]
fn rows_do_not_depend_on_what_is_evaluated_together() -> Result<(), Failure> {
    let (model, data) = (model()?, data()?);
    let mut evaluator = evaluator(&model)?;
    let mut rows = |batch: usize| -> Result<Vec<String>, Failure> {
        evaluator.batch = batch;
        let rows = evaluator.rows(&data, &Run::new().seed(5))?;
        // JSON holds the shortest decimal digits that give the same bits, so equal texts mean equal bits.
        Ok(rows.iter().map(serde_json::to_string).collect::<Result<_, _>>()?)
    };
    let alone = rows(1)?;
    // For each method: two targets by three metrics on each sample; the pointing game on the classes that the truth
    // names, on the label if a mask names none, and on the targets if there is no label either.
    assert_eq!(alone.len(), 4 * (7 * 2 * 3 + (2 + 2 + 1 + 3 + 1 + 2)));
    for batch in [2, 3, 8] {
        assert_eq!(rows(batch)?, alone, "{batch}");
    }
    Ok(())
}

#[test]
fn rows_come_in_the_order_of_the_samples_and_a_run_can_go_on() -> Result<(), Failure> {
    let (model, data) = (model()?, data()?);
    let mut evaluator = evaluator(&model)?;
    evaluator.methods.truncate(1);
    evaluator.batch = 3;
    let all = evaluator.rows(&data, &Run::new())?;
    let mut names: Vec<&str> = all.iter().map(|row| row.sample.as_str()).collect();
    names.dedup();
    assert_eq!(names, ["0", "1", "2", "3", "4", "5", "6"]);
    // Interrupted after four samples, in the middle of the second batch.
    let mut known: Vec<Row> = Vec::new();
    let mut parts = 0;
    let stopped = evaluator.run(
        &data,
        &[],
        &Run::new(),
        |_, _, _| (),
        |rows| {
            parts += 1;
            if parts == 5 {
                return Err(ascribe::Error::request("disk", "is full", "a larger one"));
            }
            known.extend(rows);
            Ok(())
        },
    );
    assert!(stopped.is_err());
    let (mut rest, mut next) = (Vec::new(), Vec::new());
    evaluator.run(
        &data,
        &known,
        &Run::new(),
        |names, first, all| next.push((names.to_vec(), first, all)),
        |rows| {
            rest.extend(rows);
            Ok(())
        },
    )?;
    assert_eq!(next, [(["4", "5", "6"].map(String::from).to_vec(), 4, 7)]);
    assert_eq!([known, rest].concat(), all);
    let cancelled = Run::new().cancel_with(Arc::new(AtomicBool::new(true)));
    let error = evaluator.rows(&data, &cancelled).unwrap_err();
    assert!(matches!(error, ascribe::Error::Core(Error::Cancelled { .. })), "{error}");
    Ok(())
}

#[test]
fn what_is_wrong_is_said() -> Result<(), Failure> {
    let (model, data) = (model()?, data()?);
    let message = |change: fn(&mut Evaluator<'_>), data: &dyn Dataset| -> Result<String, Failure> {
        let mut evaluator = evaluator(&model)?;
        change(&mut evaluator);
        Ok(evaluator.rows(data, &Run::new()).unwrap_err().to_string())
    };
    assert!(message(|e| e.batch = 0, &data)?.contains("batch of 0"));
    let twice = |e: &mut Evaluator<'_>| e.metrics.push(catalogue::metric("insertion", &Value::Null).unwrap());
    assert!(message(twice, &data)?.contains("'insertion' occurs twice"));
    let unlabelled = Subset::new(&data, vec![5])?;
    assert!(message(|e| e.target = Asked::Label, &unlabelled)?.contains("sample 5 has no label"));
    let sample = data.sample(0)?;
    let map = Tensor::zeros((32, 32), DType::F64, &Device::Cpu)?;
    let of = |truth: Truth| InMemory::new(vec![Sample { truth: Some(truth), ..sample.clone() }]);
    let known = message(|_| (), &of(Truth::default().with_attribution(map)?)?)?;
    assert!(known.contains("pointing-game: sample 0 has a known attribution map only"), "{known}");
    assert!(known.contains("expected boxes or masks"), "{known}");
    let small = message(|_| (), &of(Masks::of(0, Mask::new([2, 2], vec![true; 4])?).into())?)?;
    assert!(small.contains("the mask of sample 0 has shape [2, 2]; expected [32, 32]"), "{small}");
    Ok(())
}

#[test]
fn the_label_is_a_target() -> Result<(), Failure> {
    let (model, data) = (model()?, data()?);
    let mut evaluator = evaluator(&model)?;
    evaluator.target = Asked::Label;
    evaluator.methods.remove(0);
    evaluator.metrics.truncate(1);
    let rows = evaluator.rows(&Subset::new(&data, vec![3, 2])?, &Run::new())?;
    let found: Vec<_> =
        rows.iter().map(|row| (row.sample.as_str(), row.class, row.target.as_str())).collect();
    let expected = [("3", 3, "cross (3)"), ("2", 2, "triangle (2)")];
    for (found, (sample, class, words)) in found.chunks(3).zip(expected) {
        // SmoothGrad and integrated gradients explain the logit, RISE the probability.
        let probability = format!("probability of {words}");
        for (row, words) in found.iter().zip([words, &probability, words]) {
            assert_eq!(*row, (sample, Some(class), words));
        }
    }
    assert_eq!(found.len(), 6);
    Ok(())
}

#[test]
fn a_picture_that_cannot_be_read_does_not_take_the_others_with_it() -> Result<(), Failure> {
    let model = model()?;
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    for (name, side) in [("a.png", 20), ("b.png", 24)] {
        image::RgbImage::from_fn(side, 20, |x, y| image::Rgb([(9 * x) as u8, (7 * y) as u8, 30]))
            .save(path(name))?;
    }
    std::fs::write(path("c.png"), "no picture")?;
    std::fs::write(path("boxes.json"), r#"{"b.png": {"objects": [{"class": 1, "box": [2, 2, 9, 9]}]}}"#)?;
    let annotations = Annotations::beside(folder.path(), None)?;
    let data = Pictures::new(&model, ["a.png", "b.png", "c.png"].map(path).to_vec()).annotated(annotations);
    assert_eq!((data.label(0)?, data.label(1)?), (None, Some(1)));
    let mut evaluator = evaluator(&model)?;
    evaluator.methods.truncate(1);
    let mut rows = Vec::new();
    let mut take = |found: Vec<Row>| {
        rows.extend(found);
        Ok(())
    };
    let error = evaluator.run(&data, &[], &Run::new(), |_, _, _| (), &mut take).unwrap_err().to_string();
    assert!(error.contains("c.png"), "{error}");
    let of = |name: &str| rows.iter().filter(|row| row.sample == path(name).display().to_string()).count();
    // Two targets by three metrics, and the pointing game if there is a box.
    assert_eq!((of("a.png"), of("b.png"), rows.len()), (6, 7, 13));
    Ok(())
}
