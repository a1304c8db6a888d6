//! `evaluate` on a folder with boxes.

use serde_json::{Value, json};

use crate::{Place, Test, number, shapes};

/// A folder of two pictures, one with boxes in JSON, the other with boxes as Pascal VOC.
fn annotated() -> Result<Place, crate::Failure> {
    let place = Place::new()?;
    place.picture("bar.png", |x, y| (8..32).contains(&x) && (12..20).contains(&y))?;
    let boxes =
        json!({ "square.png": { "size": [40, 32], "objects": [{ "class": 1, "box": [14, 9, 27, 22] }] } });
    std::fs::write(place.path("boxes.json"), boxes.to_string())?;
    let voc = "<annotation><object><name>cross</name><difficult>0</difficult><bndbox><xmin>9</xmin><ymin>13</ymin>\
        <xmax>32</xmax><ymax>20</ymax></bndbox></object></annotation>";
    std::fs::write(place.path("bar.xml"), voc)?;
    Ok(place)
}

#[test]
fn a_folder_with_boxes() -> Test {
    let place = annotated()?;
    let found = place.json(&shapes(
        &["evaluate", "--data", ".", "--labels", "labels.txt", "--methods", "saliency,rise"],
        &[
            "--metrics",
            "pointing-game,insertion,deletion,completeness,model-randomisation",
            "--set",
            "rise.masks=12",
            "--set",
            "pointing-game.tolerance=3",
            "--set",
            "model-randomisation.steps=2",
            "-o",
            "all.json",
            "-o",
            "all.csv",
            "-o",
            "all.html",
        ],
    ))?;
    assert_eq!(found["pictures"], 2);
    assert_eq!(found["methods"][1]["config"]["masks"], 12);
    assert_eq!(
        (&found["methods"][0]["score"], &found["methods"][1]["score"]),
        (&"logit".into(), &"probability".into())
    );
    let metrics = found["metrics"].as_array().ok_or("no metrics")?;
    assert_eq!(metrics[0]["config"]["tolerance"], 3.0);
    assert_eq!(
        metrics.iter().map(|m| m["better"].as_str()).collect::<Vec<_>>(),
        [Some("higher"), Some("higher"), Some("lower"), Some("zero"), Some("lower")]
    );
    let rows = found["rows"].as_array().ok_or("no rows")?;
    // Two pictures, two methods, five metrics; one object in each picture.
    assert_eq!(rows.len(), 20);
    let of = |method: &str, metric: &str| -> Vec<&Value> {
        rows.iter().filter(|r| r["method"] == method && r["metric"] == metric).collect()
    };
    let game = of("rise", "pointing-game");
    assert_eq!(game.iter().map(|r| r["detail"]["class"].as_u64()).collect::<Vec<_>>(), [Some(3), Some(1)]);
    assert!(
        game[0]["target"].as_str().is_some_and(|t| t.contains("probability of cross")),
        "{}",
        game[0]["target"]
    );
    for row in rows {
        let value = number(&row["value"])?;
        match row["metric"].as_str() {
            Some("pointing-game") => assert!(value == 0.0 || value == 1.0),
            Some("insertion" | "deletion") => assert!((0.0..=1.0).contains(&value)),
            Some("model-randomisation") => assert!(value.abs() <= 1.0),
            _ => assert!(value >= 0.0),
        }
    }
    for summary in found["summary"].as_array().ok_or("no summary")? {
        assert_eq!(summary["count"], 2);
        let own = of(summary["method"].as_str().unwrap_or(""), summary["metric"].as_str().unwrap_or(""));
        // One picture per class: the pointing game's mean over classes is the mean over pictures.
        let mean = own.iter().filter_map(|r| r["value"].as_f64()).sum::<f64>() / 2.0;
        assert!((number(&summary["mean"])? - mean).abs() < 1e-12, "{summary}");
    }
    let file: Value = serde_json::from_str(&std::fs::read_to_string(place.path("all.json"))?)?;
    assert_eq!(file, found);
    let csv = std::fs::read_to_string(place.path("all.csv"))?;
    assert_eq!(csv.lines().next(), Some("sample,target,method,metric,value"));
    assert_eq!(csv.lines().count(), 21);
    let page = std::fs::read_to_string(place.path("all.html"))?;
    assert!(page.contains("model-randomisation") && page.contains("square.png"));
    Ok(())
}

#[test]
fn masks_are_as_good_as_boxes() -> Test {
    let place = annotated()?;
    let game = || -> Result<Vec<Value>, crate::Failure> {
        let args = ["evaluate", "--data", ".", "--labels", "labels.txt", "--methods", "saliency,occlusion"];
        let more = ["--metrics", "pointing-game", "--set", "pointing-game.tolerance=3"];
        let found = place.json(&shapes(&args, &more))?;
        Ok(found["rows"].as_array().ok_or("no rows")?.clone())
    };
    let by_box = game()?;
    // The same objects, given by masks. The masks are in a folder of their own, since pictures beside the others
    // would be evaluated.
    std::fs::create_dir(place.path("masks"))?;
    place.mask("masks/square.png", |x, y| (14..27).contains(&x) && (9..22).contains(&y))?;
    place.mask("masks/bar.png", |x, y| (8..32).contains(&x) && (12..20).contains(&y))?;
    let objects = |class: usize, name: &str| json!({ "objects": [{ "class": class, "mask": format!("masks/{name}") }] });
    let boxes = json!({ "square.png": objects(1, "square.png"), "bar.png": objects(3, "bar.png") });
    std::fs::write(place.path("boxes.json"), boxes.to_string())?;
    std::fs::remove_file(place.path("bar.xml"))?;
    let by_mask = game()?;
    assert_eq!(by_mask.len(), 4);
    for (a, b) in by_box.iter().zip(&by_mask) {
        assert_eq!((&a["sample"], &a["detail"]["row"]), (&b["sample"], &b["detail"]["row"]));
        // Rows of a resized mask are whole pixels, edges of a resized box are not: they differ by less than one.
        let gap = number(&a["detail"]["distance"])? - number(&b["detail"]["distance"])?;
        assert!(gap.abs() < 2.0, "{a} and {b}");
    }
    place.mask("masks/bar.png", |_, _| false)?;
    let args = ["evaluate", "--data", ".", "--methods", "saliency", "--metrics", "pointing-game"];
    place.fails(2, &shapes(&args, &[]), &["bar.png", "is black"])?;
    std::fs::remove_file(place.path("masks/bar.png"))?;
    place.fails(2, &shapes(&args, &[]), &["masks/bar.png", "no such file"]).map(|_| ())
}

#[test]
fn the_text_is_a_table_of_means() -> Test {
    let place = annotated()?;
    let args =
        ["evaluate", "--data", ".", "--methods", "saliency,grad-cam", "--metrics", "deletion,completeness"];
    let text = place.succeeds(&shapes(&args, &["--target", "1-0", "--set", "deletion.step=256"]))?;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].contains("deletion ↓") && lines[0].contains("completeness →0"), "{text}");
    assert!(lines[1].starts_with("saliency") && lines[2].starts_with("grad-cam"), "{text}");
    Ok(())
}

#[test]
fn what_a_folder_lacks_is_said() -> Test {
    let place = annotated()?;
    let evaluate = |data: &str, metrics: &str, words: &[&str]| {
        let args = ["evaluate", "--data", data, "--methods", "saliency", "--metrics", metrics];
        place.fails(2, &shapes(&args, &[]), words).map(|_| ())
    };
    evaluate("nowhere", "deletion", &["--data 'nowhere'", "no such folder"])?;
    evaluate("cache", "deletion", &["no pictures", "png"])?;
    evaluate(".", "insertoin", &["insertoin", "did you mean 'insertion'"])?;
    evaluate(".", "data-randomisation", &["'data-randomisation' is a study", "trains networks"])?;
    // The network has no labels of its own, but bar.xml names a class by its label.
    evaluate(".", "pointing-game", &["bar.xml", "'cross'", "labels"])?;
    std::fs::remove_file(place.path("bar.xml"))?;
    std::fs::write(
        place.path("boxes.json"),
        r#"{"square.png": {"objects": [{"class": 1, "box": [9, 2, 4, 7]}]}}"#,
    )?;
    evaluate(".", "pointing-game", &["boxes.json", "left < right"])?;
    std::fs::write(place.path("boxes.json"), "{")?;
    evaluate(".", "pointing-game", &["boxes.json", "annotations"])?;
    std::fs::remove_file(place.path("boxes.json"))?;
    evaluate(".", "pointing-game", &["needs boxes", "boxes.json", "Pascal-VOC"])
}
