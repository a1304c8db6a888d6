//! Tests of pulls that need no network: with local files, locks and failing sources.

use std::cell::RefCell;
use std::sync::mpsc;
use std::time::Duration;

use candle_core::{DType, Device, Tensor};

use super::*;

fn entry(sources: &str) -> ModelEntry {
    let text = format!(
        "[preprocessing.p]\n[[model]]\nname = \"tiny\"\narchitecture = \"vgg-tiny\"\n\
         task = \"image-classification\"\nnaming = \"torchvision\"\npreprocessing = \"p\"\n\
         labels = \"imagenet-1k\"\nlicence = \"MIT\"\nsources = [{sources}]\n"
    );
    Registry::from_toml(&text).unwrap().models()[0].clone()
}

fn weights() -> StateDict {
    let bias = Tensor::new(&[1f32, 2.], &Device::Cpu).unwrap();
    [("head.fc.bias", bias)].into_iter().collect()
}

fn shipped_source() -> Source {
    Source::Shipped { shipped: "no/such.file".into(), sha256: None }
}

#[test]
fn a_download_is_renamed_converted_and_labelled_with_its_origin() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(Some(folder.path())).unwrap();
    let path = folder.path().join("download");
    weights().save(&path, None).unwrap();
    let sha256 = place::verify(&path, None, None, &|_| {}).unwrap();
    let raw = Raw { path: path.clone(), sha256: sha256.clone(), leftovers: Leftovers::Path(path.clone()) };
    let entry = entry("");
    let placed = place::place(&entry, &shipped_source(), &raw, &cache, &|_| {}).unwrap();
    drop(raw);
    assert!(!path.exists(), "what was downloaded is removed");
    assert_eq!(placed, folder.path().join("models").join("tiny.safetensors"));

    let found = locate(&entry, Some(folder.path())).unwrap().unwrap();
    assert_eq!(found, Located { path: placed, origin: Origin::Cached });
    let read = load(&entry, Some(folder.path())).unwrap();
    assert_eq!(read.names().collect::<Vec<_>>(), ["classifier.6.bias"]);
    assert_eq!(read.metadata()["source_sha256"], sha256);
    assert_eq!(read.metadata()["naming"], "torchvision");
}

#[test]
fn sizes_and_hashes_are_verified() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("abc");
    std::fs::write(&path, "abc").unwrap();
    let verify = |size, hash| place::verify(&path, size, hash, &|_| {});
    assert!(verify(Some(3), Some("ba7816bf")).unwrap().starts_with("ba7816bf8f01cfea"));
    assert!(verify(Some(4), None).unwrap_err().contains("expected 4"));
    assert!(verify(None, Some("ba7816be")).unwrap_err().contains("expected ba7816be"));
}

#[test]
fn a_checkpoint_put_by_hand_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let entry = entry("");
    assert_eq!(locate(&entry, Some(folder.path())).unwrap(), None);
    std::fs::create_dir(folder.path().join("models")).unwrap();
    let by_hand = folder.path().join("models").join("tiny.pth");
    weights().save(&by_hand, Some(DType::F16)).unwrap();
    assert_eq!(locate(&entry, Some(folder.path())).unwrap().unwrap().path, by_hand);
    let pulled = pull_entry(&entry, &PullOptions::default().with_cache(folder.path()), &|_| {}).unwrap();
    assert_eq!(pulled.origin, Origin::Cached);
    assert!(load(&entry, Some(folder.path())).unwrap().contains("classifier.6.bias"));
}

#[test]
fn the_default_model_ships() {
    let folder = tempfile::tempdir().unwrap();
    let entry = Registry::builtin().get(crate::registry::DEFAULT_MODEL).unwrap();
    let found =
        pull_entry(entry, &PullOptions::default().with_cache(folder.path()).with_offline(true), &|_| {})
            .unwrap();
    assert_eq!(found.origin, Origin::Shipped);
    let Some(Source::Shipped { sha256: Some(expected), .. }) = entry.sources.first() else {
        panic!("{entry:?}")
    };
    place::verify(&found.path, None, Some(expected), &|_| {}).unwrap();
    let weights = load(entry, Some(folder.path())).unwrap();
    assert_eq!(weights.get("_conv_stem.weight").unwrap().dims(), [32, 3, 3, 3]);
    assert!(!folder.path().join("locks").exists(), "nothing is written when nothing is fetched");
}

#[test]
fn failures_say_what_was_tried_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let entry =
        entry(r#"{ shipped = "no/such.file" }, { url = "not an address", sha256_prefix = "01234567" }"#);
    let options = PullOptions::default().with_cache(folder.path());
    let seen = RefCell::new(Vec::new());
    let message =
        pull_entry(&entry, &options, &|p| seen.borrow_mut().push(format!("{p:?}"))).unwrap_err().to_string();
    for part in [
        "no/such.file",
        "not an address",
        "ascribe pull tiny",
        "tiny.safetensors",
        "tiny.pth",
        CACHE_VARIABLE,
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(seen.borrow().iter().filter(|p| p.starts_with("Failed")).count(), 2);

    let message = pull_entry(&entry, &options.clone().with_offline(true), &|_| {}).unwrap_err().to_string();
    assert!(message.contains("not tried"), "{message}");
    let message = load(&entry, Some(folder.path())).unwrap_err().to_string();
    assert!(message.contains("run `ascribe pull tiny`"), "{message}");
}

#[test]
fn a_second_pull_waits_for_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(Some(folder.path())).unwrap();
    let lock = cache.lock("tiny", || panic!("nobody else holds it")).unwrap();
    let (waits, waiting) = mpsc::channel();
    let second = std::thread::spawn({
        let cache = cache.clone();
        move || cache.lock("tiny", || waits.send(()).unwrap()).map(|_| ())
    });
    waiting.recv_timeout(Duration::from_secs(60)).expect("the second one announces that it waits");
    assert!(!second.is_finished());
    drop(lock);
    second.join().unwrap().unwrap();
}
