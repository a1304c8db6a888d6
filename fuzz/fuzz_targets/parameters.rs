//! Parameter files: the first byte picks the format, the rest is the file.
#![no_main]

use ascribe_models::weights::StateDict;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let ending = if kind % 2 == 0 { ".safetensors" } else { ".pth" };
    let file = tempfile::Builder::new().suffix(ending).tempfile().expect("a temporary file");
    std::fs::write(file.path(), bytes).expect("writing it");
    let _ = StateDict::load(file.path());
});
