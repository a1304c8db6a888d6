//! `inspect`, `methods`, `models`, `pull`, `--help`.

use crate::{Place, Test, exists, fixture, shapes};

#[test]
fn inspect_lists_the_nodes() -> Test {
    let place = Place::new()?;
    let text = place.succeeds(&shapes(&["inspect"], &[]))?;
    assert!(text.starts_with("node"), "{text}");
    let conv = text.lines().find(|l| l.starts_with("conv3 ")).ok_or("no conv3")?;
    assert!(conv.contains("affine") && conv.contains("[N, 32, 8, 8]") && conv.contains("9248"), "{conv}");
    let found = place.json(&shapes(&["inspect"], &[]))?;
    // Four convolutions of 3×3 and a linear head, with biases.
    let count =
        [(3, 16), (16, 32), (32, 32), (32, 64)].iter().map(|(i, o)| 9 * i * o + o).sum::<i32>() + 64 * 4 + 4;
    assert_eq!(found["parameters"], count);
    let nodes = found["nodes"].as_array().ok_or("no nodes")?;
    let head = nodes.iter().find(|n| n["name"] == "fc").ok_or("no fc")?;
    assert_eq!((&head["kind"], &head["output"]), (&"affine".into(), &serde_json::json!([4])));
    assert_eq!(found["outputs"], serde_json::json!(["fc"]));
    assert_eq!(found["preprocessing"]["crop"], serde_json::json!([32, 32]));
    // An ONNX file with a free batch size; of its preprocessing only the crop is known.
    let model = fixture("golden/methods/residual/model.onnx");
    let found = place.json(&["inspect", "--model", &model, "--crop", "16"])?;
    assert!(found["nodes"].as_array().is_some_and(|n| n.len() > 10));
    Ok(())
}

#[test]
fn methods_are_listed_explained_and_dated() -> Test {
    let place = Place::new()?;
    let all = place.json(&["methods"])?;
    let all = all.as_array().ok_or("no list")?;
    assert!(all.len() >= 13);
    let text = place.succeeds(&["methods"])?;
    let timeline = place.succeeds(&["methods", "--timeline"])?;
    for entry in all {
        let id = entry["id"].as_str().ok_or("no id")?;
        assert!(text.lines().any(|l| l.split_whitespace().next() == Some(id)), "{id} is not in {text}");
        assert!(timeline.contains(&format!("│ {id} ")), "{id} is not in {timeline}");
        let page = place.succeeds(&["methods", id])?;
        assert!(page.contains(entry["paper"].as_str().ok_or("no paper")?), "{page}");
        for key in entry["config"].as_object().ok_or("no configuration")?.keys() {
            assert!(page.contains(&format!("  {key} = ")), "{key} is not in {page}");
        }
    }
    let years: Vec<u64> = timeline.lines().filter_map(|l| l.split('│').next()?.trim().parse().ok()).collect();
    assert!(years.len() > 3 && years.is_sorted() && years[0] == 2013, "{years:?}");
    assert!(place.succeeds(&["methods", "rise"])?.contains("softmax probability (--target logit:C"));
    place.fails(2, &["methods", "sailency"], &["no method 'sailency'", "did you mean 'saliency'"])?;
    place.fails(2, &["methods", "rise", "--timeline"], &["--timeline"]).map(|_| ())
}

#[test]
fn metrics_and_studies_are_listed_and_explained() -> Test {
    let place = Place::new()?;
    let all = place.json(&["metrics"])?;
    let all = all.as_array().ok_or("no list")?;
    assert!(all.len() >= 6);
    let text = place.succeeds(&["metrics"])?;
    for entry in all {
        let id = entry["id"].as_str().ok_or("no id")?;
        assert!(text.lines().any(|l| l.split_whitespace().next() == Some(id)), "{id} is not in {text}");
        let page = place.succeeds(&["metrics", id])?;
        assert!(page.contains(entry["paper"].as_str().ok_or("no paper")?), "{page}");
        for key in entry["config"].as_object().ok_or("no configuration")?.keys() {
            assert!(page.contains(&format!("  {key} = ")), "{key} is not in {page}");
        }
        // Only metrics that `evaluate` can run accept its settings.
        let trains = entry["asks"]["training"].as_bool().ok_or("no training")?;
        assert_eq!(page.contains("--set"), !trains, "{page}");
        assert_eq!(page.contains("trains networks"), trains, "{page}");
    }
    let of = |id: &str| place.json(&["metrics", id]);
    assert_eq!(of("pointing-game")?["asks"]["truth"], serde_json::json!(["boxes", "masks"]));
    assert!(place.succeeds(&["metrics", "pointing-game"])?.contains("boxes or masks"));
    assert!(place.succeeds(&["metrics", "data-randomisation"])?.contains("method, training"));
    place.fails(2, &["metrics", "data-randomization"], &["did you mean 'data-randomisation'"])?;
    place
        .fails(2, &["metrics", "mprt"], &["no metric 'mprt'", "did you mean 'model-randomisation'"])
        .map(|_| ())
}

#[test]
fn models_say_what_is_here() -> Test {
    let place = Place::new()?;
    let all = place.json(&["models"])?;
    let all = all.as_array().ok_or("no list")?;
    let of = |name: &str| all.iter().find(|m| m["name"] == name);
    assert_eq!(of("efficientnet-lite0").ok_or("not listed")?["state"], "shipped");
    let resnet = of("resnet50").ok_or("not listed")?;
    assert_eq!((&resnet["state"], &resnet["path"]), (&"not here".into(), &serde_json::Value::Null));
    assert!(resnet["sources"].as_array().is_some_and(|s| !s.is_empty()));
    let text = place.succeeds(&["models"])?;
    assert!(text.lines().any(|l| l.starts_with("resnet50 ") && l.contains("not here")), "{text}");
    Ok(())
}

#[test]
fn without_a_network_pull_says_what_was_tried_and_what_to_do() -> Test {
    let place = Place::new()?;
    let message = place.fails(
        1,
        &["pull", "resnet50"],
        &[
            "the weights of 'resnet50' could not be fetched",
            "what to do",
            "ascribe pull resnet50",
            "by hand",
            "ASCRIBE_CACHE",
            &place.path("cache"),
        ],
    )?;
    let sources = place.json(&["models"])?;
    let sources = sources.as_array().into_iter().flatten().find(|m| m["name"] == "resnet50");
    for source in sources.and_then(|m| m["sources"].as_array()).ok_or("no sources")? {
        assert!(message.contains(source.as_str().unwrap_or("?")), "{source} is not in {message}");
    }
    assert!(!exists(&place.path("cache/models/resnet50.safetensors")));
    place.fails(
        1,
        &["explain", "square.png", "--model", "resnet50"],
        &["not on this machine", "ascribe pull resnet50"],
    )?;
    place.fails(2, &["pull", "resnet-50"], &["resnet-50", "resnet50"])?;
    // Bundled weights need no network access.
    assert!(place.succeeds(&["pull", "efficientnet-lite0"])?.contains("ships with Ascribe"));
    Ok(())
}

#[test]
fn every_command_has_help_with_an_example() -> Test {
    let place = Place::new()?;
    for command in ["explain", "compare", "evaluate", "inspect", "methods", "models", "pull"] {
        let help = place.succeeds(&[command, "--help"])?;
        assert!(help.contains("Example") && help.contains(&format!("ascribe {command}")), "{help}");
    }
    assert!(place.succeeds(&["--version"])?.starts_with("ascribe "));
    Ok(())
}
