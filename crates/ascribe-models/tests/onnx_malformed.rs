//! Checks that damaged or malicious ONNX files are errors that say what is wrong, and never cause a panic.

use std::path::{Path, PathBuf};

use ascribe_models::onnx::{self, LoadOptions};
use proptest::prelude::*;

fn fixtures(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(part)
}

#[test]
fn malformed_files_say_what_is_wrong() {
    let text = std::fs::read_to_string(fixtures("malformed/expected.json")).unwrap();
    let expected: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    let mut failures = Vec::new();
    let mut count = 0;
    for (name, case) in expected
        .iter()
        .filter(|(name, _)| std::path::Path::new(name).extension().is_some_and(|e| e == "onnx"))
    {
        count += 1;
        let result = onnx::load(fixtures("malformed").join(name), &LoadOptions::default());
        match (result, case["loads"].as_bool().unwrap_or(false)) {
            (Ok(_), true) => {}
            (Ok(_), false) => failures.push(format!("{name} loads: {}", case["problem"])),
            (Err(error), true) => failures.push(format!("{name}: {error}")),
            (Err(error), false) => {
                // Remove the folder from the message, since its name could contain the expected words.
                let folder = fixtures("malformed").display().to_string();
                let message = error.to_string().replace(&folder, "");
                println!("{name}: {message}");
                for part in case["mentions"].as_array().unwrap() {
                    let part = part.as_str().unwrap();
                    if !message.contains(part) {
                        failures.push(format!("{name}: '{part}' is not in: {message}"));
                    }
                }
            }
        }
    }
    assert!(count > 50);
    assert!(failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
}

/// Small models that are damaged and loaded thousands of times.
const VICTIMS: [&str; 27] = [
    "golden/methods/mlp/model.onnx",
    "golden/methods/depthwise/model.onnx",
    "golden/onnx-ops/expand_by_equal_where_13.onnx",
    "golden/onnx-ops/resize_to_shape_of_other_13.onnx",
    "golden/onnx-ops/tf_squeeze_excite_13.onnx",
    "golden/onnx-ops/conv_transpose_11.onnx",
    "golden/onnx-ops/slice_inputs_10.onnx",
    "golden/onnx-ops/split_heads_13.onnx",
    "golden/onnx-ops/lstm_states_peepholes_14.onnx",
    "golden/onnx-ops/gru_lengths_14.onnx",
    "golden/onnx-ops/scatter_nd_rows_16.onnx",
    "golden/onnx-ops/einsum_three_dynamic_13.onnx",
    "golden/onnx-ops/conv_transpose_3d_13.onnx",
    "golden/onnx-ops/fused_attention_mask_13.onnx",
    "golden/onnx-ops/rotary_embedding_interleaved_23.onnx",
    "golden/onnx-ops/qlinear_conv_13.onnx",
    "golden/onnx-ops/tree_classes_17.onnx",
    "golden/onnx-ops/tree_ensemble_23.onnx",
    "golden/onnx-ops/svm_probability_17.onnx",
    "golden/onnx-ops/label_encoder_through_text_17.onnx",
    "golden/onnx-ml/columns_ordinal.onnx",
    "golden/onnx-ml/columns_one_hot.onnx",
    "golden/onnx-ops/dynamic_conv_integer_13.onnx",
    "golden/onnx-ops/deform_conv_groups_19.onnx",
    "golden/onnx-ops/loop_13.onnx",
    "golden/onnx-ops/scan_13.onnx",
    "golden/onnx-ops/sequence_13.onnx",
];

fn load(bytes: Vec<u8>) {
    // A small limit, so that damaged sizes do not make the test fill memory.
    let options = LoadOptions::default().max_folded_values(1 << 20);
    // Some damage cannot be noticed (another weight, another name), so loading may succeed. It must not panic.
    let _ = onnx::from_bytes(bytes, None, &options);
}

#[test]
fn truncated_files_are_errors() {
    for victim in VICTIMS {
        let bytes = std::fs::read(fixtures(victim)).unwrap();
        for part in 0..50 {
            let cut = bytes[..bytes.len() * part / 50].to_vec();
            if cut.len() < bytes.len() / 2 {
                assert!(
                    onnx::from_bytes(cut.clone(), None, &LoadOptions::default()).is_err(),
                    "{victim} cut at {part}/50"
                );
            }
            load(cut);
        }
    }
}

proptest! {
    #![proptest_config(ascribe_proptest::config(400))]

    #[test]
    fn flipped_bits_do_not_panic(
        victim in 0..VICTIMS.len(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..8), 1..6),
    ) {
        let mut bytes = std::fs::read(fixtures(VICTIMS[victim])).unwrap();
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        load(bytes);
    }

    #[test]
    fn overwritten_bytes_do_not_panic(
        victim in 0..VICTIMS.len(),
        at in any::<prop::sample::Index>(),
        with in prop::collection::vec(any::<u8>(), 1..12),
    ) {
        let mut bytes = std::fs::read(fixtures(VICTIMS[victim])).unwrap();
        let at = at.index(bytes.len());
        for (i, byte) in with.into_iter().enumerate() {
            if let Some(place) = bytes.get_mut(at + i) {
                *place = byte;
            }
        }
        load(bytes);
    }
}

/// A length-delimited field in the protobuf wire format.
fn field(number: u64, contents: &[u8]) -> Vec<u8> {
    let varint = |mut n: u64| {
        let mut bytes = Vec::new();
        while n >= 128 {
            bytes.push(n as u8 | 128);
            n >>= 7;
        }
        bytes.push(n as u8);
        bytes
    };
    [varint(number << 3 | 2), varint(contents.len() as u64), contents.to_vec()].concat()
}

#[test]
fn deep_nesting_is_an_error() {
    // Branches that are nested in each other very deeply.
    let mut graph = Vec::new();
    for _ in 0..2_000 {
        graph = field(1, &field(5, &field(6, &graph)));
    }
    assert!(onnx::from_bytes(field(7, &graph), None, &LoadOptions::default()).is_err());
}
