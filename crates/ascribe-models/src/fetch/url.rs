//! Downloads weights over HTTPS.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use ureq::Agent;
use ureq::http::{Response, StatusCode, header};

use super::{Cache, Leftovers, Progress, Raw, place::verify};
use crate::registry::Source;

/// Largest file that is downloaded, if the registry does not state its size.
const MAX_BYTES: u64 = 8 << 30;

/// Downloads and verifies a file; resumes an interrupted download.
pub(super) fn fetch(
    source: &Source,
    megabytes: Option<f64>,
    cache: &Cache,
    progress: &dyn Fn(Progress<'_>),
) -> Result<Raw, String> {
    let Source::Url { url, sha256_prefix } = source else { return Err("not a URL".into()) };
    let name: String = url
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c))
        .collect();
    let partial =
        cache.working("partial").map_err(|e| e.to_string())?.join(format!("{sha256_prefix}-{name}.part"));
    // The size in the registry is rounded, so allow a little more.
    let limit = megabytes.map_or(MAX_BYTES, |mb| ((mb * 1.02 + 1.0) * f64::from(1 << 20)) as u64);

    download(url, &partial, limit, progress)?;
    match verify(&partial, None, Some(sha256_prefix), progress) {
        Ok(sha256) => Ok(Raw { leftovers: Leftovers::Path(partial.clone()), path: partial, sha256 }),
        Err(reason) => {
            // Otherwise every later pull would resume from the wrong data and fail again.
            let _ = std::fs::remove_file(&partial);
            Err(reason)
        }
    }
}

/// Downloads to `partial`, resuming from the bytes that are already there. An error after more than `limit` bytes.
fn download(url: &str, partial: &Path, limit: u64, progress: &dyn Fn(Progress<'_>)) -> Result<(), String> {
    let agent: Agent = Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(20)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .http_status_as_error(false)
        .user_agent(concat!("ascribe/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let here = std::fs::metadata(partial).map_or(0, |m| m.len());
    let mut response = request(&agent, url, here)?;
    let mut file;
    let mut done;
    match response.status() {
        StatusCode::PARTIAL_CONTENT if here > 0 && starts_at(&response, here) => {
            file = OpenOptions::new().append(true).open(partial).map_err(|e| e.to_string())?;
            done = here;
        }
        StatusCode::RANGE_NOT_SATISFIABLE if here > 0 => {
            // All bytes are already there. The verification checks whether they are right.
            return Ok(());
        }
        StatusCode::OK => {
            file = File::create(partial).map_err(|e| e.to_string())?;
            done = 0;
        }
        _ if here > 0 => {
            // The server cannot resume; start again.
            response = request(&agent, url, 0)?;
            if response.status() != StatusCode::OK {
                return Err(format!("the server responded with {}", response.status()));
            }
            file = File::create(partial).map_err(|e| e.to_string())?;
            done = 0;
        }
        status => return Err(format!("the server responded with {status}")),
    }
    let length =
        response.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    let total = length.and_then(|length| length.checked_add(done));
    if let Some(total) = total.filter(|total| *total > limit) {
        return Err(format!("the server announces {total} bytes, but the file can have at most {limit}"));
    }
    let mut body = response.into_body().into_reader();
    let mut buffer = vec![0; 1 << 16];
    loop {
        progress(Progress::Downloading { done, total });
        let read = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => {
                return Err(format!(
                    "the connection failed after {done} bytes ({e}); the next pull resumes there"
                ));
            }
        };
        done += read as u64;
        if done > limit {
            return Err(format!(
                "the server sends more than {limit} bytes, which is the most that the file can have"
            ));
        }
        file.write_all(&buffer[..read]).map_err(|e| e.to_string())?;
    }
    match total {
        Some(total) if done < total => {
            Err(format!("the connection ended after {done} of {total} bytes; the next pull resumes there"))
        }
        _ => file.flush().map_err(|e| e.to_string()),
    }
}

/// Requests a file from byte `from` on.
fn request(agent: &Agent, url: &str, from: u64) -> Result<Response<ureq::Body>, String> {
    let mut request = agent.get(url);
    if from > 0 {
        request = request.header(header::RANGE, format!("bytes={from}-"));
    }
    request.call().map_err(|e| format!("no response: {e}"))
}

/// Whether a partial response starts at byte `from`.
fn starts_at(response: &Response<ureq::Body>, from: u64) -> bool {
    let range = response.headers().get(header::CONTENT_RANGE).and_then(|v| v.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {from}-")))
}
