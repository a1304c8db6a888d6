//! Checks that the identifier of a method or metric occurs only in its own file, and nowhere else in the code.

use std::path::{Path, PathBuf};

use ascribe::catalogue;

/// The source files of the library, the program and the development tasks, except benchmarks and reproduced claims,
/// which are about particular methods.
fn sources() -> Vec<PathBuf> {
    fn visit(folder: &Path, found: &mut Vec<PathBuf>) {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap_or_default();
            if path.is_dir() && !["bench", "reproduce", "target"].iter().any(|cases| name == *cases) {
                visit(&path, found);
            } else if path.extension().is_some_and(|end| end == "rs") && name != "tests.rs" {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root.join("crates")).unwrap() {
        visit(&entry.unwrap().path().join("src"), &mut found);
    }
    visit(&root.join("xtask/src"), &mut found);
    found
}

/// The lines of a file that are neither comments nor tests.
fn code(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).map(str::to_owned).collect()
}

#[test]
fn an_identifier_stands_in_its_own_file_only() {
    let files: Vec<(PathBuf, Vec<String>)> =
        sources().into_iter().map(|path| (path.clone(), code(&path))).collect();
    let methods = catalogue::METHODS.entries().map(|entry| entry.card.id);
    let metrics = catalogue::metrics().iter().map(|entry| entry.card.id);
    let studies = catalogue::studies().iter().map(|entry| entry.card.id);
    let ids: Vec<&str> = methods.chain(metrics).chain(studies).collect();
    assert!(ids.len() >= 18);
    for id in ids {
        let quoted = format!("\"{id}\"");
        let own: Vec<&PathBuf> = files
            .iter()
            .filter(|(_, code)| code.iter().any(|line| line.trim() == format!("id: {quoted},")))
            .map(|(path, _)| path)
            .collect();
        assert_eq!(own.len(), 1, "the card of '{id}' stands in {own:?}");
        // A method that consists of several files has its own folder.
        let folder = own[0].parent().filter(|folder| own[0].ends_with("mod.rs") && !folder.ends_with("src"));
        for (path, code) in &files {
            if path != own[0] && !folder.is_some_and(|folder| path.starts_with(folder)) {
                let line = code.iter().find(|line| line.contains(&quoted));
                assert!(line.is_none(), "'{id}' occurs in {}: {}", path.display(), line.unwrap());
            }
        }
    }
}
