//! Compares prepared images with those of torchvision and Pillow.

use std::path::{Path, PathBuf};

use ascribe_models::preprocess::{DecodeOptions, Preprocessing, decode};
use ascribe_models::weights::StateDict;
use candle_core::{DType, Tensor};

fn fixtures(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(path)
}

struct Case {
    photograph: PathBuf,
    preprocessing: Preprocessing,
    golden: StateDict,
}

fn case(name: &str) -> Case {
    let golden = StateDict::load(fixtures(&format!("golden/preprocess/{name}.safetensors"))).unwrap();
    Case {
        photograph: fixtures("images").join(&golden.metadata()["photograph"]),
        preprocessing: serde_json::from_str(&golden.metadata()["preprocessing"]).unwrap(),
        golden,
    }
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn pixels_and_tensors_are_those_of_torchvision_bit_for_bit() {
    let names = [
        "imagenet",
        "efficientnet-lite0",
        "grey-bicubic-odd",
        "enlarged-bicubic",
        "enlarged-bilinear",
        "padded",
        "squeezed",
        "nearest",
        "one-side-kept",
        "tiny",
    ];
    for name in names {
        let Case { photograph, preprocessing, golden } = case(name);
        let prepared = preprocessing.load(photograph).unwrap();
        let pixels = golden.get("pixels").unwrap();
        assert_eq!(
            [prepared.image.height() as usize, prepared.image.width() as usize],
            pixels.dims()[..2],
            "{name}"
        );
        assert_eq!(
            prepared.image.as_raw(),
            &pixels.flatten_all().unwrap().to_vec1::<u8>().unwrap(),
            "{name}"
        );
        if let Ok(input) = golden.get("input") {
            assert_eq!(prepared.tensor.dims(), input.dims(), "{name}");
            assert_eq!(flat(&prepared.tensor), flat(input), "{name}");
        }
    }
}

#[test]
fn jpegs_differ_by_their_decoders_rounding_only() {
    for name in ["jpeg", "portrait-rounding"] {
        let Case { photograph, preprocessing, golden } = case(name);
        let prepared = preprocessing.load(photograph).unwrap();
        let expected = golden.get("pixels").unwrap().flatten_all().unwrap().to_vec1::<u8>().unwrap();
        let differences: Vec<u8> =
            prepared.image.as_raw().iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).collect();
        let mean = differences.iter().map(|d| f64::from(*d)).sum::<f64>() / differences.len() as f64;
        let largest = differences.iter().max().unwrap();
        assert!(mean < 0.3 && *largest <= 2, "{name}: mean {mean}, largest {largest}");
    }
}

#[test]
fn the_shipped_model_gets_its_reference_input() {
    let reference = StateDict::load(fixtures("models/efficientnet-lite0.reference.safetensors")).unwrap();
    let entry = ascribe_models::registry::Registry::builtin().get("efficientnet-lite0").unwrap();
    let prepared = entry.preprocessing.load(fixtures("images/cat.png")).unwrap();
    let (found, expected) = (flat(&prepared.tensor), flat(reference.get("input_full").unwrap()));
    // The reference computes (x − 127) / 128, this crate (x / 255 − 127/255) / (128/255); they are equal up to
    // rounding.
    let largest = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(largest < 1e-6, "{largest}");
}

#[test]
fn photographs_are_decoded_as_they_are() {
    let image = decode(fixtures("images/cat.png"), DecodeOptions::default()).unwrap();
    assert_eq!(image.dimensions(), (451, 300));
    let grey = decode(fixtures("images/tripod.png"), DecodeOptions::default()).unwrap();
    assert!(grey.pixels().all(|p| p[0] == p[1] && p[1] == p[2]));
}
