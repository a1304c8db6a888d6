//! ONNX files: any bytes load or are an error.
#![no_main]

use ascribe_models::onnx::{self, LoadOptions};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = onnx::from_bytes(bytes.to_vec(), None, &LoadOptions::default());
});
