//! What there is to say about a metric or a study, beside its code.

use ascribe_core::{Needs, TruthKind, is_called};
use serde::{Deserialize, Serialize};

/// Which way a metric's value is better.
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
    /// Whether the attribution has the properties that its method promises.
    Axioms,
    /// How many values the attribution needs to say what it says.
    Complexity,
}

/// What a metric or a study has to be given beside attributions and a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Asks {
    /// What is known of each sample, [`crate::Case::showing`]: one of these kinds. Empty if it does not matter.
    pub truth: &'static [TruthKind],
    /// The method, to explain again: [`crate::Case::explained_by`].
    pub method: bool,
    /// A dataset and a way to train on it: the card is that of a [`crate::Study`].
    pub training: bool,
}

impl Asks {
    /// Attributions and a model are enough.
    pub const NOTHING: Self = Self { truth: &[], method: false, training: false };

    /// Whether something has to be known of the samples.
    pub fn for_truth(&self) -> bool {
        !self.truth.is_empty()
    }
}

/// A metric's or a study's place in the literature, and how its values are read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MetricCard {
    /// The identifier that the catalogue, the command line and configuration files use.
    pub id: &'static str,
    /// The name in prose.
    pub name: &'static str,
    /// Other names of the metric, by which a search finds it.
    pub also: &'static [&'static str],
    /// What it measures, in a line.
    pub summary: &'static str,
    /// The paper it comes from: authors and title.
    pub paper: &'static str,
    /// Year of the paper.
    pub year: u16,
    /// What it tests.
    pub group: Group,
    /// Which way its value is better.
    pub better: Better,
    /// The least and the largest value, where there are such.
    pub range: [Option<f64>; 2],
    /// What it cannot tell.
    pub limits: &'static str,
    /// What it has to be given.
    pub asks: Asks,
}

impl MetricCard {
    /// What metrics of a group have in common, to be completed.
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

    /// Whether a word is this metric's identifier or another name of it, hyphens and case aside.
    pub fn is_called(&self, word: &str) -> bool {
        is_called(self.id, self.also, word)
    }
}

/// A metric in a list.
#[derive(Clone, Copy, Debug)]
pub struct MetricEntry {
    /// What there is to say about it.
    pub card: &'static MetricCard,
    /// What it needs of a model.
    pub needs: Needs,
    pub(crate) build: crate::list::Build,
}

/// A study in a list.
#[derive(Clone, Copy, Debug)]
pub struct StudyEntry {
    /// What there is to say about it.
    pub card: &'static MetricCard,
    /// What it needs of the networks that it trains.
    pub needs: Needs,
    pub(crate) build: crate::list::BuildStudy,
}
