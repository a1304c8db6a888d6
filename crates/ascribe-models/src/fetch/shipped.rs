//! Files that the source tree has below `fixtures/`.

use std::path::{Path, PathBuf};

/// The environment variable that names the folder `fixtures`, for programs that were moved away from it.
pub const FIXTURES_VARIABLE: &str = "ASCRIBE_FIXTURES";

/// Finds a shipped file by its path below `fixtures/`.
///
/// Looked for in this order: where `ASCRIBE_FIXTURES` says; in `fixtures/` beside or above the
/// working folder and the program itself (a build in `target/` lies below the source tree); in
/// `share/ascribe/` of the prefix that the program is installed in; in the source tree that this
/// crate was compiled from. A program that was installed without its source tree finds none, and
/// the model's next source is used.
pub(super) fn find(relative: &str) -> Option<PathBuf> {
    candidates().map(|folder| folder.join(relative)).find(|path| path.is_file())
}

fn candidates() -> impl Iterator<Item = PathBuf> {
    let set = std::env::var_os(FIXTURES_VARIABLE).filter(|v| !v.is_empty()).map(PathBuf::from);
    let program = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.to_owned()));
    let share = program.as_ref().and_then(|bin| Some(bin.parent()?.join("share").join("ascribe")));
    let above = [std::env::current_dir().ok(), program]
        .into_iter()
        .flatten()
        .flat_map(|folder| folder.ancestors().map(|ancestor| ancestor.join("fixtures")).collect::<Vec<_>>());
    let compiled = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).map(|root| root.join("fixtures"));
    set.into_iter().chain(above).chain(share).chain(compiled)
}

pub(super) fn reason(relative: &str) -> String {
    let here = find(relative)
        .map(|path| format!("passed over, because a fresh copy was asked for ('{}')", path.display()));
    here.unwrap_or_else(|| {
        format!("not found; the source tree has it (set {FIXTURES_VARIABLE} to its folder `fixtures`)")
    })
}
