//! Configuration of the property tests of all crates.
//!
//! - **Seeds.** `cargo test` uses the same cases every time, so that the result of a first run does not depend on
//!   chance. The environment variable `PROPTEST_RNG_SEED`, an integer, selects other cases; the scheduled job sets it
//!   to a new number each time.
//! - **Cases.** Each test specifies its number of cases; `ASCRIBE_TEST_EFFORT`, a positive integer, multiplies it.
//! - **Failures.** The seed of a failing case is written to `fixtures/regressions`, in a file named after the crate
//!   and the source file of the test. It is run first from then on, whatever the seed is: commit it together with the
//!   fix.

use std::any::Any;
use std::env;
use std::fmt::Debug;
use std::path::{Component, Path, PathBuf};

use proptest::test_runner::{FailurePersistence, FileFailurePersistence, PersistedSeed, RngSeed};

pub use proptest::test_runner::Config;

/// The default seed, if `PROPTEST_RNG_SEED` is not set.
const SEED: u64 = 20_201_117;

/// The configuration of a test with this number of cases.
///
/// # Panics
/// If `ASCRIBE_TEST_EFFORT` or `PROPTEST_RNG_SEED` is set to something other than a positive or an unsigned integer.
pub fn config(cases: u32) -> Config {
    let effort = number("ASCRIBE_TEST_EFFORT").unwrap_or(1);
    assert!(effort > 0, "ASCRIBE_TEST_EFFORT is 0: a test without cases tests nothing");
    Config {
        cases: cases.saturating_mul(u32::try_from(effort).unwrap_or(u32::MAX)),
        // Shapes that do not fit are rejected and drawn again; more cases need more rejections.
        max_global_rejects: 1024_u32.saturating_mul(u32::try_from(effort).unwrap_or(u32::MAX)),
        rng_seed: RngSeed::Fixed(number("PROPTEST_RNG_SEED").unwrap_or(SEED)),
        failure_persistence: Some(Box::new(Regressions)),
        ..Config::default()
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is '{text}', which is not an unsigned integer")))
}

/// Stores failures in `fixtures/regressions`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Regressions;

impl Regressions {
    /// The failures of `crates/ascribe-core/src/ops/pad.rs` are stored in
    /// `fixtures/regressions/ascribe-core/src/ops/pad.txt`.
    fn path(source: &str) -> PathBuf {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/regressions");
        let parts = Path::new(source).components().filter_map(|part| match part {
            Component::Normal(name) if name != "crates" => Some(name),
            _ => None,
        });
        root.join(parts.collect::<PathBuf>()).with_extension("txt")
    }

    /// Proptest's own persistence, with the file for this source.
    fn file(source: Option<&'static str>) -> FileFailurePersistence {
        let path = source.map(Self::path).and_then(|path| path.to_str().map(str::to_owned));
        // Proptest requires a static path. It is leaked once for each property test of a process.
        path.map_or(FileFailurePersistence::Off, |path| FileFailurePersistence::Direct(path.leak()))
    }
}

impl FailurePersistence for Regressions {
    fn load_persisted_failures2(&self, source: Option<&'static str>) -> Vec<PersistedSeed> {
        Self::file(source).load_persisted_failures2(source)
    }

    fn save_persisted_failure2(
        &mut self,
        source: Option<&'static str>,
        seed: PersistedSeed,
        shrunken: &dyn Debug,
    ) {
        Self::file(source).save_persisted_failure2(source, seed, shrunken);
    }

    fn box_clone(&self) -> Box<dyn FailurePersistence> {
        Box::new(*self)
    }

    fn eq(&self, other: &dyn FailurePersistence) -> bool {
        other.as_any().downcast_ref::<Self>().is_some()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;

    use super::*;

    fn drawn() -> Vec<u64> {
        let values = Mutex::new(Vec::new());
        TestRunner::new(Config { failure_persistence: None, ..config(8) })
            .run(&any::<u64>(), |value| {
                values.lock().unwrap().push(value);
                Ok(())
            })
            .unwrap();
        values.into_inner().unwrap()
    }

    #[test]
    fn cases_are_the_same_every_time() {
        let first = drawn();
        assert!(first.len() >= 8);
        assert_eq!(first, drawn());
    }

    #[test]
    fn failures_have_one_place() {
        let path = Regressions::path("crates/ascribe-core/src/ops/pad.rs");
        assert!(path.ends_with("fixtures/regressions/ascribe-core/src/ops/pad.txt"), "{}", path.display());
    }

    /// Committed failures must be read: if a test moves to another file, its file of failures must move, too.
    #[test]
    fn committed_failures_belong_to_tests() {
        fn check(folder: &Path, root: &Path, found: &mut usize) {
            for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
                let path = entry.path();
                if path.is_dir() {
                    check(&path, root, found);
                } else {
                    let source = root.join("../../crates").join(path.strip_prefix(root).unwrap());
                    assert!(source.with_extension("rs").is_file(), "no test belongs to {}", path.display());
                    let name = source.with_extension("rs");
                    let name = name.strip_prefix(root.join("../..")).unwrap().to_str().unwrap().to_owned();
                    assert!(!Regressions.load_persisted_failures2(Some(name.leak())).is_empty());
                    *found += 1;
                }
            }
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/regressions");
        let mut found = 0;
        check(&root, &root, &mut found);
        assert!(found > 0);
    }

    /// A `proptest!` block without this crate's configuration would use other cases every time.
    #[test]
    fn every_property_test_is_configured_here() {
        fn visit(folder: &Path, blocks: &mut usize) {
            for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    visit(&path, blocks);
                } else if path.extension().is_some_and(|end| end == "rs") {
                    let text = std::fs::read_to_string(&path).unwrap();
                    let mut lines = text.lines();
                    while let Some(line) = lines.next() {
                        if line.trim() == "proptest! {" {
                            let configured = lines.next().is_some_and(|next| {
                                next.trim().starts_with("#![proptest_config(ascribe_proptest::config(")
                            });
                            assert!(
                                configured,
                                "{}: a block without ascribe_proptest::config",
                                path.display()
                            );
                            *blocks += 1;
                        }
                    }
                }
            }
        }
        let mut blocks = 0;
        visit(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), &mut blocks);
        assert!(blocks > 40);
    }
}
