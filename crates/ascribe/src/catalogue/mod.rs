//! The catalogue of methods and metrics: what exists, where it comes from, and how to build it by name.
//!
//! ```
//! use ascribe::catalogue;
//! let entry = catalogue::method("integrated-gradients")?;
//! assert_eq!(entry.year, 2017);
//! let explainer = catalogue::explainer("integrated-gradients", &serde_json::json!({ "steps": 20 }))?;
//! assert_eq!(explainer.config()["steps"], 20);
//! # Ok::<(), ascribe::Error>(())
//! ```

mod build;

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

pub use build::{explainer, fields, metric, metrics, score};

use crate::error::{Error, Result};
use crate::target::Score;

/// What a method needs of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Needs {
    /// Its outputs.
    BlackBox,
    /// Gradients with respect to its inputs.
    Gradient,
    /// Its graph.
    WhiteBox,
}

/// One method of the catalogue, with its place in the taxonomies of Das & Rad 2020 and Wang et al. 2024.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Identifier.
    pub id: String,
    /// Name.
    pub name: String,
    /// What it computes, in a line.
    pub summary: String,
    /// Paper it comes from.
    pub paper: String,
    /// Year of the paper.
    pub year: u16,
    /// What it needs of a model.
    pub needs: Needs,
    /// What scores a class that a target names, in the paper.
    #[serde(default)]
    pub score: Score,
    /// Das & Rad: `local`, `global` or `both`.
    pub scope: String,
    /// Das & Rad: `back-propagation`, `perturbation` or `other`.
    pub methodology: String,
    /// Das & Rad: `post-hoc` or `intrinsic`.
    #[serde(default = "post_hoc")]
    pub usage: String,
    /// Whether only differences between the values of a map have a meaning, and zero has none.
    #[serde(default)]
    pub relative: bool,
    /// Das & Rad: whether it works for any kind of model.
    #[serde(default)]
    pub agnostic: bool,
    /// Das & Rad: `image`, `text`, `tabular` or `any`.
    pub domain: String,
    /// Das & Rad: networks it was applied to.
    #[serde(default)]
    pub networks: Vec<String>,
    /// Wang et al.: `vanilla`, `integrated`, `bias` or `post-processing`; `None` if not gradient-based.
    #[serde(default)]
    pub family: Option<String>,
    /// Wang et al.: `model-explanation`, `outcome-explanation` or `model-inspection`.
    #[serde(default)]
    pub place: Option<String>,
}

fn post_hoc() -> String {
    "post-hoc".into()
}

#[derive(Deserialize)]
struct File {
    method: Vec<Entry>,
}

static METHODS: LazyLock<std::result::Result<Vec<Entry>, String>> = LazyLock::new(|| {
    toml::from_str::<File>(include_str!("methods.toml")).map(|f| f.method).map_err(|e| e.to_string())
});

/// All methods.
///
/// # Errors
/// Never: the table is part of the program, and a test reads it.
pub fn methods() -> Result<&'static [Entry]> {
    METHODS.as_deref().map_err(|e| Error::Catalogue(e.clone()))
}

/// The method of this identifier.
///
/// # Errors
/// [`Error::Unknown`], with the most similar identifier.
pub fn method(id: &str) -> Result<&'static Entry> {
    let all = methods()?;
    all.iter()
        .find(|e| e.id == id)
        .ok_or_else(|| Error::unknown("method", id, all.iter().map(|e| e.id.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_the_table_can_be_built_and_knows_its_id() {
        for entry in methods().unwrap() {
            let built = explainer(&entry.id, &serde_json::json!({})).unwrap();
            assert_eq!(built.id(), entry.id);
            assert!(built.config().is_object(), "{}", entry.id);
        }
    }

    #[test]
    fn rise_scores_probabilities_and_noise_what_the_method_inside_does() {
        let of = |id: &str, config| score(id, &config).unwrap();
        assert_eq!(of("rise", serde_json::json!({})), Score::Probability);
        assert_eq!(of("occlusion", serde_json::json!({})), Score::Logit);
        assert_eq!(of("smooth-grad", serde_json::json!({})), Score::Logit);
        assert_eq!(of("smooth-grad", serde_json::json!({ "explainer": "rise" })), Score::Probability);
        let inside = serde_json::json!({ "explainer": { "method": "rise", "config": { "masks": 9 } } });
        assert_eq!(of("var-grad", inside), Score::Probability);
        assert!(score("rose", &serde_json::json!({})).is_err());
    }

    #[test]
    fn the_configuration_round_trips() {
        for entry in methods().unwrap() {
            let config = explainer(&entry.id, &serde_json::json!({})).unwrap().config();
            let again = explainer(&entry.id, &config).unwrap().config();
            assert_eq!(config, again, "{}", entry.id);
        }
    }

    #[test]
    fn unknown_names_suggest_near_ones() {
        assert!(method("saliensy").unwrap_err().to_string().contains("saliency"));
        let error = explainer("saliency", &serde_json::json!({ "abbs": true })).unwrap_err().to_string();
        assert!(error.contains("abbs") && error.contains("abs"), "{error}");
        let error = explainer("smooth-grad", &serde_json::json!({ "smaples": 3 })).unwrap_err().to_string();
        assert!(error.contains("smaples") && error.contains("samples"), "{error}");
    }
}
