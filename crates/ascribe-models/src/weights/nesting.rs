//! Finds the state dict among the entries of a checkpoint.

use super::pickle::{Id, Node, Pickle};
use super::torch_views::is_tensor;

/// Keys under which training scripts store the state dict, next to the state of the optimiser and other values.
const USUAL: [&str; 10] = [
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "network",
    "module",
    "weights",
    "model_state",
    "net_state_dict",
    "params",
];

/// Words in keys of running averages of the parameters, which have the same names as the parameters.
const AVERAGES: [&str; 4] = ["ema", "swa", "averaged", "average"];

/// Parts of keys of entries that hold other tensors.
const OTHERS: [&str; 9] =
    ["optim", "sched", "scaler", "callback", "loop", "rng", "criterion", "loss", "hyper"];

/// The entries of a dictionary in which tensors are looked for.
const SAMPLE: usize = 64;

/// The state dict: the checkpoint itself, or a dictionary in it.
///
/// # Errors
/// If there are several that may be meant; the message names their keys.
pub(super) fn state_dict(pickle: &Pickle) -> Result<&Node, String> {
    let mut node = pickle.root();
    // State dicts are nested once or twice (`{'model': {'state_dict': …}}`). The limit is for references in a cycle.
    for _ in 0..4 {
        let Node::Dict(items) = node else { break };
        match inner(pickle, items)? {
            Some(inner) => node = inner,
            None => break,
        }
    }
    Ok(node)
}

/// The dictionary or object in a dictionary that is, or contains, the state dict; `None` if there is none.
fn inner<'a>(pickle: &'a Pickle, items: &[(Id, Id)]) -> Result<Option<&'a Node>, String> {
    let named: Vec<(&str, Id)> =
        items.iter().filter_map(|(key, value)| Some((pickle.text(*key)?, *value))).collect();
    let is_usual = |key: &str| USUAL.contains(&key);
    let mut meant: Vec<(&str, Id)> = Vec::new();
    for (key, value) in named.iter().filter(|(_, value)| has_tensors(pickle, *value, 2)) {
        let known = is_usual(key) || is_average(key);
        if known && meant.iter().all(|(_, other)| other != value) {
            meant.push((key, *value));
        }
    }
    if meant.is_empty() {
        let object = USUAL.iter().find_map(|usual| {
            let (_, value) = named.iter().find(|(key, _)| key == usual)?;
            let node = pickle.get(*value);
            (matches!(node, Node::Dict(_) | Node::Call { .. }) && !is_tensor(pickle, node)).then_some(node)
        });
        if object.is_some() || named.iter().any(|(_, value)| is_tensor(pickle, pickle.get(*value))) {
            return Ok(object);
        }
        meant = named;
        meant.retain(|(key, value)| {
            let key = key.to_lowercase();
            has_tensors(pickle, *value, 2) && !OTHERS.iter().any(|part| key.contains(part))
        });
    }
    match meant.as_slice() {
        [] => Ok(None),
        [(_, only)] => Ok(Some(pickle.get(*only))),
        several => {
            let keys: Vec<String> = several.iter().take(8).map(|(key, _)| format!("'{key}'")).collect();
            Err(format!(
                "it holds several state dicts: {}; in Python, save the one that is meant, as in \
                 `torch.save(checkpoint[{}], …)`",
                keys.join(", "),
                keys[0]
            ))
        }
    }
}

/// Whether a key is that of running averages of the parameters.
fn is_average(key: &str) -> bool {
    key.split(|c: char| !c.is_alphanumeric()).any(|word| AVERAGES.contains(&word.to_lowercase().as_str()))
}

/// Whether a value is a dictionary that holds a tensor, itself or in dictionaries in it.
fn has_tensors(pickle: &Pickle, id: Id, depth: usize) -> bool {
    let Node::Dict(items) = pickle.get(id) else { return false };
    items.iter().take(SAMPLE).any(|(_, value)| {
        is_tensor(pickle, pickle.get(*value)) || depth > 1 && has_tensors(pickle, *value, depth - 1)
    })
}

/// The first keys of a checkpoint, for error messages.
pub(super) fn keys(pickle: &Pickle) -> String {
    let Node::Dict(items) = pickle.root() else { return String::new() };
    let keys: Vec<&str> = items.iter().filter_map(|(key, _)| pickle.text(*key)).collect();
    let more = keys.len().saturating_sub(8);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!(" (the entries of the file are: {}{more})", keys[..keys.len().min(8)].join(", "))
}

/// Whether PyTorch Lightning wrote a checkpoint.
pub(super) fn is_lightning(pickle: &Pickle) -> bool {
    let Node::Dict(items) = pickle.root() else { return false };
    items.iter().any(|(key, _)| pickle.text(*key) == Some("pytorch-lightning_version"))
}
