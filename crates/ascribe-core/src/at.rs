//! Explanations at a layer and of a neuron, by cutting the graph.

use std::time::Instant;

use crate::{
    Arrangement, Attribution, Error, Explainer, Graph, Inputs, Keep, NodeId, Result, Role, Run, Target,
};
use serde::{Deserialize, Serialize};

/// Where a method explains.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Location {
    /// At the input, of the target.
    #[default]
    Input,
    /// At the output of this node, of the target: the method runs on the part of the graph after the node.
    Layer(String),
    /// At the input, of one value of this node: the method runs on the part of the graph up to the node.
    Neuron(String, Vec<usize>),
    /// At the output of a node, of one value of a later node: the method runs on the part of the graph between them.
    Between {
        /// Where it explains.
        layer: String,
        /// The node whose value is explained.
        node: String,
        /// Which of its values, an index for each axis after the batch.
        index: Vec<usize>,
    },
}

/// Explains at a layer, or explains a neuron, with any method.
///
/// [`Location::Layer`]: the attribution is shaped like the layer's value, and baselines, noise and masks apply to it.
/// Where other paths bypass the layer, the values on them stay fixed at what they are for `x`; a note names them.
/// [`Location::Neuron`]: the score is the value of the neuron, `index` counting the axes after the batch; the
/// given target is not used. [`Location::Between`]: both, as for language models, whose inputs are integers and whose outputs
/// are those of tokens.
///
/// ```ignore
/// use ascribe_core::{Device, GraphBuilder, Inputs, Location, Run, Target, Tensor, explain_at, ops::Pointwise};
/// use ascribe_gradient::InputXGradient;
/// let mut b = GraphBuilder::new();
/// let x = b.input("x", &[Some(1)]);
/// let h = b.op("h", Pointwise::Exp, &[x])?;
/// let y = b.op("y", Pointwise::Pow { exponent: 2.0 }, &[h])?;
/// let graph = b.finish(&[y])?;
/// let x = Inputs::single(Tensor::new(&[[0_f32]], &Device::Cpu)?)?;
/// let at = Location::Layer("h".into());
/// let found = explain_at(&InputXGradient::default(), &graph, &x, &Target::Class(0), &at, &Run::new())?;
/// assert_eq!(found.values().to_vec2::<f32>()?, [[2.0]]); // h · ∂h²/∂h at h = 1
/// # Ok::<(), ascribe_core::Error>(())
/// ```
///
/// # Errors
/// Those of the method; if there is no such node, it is not on a path from the input to the output, or the index
/// does not fit its value.
pub fn explain_at<E: Explainer<Graph> + ?Sized>(
    explainer: &E,
    graph: &Graph,
    x: &Inputs,
    target: &Target,
    location: &Location,
    run: &Run,
) -> Result<Attribution> {
    let (head, target) = match location.neuron() {
        Some((node, index)) => (graph.until_node(graph.find(node)?)?, Target::Neuron(index.to_vec())),
        None => (graph.clone(), target.clone()),
    };
    match location.layer() {
        Some(layer) => explain_layer(explainer, &head, x, &target, layer, run),
        None => explainer.explain(&head, x, &target, run),
    }
}

/// Explains at the output of the node of this name.
fn explain_layer<E: Explainer<Graph> + ?Sized>(
    explainer: &E,
    graph: &Graph,
    x: &Inputs,
    target: &Target,
    name: &str,
    run: &Run,
) -> Result<Attribution> {
    let started = Instant::now();
    x.check_finite()?;
    let id = graph.find(name)?;
    let (tail, inputs) = run.install(|| {
        let trace = graph.trace(x, Keep::Nodes(&crossing(graph, id)))?;
        graph.from_node(id, &trace)
    })?;
    let layout = layer_layout(graph, x, id)?;
    let (tail, inputs) = match &layout {
        Some(layout) => in_order(&tail, &inputs, graph.node(id).name(), layout)?,
        None => (tail, inputs),
    };
    let before = started.elapsed().as_secs_f64();
    let mut found = explainer.explain(&tail, &inputs, target, run)?;
    if let (Some(layout), Some(part)) = (&layout, found.parts.first_mut()) {
        *part = part.clone().restored(layout)?;
    }
    found.provenance.cost.forward += x.batch()?;
    found.provenance.seconds += before;
    let fixed: Vec<&str> = inputs.iter().filter(|i| i.role == Role::Fixed).map(|i| i.name.as_str()).collect();
    let note = if fixed.is_empty() {
        format!("at layer '{name}'")
    } else {
        format!("at layer '{name}'; values on paths around it are fixed: {fixed:?}")
    };
    found.provenance.notes.insert(0, note);
    Ok(found)
}

/// The order of a layer's axes, where it is known and not `[N, C, positions…]`.
fn layer_layout(graph: &Graph, x: &Inputs, id: NodeId) -> Result<Option<Arrangement>> {
    let axes = graph.roles(x)?.of(id).axes();
    // Windows and heads of attention are no layout of a grid: such values stay as they are.
    Ok(Arrangement::new(&axes).ok().filter(|layout| !layout.is_plain()))
}

/// A tail whose first input has the order `[N, C, positions…]`, and its inputs.
fn in_order(tail: &Graph, inputs: &Inputs, name: &str, layout: &Arrangement) -> Result<(Graph, Inputs)> {
    let arranged = tail.arranged(&[(name, layout.clone())])?;
    let values = inputs.explained().map(|input| layout.arranged(&input.value)).collect::<Result<Vec<_>>>()?;
    Ok((arranged, inputs.with_explained(values)?))
}

/// The node, and the nodes whose values bypass it: the values of a trace that a cut needs.
fn crossing(graph: &Graph, id: NodeId) -> Vec<NodeId> {
    let mut below = vec![false; graph.len()];
    below[id.index()] = true;
    let mut crossing = vec![id];
    for (user, node) in graph.nodes().filter(|(user, _)| *user > id) {
        below[user.index()] = node.inputs().iter().any(|i| below[i.index()]);
        if below[user.index()] {
            crossing.extend(node.inputs().iter().filter(|i| !below[i.index()]));
        }
    }
    crossing.extend(graph.outputs().iter().filter(|o| !below[o.index()]));
    crossing.retain(|&at| graph.is_dynamic(at));
    crossing
}

impl Location {
    /// The node at whose output is explained; `None` at the input.
    pub fn layer(&self) -> Option<&str> {
        match self {
            Self::Layer(layer) | Self::Between { layer, .. } => Some(layer),
            Self::Input | Self::Neuron(..) => None,
        }
    }

    /// The node and the index of the value that is explained, if it is a neuron.
    pub fn neuron(&self) -> Option<(&str, &[usize])> {
        match self {
            Self::Neuron(node, index) | Self::Between { node, index, .. } => Some((node, index)),
            Self::Input | Self::Layer(_) => None,
        }
    }

    /// At this layer instead of at the input.
    #[must_use]
    pub fn at_layer(self, layer: impl Into<String>) -> Self {
        let layer = layer.into();
        match self {
            Self::Input | Self::Layer(_) => Self::Layer(layer),
            Self::Neuron(node, index) | Self::Between { node, index, .. } => {
                Self::Between { layer, node, index }
            }
        }
    }

    /// Parses a neuron written as `NODE:INDEX[,INDEX…]`. The node's name may contain colons.
    ///
    /// # Errors
    /// If there is no colon, or what follows the last one is not a list of numbers.
    pub fn parse_neuron(text: &str) -> Result<Self> {
        let fail = || Error::invalid("neuron", format!("'{text}'"), "NODE:INDEX[,INDEX…]");
        let (name, index) = text.rsplit_once(':').ok_or_else(fail)?;
        let index = index.split(',').map(|i| i.trim().parse().map_err(|_| fail())).collect::<Result<_>>()?;
        Ok(Self::Neuron(name.into(), index))
    }
}
