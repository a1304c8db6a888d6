//! The descriptions of metrics and studies.

use ascribe_core::{Needs, TruthKind, is_called};
use serde::{Deserialize, Serialize};

/// Which values of a metric are better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Better {
    /// Higher values are better.
    Higher,
    /// Lower values are better.
    Lower,
    /// Values closer to zero are better.
    Zero,
}

/// What a metric tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// Whether the attribution lies on the object.
    Localisation,
    /// Whether the score follows the attribution.
    Faithfulness,
    /// Whether the attribution depends on the model.
    Randomisation,
    /// Whether similar inputs have similar attributions.
    Robustness,
    /// Whether the attribution has the properties that its method guarantees.
    Axioms,
    /// How sparse or concise the attribution is.
    Complexity,
}

/// What a metric or a study needs beside attributions and a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Asks {
    /// Ground truth of each sample, [`crate::Case::showing`]: one of these kinds. Empty if none is needed.
    pub truth: &'static [TruthKind],
    /// The method, to compute further explanations: [`crate::Case::explained_by`].
    pub method: bool,
    /// A dataset and a way to train on it, which means that the card is that of a [`crate::Study`].
    pub training: bool,
}

impl Asks {
    /// Attributions and a model are enough.
    pub const NOTHING: Self = Self { truth: &[], method: false, training: false };

    /// Whether ground truth is needed.
    pub fn for_truth(&self) -> bool {
        !self.truth.is_empty()
    }
}

/// The description of a metric or study: its source in the literature and how to read its values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MetricCard {
    /// The identifier in the catalogue, on the command line and in configuration files.
    pub id: &'static str,
    /// The name in prose.
    pub name: &'static str,
    /// Other names of the metric, which a search also finds.
    pub also: &'static [&'static str],
    /// What it measures, in one line.
    pub summary: &'static str,
    /// The paper that introduced it: authors and title.
    pub paper: &'static str,
    /// Year of the paper.
    pub year: u16,
    /// What it tests.
    pub group: Group,
    /// Which values are better.
    pub better: Better,
    /// The smallest and the largest possible value, if there are bounds.
    pub range: [Option<f64>; 2],
    /// Its limitations.
    pub limits: &'static str,
    /// What it needs.
    pub asks: Asks,
}

impl MetricCard {
    /// A card with the fields that the metrics of a group share, to be completed by struct update syntax.
    pub const fn new(group: Group, better: Better) -> Self {
        Self {
            id: "",
            name: "",
            also: &[],
            summary: "",
            paper: "",
            year: 0,
            group,
            better,
            range: [None, None],
            limits: "",
            asks: Asks::NOTHING,
        }
    }

    /// Whether a word is this metric's identifier or one of its other names, ignoring hyphens and case.
    pub fn is_called(&self, word: &str) -> bool {
        is_called(self.id, self.also, word)
    }
}

/// A metric in a list.
#[derive(Clone, Copy, Debug)]
pub struct MetricEntry {
    /// Its description.
    pub card: &'static MetricCard,
    /// The access to the model that it needs.
    pub needs: Needs,
    pub(crate) build: crate::list::Build,
}

/// A study in a list.
#[derive(Clone, Copy, Debug)]
pub struct StudyEntry {
    /// Its description.
    pub card: &'static MetricCard,
    /// The access to the trained networks that it needs.
    pub needs: Needs,
    pub(crate) build: crate::list::BuildStudy,
}
