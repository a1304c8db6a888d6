//! Malformed input files, and files that must not be damaged.

use serde_json::Value;

use crate::{Failure, Place, Test, fixture, shapes};

/// Name and expected outcome of each malformed file with one of these extensions.
fn malformed(endings: &[&str]) -> Result<Vec<(String, Value)>, Failure> {
    let text = std::fs::read_to_string(fixture("malformed/expected.json"))?;
    let all: serde_json::Map<String, Value> = serde_json::from_str(&text)?;
    let found: Vec<_> =
        all.into_iter().filter(|(n, _)| endings.contains(&n.rsplit('.').next().unwrap_or(""))).collect();
    if found.is_empty() { Err("no malformed files".into()) } else { Ok(found) }
}

#[test]
fn malformed_models_are_refused() -> Test {
    let place = Place::new()?;
    let mut count = 0;
    for (name, case) in malformed(&["onnx"])? {
        let path = fixture(&format!("malformed/{name}"));
        if case["loads"] == true {
            continue;
        }
        let mentions: Vec<&str> =
            case["mentions"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        place.fails(2, &["inspect", "--model", &path], &[&[name.as_str()], &*mentions].concat())?;
        count += 1;
    }
    assert!(count > 50, "{count}");
    for (name, _) in malformed(&["safetensors", "pth"])? {
        let path = fixture(&format!("malformed/{name}"));
        let words: &[&str] =
            if name == "wrong-parameters.safetensors" { &["conv1.weight"] } else { &[&name] };
        place.fails(2, &["inspect", "--model", &path, "--arch", "shapes-cnn"], words)?;
    }
    Ok(())
}

#[test]
fn malformed_inputs_are_refused() -> Test {
    let place = Place::new()?;
    for (name, _) in malformed(&["png", "jpg"])? {
        let path = fixture(&format!("malformed/{name}"));
        place.fails(2, &shapes(&["explain", &path, "-o", "why.png"], &[]), &[&name])?;
    }
    std::fs::write(place.path("short.npy"), b"\x93NUMPY\x01\x00")?;
    place.fails(2, &shapes(&["explain", "short.npy"], &[]), &["short.npy"])?;
    let values = vec![0.5_f32; 2 * 32 * 32];
    write(&place, "two-channels.npy", values, &[1, 2, 32, 32])?;
    place.fails(2, &shapes(&["explain", "two-channels.npy"], &[]), &["input", "[1, 2, 32, 32]", "3"])?;
    let mut values = vec![0.5_f32; 3 * 32 * 32];
    values[32 * 32 + 32 * 4 + 7] = f32::NAN;
    write(&place, "nan.npy", values, &[1, 3, 32, 32])?;
    place.fails(2, &shapes(&["explain", "nan.npy"], &[]), &["NaN", "[0, 1, 4, 7]", "finite"])?;
    write(&place, "empty.npy", Vec::new(), &[0, 3, 32, 32])?;
    place.fails(2, &shapes(&["explain", "empty.npy"], &[]), &["[0, 3, 32, 32]", "at least one sample"])?;
    assert_eq!(place.written()?, ["empty.npy", "nan.npy", "short.npy", "two-channels.npy"]);
    Ok(())
}

fn write(place: &Place, name: &str, values: Vec<f32>, shape: &[usize]) -> Test {
    let tensor = ascribe::core::Tensor::from_vec(values, shape, &ascribe::core::Device::Cpu)?;
    Ok(ascribe::models::tensors::write_npy(place.path(name), &tensor)?)
}

/// A command that fails, early or late, leaves existing files unchanged and creates no others.
#[test]
fn a_failure_leaves_existing_results_alone() -> Test {
    let place = Place::new()?;
    let (picture, values) = (place.path("why.png"), place.path("why.npy"));
    std::fs::create_dir(place.path("folder.json"))?;
    let outputs = ["-o", "why.png", "-o", "why.npy"];
    let truncated = fixture("malformed/truncated.png");
    for (start, more) in [
        // Before anything is read.
        (["explain", "square.png"], &["--method", "sailency"][..]),
        (["explain", "square.png"], &["-o", "why.txt"]),
        // While the input is read.
        (["explain", &truncated], &[]),
        // Once the model has run.
        (["explain", "square.png"], &["--target", "4"]),
        (["explain", "square.png"], &["--layer", "conv5"]),
        // When the results are computed and the values could be written: a vector cannot be drawn as a picture.
        (["explain", "square.png"], &["--method", "saliency", "--layer", "flatten", "-o", "new.npy"]),
        // A folder in place of the output file.
        (["explain", "square.png"], &["--method", "saliency", "-o", "folder.json"]),
        (["compare", "square.png"], &["--methods", "saliency", "-o", "folder.json"]),
    ] {
        std::fs::write(&picture, "old picture")?;
        std::fs::write(&values, "old values")?;
        let outputs = if start[0] == "compare" { &outputs[..2] } else { &outputs[..] };
        let args = shapes(&start, &[more, outputs].concat());
        place.fails(2, &args, &[])?;
        assert_eq!(std::fs::read_to_string(&picture)?, "old picture", "{args:?}");
        assert_eq!(std::fs::read_to_string(&values)?, "old values", "{args:?}");
        assert_eq!(place.written()?, ["folder.json", "why.npy", "why.png"], "{args:?}");
    }
    Ok(())
}
