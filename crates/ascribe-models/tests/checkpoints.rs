//! Reads parameter files of all formats, valid and damaged.

use std::path::{Path, PathBuf};

use ascribe_models::weights::StateDict;
use ascribe_models::zoo::{self, BuildOptions};
use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden/weights").join(name)
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// Checks that names, types, shapes and values are the same (bit-identical), and that names are in the order that
/// PyTorch had.
fn assert_as_expected(checkpoint: &str, expected: &str) {
    let found = StateDict::load(golden(checkpoint)).unwrap_or_else(|e| panic!("{checkpoint}: {e}"));
    let expected = StateDict::load(golden(expected)).unwrap();
    let order: Vec<String> = serde_json::from_str(&expected.metadata()["order"]).unwrap();
    assert_eq!(found.names().collect::<Vec<_>>(), order, "{checkpoint}");
    for (name, tensor) in expected.iter() {
        let other = found.get(name).unwrap();
        assert_eq!(other.dtype(), tensor.dtype(), "{checkpoint}, {name}");
        assert_eq!(other.dims(), tensor.dims(), "{checkpoint}, {name}");
        assert_eq!(values(other), values(tensor), "{checkpoint}, {name}");
    }
}

#[test]
fn every_form_of_checkpoint_gives_the_same_parameters() {
    for name in [
        "zip.pth",
        "legacy.pth",
        "protocol-4.pth",
        "nested.pth",
        "nested-legacy.pth",
        "parameters.pth",
        "lightning.ckpt",
        "lightning-parallel.ckpt",
        "training.pth.tar",
        "twice.pth",
        "average.pth",
        "other-key.pth",
    ] {
        assert_as_expected(name, "expected-plain.safetensors");
    }
}

#[test]
fn views_strides_and_types() {
    for name in ["views", "views-legacy"] {
        assert_as_expected(&format!("{name}.pth"), "expected-views.safetensors");
    }
    let bf16 = StateDict::load(golden("bf16.pth")).unwrap();
    assert_eq!(bf16.get("weight").unwrap().dtype(), DType::BF16);
    assert_eq!(values(bf16.get("weight").unwrap()), [1.0, -0.5, 3.140_625]);
}

#[test]
fn what_is_left_out_of_a_checkpoint_is_said() {
    let nested = StateDict::load(golden("nested.pth")).unwrap();
    assert!(nested.ignored().is_empty());
    assert_eq!(nested.len(), 5);
}

#[test]
fn other_contents_are_errors_that_say_what_they_are() {
    for (name, part) in [
        ("module.pth", "torch.nn.modules.linear.Linear"),
        ("quantised.pth", "'q'"),
        ("no-tensors.pth", "epoch"),
        ("two-dicts.pth", "'model', 'model_ema'"),
    ] {
        let message = StateDict::load(golden(name)).unwrap_err().to_string();
        assert!(message.contains(part) && message.contains(name), "{message}");
    }
}

#[test]
fn prefixes_in_safetensors_files_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("parallel.safetensors");
    let plain = StateDict::load(golden("zip.pth")).unwrap();
    plain.clone().rename(|name| format!("module.{name}")).unwrap().save(&path, None).unwrap();
    let read = StateDict::load(&path).unwrap();
    let sorted = |dict: &StateDict| {
        let mut names: Vec<String> = dict.names().map(str::to_owned).collect();
        names.sort();
        names
    };
    assert_eq!(sorted(&read), sorted(&plain));
}

#[test]
fn networks_are_built_from_parameters_with_any_prefix() {
    let path = golden("../../models/shapes.safetensors");
    let plain = StateDict::load(path).unwrap();
    let build = |dict: &StateDict| zoo::build("shapes-cnn", dict, &BuildOptions::default());
    let size = build(&plain).unwrap().len();
    let with = |prefixes: &[&str]| -> StateDict {
        let named = |prefix: &str| {
            plain.iter().map(|(name, t)| (format!("{prefix}{name}"), t.clone())).collect::<Vec<_>>()
        };
        prefixes.iter().flat_map(|prefix| named(prefix)).collect()
    };
    for prefix in ["model.", "net.backbone.", "student.module."] {
        let mut dict = with(&[prefix]);
        // Parameters of a loss beside them.
        dict.insert("criterion.weight", Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap());
        assert_eq!(build(&dict).unwrap().len(), size, "{prefix}");
    }
    let message = build(&with(&["model.", "ema_model.module."])).unwrap_err().to_string();
    assert!(message.contains("'ema_model.module.'") && message.contains("'model.'"), "{message}");
    // Names that do not fit are listed as they are in the file.
    let mut dict = with(&["model."]);
    dict.insert("model.other", Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap());
    let message = build(&dict).unwrap_err().to_string();
    assert!(message.contains("unexpected: model.other [3]"), "{message}");
}

#[test]
fn files_of_other_kinds_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    assert!(StateDict::load(folder.path()).is_err(), "a folder");
    assert!(StateDict::load(path("absent.pth")).is_err());
    let lying = |header: &str, length: u64, data: usize| {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(vec![0; data]);
        bytes
    };
    let header = |shape: &str, end: u64| {
        format!(r#"{{"w":{{"dtype":"F32","shape":{shape},"data_offsets":[0,{end}]}}}}"#)
    };
    let exact = |text: String, data| lying(&text, text.len() as u64, data);
    for (name, bytes, part) in [
        ("empty.safetensors", vec![], "0 bytes"),
        ("empty.pth", vec![], "empty"),
        ("page.pth", b"<!DOCTYPE html>".to_vec(), "web page"),
        ("lfs.safetensors", b"version https://git-lfs.github.com/spec/v1".to_vec(), ""),
        ("pickle.pth", b"\x80\x04\x95\x01".to_vec(), "torch.save"),
        ("net.onnx", b"\x08\x07\x12\x07pytorch".to_vec(), "ONNX"),
        ("zip.pth", b"PK\x03\x04 and so on".to_vec(), "zip"),
        ("long.safetensors", lying("{}", u64::MAX, 0), "announces"),
        ("longer.safetensors", lying("{}", 90_000_000, 0), "announces"),
        ("json.safetensors", exact("{]".into(), 0), "not valid"),
        ("huge.safetensors", exact(header("[4294967296, 4294967296]", 8), 8), "not valid"),
        ("end.safetensors", exact(header("[1000000000000]", 4_000_000_000_000), 8), "truncated"),
        ("short.safetensors", exact(header("[2]", 8), 7), "truncated"),
        ("trailing.safetensors", exact(header("[2]", 8), 9), "9 follow"),
        ("shape.safetensors", exact(header("[3]", 8), 8), "not valid"),
    ] {
        std::fs::write(path(name), bytes).unwrap();
        let message = StateDict::load(path(name)).unwrap_err().to_string();
        assert!(message.contains(part) && message.contains(name), "{message}");
    }
    let good = exact(header("[2]", 8), 8);
    std::fs::write(path("good.pth"), good).unwrap();
    assert_eq!(StateDict::load(path("good.pth")).unwrap().len(), 1, "the contents decide, not the name");
}

#[test]
fn saving_is_deterministic_and_lossless() {
    let folder = tempfile::tempdir().unwrap();
    let mut dict = StateDict::load(golden("views.pth")).unwrap();
    for i in 0..20 {
        dict.metadata_mut().insert(format!("key{i}"), "value".into());
    }
    let save = |name: &str| {
        let path = folder.path().join(name);
        dict.save(&path, None).unwrap();
        (std::fs::read(&path).unwrap(), StateDict::load(&path).unwrap())
    };
    let ((first, read), (second, _)) = (save("a.safetensors"), save("b.safetensors"));
    assert_eq!(first, second);
    assert_eq!(read.metadata(), dict.metadata());
    for (name, tensor) in dict.iter() {
        let back = read.get(name).unwrap();
        assert_eq!(
            (back.dtype(), back.dims(), values(back)),
            (tensor.dtype(), tensor.dims(), values(tensor))
        );
    }
}

#[test]
fn saving_in_f16_keeps_integers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("half.safetensors");
    StateDict::load(golden("zip.pth")).unwrap().save(&path, Some(DType::F16)).unwrap();
    let half = StateDict::load(&path).unwrap();
    assert_eq!(half.get("conv.weight").unwrap().dtype(), DType::F16);
    assert_eq!(half.get("bn.num_batches_tracked").unwrap().dtype(), DType::I64);
    assert!(StateDict::new().save(folder.path().join("no/such/folder.safetensors"), None).is_err());
}

#[test]
fn a_million_views_of_one_storage_are_refused() {
    // A checkpoint of 100 KiB whose tensors would take 30 MiB: distinct offsets, one storage.
    let (mut pickle, count) = (b"\x80\x02}q\x00(".to_vec(), 300u32);
    for i in 0..count {
        let name = format!("w{i}");
        pickle.push(b'X');
        pickle.extend((name.len() as u32).to_le_bytes());
        pickle.extend(name.as_bytes());
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuJ\x00\x64\x00\x00tQ");
        pickle.push(b'J');
        pickle.extend(i.to_le_bytes());
        pickle.extend(b"J\x00\x60\x00\x00\x85K\x01\x85\x89N");
        pickle.extend(b"tR");
    }
    pickle.extend(b"u.");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bomb.pth");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in [("bomb/data.pkl", pickle), ("bomb/data/0", vec![0; 4 * 25_600])] {
        zip.start_file(name, stored).unwrap();
        std::io::Write::write_all(&mut zip, &bytes).unwrap();
    }
    zip.finish().unwrap();
    let message = StateDict::load(&path).unwrap_err().to_string();
    assert!(message.contains("16 times more"), "{message}");
}

fn damaged(bytes: &[u8], flips: &[(usize, u8)], keep: usize) -> Result<StateDict, ascribe_models::Error> {
    let mut bytes = bytes.to_vec();
    for (at, mask) in flips {
        let at = at % bytes.len();
        bytes[at] ^= mask;
    }
    bytes.truncate(keep);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    StateDict::load(file.path())
}

proptest! {
    #![proptest_config(ascribe_proptest::config(150))]

    #[test]
    fn damaged_files_are_read_or_refused_but_never_panic(
        flips in proptest::collection::vec((any::<usize>(), 1u8..), 0..4), cut in any::<Option<usize>>()
    ) {
        for name in ["zip.pth", "legacy.pth", "views.pth", "views-legacy.pth", "nested.pth", "expected-views.safetensors"] {
            let bytes = std::fs::read(golden(name)).unwrap();
            let keep = cut.map_or(bytes.len(), |cut| cut % bytes.len());
            let result = damaged(&bytes, &flips, keep);
            prop_assert!(cut.is_none() || result.is_err(), "{} cut to {} bytes was accepted", name, keep);
        }
    }

    #[test]
    fn any_state_dict_survives_a_file(
        entries in proptest::collection::btree_map("[a-z.0-9é\"]{1,12}", (proptest::collection::vec(0usize..4, 0..4), any::<bool>()), 0..6)
    ) {
        let dict: StateDict = entries.iter().map(|(name, (shape, wide))| {
            let dtype = if *wide { DType::F64 } else { DType::F32 };
            (name.clone(), Tensor::full(0.5f32, shape.as_slice(), &Device::Cpu).unwrap().to_dtype(dtype).unwrap())
        }).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        dict.save(file.path(), None).unwrap();
        let read = StateDict::load(file.path()).unwrap();
        let expected: Vec<(String, Vec<usize>)> = entries.iter().map(|(n, (s, _))| (n.clone(), s.clone())).collect();
        prop_assert_eq!(read.check(&expected), Ok(()));
    }
}
