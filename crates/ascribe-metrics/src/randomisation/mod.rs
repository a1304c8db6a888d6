//! Does the attribution depend on the model?

mod data_randomisation;
mod model_randomisation;
mod similarity;

use crate::card::{Asks, Better, Group, MetricCard};

pub use data_randomisation::DataRandomisation;
pub use model_randomisation::{Mode, ModelRandomisation, randomise};

/// What the cards of these tests have in common.
const SANITY_CHECKS: MetricCard = MetricCard {
    paper: "Adebayo, Gilmer, Muelly, Goodfellow, Hardt & Kim, Sanity Checks for Saliency Maps",
    year: 2018,
    range: [Some(-1.0), Some(1.0)],
    asks: Asks { method: true, ..Asks::NOTHING },
    ..MetricCard::new(Group::Randomisation, Better::Lower)
};
