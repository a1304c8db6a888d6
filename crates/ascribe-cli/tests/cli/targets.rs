//! Tests of targets and baselines.

use serde_json::Value;

use crate::{Failure, Place, Test, exists, fixture, number, shapes};

fn explain(place: &Place, more: &[&str]) -> Result<Value, Failure> {
    let start = ["explain", "square.png", "--labels", "labels.txt"];
    place.json(&shapes(&start, &[&["--method", "saliency"], more].concat()))
}

/// Logit and probability of each class.
fn classes(found: &Value) -> Result<Vec<(f64, f64)>, Failure> {
    let mut all = vec![(f64::NAN, f64::NAN); 4];
    for p in found["predictions"].as_array().ok_or("no predictions")? {
        let class = p["class"].as_u64().ok_or("no class")? as usize;
        all[class] = (number(&p["logit"])?, number(&p["probability"])?);
    }
    Ok(all)
}

#[test]
fn each_form_scores_what_it_says() -> Test {
    let place = Place::new()?;
    let best = explain(&place, &[])?;
    let of = classes(&best)?;
    assert_eq!(number(&best["score"])?, of.iter().fold(f64::MIN, |m, c| m.max(c.0)));
    for (text, name, score) in [
        ("2", "2", of[2].0),
        ("cross", "3", of[3].0),
        ("'cross'", "3", of[3].0),
        ("logit:circle", "0", of[0].0),
        ("3-0", "3-0", of[3].0 - of[0].0),
        ("prob:2", "prob:2", of[2].1),
        ("prob:triangle", "prob:2", of[2].1),
        ("logprob:1", "logprob:1", of[1].1.ln()),
    ] {
        let found = explain(&place, &["--target", text])?;
        assert_eq!(found["target"], name, "{text}");
        assert!((number(&found["score"])? - score).abs() < 1e-5, "{text}: {} is not {score}", found["score"]);
    }
    Ok(())
}

#[test]
fn pictures_have_the_size_of_the_model() -> Test {
    let place = Place::new()?;
    let model = fixture("golden/exporters/residual/legacy.onnx");
    let start = ["explain", "square.png", "--model", &model, "--method", "saliency"];
    place.json(&start)?;
    let words = ["[3, 20, 20]", "[3, 16, 16]", "--crop", "--resize"];
    place.fails(2, &[&start[..], &["--resize", "24", "--crop", "20"]].concat(), &words)?;
    Ok(())
}

#[test]
fn a_neuron_is_explained_at_a_layer() -> Test {
    let place = Place::new()?;
    let model = fixture("golden/exporters/residual/legacy.onnx");
    let start = ["explain", "square.png", "--model", &model, "--method", "saliency", "--json"];
    let layer = ["--layer", "/relu/Relu", "--neuron", "/relu_1/Relu:3,5,5"];
    let output = place.run(&[&start[..], &layer].concat())?;
    let found: Value = serde_json::from_str(&output.out)?;
    assert_eq!(found["target"], "neuron:[3, 5, 5]");
    assert!(found["notes"].to_string().contains("at layer '/relu/Relu'"), "{}", found["notes"]);
    Ok(())
}

#[test]
fn the_best_few_get_one_attribution_each() -> Test {
    let place = Place::new()?;
    let found = explain(&place, &["--target", "top3", "-o", "why.npy"])?;
    let explanations = found["explanations"].as_array().ok_or("one explanation")?;
    assert_eq!(explanations.len(), 3);
    let mut last = f64::MAX;
    for (one, prediction) in explanations.iter().zip(found["predictions"].as_array().into_iter().flatten()) {
        assert_eq!(one["target"], prediction["class"].to_string());
        assert_eq!(one["target_label"], prediction["label"]);
        let score = number(&one["score"])?;
        assert!(score <= last);
        last = score;
        assert!(exists(&place.path(&format!("why-{}.npy", prediction["class"]))));
    }
    assert_eq!(place.written()?.len(), 3);
    Ok(())
}

#[test]
fn rise_scores_probabilities_unless_told_otherwise() -> Test {
    let place = Place::new()?;
    let rise = |more: &[&str]| {
        let start =
            ["explain", "square.png", "--labels", "labels.txt", "--method", "rise", "--set", "masks=30"];
        place.json(&shapes(&start, more))
    };
    let of = classes(&explain(&place, &[])?)?;
    let note = |found: &Value| found["notes"].to_string();
    for (text, name) in [("2", "prob:2"), ("triangle", "prob:2")] {
        let found = rise(&["--target", text])?;
        assert_eq!(found["target"], name);
        assert!((number(&found["score"])? - of[2].1).abs() < 1e-5);
        assert!(note(&found).contains("logit:C"), "the default is stated: {}", note(&found));
    }
    let best = rise(&[])?;
    assert!(best["target"].as_str().is_some_and(|t| t.starts_with("prob:")), "{}", best["target"]);
    assert_eq!(best["target_label"], best["predictions"][0]["label"]);
    assert_eq!(rise(&["--target", "top2"])?["explanations"].as_array().map(Vec::len), Some(2));
    for (text, name, score) in [
        ("logit:2", "2", of[2].0),
        ("logit:triangle", "2", of[2].0),
        ("prob:2", "prob:2", of[2].1),
        ("2-0", "2-0", of[2].0 - of[0].0),
    ] {
        let found = rise(&["--target", text])?;
        assert_eq!(found["target"], name);
        assert!((number(&found["score"])? - score).abs() < 1e-5);
        assert!(!note(&found).contains("probability"), "{text}: {}", note(&found));
    }
    let text =
        place.succeeds(&shapes(&["explain", "square.png", "--method", "rise", "--set", "masks=5"], &[]))?;
    assert!(text.contains("rise of probability of class") && text.contains("logit:C"), "{text}");
    Ok(())
}

#[test]
fn baselines_are_read() -> Test {
    let place = Place::new()?;
    let score = |baseline: &str| -> Result<f64, Failure> {
        let start = ["explain", "square.png", "--baseline", baseline, "--target", "1"];
        number(&place.json(&shapes(&start, &["--set", "steps=2"]))?["baseline_score"])
    };
    // The preprocessing subtracts one half from pixels.
    assert_eq!(score("-0.5")?, score("black")?);
    assert_eq!(score("0.5")?, score("white")?);
    let all = [score("zero")?, score("1")?, score("-1")?, score("blur:2")?, score("uniform:0,1")?];
    for (i, a) in all.iter().enumerate() {
        assert!(all[..i].iter().all(|b| a != b), "{all:?}");
    }
    assert_eq!(score("max-distance:-1,1")?, score("max-distance:-1,1")?);
    Ok(())
}
