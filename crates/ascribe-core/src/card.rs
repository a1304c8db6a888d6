//! The description of a method, beside its code: where it comes from, and how its maps are read.

use serde::{Deserialize, Serialize};

use crate::outputs::OutputKind;
use crate::target::Target;

/// What the score of a class is, unless the target says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Score {
    /// The model's output before its softmax.
    #[default]
    Logit,
    /// The probability: softmax, or sigmoid where several labels may hold.
    Probability,
}

impl Score {
    /// The target, with this score if it names a class of outputs of this kind; other targets are returned unchanged.
    pub fn of(self, target: Target, kind: OutputKind) -> Target {
        match self {
            Self::Logit => target,
            Self::Probability => target.probability(kind),
        }
    }
}

/// What a method needs of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Needs {
    /// Its outputs: [`crate::Predictor`].
    BlackBox,
    /// Gradients with respect to its inputs: [`crate::Differentiable`].
    Gradient,
    /// Its graph: [`crate::Graph`].
    WhiteBox,
    /// Whatever the method that it wraps needs.
    Inner,
}

/// Das & Rad 2020, §III: what an explanation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// One prediction.
    Local,
    /// The whole model.
    Global,
    /// One or the other.
    Both,
}

/// Das & Rad 2020, §III: how an explanation is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Methodology {
    /// By signals that are propagated from the output to the input.
    BackPropagation,
    /// By changing inputs.
    Perturbation,
    /// In another way.
    Other,
}

/// Das & Rad 2020, §III: when a method is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Usage {
    /// After training, to an existing model.
    PostHoc,
    /// As part of the model.
    Intrinsic,
}

/// Das & Rad 2020, Tables III to V: the data that a method was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Domain {
    /// Images.
    Image,
    /// Text.
    Text,
    /// Tables.
    Tabular,
    /// Any of them.
    Any,
}

/// Wang et al. 2024, §3: the families of gradient-based methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Gradients at the input, and backward walks with other rules.
    Vanilla,
    /// Gradients along a path.
    Integrated,
    /// Gradients at the biases.
    Bias,
    /// Post-processing of the maps of other methods.
    PostProcessing,
}

/// Wang et al. 2024, §2: what is explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// The model as a whole, by a simpler one.
    ModelExplanation,
    /// One prediction.
    OutcomeExplanation,
    /// A property of the model.
    ModelInspection,
}

/// Which of these fields a method's configuration has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
#[expect(clippy::struct_excessive_bools, reason = "each field of a configuration is there or not")]
pub struct Takes {
    /// A field `layer`: the method uses a layer, but explains the input.
    pub layer: bool,
    /// A field `baseline`.
    pub baseline: bool,
    /// A field `explainer`: another method, which this one wraps.
    pub method: bool,
    /// Fields `low` and `high`: the range of the model's inputs, `null` where it is not known.
    pub range: bool,
}

/// A method's place in the literature and in the taxonomies of the two surveys, and how its maps are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Card {
    /// The identifier that the catalogue, the command line and configuration files use.
    pub id: &'static str,
    /// The name to display.
    pub name: &'static str,
    /// Other names of the method, which a search also finds.
    pub also: &'static [&'static str],
    /// What it computes, in a line.
    pub summary: &'static str,
    /// The paper it comes from: authors and title.
    pub paper: &'static str,
    /// Year of the paper.
    pub year: u16,
    /// What the score of a class is in the paper.
    pub score: Score,
    /// Whether only differences between the values of a map are meaningful, and the value zero is not.
    pub relative: bool,
    /// What its configuration has fields for.
    pub takes: Takes,
    /// Das & Rad: local or global.
    pub scope: Scope,
    /// Das & Rad: back-propagation or perturbation.
    pub methodology: Methodology,
    /// Das & Rad: post-hoc or intrinsic.
    pub usage: Usage,
    /// Das & Rad: whether it works for any kind of model.
    pub agnostic: bool,
    /// Das & Rad: the kind of data.
    pub domain: Domain,
    /// Das & Rad: networks that it was applied to.
    pub networks: &'static [&'static str],
    /// Wang et al.: the family; `None` if the method is not gradient-based.
    pub family: Option<Family>,
    /// Wang et al.: what is explained; `None` where the survey does not treat the method.
    pub place: Option<Place>,
}

impl Card {
    /// A card with what gradient-based methods of a family have in common, to be completed.
    pub const fn gradient(family: Family) -> Self {
        Self {
            methodology: Methodology::BackPropagation,
            agnostic: false,
            family: Some(family),
            place: Some(Place::OutcomeExplanation),
            ..Self::perturbation()
        }
    }

    /// A card with what perturbation-based methods have in common, to be completed.
    pub const fn perturbation() -> Self {
        Self {
            id: "",
            name: "",
            also: &[],
            summary: "",
            paper: "",
            year: 0,
            score: Score::Logit,
            relative: false,
            takes: Takes { layer: false, baseline: false, method: false, range: false },
            scope: Scope::Local,
            methodology: Methodology::Perturbation,
            usage: Usage::PostHoc,
            agnostic: true,
            domain: Domain::Any,
            networks: &[],
            family: None,
            place: None,
        }
    }

    /// This card, for a configuration with a field `layer`.
    #[must_use]
    pub const fn with_layer(self) -> Self {
        Self { takes: Takes { layer: true, ..self.takes }, ..self }
    }

    /// This card, for a configuration with a field `baseline`.
    #[must_use]
    pub const fn with_baseline(self) -> Self {
        Self { takes: Takes { baseline: true, ..self.takes }, ..self }
    }

    /// This card, for a configuration with a field `explainer`.
    #[must_use]
    pub const fn with_method(self) -> Self {
        Self { takes: Takes { method: true, ..self.takes }, ..self }
    }

    /// This card, for a configuration with fields `low` and `high`.
    #[must_use]
    pub const fn with_range(self) -> Self {
        Self { takes: Takes { range: true, ..self.takes }, ..self }
    }

    /// Whether a text is this method's identifier or another name of it, ignoring hyphens and case.
    pub fn is_called(&self, word: &str) -> bool {
        is_called(self.id, self.also, word)
    }
}

/// Whether a word is an identifier or another name of the same thing, hyphens and case aside.
pub fn is_called(id: &str, also: &[&str], word: &str) -> bool {
    let plain = |text: &str| text.replace(['-', '_', ' '], "").to_lowercase();
    std::iter::once(&id).chain(also).any(|name| plain(name) == plain(word))
}
