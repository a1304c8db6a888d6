//! `explain` and `compare`.

use crate::{Place, SHAPES, Test, exists, fixture, gap, number, shapes, values};

#[test]
fn every_form_of_output() -> Test {
    let place = Place::new()?;
    let names = ["why.png", "why.jpg", "why.webp", "why.safetensors", "why.npy", "why.json", "why.html"]
        .map(|n| place.path(n));
    let mut args = shapes(
        &["explain", "square.png", "--labels", "labels.txt", "--set", "steps=12", "--set", "tolerance=null"],
        &[],
    );
    args.extend(names.iter().flat_map(|n| ["-o", n.as_str()]));
    let found = place.json(&args)?;

    assert_eq!(found["method"], "integrated-gradients");
    assert_eq!(found["config"]["steps"], 12);
    assert_eq!(found["outputs"], serde_json::json!(names));
    assert_eq!((found["cost"]["backward"].as_u64(), found["seconds"].is_number()), (Some(12), true));
    assert_eq!(found["evaluations"], found["cost"]["forward"]);
    let best = &found["predictions"][0];
    assert_eq!(best["label"], SHAPES[best["class"].as_u64().ok_or("no class")? as usize]);
    assert_eq!(found["target"], best["class"].to_string());
    let total: f64 =
        found["predictions"].as_array().into_iter().flatten().filter_map(|p| p["probability"].as_f64()).sum();
    assert!((total - 1.0).abs() < 1e-6, "four classes, all listed");

    let (raw, shape) = values(&names[3])?;
    assert_eq!(shape, [1, 3, 32, 32]);
    assert_eq!(values(&names[4])?, (raw.clone(), shape));
    let sum: f64 = raw.iter().sum();
    let gap = sum - (number(&found["score"])? - number(&found["baseline_score"])?);
    assert!((gap - number(&found["completeness_gap"])?).abs() < 1e-4, "{gap}");

    let summary: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&names[5])?)?;
    assert_eq!(summary, found, "the file says what --json prints");
    for name in &names[..3] {
        let picture = image::open(name)?;
        assert!(picture.width() > 40 && picture.height() > 32, "{name}");
    }
    let page = std::fs::read_to_string(&names[6])?;
    assert!(page.contains("data:image/png;base64,") && page.contains("integrated-gradients"));
    assert!(!page.contains("src=\"http") && !page.contains("<script src"), "the report stands by itself");
    assert_eq!(place.written()?.len(), names.len(), "and no temporary files");
    Ok(())
}

#[test]
fn the_text_says_what_was_seen_and_written() -> Test {
    let place = Place::new()?;
    let text = place.succeeds(&shapes(
        &["explain", "square.png"],
        &["--method", "occlusion", "--set", "window=[8]", "--set", "stride=[8]", "-o", "why.png"],
    ))?;
    for word in
        ["sees in square.png", " %", "occlusion of class", "score", "17 rows forward", "wrote why.png"]
    {
        assert!(text.contains(word), "'{word}' is not in {text}");
    }
    assert!(exists(&place.path("why.png")));
    Ok(())
}

#[test]
fn the_model_that_ships_sees_a_cat() -> Test {
    let place = Place::new()?;
    let found =
        place.json(&["explain", &fixture("images/cat.png"), "--method", "grad-cam", "-o", "cat.png"])?;
    assert_eq!(found["model"], "efficientnet-lite0");
    let class = found["predictions"][0]["class"].as_u64();
    assert!(matches!(class, Some(281 | 285)), "{class:?}");
    assert_eq!(found["predictions"].as_array().map(Vec::len), Some(5));
    let label = found["target_label"].as_str().ok_or("no label")?;
    assert!(label.contains("cat") || label.contains("tabby"), "{label}");
    Ok(())
}

#[test]
fn layers_and_neurons() -> Test {
    let place = Place::new()?;
    let of = |more: &[&str]| place.json(&shapes(&["explain", "square.png", "-o", "a.npy"], more));
    let found = of(&["--method", "input-x-gradient", "--layer", "relu3"])?;
    assert_eq!(values(&place.path("a.npy"))?.1, [1, 32, 8, 8]);
    assert!(found["notes"][0].as_str().is_some_and(|n| n.contains("relu3")), "{}", found["notes"]);
    // A neuron is its own target.
    let found = of(&["--method", "saliency", "--neuron", "relu3:5,3,4"])?;
    assert_eq!(values(&place.path("a.npy"))?.1, [1, 3, 32, 32]);
    assert!(found["target"].as_str().is_some_and(|t| t.contains("[5, 3, 4]")), "{}", found["target"]);
    // For a CAM method, the layer is a setting.
    let found = of(&["--method", "grad-cam", "--layer", "relu2", "--set", "upsample=false"])?;
    assert_eq!(found["config"]["layer"], "relu2");
    assert_eq!(values(&place.path("a.npy"))?.1, [1, 1, 16, 16]);
    Ok(())
}

#[test]
fn tensor_files_are_inputs() -> Test {
    use ascribe::core::{DType, Device, Tensor, random};
    use ascribe::models::{tensors, weights::StateDict};
    let place = Place::new()?;
    let both = random::uniform(
        &mut random::stream(3, random::Domain::DATA, 0),
        &[2, 3, 32, 32],
        DType::F32,
        &Device::Cpu,
    )?;
    tensors::write_npy(place.path("both.npy"), &both)?;
    let mut file = StateDict::new();
    file.insert("input", both.narrow(0, 1, 1)?.contiguous()?);
    file.insert("other", Tensor::zeros(3, DType::F32, &Device::Cpu)?);
    file.save(place.path("second.safetensors"), None)?;
    let method = ["--method", "saliency", "--target", "2", "-o", "out.npy"];
    let batch = place.json(&shapes(&["explain", "both.npy"], &method))?;
    let (all, shape) = values(&place.path("out.npy"))?;
    let one = place.json(&shapes(&["explain", "second.safetensors"], &method))?;
    let (second, _) = values(&place.path("out.npy"))?;
    assert_eq!(shape, [2, 3, 32, 32]);
    assert_eq!(all[3 * 32 * 32..], second, "a batch is its samples");
    assert_eq!(batch["score"][1], one["score"]);
    // The same in f64 up to rounding, relative to the largest value.
    place.json(&shapes(&["explain", "second.safetensors", "--dtype", "f64"], &method))?;
    let (double, _) = values(&place.path("out.npy"))?;
    let largest = double.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
    let gap = gap(&double, &second);
    assert!(double != second && gap < 1e-4 * largest, "{gap:.1e} of {largest:.1e}");
    Ok(())
}

#[test]
fn compare_draws_a_grid() -> Test {
    let place = Place::new()?;
    place.picture("cross.png", |x, y| (10..30).contains(&x) && (14..19).contains(&y))?;
    let found = place.json(&shapes(
        &["compare", "square.png", "cross.png"],
        &[
            "--methods",
            "saliency,rise,grad-cam",
            "--set",
            "masks=20",
            "--set",
            "grad-cam.relu=true",
            "--target",
            "1",
            "-o",
            "grid.png",
            "-o",
            "grid.json",
            "-o",
            "grid.html",
        ],
    ))?;
    assert_eq!(found["methods"], serde_json::json!(["saliency", "rise", "grad-cam"]));
    let rows = found["rows"].as_array().ok_or("no rows")?;
    assert_eq!((rows.len(), rows[1]["input"].as_str()), (2, Some("cross.png")));
    for row in rows {
        let cells = &row["explanations"];
        assert_eq!(cells[0]["targets"], serde_json::json!(["1"]));
        assert_eq!(cells[1]["targets"], serde_json::json!(["prob:1"]), "RISE scores probabilities");
        assert_eq!((&cells[1]["config"]["masks"], &cells[2]["config"]["relu"]), (&20.into(), &true.into()));
    }
    let summary: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(place.path("grid.json"))?)?;
    assert_eq!(summary, found);
    // Three columns and the input are wider than two rows are high.
    let grid = image::open(place.path("grid.png"))?;
    assert!(grid.width() > grid.height(), "{} x {}", grid.width(), grid.height());
    assert!(std::fs::read_to_string(place.path("grid.html"))?.contains("probability of class 1"));
    let text =
        place.succeeds(&shapes(&["compare", "square.png"], &["--methods", "saliency", "-o", "one.webp"]))?;
    assert!(text.contains("square.png: class") && text.contains("wrote one.webp"), "{text}");
    Ok(())
}
