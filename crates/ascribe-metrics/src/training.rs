//! Training of graphs as classifiers, using their gradients with respect to their parameters.

use std::collections::HashMap;

use ascribe_core::dataset::{Sample, stack};
use ascribe_core::ops::Slot;
use ascribe_core::{
    Composite, DType, Dataset, Device, Error, Fit, Graph, Inputs, Keep, NodeId, Result, Run, Tensor,
};
use derive_setters::Setters;

/// Trains a graph's weights and biases by Adam (Kingma & Ba 2015, algorithm 1, with the paper's β₁ = 0.9, β₂ = 0.999,
/// ε = 10⁻⁸) on the mean cross-entropy of the labels' softmax probabilities. The learning rate decays to zero along a
/// half cosine.
///
/// Samples are used in the dataset's order, starting again at its end: the same graph and the same dataset give the
/// same network.
///
/// ```
/// use ascribe_core::dataset::InMemory;
/// use ascribe_core::{Device, Fit, GraphBuilder, Run, Tensor, ops::Linear};
/// use ascribe_metrics::training::{Training, accuracy};
/// let mut b = GraphBuilder::new();
/// let x = b.input("x", &[Some(2)]);
/// let w = b.constant("w", Tensor::new(&[[0_f32, 0.0], [0.0, 0.0]], &Device::Cpu)?);
/// let y = b.op("fc", Linear, &[x, w])?;
/// let untrained = b.finish(&[y])?;
/// let x = Tensor::new(&[[1_f32, 0.0], [0.0, 1.0]], &Device::Cpu)?;
/// let data = InMemory::labelled(&x, &[0, 1])?;
/// let trained = Training::new(untrained).steps(20).batch(2).rate(0.1).fit(&data, &Run::new())?;
/// assert_eq!(accuracy(&trained, &data, &Run::new())?, 1.0);
/// # Ok::<(), ascribe_core::Error>(())
/// ```
#[derive(Clone, Debug, Setters)]
pub struct Training {
    /// The network before training.
    pub graph: Graph,
    /// Steps of the optimiser.
    pub steps: usize,
    /// Samples per step.
    pub batch: usize,
    /// The learning rate of the first step.
    pub rate: f64,
}

impl Training {
    /// The default training: 1500 steps of 32 samples, with an initial learning rate of 0.003.
    pub fn new(graph: Graph) -> Self {
        Self { graph, steps: 1500, batch: 32, rate: 3e-3 }
    }

    fn check(&self, data: &dyn Dataset) -> Result<()> {
        for (what, value) in [("steps", self.steps), ("batch", self.batch), ("dataset", data.len())] {
            if value == 0 {
                return Err(Error::invalid("training", format!("{what}: 0"), "at least 1"));
            }
        }
        if !(self.rate > 0.0 && self.rate.is_finite()) {
            return Err(Error::invalid("training", format!("rate: {}", self.rate), "a positive number"));
        }
        Ok(())
    }
}

/// The constants of a graph that training changes.
fn trained(graph: &Graph) -> Vec<NodeId> {
    let parameters = graph.parameters();
    let learned = parameters.iter().filter(|p| matches!(p.slot, Slot::Weight | Slot::Bias));
    learned.map(|parameter| parameter.constant).collect()
}

impl Fit for Training {
    type Fitted = Graph;

    fn fit(&self, data: &dyn Dataset, run: &Run) -> Result<Graph> {
        self.check(data)?;
        run.install(|| {
            let mut graph = self.graph.clone();
            let trained = trained(&graph);
            if trained.is_empty() {
                return Err(Error::invalid("training", "the graph has no weights", "a network"));
            }
            let mut adam = Adam::default();
            for step in 0..self.steps {
                run.step(step, self.steps)?;
                let first = step * self.batch;
                let numbers: Vec<usize> = (first..first + self.batch).map(|n| n % data.len()).collect();
                let (x, labels) = labelled(data, &numbers)?;
                let (_, grads) = gradients(&graph, &x, &labels, &trained)?;
                let rate =
                    self.rate / 2.0 * (1.0 + (std::f64::consts::PI * step as f64 / self.steps as f64).cos());
                graph = adam.step(&graph, &grads, rate)?;
            }
            run.step(self.steps, self.steps)?;
            Ok(graph)
        })
    }
}

/// The label of a sample that has one.
pub(crate) fn label(data: &dyn Dataset, number: usize, sample: &Sample) -> Result<usize> {
    sample.label.ok_or_else(|| {
        let problem = format!("sample {} has no label", data.name(number));
        Error::invalid("dataset", problem, "a label for every sample")
    })
}

/// The samples with these numbers as a batch, and their labels.
fn labelled(data: &dyn Dataset, numbers: &[usize]) -> Result<(Inputs, Vec<usize>)> {
    let (mut inputs, mut labels) = (Vec::new(), Vec::new());
    for &number in numbers {
        let sample = data.sample(number)?;
        labels.push(label(data, number, &sample)?);
        inputs.push(sample.inputs);
    }
    Ok((stack(&inputs)?, labels))
}

/// First and second moments of the gradients.
#[derive(Default)]
struct Adam {
    moments: HashMap<NodeId, (Tensor, Tensor)>,
    steps: i32,
}

impl Adam {
    fn step(&mut self, graph: &Graph, grads: &HashMap<NodeId, Tensor>, rate: f64) -> Result<Graph> {
        let (beta1, beta2, epsilon) = (0.9, 0.999, 1e-8);
        self.steps += 1;
        let (correct1, correct2) = (1.0 - f64::powi(beta1, self.steps), 1.0 - f64::powi(beta2, self.steps));
        graph.map_constants(|id, value| {
            let Some(grad) = grads.get(&id) else { return Ok(None) };
            let (m, v) = match self.moments.remove(&id) {
                Some(moments) => moments,
                None => (value.zeros_like()?, value.zeros_like()?),
            };
            let m = ((m * beta1)? + (grad * (1.0 - beta1))?)?;
            let v = ((v * beta2)? + (grad.sqr()? * (1.0 - beta2))?)?;
            let step = ((&m / correct1)? / ((&v / correct2)?.sqrt()? + epsilon)?)?;
            self.moments.insert(id, (m, v));
            Ok(Some((value - (step * rate)?)?))
        })
    }
}

/// The mean cross-entropy and its gradient with respect to each trained constant. The probabilities are computed in
/// f32.
fn gradients(
    graph: &Graph,
    x: &Inputs,
    labels: &[usize],
    trained: &[NodeId],
) -> Result<(f32, HashMap<NodeId, Tensor>)> {
    let trace = graph.trace(x, Keep::All)?;
    let output = graph.outputs()[0];
    let logits = trace.value(output)?;
    let &[_, classes] = logits.dims() else {
        let problem = format!("has shape {:?}", logits.dims());
        return Err(Error::invalid("output of the network", problem, "[N, classes]"));
    };
    if let Some(label) = labels.iter().find(|label| **label >= classes) {
        let problem = format!("label {label} for a network of {classes} classes");
        return Err(Error::invalid("dataset", problem, format!("labels below {classes}")));
    }
    let rows = logits.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.to_vec2::<f32>()?;
    let mut loss = 0.0;
    let mut seed = Vec::with_capacity(labels.len() * classes);
    for (row, label) in rows.iter().zip(labels) {
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let total: f32 = row.iter().map(|l| (l - largest).exp()).sum();
        for (class, logit) in row.iter().enumerate() {
            let probability = (logit - largest).exp() / total;
            let truth = f32::from(u8::from(class == *label));
            loss -= truth * probability.max(f32::MIN_POSITIVE).ln();
            seed.push((probability - truth) / labels.len() as f32);
        }
    }
    if !loss.is_finite() {
        return Err(Error::invalid("training", format!("the loss is {loss}"), "a finite one: a lower rate"));
    }
    let seed = Tensor::from_vec(seed, logits.shape(), &Device::Cpu)?;
    let seed = seed.to_dtype(logits.dtype())?.to_device(logits.device())?;
    let signals = graph.backward(&trace, None, &[(output, seed)], trained, &Composite::gradient())?;
    let grads = trained.iter().filter_map(|&id| Some((id, signals.get(id)?.clone()))).collect();
    Ok((loss / labels.len() as f32, grads))
}

/// The fraction of samples whose label has the highest score.
///
/// # Errors
/// If a sample has no label or cannot be read, or the samples do not fit the model; if the run is cancelled.
pub fn accuracy<M: ascribe_core::Predictor + ?Sized>(
    model: &M,
    data: &dyn Dataset,
    run: &Run,
) -> Result<f64> {
    if data.is_empty() {
        return Err(Error::invalid("accuracy", "of no samples", "at least one"));
    }
    let mut right = 0;
    let numbers: Vec<usize> = (0..data.len()).collect();
    for chunk in numbers.chunks(run.get_batch()) {
        run.step(chunk[0], data.len())?;
        let (x, labels) = labelled(data, chunk)?;
        let best = ascribe_core::Target::Top1.resolve(&model.predict(&x)?)?;
        right += labels.iter().enumerate().filter(|(row, label)| best.class(*row) == Some(**label)).count();
    }
    Ok(right as f64 / data.len() as f64)
}

#[cfg(test)]
mod tests {
    use ascribe_core::dataset::InMemory;
    use ascribe_core::{GraphBuilder, ops::Linear};

    use super::*;

    /// A linear network of two inputs and two classes, all zeros, and the four corners of a square with one class per side.
    fn task() -> (Graph, InMemory) {
        let mut b = GraphBuilder::new();
        let x = b.input("x", &[Some(2)]);
        let w = b.constant("w", Tensor::zeros((2, 2), DType::F64, &Device::Cpu).unwrap());
        let y = b.op("fc", Linear, &[x, w]).unwrap();
        let x = Tensor::new(&[[1_f64, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], &Device::Cpu).unwrap();
        (b.finish(&[y]).unwrap(), InMemory::labelled(&x, &[0, 0, 1, 1]).unwrap())
    }

    fn loss(graph: &Graph, data: &dyn Dataset) -> f32 {
        let (x, labels) = labelled(data, &(0..data.len()).collect::<Vec<_>>()).unwrap();
        gradients(graph, &x, &labels, &trained(graph)).unwrap().0
    }

    #[test]
    fn training_lowers_the_loss_and_is_repeatable() {
        let (graph, data) = task();
        assert!((loss(&graph, &data) - 2_f32.ln()).abs() < 1e-6);
        let training = Training::new(graph).steps(30).batch(3).rate(0.1);
        let once = training.fit(&data, &Run::new()).unwrap();
        assert!(loss(&once, &data) < 0.1);
        assert_eq!(accuracy(&once, &data, &Run::new().batch(3)).unwrap(), 1.0);
        let again = training.fit(&data, &Run::new()).unwrap();
        assert_eq!(loss(&once, &data).to_bits(), loss(&again, &data).to_bits());
    }

    #[test]
    fn the_first_step_moves_every_weight_by_the_rate() {
        // After one step, Adam's bias-corrected moments are the gradient and its square.
        let (graph, data) = task();
        let moved = Training::new(graph).steps(1).batch(4).rate(0.25).fit(&data, &Run::new()).unwrap();
        let w = moved.node(trained(&moved)[0]).constant().unwrap().to_vec2::<f64>().unwrap();
        for (found, expected) in w.iter().flatten().zip([0.25, 0.0, -0.25, 0.0]) {
            assert!((found - expected).abs() < 1e-6, "{w:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let (graph, data) = task();
        let message =
            |training: Training, data: &dyn Dataset| training.fit(data, &Run::new()).unwrap_err().to_string();
        let training = Training::new(graph);
        assert!(message(training.clone().steps(0), &data).contains("steps: 0"));
        assert!(message(training.clone().rate(f64::NAN), &data).contains("rate"));
        assert!(message(training.clone(), &InMemory::new(Vec::new()).unwrap()).contains("dataset: 0"));
        let x = Tensor::new(&[[1_f64, 1.0]], &Device::Cpu).unwrap();
        let three = InMemory::labelled(&x, &[3]).unwrap();
        assert!(message(training.clone(), &three).contains("labels below 2"));
        let unknown = Sample { inputs: Inputs::single(x).unwrap(), label: None, truth: None };
        assert!(message(training, &InMemory::new(vec![unknown]).unwrap()).contains("has no label"));
    }
}
