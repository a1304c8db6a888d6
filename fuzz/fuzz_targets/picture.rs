//! Pictures: any bytes decode or are an error.
#![no_main]

use ascribe_models::preprocess::{DecodeOptions, decode};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let ending = [".png", ".jpg", ".webp", ".bmp", ".gif", ".tiff"][usize::from(*kind) % 6];
    let file = tempfile::Builder::new().suffix(ending).tempfile().expect("a temporary file");
    std::fs::write(file.path(), bytes).expect("writing it");
    let _ = decode(file.path(), DecodeOptions::default());
});
