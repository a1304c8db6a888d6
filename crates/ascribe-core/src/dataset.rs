//! Datasets: samples with labels and ground truth, in a fixed order. Networks are trained on them, methods are fitted
//! to them, and attributions are evaluated on them.

use candle_core::Tensor;
use rand::seq::SliceRandom;

use crate::error::{Error, Result};
use crate::inputs::{Input, Inputs, Role};
use crate::random;
use crate::truth::Truth;

/// One sample.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The inputs of a model, as a batch of one.
    pub inputs: Inputs,
    /// The correct class, if known.
    pub label: Option<usize>,
    /// What else is known about the sample.
    pub truth: Option<Truth>,
}

/// Samples in a fixed order. A sample is created or read on request, and the same number always gives the same
/// sample.
///
/// ```
/// use ascribe_core::dataset::{Dataset, InMemory, Subset};
/// use ascribe_core::{Device, Tensor};
/// let x = Tensor::new(&[[1_f32, 0.0], [0.0, 1.0], [1.0, 1.0]], &Device::Cpu)?;
/// let data = InMemory::labelled(&x, &[0, 1, 1])?;
/// let second = Subset::new(&data, vec![1])?;
/// assert_eq!((second.len(), second.sample(0)?.label), (1, Some(1)));
/// # Ok::<(), ascribe_core::Error>(())
/// ```
pub trait Dataset: Send + Sync {
    /// Number of samples.
    fn len(&self) -> usize;

    /// The sample with this number.
    ///
    /// # Errors
    /// If there is no such sample, or it cannot be read or created.
    fn sample(&self, number: usize) -> Result<Sample>;

    /// The label of this sample, for datasets that know it without reading the sample.
    ///
    /// # Errors
    /// As [`Dataset::sample`].
    fn label(&self, number: usize) -> Result<Option<usize>> {
        Ok(self.sample(number)?.label)
    }

    /// The name of the sample in results, e.g. its path; different samples have different names. By default, this is
    /// the sample's number.
    fn name(&self, number: usize) -> String {
        number.to_string()
    }

    /// Whether there are no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All samples in their order.
    fn samples(&self) -> Box<dyn Iterator<Item = Result<Sample>> + '_> {
        Box::new((0..self.len()).map(|number| self.sample(number)))
    }
}

impl<D: Dataset + ?Sized> Dataset for &D {
    fn len(&self) -> usize {
        (**self).len()
    }

    fn sample(&self, number: usize) -> Result<Sample> {
        (**self).sample(number)
    }

    fn label(&self, number: usize) -> Result<Option<usize>> {
        (**self).label(number)
    }

    fn name(&self, number: usize) -> String {
        (**self).name(number)
    }
}

/// [`Error::Invalid`] for a number that is not in the dataset.
fn no_sample(number: usize, len: usize) -> Error {
    Error::invalid("dataset", format!("sample {number} of {len}"), format!("a number below {len}"))
}

/// Whether the inputs of two samples have the same names, types, roles and shapes, so that they fit into one batch.
fn alike(a: &Inputs, b: &Inputs) -> bool {
    let same = |a: &Input, b: &Input| {
        let shapes = a.value.dims().get(1..) == b.value.dims().get(1..);
        a.name == b.name && a.role == b.role && a.value.dtype() == b.value.dtype() && shapes
    };
    a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| same(a, b))
}

/// Groups samples that fit into one batch; returns their positions. Groups and positions are in the order of the
/// samples.
pub fn like(samples: &[Inputs]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (position, sample) in samples.iter().enumerate() {
        match groups.iter_mut().find(|group| alike(&samples[group[0]], sample)) {
            Some(group) => group.push(position),
            None => groups.push(vec![position]),
        }
    }
    groups
}

/// The inputs of several samples as one batch.
///
/// # Errors
/// If there are no samples, or they differ in the names, types, roles or shapes of their inputs.
pub fn stack<'a>(samples: impl IntoIterator<Item = &'a Inputs>) -> Result<Inputs> {
    let samples: Vec<&Inputs> = samples.into_iter().collect();
    let Some(first) = samples.first() else {
        return Err(Error::invalid("batch", "of no samples", "at least one"));
    };
    if !samples.iter().all(|sample| alike(first, sample)) {
        let expected = "inputs of the same names, types, roles and shapes";
        return Err(Error::invalid("batch", "its samples have different inputs", expected));
    }
    let mut inputs: Option<Inputs> = None;
    for (number, own) in first.iter().enumerate() {
        let values = samples.iter().filter_map(|sample| sample.iter().nth(number)).map(|input| &input.value);
        let value = Tensor::cat(&values.collect::<Vec<_>>(), 0)?;
        inputs = Some(match inputs {
            Some(inputs) => inputs.with(&own.name, value, own.role)?,
            None if own.role == Role::Fixed => Inputs::named([(own.name.clone(), value)])?.fix(&own.name)?,
            None => Inputs::named([(own.name.clone(), value)])?,
        });
    }
    inputs.ok_or_else(|| Error::invalid("batch", "of samples without inputs", "at least one input"))
}

/// Samples in memory.
#[derive(Clone, Debug)]
pub struct InMemory(Vec<Sample>);

impl InMemory {
    /// A dataset of these samples.
    ///
    /// # Errors
    /// If a sample is not a batch of one.
    pub fn new(samples: Vec<Sample>) -> Result<Self> {
        for (number, sample) in samples.iter().enumerate() {
            let batch = sample.inputs.batch()?;
            if batch != 1 {
                let problem = format!("the inputs of sample {number} are a batch of {batch}");
                return Err(Error::invalid("dataset", problem, "a batch of one per sample"));
            }
        }
        Ok(Self(samples))
    }

    /// The rows of a tensor `[N, …]` with one label each.
    ///
    /// # Errors
    /// If there is not one label per row.
    pub fn labelled(x: &Tensor, labels: &[usize]) -> Result<Self> {
        if x.dims().first() != Some(&labels.len()) {
            let problem = format!("{} labels for samples {:?}", labels.len(), x.dims());
            return Err(Error::invalid("dataset", problem, "one per row of the first axis"));
        }
        let sample = |(row, label): (usize, &usize)| {
            Ok(Sample { inputs: Inputs::single(x.narrow(0, row, 1)?)?, label: Some(*label), truth: None })
        };
        Ok(Self(labels.iter().enumerate().map(sample).collect::<Result<_>>()?))
    }
}

impl Dataset for InMemory {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn sample(&self, number: usize) -> Result<Sample> {
        self.0.get(number).cloned().ok_or_else(|| no_sample(number, self.0.len()))
    }

    fn label(&self, number: usize) -> Result<Option<usize>> {
        Ok(self.0.get(number).ok_or_else(|| no_sample(number, self.0.len()))?.label)
    }
}

/// Some samples of a dataset, in any order.
#[derive(Clone, Debug)]
pub struct Subset<D> {
    data: D,
    numbers: Vec<usize>,
}

impl<D: Dataset> Subset<D> {
    /// The samples with these numbers. A number may occur only once, because results are identified by the names of
    /// samples.
    ///
    /// # Errors
    /// If there is no such sample, or a number occurs twice.
    pub fn new(data: D, numbers: Vec<usize>) -> Result<Self> {
        let mut seen = vec![false; data.len()];
        for &number in &numbers {
            match seen.get_mut(number) {
                None => return Err(no_sample(number, data.len())),
                Some(true) => {
                    return Err(Error::invalid(
                        "subset",
                        format!("sample {number} occurs twice"),
                        "each sample once",
                    ));
                }
                Some(seen) => *seen = true,
            }
        }
        Ok(Self { data, numbers })
    }

    fn place(&self, number: usize) -> Result<usize> {
        self.numbers.get(number).copied().ok_or_else(|| no_sample(number, self.numbers.len()))
    }
}

impl<D: Dataset> Dataset for Subset<D> {
    fn len(&self) -> usize {
        self.numbers.len()
    }

    fn sample(&self, number: usize) -> Result<Sample> {
        self.data.sample(self.place(number)?)
    }

    fn label(&self, number: usize) -> Result<Option<usize>> {
        self.data.label(self.place(number)?)
    }

    fn name(&self, number: usize) -> String {
        // For a number that does not exist, the default name of any dataset.
        self.numbers.get(number).map_or_else(|| number.to_string(), |&place| self.data.name(place))
    }
}

/// A dataset with randomly permuted labels, which therefore say nothing about their samples. Each label occurs as
/// often as before; everything else that is known about a sample stays with it.
#[derive(Clone, Debug)]
pub struct ShuffledLabels<D> {
    data: D,
    labels: Vec<Option<usize>>,
}

/// The random domain of the permutation.
const LABELS: random::Domain = random::Domain::new("labels");

impl<D: Dataset> ShuffledLabels<D> {
    /// Draws a permutation of the labels.
    ///
    /// # Errors
    /// Errors of the dataset.
    pub fn new(data: D, seed: u64) -> Result<Self> {
        let mut labels = (0..data.len()).map(|number| data.label(number)).collect::<Result<Vec<_>>>()?;
        labels.shuffle(&mut random::stream(seed, LABELS, 0));
        Ok(Self { data, labels })
    }
}

impl<D: Dataset> Dataset for ShuffledLabels<D> {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn sample(&self, number: usize) -> Result<Sample> {
        Ok(Sample { label: self.label(number)?, ..self.data.sample(number)? })
    }

    fn label(&self, number: usize) -> Result<Option<usize>> {
        self.labels.get(number).copied().ok_or_else(|| no_sample(number, self.labels.len()))
    }

    fn name(&self, number: usize) -> String {
        self.data.name(number)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    /// 12 samples `[1, 2]` that contain their number.
    fn numbered() -> InMemory {
        let x = Tensor::arange(0_f64, 12.0, &Device::Cpu).unwrap();
        let x = Tensor::stack(&[&x, &x], 1).unwrap();
        InMemory::labelled(&x, &(0..12).collect::<Vec<_>>()).unwrap()
    }

    fn content(data: &dyn Dataset) -> Vec<(f64, Option<usize>)> {
        let value = |sample: &Sample| sample.inputs.find("").unwrap().to_vec2::<f64>().unwrap()[0][1];
        data.samples().map(|sample| sample.unwrap()).map(|sample| (value(&sample), sample.label)).collect()
    }

    #[test]
    fn samples_come_in_their_order() {
        let data = numbered();
        let expected: Vec<_> = (0..12).map(|n| (f64::from(n), Some(n as usize))).collect();
        assert_eq!(content(&data), expected);
        let subset = Subset::new(&data, vec![7, 2]).unwrap();
        assert_eq!(content(&subset), [expected[7], expected[2]]);
        assert_eq!((subset.name(0), subset.label(1).unwrap()), ("7".to_string(), Some(2)));
        for wrong in [vec![12], vec![3, 3]] {
            assert!(Subset::new(&data, wrong).is_err());
        }
        assert!(data.sample(12).unwrap_err().to_string().contains("below 12"));
        assert!(subset.sample(2).is_err());
    }

    #[test]
    fn shuffled_labels_are_the_same_labels_elsewhere() {
        let data = numbered();
        let shuffled = ShuffledLabels::new(&data, 3).unwrap();
        let found = content(&shuffled);
        let (values, labels): (Vec<f64>, Vec<Option<usize>>) = found.iter().copied().unzip();
        assert_eq!(values, content(&data).iter().map(|(value, _)| *value).collect::<Vec<_>>());
        assert_ne!(labels, content(&data).iter().map(|(_, label)| *label).collect::<Vec<_>>());
        let mut sorted = labels.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..12).map(Some).collect::<Vec<_>>());
        assert_eq!(content(&ShuffledLabels::new(&data, 3).unwrap()), found);
        assert_ne!(content(&ShuffledLabels::new(&data, 4).unwrap()), found);
    }

    #[test]
    fn a_batch_keeps_names_and_roles() {
        let value = |n: f64| Tensor::full(n, (1, 2), &Device::Cpu).unwrap();
        let sample = |n| {
            let inputs = Inputs::named([("a", value(n))]).unwrap();
            inputs.with("b", value(-n), Role::Fixed).unwrap()
        };
        let both = stack(&[sample(1.0), sample(2.0)]).unwrap();
        let inputs: Vec<_> = both.iter().map(|i| (i.name.as_str(), i.role)).collect();
        assert_eq!(inputs, [("a", Role::Explained), ("b", Role::Fixed)]);
        assert_eq!(both.find("b").unwrap().to_vec2::<f64>().unwrap(), [[-1.0, -1.0], [-2.0, -2.0]]);
        let fixed = stack(&[Inputs::named([("a", value(1.0))]).unwrap().fix("a").unwrap()]).unwrap();
        assert_eq!(fixed.explained().count(), 0);
        let wide = Inputs::single(Tensor::zeros((1, 3), DType::F64, &Device::Cpu).unwrap()).unwrap();
        for wrong in [vec![&both, &wide], Vec::new()] {
            assert!(stack(wrong).is_err());
        }
        assert_eq!(like(&[sample(1.0), wide, sample(2.0), fixed]), [vec![0, 2], vec![1], vec![3]]);
    }

    #[test]
    fn a_sample_is_a_batch_of_one() {
        let inputs = Inputs::single(Tensor::zeros((2, 3), DType::F64, &Device::Cpu).unwrap()).unwrap();
        let error = InMemory::new(vec![Sample { inputs, label: None, truth: None }]).unwrap_err().to_string();
        assert!(error.contains("batch of 2"), "{error}");
    }
}
