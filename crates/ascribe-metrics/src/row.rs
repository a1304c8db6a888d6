//! Values of many methods and metrics on many samples.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::card::Better;
use crate::metric::{Measure, Sample, Summary};

/// One result: the value of a metric or study for a method, on one target of one sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The name of the sample in the dataset; for an image, its path.
    pub sample: String,
    /// A description of the target that was explained.
    pub target: String,
    /// The class that was explained, if the target is one.
    pub class: Option<usize>,
    /// Identifier of the method.
    pub method: String,
    /// Identifier of the metric or the study.
    pub metric: String,
    /// The value; `None` if the metric is not defined.
    pub value: Option<f64>,
    /// Further numbers.
    pub detail: Value,
    /// Notes.
    pub notes: Vec<String>,
}

/// The summary of a metric over all rows of a method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Overall {
    /// Identifier of the method.
    pub method: String,
    /// Identifier of the metric or the study.
    pub metric: String,
    /// Which values are better.
    pub better: Better,
    /// The metric's own summary with a confidence interval: the mean, or for the pointing game the mean over classes.
    #[serde(flatten)]
    pub summary: Summary,
}

impl Overall {
    /// The summary of one method's rows for one metric or study; rows of others are ignored.
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
