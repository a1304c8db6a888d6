//! `ascribe models` and `ascribe pull`.

use ascribe::models::fetch::{self, Origin, Progress, PullOptions};
use ascribe::models::registry::Registry;
use serde_json::json;

use crate::args::{Models, Pull};
use crate::error::Result;
use crate::output::{json_text, table};
use crate::progress::{Bar, note};

pub fn list(args: &Models) -> Result<String> {
    let mut rows = Vec::new();
    let mut objects = Vec::new();
    for entry in Registry::builtin().models() {
        let here = fetch::locate(entry, None)?;
        let state = match here.as_ref().map(|l| &l.origin) {
            Some(Origin::Cached | Origin::Fetched(_)) => "cached",
            Some(Origin::Shipped) => "shipped",
            None => "not here",
        };
        let sources: Vec<String> = entry.sources.iter().map(ToString::to_string).collect();
        let size = entry.megabytes.map_or_else(|| "?".into(), |m| format!("{m:.0} MiB"));
        rows.push(vec![
            entry.name.clone(),
            entry.architecture.clone(),
            state.into(),
            size,
            entry.licence.clone(),
            sources.first().cloned().unwrap_or_default(),
        ]);
        objects.push(json!({
            "name": entry.name, "architecture": entry.architecture, "state": state, "licence": entry.licence,
            "megabytes": entry.megabytes, "sources": sources, "paper": entry.paper,
            "path": here.map(|l| l.path), "preprocessing": entry.preprocessing,
        }));
    }
    if args.json {
        return json_text(&json!(objects));
    }
    Ok(table(&["model", "architecture", "weights", "size", "licence", "first source"], rows))
}

pub fn pull(args: &Pull) -> Result<String> {
    let bar = Bar::bytes(&args.name);
    let options = PullOptions::default().with_force(args.force);
    let located = fetch::pull(&args.name, &options, &|progress| match progress {
        Progress::Waiting => bar.label("waiting for another pull"),
        Progress::Trying(source) => note(&format!("fetching {} from {source}", args.name)),
        Progress::Downloading { done, total } => bar.set(done, total),
        Progress::Verifying => bar.label("verifying"),
        Progress::Converting => bar.label("converting"),
        Progress::Failed(source, reason) => note(&format!("{source}: {reason}")),
        _ => {}
    });
    bar.finish();
    let located = located?;
    let how = match located.origin {
        Origin::Cached => "is in the cache".to_string(),
        Origin::Shipped => "ships with Ascribe".to_string(),
        Origin::Fetched(source) => format!("fetched from {source}, verified"),
    };
    Ok(format!("{} {how}: {}\n", args.name, located.path.display()))
}
