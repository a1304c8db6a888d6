//! Model parameter randomisation: Adebayo et al. 2018, "Sanity Checks for Saliency Maps", §3.
//!
//! Replaces the parameters of the model by random ones, from the output towards the input (cascading) or one layer at
//! a time (independent), explains again, and compares the result with the attribution of the trained model by
//! Spearman's rank correlation and structural similarity. An attribution that stays the same does not depend on what
//! the model has learned. Lower is better.
//!
//! Random parameters are drawn from the normal distribution with the mean and variance of the trained ones,
//! separately for each tensor, so that activations keep their scale.
//!
//! Limits: noise lowers similarity just as dependence on the parameters does; maps that are dominated by the input
//! (input × gradient) stay similar because of it.

use ascribe_core::{
    DType, Error, Explainer, Graph, Inputs, NodeId, Reduction, Result, Run, Target, Tensor, random,
};
use serde::{Deserialize, Serialize};

use super::SANITY_CHECKS;
use super::similarity::Similarity;
use crate::card::MetricCard;
use crate::metric::{Case, Curve, Evaluation, Measure, Metric, MetricConfig};
use crate::statistics::Ssim;

/// The layers that are randomised at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// All layers from the output down to the current one.
    #[default]
    Cascading,
    /// Only the current layer.
    Independent,
}

/// Configuration of model parameter randomisation.
///
/// ```
/// use ascribe_core::{Device, Explainer, GraphBuilder, Inputs, Run, Target, Tensor, ops::Linear, ops::Structure};
/// use ascribe_gradient::Saliency;
/// use ascribe_metrics::{Case, Metric, ModelRandomisation};
/// let mut b = GraphBuilder::new();
/// let x = b.input("x", &[Some(1), Some(1), Some(6)]);
/// let flat = b.op("flat", Structure::Flatten { axis: 1 }, &[x])?;
/// let w = b.constant("w", Tensor::new(&[[1_f64, 2.0, 3.0, 4.0, 5.0, 6.0], [0.0, 0.0, 1.0, 0.0, 0.0, 1.0]], &Device::Cpu)?);
/// let y = b.op("fc", Linear, &[flat, w])?;
/// let graph = b.finish(&[y])?;
/// let x = Inputs::single(Tensor::new(&[[[[1_f64, 1.0, 1.0, 1.0, 1.0, 1.0]]]], &Device::Cpu)?)?;
/// let (method, target, run) = (Saliency::default(), Target::Class(0), Run::new());
/// let found = method.explain(&graph, &x, &target, &run)?;
/// let case = Case::new(&graph, &x, &target, &found, &run).explained_by(&method);
/// let value = ModelRandomisation::default().evaluate(&case)?.values[0];
/// // Saliency depends on the weights, so that random ones put the six values in another order.
/// assert!(value.is_some_and(|correlation| correlation < 1.0));
/// # Ok::<(), ascribe_core::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelRandomisation {
    /// The layers that are randomised at the same time.
    pub mode: Mode,
    /// Number of steps: the layers are divided into this many groups of neighbours; 0 for one group per layer.
    pub steps: usize,
    /// Whether absolute values are compared, instead of signed ones.
    pub absolute: bool,
    /// How the channels are reduced to one map.
    pub reduction: Reduction,
    /// The settings of structural similarity.
    pub ssim: Ssim,
}

impl Default for ModelRandomisation {
    fn default() -> Self {
        Self {
            mode: Mode::Cascading,
            steps: 0,
            absolute: true,
            reduction: Reduction::Sum,
            ssim: Ssim::default(),
        }
    }
}

/// The same graph with random values for these constants, drawn from the normal distribution with their mean and
/// variance. Each parameter has its own random stream, by its place among the parameters, so that cascading and
/// independent randomisation give a layer the same values, and so do graphs that differ in other operators.
///
/// # Errors
/// If the values cannot be read.
pub fn randomise(graph: &Graph, constants: &[NodeId], seed: u64) -> Result<Graph> {
    let parameters = graph.parameters();
    // Constants that are no parameters come after them.
    let number = |id: NodeId| {
        let place = parameters.iter().position(|parameter| parameter.constant == id);
        place.unwrap_or(parameters.len() + id.index()) as u64
    };
    graph.map_constants(|id, value| {
        if !constants.contains(&id) {
            return Ok(None);
        }
        let wide = value.to_dtype(DType::F64)?;
        let mean = wide.mean_all()?.to_scalar::<f64>()?;
        let variance = (&wide - mean)?.sqr()?.mean_all()?.to_scalar::<f64>()?;
        let noise = random::normal(
            &mut random::stream(seed, random::Domain::PARAMETERS, number(id)),
            value.dims(),
            DType::F64,
            value.device(),
        )?;
        Ok(Some(((noise * variance.sqrt())? + mean)?.to_dtype(value.dtype())?))
    })
}

impl ModelRandomisation {
    /// Groups of layers from the output to the input, with their names and parameters.
    fn groups(&self, graph: &Graph) -> Vec<(String, Vec<NodeId>)> {
        let mut layers: Vec<(NodeId, Vec<NodeId>)> = Vec::new();
        for parameter in graph.parameters().into_iter().rev() {
            match layers.last_mut() {
                Some((user, constants)) if *user == parameter.user => constants.push(parameter.constant),
                _ => layers.push((parameter.user, vec![parameter.constant])),
            }
        }
        let groups = if self.steps == 0 { layers.len() } else { self.steps.min(layers.len()) };
        let name = |id: NodeId| graph.node(id).name().to_string();
        (0..groups)
            .map(|g| {
                let (from, to) = (g * layers.len() / groups, (g + 1) * layers.len() / groups);
                let part = &layers[from..to];
                let label = part.last().map_or_else(String::new, |(user, _)| name(*user));
                (label, part.iter().flat_map(|(_, constants)| constants.iter().copied()).collect())
            })
            .collect()
    }

    fn similarity(&self) -> Similarity {
        Similarity { absolute: self.absolute, reduction: self.reduction, ssim: self.ssim }
    }

    fn explain(
        explainer: &dyn Explainer<Graph>,
        graph: &Graph,
        x: &Inputs,
        target: &Target,
        run: &Run,
    ) -> Result<Tensor> {
        Ok(explainer.explain(graph, x, target, &run.quiet())?.values().clone())
    }
}

impl MetricConfig for ModelRandomisation {
    const CARD: MetricCard = MetricCard {
        id: "model-randomisation",
        name: "Model parameter randomisation",
        also: &["MPRT", "sanity checks", "model parameter randomisation test"],
        summary: "rank correlation of the map with those of the model with random parameters, layer by layer",
        limits: "similarity is lowered by noise as well as by dependence on the parameters; maps that the input dominates \
                 stay similar through the input",
        ..SANITY_CHECKS
    };
}

impl Metric<Graph> for ModelRandomisation {
    /// The values are mean rank correlations over the steps; the details hold, per sample, the layer, rank
    /// correlation and structural similarity of each step; the curves are the rank correlation by step.
    ///
    /// A step whose map is constant (because no gradient reaches the input of the randomised model) has no
    /// correlation and is omitted from the mean; its details hold `null`, and a note says so.
    fn evaluate(&self, case: &Case<'_, Graph>) -> Result<Evaluation> {
        let explainer = case.need_explainer(self.id())?;
        let target = case.target.resolve(&case.model.forward(case.x)?)?;
        let similarity = self.similarity();
        let trained = similarity.maps(case.attribution.values())?;
        let samples = trained.maps.len();
        let groups = self.groups(case.model);
        if groups.is_empty() {
            return Err(Error::invalid(self.id(), "the model has no parameters", "a trained model"));
        }
        let mut details: Vec<Vec<serde_json::Value>> = vec![Vec::new(); samples];
        let mut correlations: Vec<Vec<Option<f64>>> = vec![Vec::new(); samples];
        let mut notes = vec![Vec::new(); samples];
        let mut random: Vec<NodeId> = Vec::new();
        for (step, (layer, constants)) in groups.iter().enumerate() {
            case.run.step(step, groups.len())?;
            match self.mode {
                Mode::Cascading => random.extend(constants),
                Mode::Independent => random.clone_from(constants),
            }
            let graph = randomise(case.model, &random, case.run.get_seed())?;
            let found = similarity.maps(&Self::explain(explainer, &graph, case.x, &target, case.run)?)?;
            for (sample, (map, original)) in found.maps.iter().zip(&trained.maps).enumerate() {
                let alike = similarity.compare(original, map, trained.size)?;
                if alike.rank.is_none() {
                    notes[sample].push(format!("the map is constant after randomising '{layer}'"));
                }
                details[sample]
                    .push(serde_json::json!({ "layer": layer, "spearman": alike.rank, "ssim": alike.ssim }));
                correlations[sample].push(alike.rank);
            }
        }
        case.run.step(groups.len(), groups.len())?;
        let mean = |all: &Vec<Option<f64>>| {
            let defined: Vec<f64> = all.iter().flatten().copied().collect();
            (!defined.is_empty()).then(|| defined.iter().sum::<f64>() / defined.len() as f64)
        };
        let curve = |all: &Vec<Option<f64>>| {
            let points = all.iter().enumerate().filter_map(|(i, v)| v.map(|v| ((i + 1) as f64, v)));
            let (x, y) = points.unzip();
            Curve { x, y }
        };
        let values = correlations.iter().map(mean).collect();
        let curves = correlations.iter().map(curve).collect();
        let details = details.into_iter().map(serde_json::Value::Array).collect();
        Ok(Evaluation { curves, details, notes, ..Evaluation::new(self, values) })
    }
}
