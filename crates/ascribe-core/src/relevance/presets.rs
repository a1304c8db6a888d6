//! The rules of the LRP family, and common tables of them.

use serde::{Deserialize, Serialize};

use super::spec::{At, Entry, RuleName};
use super::terms::{AffineRule, Gate, Part, Share, Term, Weights};

/// x_t W_t + b_t
const fn term(input: Part, weights: Weights, bias: Option<Weights>) -> Term {
    Term { input, weights, bias, minus: false }
}

/// x⁺ W_p + b_p + x⁻ W_n
fn signed(with_positive: Weights, with_negative: Weights) -> Vec<Term> {
    vec![term(Part::Positive, with_positive, Some(with_positive)), term(Part::Negative, with_negative, None)]
}

impl AffineRule {
    /// LRP-ε: R_i = x_i [Wᵀ (R / stab(W x + b))]_i (Bach et al. 2015, eq. 58; Montavon et al. 2019, §10.2.1); with
    /// ε = 0, LRP-0.
    pub fn epsilon(epsilon: f64) -> Self {
        let all = term(Part::All, Weights::All, Some(Weights::All));
        Self::new("lrp-epsilon", epsilon, vec![Share::of(vec![all])])
    }

    /// z⁺, also called LRP-α₁β₀: only the positive contributions x⁺W⁺ + x⁻W⁻ count (Bach et al. 2015, eq. 60;
    /// Montavon et al. 2017, §5.1 for x ≥ 0).
    pub fn z_plus(epsilon: f64) -> Self {
        let shares = vec![Share::of(signed(Weights::Positive, Weights::Negative))];
        Self::new("lrp-z-plus", epsilon, shares)
    }

    /// LRP-αβ: α times the positive contributions x⁺W⁺ + x⁻W⁻ minus β times the negative ones x⁺W⁻ + x⁻W⁺, each divided by
    /// their own sum (Bach et al. 2015, eq. 60). Relevance is conserved for α − β = 1.
    pub fn alpha_beta(alpha: f64, beta: f64, epsilon: f64) -> Self {
        let positive = Share { factor: alpha, ..Share::of(signed(Weights::Positive, Weights::Negative)) };
        let negative = Share { factor: -beta, ..Share::of(signed(Weights::Negative, Weights::Positive)) };
        Self::new("lrp-alpha-beta", epsilon, vec![positive, negative])
    }

    /// LRP-γ: the positive contributions are weighted by 1 + γ where the output is positive, the negative ones where
    /// it is negative (Montavon et al. 2019, §10.2.3, for x ≥ 0; Andéol et al. 2021 for signed x). An output of
    /// exactly 0 passes nothing.
    pub fn gamma(gamma: f64, epsilon: f64) -> Self {
        let (up, down) = (Weights::FavourPositive(gamma), Weights::FavourNegative(gamma));
        let positive = Share { gate: Gate::Positive, ..Share::of(signed(up, down)) };
        let negative = Share { gate: Gate::Negative, ..Share::of(signed(down, up)) };
        Self::new("lrp-gamma", epsilon, vec![positive, negative])
    }

    /// w²: R_i = Σ_j w_ij² / (Σ_i′ w_i′j² + b_j²) R_j, independent of x (Montavon et al. 2017, §4.1, where there is
    /// no bias; with `absorb(false)`, as there).
    pub fn w_square(epsilon: f64) -> Self {
        let squared = term(Part::One, Weights::Squared, Some(Weights::Squared));
        Self::new("lrp-w-square", epsilon, vec![Share::of(vec![squared])])
    }

    /// Flat: relevance is divided evenly among the inputs that an output depends on (Lapuschkin et al. 2019,
    /// "Unmasking Clever Hans Predictors and Assessing What Machines Really Learn").
    pub fn flat(epsilon: f64) -> Self {
        let even = term(Part::One, Weights::One, None);
        Self::new("lrp-flat", epsilon, vec![Share::of(vec![even])])
    }

    /// zᴮ, for inputs between l and h: contributions x W − l W⁺ − h W⁻ (Montavon et al. 2017, §4.2). It needs `low` and
    /// `high`.
    pub fn z_box(epsilon: f64) -> Self {
        let minus = |input, weights| Term { minus: true, ..term(input, weights, Some(weights)) };
        let terms = vec![
            term(Part::All, Weights::All, Some(Weights::All)),
            minus(Part::Low, Weights::Positive),
            minus(Part::High, Weights::Negative),
        ];
        Self::new("lrp-z-box", epsilon, vec![Share::of(terms)])
    }
}

/// A common table of rules for affine nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// z⁺ at convolutions, ε elsewhere (Kohlbrenner et al. 2020, "Towards Best Practice in Explaining Neural Network
    /// Decisions with LRP").
    #[default]
    EpsilonPlus,
    /// The same, with the flat rule at the first layer.
    EpsilonPlusFlat,
    /// α₂β₁ at convolutions, ε elsewhere (Kohlbrenner et al. 2020).
    #[serde(rename = "epsilon-alpha2-beta1")]
    EpsilonAlpha2Beta1,
    /// The same, with the flat rule at the first layer.
    #[serde(rename = "epsilon-alpha2-beta1-flat")]
    EpsilonAlpha2Beta1Flat,
    /// γ at convolutions, ε elsewhere.
    EpsilonGamma,
    /// The same, with zᴮ at the first layer.
    EpsilonGammaBox,
    /// ε everywhere.
    Epsilon,
    /// γ everywhere.
    Gamma,
    /// z⁺ everywhere.
    ZPlus,
}

impl Preset {
    /// The table.
    pub fn entries(self) -> Vec<Entry> {
        let at = |at: At, rule: RuleName| Entry::new(at, rule);
        let mixed =
            |convolution: RuleName| vec![at(At::Convolution, convolution), at(At::All, RuleName::Epsilon)];
        let behind = |first: RuleName, others: Vec<Entry>| {
            let mut all = vec![at(At::First, first)];
            all.extend(others);
            all
        };
        match self {
            Self::EpsilonPlus => mixed(RuleName::ZPlus),
            Self::EpsilonPlusFlat => behind(RuleName::Flat, mixed(RuleName::ZPlus)),
            Self::EpsilonAlpha2Beta1 => mixed(RuleName::AlphaBeta),
            Self::EpsilonAlpha2Beta1Flat => behind(RuleName::Flat, mixed(RuleName::AlphaBeta)),
            Self::EpsilonGamma => mixed(RuleName::Gamma),
            Self::EpsilonGammaBox => behind(RuleName::Box, mixed(RuleName::Gamma)),
            Self::Epsilon => vec![at(At::All, RuleName::Epsilon)],
            Self::Gamma => vec![at(At::All, RuleName::Gamma)],
            Self::ZPlus => vec![at(At::All, RuleName::ZPlus)],
        }
    }
}
