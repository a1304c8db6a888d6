//! Values of many methods and metrics on many samples.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::card::Better;
use crate::metric::{Measure, Sample, Summary};

/// One number: a metric, or a study, of a method on a target of a sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What the dataset calls the sample: of a picture its path.
    pub sample: String,
    /// What was explained, in words.
    pub target: String,
    /// The class that was explained, if the target is one.
    pub class: Option<usize>,
    /// Identifier of the method.
    pub method: String,
    /// Identifier of the metric or the study.
    pub metric: String,
    /// The value; `None` where the metric is not defined.
    pub value: Option<f64>,
    /// More numbers.
    pub detail: Value,
    /// Remarks.
    pub notes: Vec<String>,
}

/// A metric of a method over all rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Overall {
    /// Identifier of the method.
    pub method: String,
    /// Identifier of the metric or the study.
    pub metric: String,
    /// Which way is better.
    pub better: Better,
    /// The metric's own summary: the mean, for the pointing game the mean over classes, with a confidence interval.
    #[serde(flatten)]
    pub summary: Summary,
}

impl Overall {
    /// The summary of one method's rows by one metric or study; rows of others are left out.
    pub fn of(method: &str, metric: &(impl Measure + ?Sized), rows: &[Row], seed: u64) -> Self {
        let own = rows.iter().filter(|row| row.method == method && row.metric == metric.id());
        let samples: Vec<Sample> = own.map(|row| Sample { value: row.value, class: row.class }).collect();
        Self {
            method: method.into(),
            metric: metric.id().into(),
            better: metric.card().better,
            summary: metric.summarise(&samples, seed),
        }
    }
}
