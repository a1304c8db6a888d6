//! Checks that every malformed parameter file and image of the fixtures is an error whose message names the file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ascribe_models::preprocess::{DecodeOptions, decode};
use ascribe_models::weights::StateDict;

fn malformed(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/malformed").join(path)
}

#[test]
fn malformed_files_are_refused_by_name() {
    let expected = std::fs::read_to_string(malformed("expected.json")).unwrap();
    let expected: BTreeMap<String, serde_json::Value> = serde_json::from_str(&expected).unwrap();
    let (mut parameters, mut pictures) = (0, 0);
    for (name, entry) in &expected {
        let path = malformed(name);
        let error = match path.extension().and_then(|e| e.to_str()) {
            // This file is valid, but its parameters fit no architecture.
            Some("safetensors") if name == "wrong-parameters.safetensors" => {
                let mismatch = StateDict::load(path).unwrap().check(&[("fc.weight", vec![2])]).unwrap_err();
                assert!(mismatch.to_string().contains("weight"), "{mismatch}");
                continue;
            }
            Some("safetensors" | "pth") => {
                parameters += 1;
                StateDict::load(path).map(|_| ()).expect_err(name)
            }
            Some("png" | "jpg") => {
                pictures += 1;
                decode(path, DecodeOptions::default()).map(|_| ()).expect_err(name)
            }
            _ => continue,
        };
        let message = error.to_string();
        assert!(message.contains(name.as_str()), "{name}, {}: {message}", entry["problem"]);
    }
    assert!(parameters >= 10 && pictures >= 5, "{parameters} parameter files, {pictures} pictures");
}
