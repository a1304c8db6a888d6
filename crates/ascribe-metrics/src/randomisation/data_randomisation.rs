//! Data randomisation: Adebayo et al. 2018, "Sanity Checks for Saliency Maps", §3.2 and §4.2.
//!
//! Trains the same network twice, on the labels and on a permutation of them, explains the same samples with both,
//! and compares the attributions by Spearman's rank correlation and structural similarity. The network with permuted
//! labels has memorised its samples, and has learned nothing about the relation between samples and labels: an
//! attribution that stays the same does not depend on that relation either. Lower is better.
//!
//! The class that is explained is the sample's label. The paper trains until 95 % of the permuted labels are
//! predicted correctly; if one of the two networks stays below that, the rows contain a note.
//!
//! Limits: noise lowers similarity just as dependence on the labels does; two trained networks differ even if their
//! labels do not; maps that are dominated by the input stay similar because of it.

use ascribe_core::dataset::{ShuffledLabels, like, stack};
use ascribe_core::{
    Boxed, Dataset, Error, Explainer, Inputs, OutputKind, Predictor, Reduction, Result, Run, Target,
};
use derive_setters::Setters;
use serde::{Deserialize, Serialize};

use super::SANITY_CHECKS;
use super::similarity::Similarity;
use crate::card::{Asks, MetricCard};
use crate::metric::MetricConfig;
use crate::row::Row;
use crate::statistics::Ssim;
use crate::study::{Study, StudyCase};
use crate::training::{accuracy, label};

/// Configuration of data randomisation.
///
/// ```
/// use ascribe_core::dataset::InMemory;
/// use ascribe_core::{Boxed, Device, GraphBuilder, Run, Tensor, ops::Linear};
/// use ascribe_gradient::Saliency;
/// use ascribe_metrics::training::Training;
/// use ascribe_metrics::{DataRandomisation, Study, StudyCase};
/// let mut b = GraphBuilder::new();
/// let x = b.input("x", &[Some(4)]);
/// let w = b.constant("w", Tensor::new(&[[0_f32; 4]; 2], &Device::Cpu)?);
/// let y = b.op("fc", Linear, &[x, w])?;
/// let train = Training::new(b.finish(&[y])?).steps(30).batch(4).rate(0.1);
/// let x = Tensor::new(&[[1_f32, 0.1, 0.0, 0.5], [0.2, 1.0, 0.4, 0.0], [0.0, 0.6, 0.8, 0.3], [0.5, 0.0, 0.2, 0.9]], &Device::Cpu)?;
/// let (data, methods, run) = (InMemory::labelled(&x, &[0, 1, 1, 0])?, [Boxed::new(Saliency::default())], Run::new());
/// let case = StudyCase { methods: &methods, train: &train, training: &data, data: &data, run: &run };
/// let rows = DataRandomisation::default().conduct(&case)?;
/// // The network with permuted labels looks at the input in another way.
/// assert!(rows.len() == 4 && rows.iter().all(|row| row.value.is_some_and(|correlation| correlation < 1.0)));
/// # Ok::<(), ascribe_core::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize, Setters)]
#[serde(default, deny_unknown_fields)]
pub struct DataRandomisation {
    /// The fraction of the training samples that each network should predict correctly.
    pub accuracy: f64,
    /// Whether absolute values are compared, instead of signed ones.
    pub absolute: bool,
    /// How the channels are reduced to one map.
    pub reduction: Reduction,
    /// The settings of structural similarity.
    pub ssim: Ssim,
}

impl Default for DataRandomisation {
    fn default() -> Self {
        Self { accuracy: 0.95, absolute: true, reduction: Reduction::Sum, ssim: Ssim::default() }
    }
}

impl MetricConfig for DataRandomisation {
    const CARD: MetricCard = MetricCard {
        id: "data-randomisation",
        name: "Data randomisation",
        also: &["data randomization test", "label randomisation", "permuted labels"],
        summary: "rank correlation of the map with that of the same network trained on permuted labels",
        limits: "similarity is lowered by noise as well as by dependence on the labels; two trained networks differ even if \
                 their labels do not; maps that the input dominates stay similar through the input",
        asks: Asks { training: true, ..SANITY_CHECKS.asks },
        ..SANITY_CHECKS
    };

    fn check(&self) -> Result<()> {
        if !(0.0..=1.0).contains(&self.accuracy) {
            return Err(Error::invalid("accuracy", self.accuracy.to_string(), "a share from 0 to 1"));
        }
        if self.ssim.window.is_multiple_of(2) {
            return Err(Error::invalid(
                "ssim.window",
                self.ssim.window.to_string(),
                "an odd number of pixels",
            ));
        }
        Ok(())
    }
}

impl<M: Predictor> Study<M> for DataRandomisation {
    /// The values are rank correlations; `None` if one of the maps is constant. The details hold the rank
    /// correlation, the structural similarity (`null` if the window is larger than the maps), and the accuracy of
    /// both networks on their training data, with that for the permuted labels second.
    fn conduct(&self, case: &StudyCase<'_, M>) -> Result<Vec<Row>> {
        MetricConfig::check(self)?;
        let run = case.run;
        let shuffled = ShuffledLabels::new(case.training, run.get_seed())?;
        let trained = Trained::new(case, case.training)?;
        let random = Trained::new(case, &shuffled)?;
        let samples = labelled(case.data)?;
        let total = case.methods.len() * samples.len();
        let mut rows = Vec::with_capacity(total);
        for method in case.methods {
            let inputs: Vec<Inputs> = samples.iter().map(|sample| sample.inputs.clone()).collect();
            let mut found = vec![None; samples.len()];
            let groups = like(&inputs);
            for chunk in groups.iter().flat_map(|group| group.chunks(run.get_batch())) {
                run.step(rows.len() + chunk[0], total)?;
                let part: Vec<&Explained> = chunk.iter().map(|&number| &samples[number]).collect();
                for (&number, row) in
                    chunk.iter().zip(self.compare(method, [&trained, &random], &part, run)?)
                {
                    found[number] = Some(row);
                }
            }
            rows.extend(found.into_iter().flatten());
        }
        run.step(total, total)?;
        Ok(rows)
    }
}

impl DataRandomisation {
    /// The rows of some samples of the same shape.
    fn compare<M: Predictor>(
        &self,
        method: &Boxed<M>,
        [trained, random]: [&Trained<M>; 2],
        samples: &[&Explained],
        run: &Run,
    ) -> Result<Vec<Row>> {
        let x = stack(samples.iter().map(|sample| &sample.inputs))?;
        let target = Target::Classes(samples.iter().map(|sample| sample.label).collect());
        let target = method.score().of(target, OutputKind::Classes);
        let similarity = Similarity { absolute: self.absolute, reduction: self.reduction, ssim: self.ssim };
        let maps = |network: &Trained<M>| {
            similarity.maps(method.explain(&network.model, &x, &target, &run.quiet())?.values())
        };
        let (one, other) = (maps(trained)?, maps(random)?);
        let row = |(number, sample): (usize, &&Explained)| {
            let alike = similarity.compare(&one.maps[number], &other.maps[number], one.size)?;
            let notes = [
                trained.note("the labels", self.accuracy),
                random.note("the permuted labels", self.accuracy),
                alike.rank.is_none().then(|| "one of the two maps is constant".into()),
            ];
            Ok(Row {
                sample: sample.name.clone(),
                target: target.describe_sample(number),
                class: Some(sample.label),
                method: method.id().into(),
                metric: Self::CARD.id.into(),
                value: alike.rank,
                detail: serde_json::json!({
                    "spearman": alike.rank, "ssim": alike.ssim, "accuracy": [trained.accuracy, random.accuracy],
                }),
                notes: notes.into_iter().flatten().collect(),
            })
        };
        samples.iter().enumerate().map(row).collect()
    }
}

/// A network and its accuracy on its training data.
struct Trained<M> {
    model: M,
    accuracy: f64,
}

impl<M: Predictor> Trained<M> {
    fn new(case: &StudyCase<'_, M>, data: &dyn Dataset) -> Result<Self> {
        let model = case.train.fit(data, case.run)?;
        let accuracy = accuracy(&model, data, &case.run.quiet())?;
        Ok(Self { model, accuracy })
    }

    /// A note if the network has not learned its labels.
    fn note(&self, labels: &str, least: f64) -> Option<String> {
        let percent = |share: f64| 100.0 * share;
        (self.accuracy < least).then(|| {
            format!(
                "the network trained on {labels} gets {:.1} % of them right, less than {:.1} %",
                percent(self.accuracy),
                percent(least)
            )
        })
    }
}

/// A sample to explain.
struct Explained {
    name: String,
    label: usize,
    inputs: Inputs,
}

/// All samples with their labels.
fn labelled(data: &dyn Dataset) -> Result<Vec<Explained>> {
    let of = |number: usize| {
        let sample = data.sample(number)?;
        let label = label(data, number, &sample)?;
        Ok(Explained { name: data.name(number), label, inputs: sample.inputs })
    };
    (0..data.len()).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_checked() {
        let message = |study: DataRandomisation| MetricConfig::check(&study).unwrap_err().to_string();
        let study = DataRandomisation::default();
        assert!(MetricConfig::check(&study).is_ok());
        assert!(message(study.clone().accuracy(95.0)).contains("share from 0 to 1"));
        assert!(message(study.ssim(Ssim::uniform(4))).contains("odd"));
    }
}
