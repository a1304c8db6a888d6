//! Finding the layer that class activation maps are made at.

use ascribe_core::ops::{Kind, Op, Structure};
use ascribe_core::{AxisRole, Error, Graph, GraphRoles, GridView, Inputs, Node, NodeId, Result, Roles};

/// The last layer that still has spatial positions: where class activation maps look unless told otherwise.
///
/// It is the last node whose value is a grid ([`ascribe_core::Roles::grid`]) with the spatial axes of an explained input and
/// more than one position, whose positions can have an influence on the first output, which *every* path from the explained
/// inputs to the first output goes through (so that a branch or a gate is not mistaken for the layer), and which computes
/// something: an activation, an affine layer, a sum, a product, a normalisation or a concatenation of channels, not a pooling
/// or a reshape.
///
/// In a ResNet that is the last block's ReLU, in VGG the ReLU before the last max-pooling, in GoogLeNet the last
/// concatenation. In a Swin transformer it is the norm before pooling. In a vision transformer with a class token it is the
/// sum that the last block with attention starts from: behind that attention, the output depends on the class token alone.
///
/// Looks at shapes only; nothing is computed.
///
/// # Errors
/// If there is no such layer, or the inputs do not fit the graph.
pub fn last_spatial_layer(graph: &Graph, x: &Inputs) -> Result<NodeId> {
    spatial_layer(graph, x, &graph.roles(x)?)
}

/// [`last_spatial_layer`], with the roles at hand.
pub(crate) fn spatial_layer(graph: &Graph, x: &Inputs, roles: &GraphRoles) -> Result<NodeId> {
    let inputs = graph.explained_nodes(x)?;
    let grids: Vec<Vec<AxisRole>> =
        inputs.iter().filter_map(|&id| Some(spatial(&roles.of(id).grid()?))).collect();
    let suits = |id: NodeId| {
        computes(graph, id, roles)
            && roles.positions_reach_output(id)
            && layer_grid(roles.of(id))
                .is_some_and(|view| view.positions() > 1 && grids.contains(&spatial(&view)))
    };
    let output = graph.outputs().first().copied();
    let found = output.and_then(|output| {
        let on_all_paths = bottlenecks(graph, &inputs, output);
        on_all_paths.into_iter().rev().find(|&id| id != output && suits(id))
    });
    found.ok_or_else(|| {
        let axes: Vec<String> = inputs.iter().map(|&id| roles.of(id).to_string()).collect();
        let on_some = graph.nodes().rev().find(|(id, _)| Some(*id) != output && suits(*id));
        let such_as = on_some.map(|(_, node)| format!(", such as '{}'", node.name())).unwrap_or_default();
        Error::Unsupported {
            method: "a class activation map".into(),
            why: format!(
                "no layer on all paths from the input {} to the output has spatial positions that the output depends on; \
                 name a layer (`layer`) whose value is [N, C, H, W], [N, C, L] or tokens of a grid{such_as}",
                axes.join(", ")
            ),
        }
    })
}

/// A layer as a grid. Features that channels and positions are merged to are no channels of positions, though nothing is lost.
pub(crate) fn layer_grid(roles: &Roles) -> Option<GridView> {
    roles.grid().filter(|_| roles.axes().into_iter().any(AxisRole::is_spatial))
}

pub(crate) fn spatial(view: &GridView) -> Vec<AxisRole> {
    view.spatial().iter().map(|(role, _)| *role).collect()
}

fn computes(graph: &Graph, id: NodeId, roles: &GraphRoles) -> bool {
    match graph.kind(id) {
        Kind::Affine | Kind::Activation | Kind::Sum | Kind::Product | Kind::Normalisation => true,
        Kind::Structural => match graph.node(id).op() {
            Some(Op::Structure(Structure::Concat { axis })) => {
                roles.of(id).axes()[*axis] == AxisRole::Channel
            }
            _ => false,
        },
        _ => false,
    }
}

/// The nodes that all paths from `sources` to `sink` go through, in order.
///
/// In topological order a node is one of them if and only if no edge of such a path leads from before it to behind
/// it: such an edge is part of a path that avoids the node, and a path that avoids it must contain such an edge.
fn bottlenecks(graph: &Graph, sources: &[NodeId], sink: NodeId) -> Vec<NodeId> {
    let mut below = vec![false; graph.len()];
    let mut above = vec![false; graph.len()];
    for id in sources {
        below[id.index()] = true;
    }
    above[sink.index()] = true;
    for (id, node) in graph.nodes() {
        below[id.index()] |= operands(node).iter().any(|i| below[i.index()]);
    }
    for (id, node) in graph.nodes().rev() {
        if above[id.index()] {
            for i in operands(node) {
                above[i.index()] = true;
            }
        }
    }
    let on_path = |id: NodeId| below[id.index()] && above[id.index()];
    let mut last_user = vec![0; graph.len()];
    for (id, node) in graph.nodes().filter(|(id, _)| on_path(*id)) {
        for i in operands(node) {
            last_user[i.index()] = id.index();
        }
    }
    let mut reach = sources.iter().filter(|&&id| on_path(id)).map(|id| id.index()).max().unwrap_or(0);
    let mut found = Vec::new();
    for (id, _) in graph.nodes().filter(|(id, _)| on_path(*id)) {
        if reach <= id.index() {
            found.push(id);
        }
        reach = reach.max(last_user[id.index()]);
    }
    found
}

/// The operands whose values a node depends on: of a batch to repeat something for, it takes the number of samples only.
fn operands(node: &Node) -> &[NodeId] {
    match (node.op(), node.inputs()) {
        (Some(Op::Structure(Structure::ExpandBatch)), [value, ..]) => std::slice::from_ref(value),
        (_, all) => all,
    }
}

#[cfg(test)]
mod tests {
    use ascribe_core::ops::{Binary, Pointwise};
    use ascribe_core::{DType, Device, GraphBuilder, Tensor};

    use super::*;

    #[test]
    fn branches_gates_and_reshapes_are_not_the_layer() -> Result<()> {
        let mut b = GraphBuilder::new();
        let x = b.input("x", &[Some(2), Some(4), Some(4)]);
        let stem = b.op("stem", Pointwise::Relu, &[x])?;
        let gate = b.op("gate", Pointwise::Sigmoid, &[stem])?;
        let gated = b.op("gated", Binary::Mul, &[stem, gate])?;
        let left = b.op("left", Pointwise::Relu, &[gated])?;
        let right = b.op("right", Pointwise::Tanh, &[gated])?;
        let both = b.op("both", Structure::Concat { axis: 1 }, &[left, right])?;
        let flat = b.op("flat", Structure::Flatten { axis: 1 }, &[both])?;
        let out = b.op("out", Pointwise::Tanh, &[flat])?;
        let graph = b.finish(&[out])?;
        let names: Vec<&str> = bottlenecks(&graph, graph.inputs(), graph.outputs()[0])
            .into_iter()
            .map(|id| graph.node(id).name())
            .collect();
        assert_eq!(names, ["x", "stem", "gated", "both", "flat", "out"]);
        let x = Inputs::single(Tensor::ones((1, 2, 4, 4), DType::F32, &Device::Cpu)?)?;
        let layer = last_spatial_layer(&graph, &x)?;
        assert_eq!(graph.node(layer).name(), "both");
        Ok(())
    }

    #[test]
    fn a_network_without_positions_is_an_error() -> Result<()> {
        let mut b = GraphBuilder::new();
        let x = b.input("x", &[Some(3)]);
        let y = b.op("y", Pointwise::Relu, &[x])?;
        let graph = b.finish(&[y])?;
        let x = Inputs::single(Tensor::ones((1, 3), DType::F32, &Device::Cpu)?)?;
        assert!(matches!(last_spatial_layer(&graph, &x), Err(Error::Unsupported { .. })));
        Ok(())
    }
}
