//! Weights that are part of the source tree, in `fixtures/`.

use std::path::{Path, PathBuf};

/// The environment variable that names the folder `fixtures` of the source tree, for programs that were moved away from
/// it.
pub const FIXTURES_VARIABLE: &str = "ASCRIBE_FIXTURES";

/// Finds a file by its path within `fixtures/`.
///
/// It is searched in this order: in the folder that `ASCRIBE_FIXTURES` names; in `fixtures/` in the working folder, in
/// the folder of the program, or in a folder above one of them (a build in `target/` is inside the source tree); in
/// `share/ascribe/` of the prefix in which the program is installed; in the source tree from which this crate was
/// compiled. If the program was installed without the source tree, the file is not found and the next source of the
/// model is used.
pub(super) fn find(relative: &str) -> Option<PathBuf> {
    candidates().map(|folder| folder.join(relative)).find(|path| path.is_file())
}

/// The folders to search, in order.
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

/// Why a pull cannot use a shipped file.
pub(super) fn reason(relative: &str) -> String {
    let here = find(relative).map(|path| {
        format!("skipped, because the option `force` asks for a download ('{}')", path.display())
    });
    here.unwrap_or_else(|| {
        format!("not found; it is part of the source tree (set {FIXTURES_VARIABLE} to its folder `fixtures`)")
    })
}
