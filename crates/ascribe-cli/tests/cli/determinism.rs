//! Checks that the number of threads and the batch budget do not change a single bit of the output.

use serde_json::Value;

use crate::{Place, Test, shapes};

/// Removes what depends on the machine.
fn timeless(mut value: Value) -> Value {
    match &mut value {
        Value::Object(object) => {
            object.remove("seconds");
            for inner in object.values_mut() {
                *inner = timeless(inner.take());
            }
        }
        Value::Array(all) => {
            for inner in all {
                *inner = timeless(inner.take());
            }
        }
        _ => {}
    }
    value
}

/// Numbers of threads and batch budgets: each number of threads with different budgets, and each budget with
/// different numbers of threads.
const RUNS: [(&str, &str); 6] = [("1", "1"), ("2", "3"), ("3", "7"), ("8", "64"), ("1", "64"), ("8", "1")];

#[test]
fn explanations_do_not_depend_on_threads_and_batch() -> Test {
    let place = Place::new()?;
    for method in [
        &["occlusion", "--set", "window=[9]", "--set", "stride=[5]"][..],
        &["rise", "--set", "masks=30"],
        &["smooth-grad", "--set", "samples=9"],
        &["integrated-gradients", "--set", "steps=20", "--target", "top2"],
    ] {
        let mut expected = None;
        for (threads, batch) in RUNS {
            let start = ["explain", "square.png", "--seed", "4", "--threads", threads, "--batch", batch];
            let more = [&["-o", "raw.npy", "--method"], method].concat();
            let printed = timeless(place.json(&shapes(&start, &more))?);
            let mut files: Vec<String> = place.written()?;
            files.retain(|f| f.starts_with("raw"));
            let bytes: std::io::Result<Vec<Vec<u8>>> =
                files.iter().map(|f| std::fs::read(place.path(f))).collect();
            let found = (printed, bytes?);
            assert!(!found.1.is_empty());
            let expected = expected.get_or_insert_with(|| found.clone());
            assert!(*expected == found, "{} with {threads} threads, budget {batch}", method[0]);
        }
    }
    Ok(())
}

#[test]
fn evaluations_do_not_depend_on_threads_and_batch() -> Test {
    let place = Place::new()?;
    let mut expected = None;
    for (threads, batch) in RUNS {
        let found = timeless(place.json(&shapes(
            &["evaluate", "--data", ".", "--threads", threads, "--batch", batch],
            &[
                "--methods",
                "saliency,occlusion",
                "--metrics",
                "insertion,deletion,model-randomisation,completeness",
                "--set",
                "occlusion.window=[9]",
                "--set",
                "occlusion.stride=[9]",
            ],
        ))?);
        let expected = expected.get_or_insert_with(|| found.clone());
        assert!(*expected == found, "{threads} threads, budget {batch}: {found:#}");
    }
    Ok(())
}
