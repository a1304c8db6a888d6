//! Finds rectifiers among the nodes, for all operators that can express them, and nodes that may be rectifiers although they
//! are not known to be.
//!
//! Rectifiers written as arithmetic are single operators in the canonical form of a graph.

use std::collections::HashSet;

use ascribe_core::ops::{Binary, Op, Pointwise, Structure};
use ascribe_core::{DType, Graph, NodeId};

/// Number of operators through which the operands of a product or choice are traced back.
const DEPTH: usize = 8;

/// Nodes that a warning names at most.
const NAMED: usize = 5;

/// Whether a node is `max(x, 0)`, possibly clipped from above: ReLU, `Clip(0, ·)`, `Max(x, 0)`.
pub(crate) fn is_relu(graph: &Graph, id: NodeId) -> bool {
    match graph.node(id).op() {
        Some(Op::Pointwise(Pointwise::Relu)) => true,
        Some(Op::Pointwise(f @ Pointwise::Clip { .. })) => f.is_rectifier(),
        Some(Op::Binary(Binary::Max)) => is_maximum_with_zero(graph, id),
        _ => false,
    }
}

/// Whether a node passes positive values (nearly) unchanged and attenuates negative ones: those of [`is_relu`], leaky
/// and smooth rectifiers ([`Pointwise::is_rectifier`]), and `PRelu`.
pub(crate) fn is_rectifier(graph: &Graph, id: NodeId) -> bool {
    match graph.node(id).op() {
        Some(Op::Pointwise(f)) => f.is_rectifier(),
        Some(Op::PRelu(_)) => true,
        _ => is_relu(graph, id),
    }
}

fn is_maximum_with_zero(graph: &Graph, id: NodeId) -> bool {
    let mut constants = graph.node(id).inputs().iter().filter_map(|i| graph.node(*i).constant());
    match (constants.next(), constants.next()) {
        (Some(value), None) => {
            let most = value.abs().and_then(|v| v.flatten_all()).and_then(|v| v.max(0));
            most.and_then(|m| m.to_dtype(DType::F64))
                .and_then(|m| m.to_scalar::<f64>())
                .is_ok_and(|m| m == 0.0)
        }
        _ => false,
    }
}

/// A warning that names the nodes of a canonical graph that may act as rectifiers, but are not recognised as such: the rule of a
/// guided method does not act on them. None if there are no such nodes.
pub(crate) fn unrecognised(graph: &Graph, method: &str) -> Option<String> {
    let suspects: Vec<NodeId> = graph.nodes().map(|(id, _)| id).filter(|&id| may_gate(graph, id)).collect();
    if suspects.is_empty() {
        return None;
    }
    let named: Vec<String> = suspects
        .iter()
        .take(NAMED)
        .map(|&id| format!("'{}' ({})", graph.node(id).name(), graph.node(id).op_name()))
        .collect();
    let more = suspects.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(format!(
        "{method} has no effect at {}{more}, which may be rectifiers that are not recognised: their true gradient is used; a \
         standard activation in the model instead of arithmetic would be recognised",
        named.join(", ")
    ))
}

/// Whether a node may be a rectifier that is not recognised: it multiplies a value by a mask, sigmoid or other bounded function of
/// that value, chooses by a comparison of what it chooses from, or is a maximum or minimum that cuts off one side.
fn may_gate(graph: &Graph, id: NodeId) -> bool {
    if !graph.is_dynamic(id) || is_rectifier(graph, id) {
        return false;
    }
    let operands = graph.node(id).inputs();
    match (graph.node(id).op(), operands) {
        (Some(Op::Where(_)), &[condition, a, b]) => {
            let compared = kin(graph, &[condition], false);
            !compared.is_disjoint(&kin(graph, &[a, b], false))
        }
        (Some(Op::Binary(Binary::Mul | Binary::Div)), &[a, b]) => gates(graph, a, b) || gates(graph, b, a),
        (Some(Op::Binary(Binary::Max | Binary::Min)), &[a, b]) => {
            if graph.is_dynamic(a) && graph.is_dynamic(b) {
                !kin(graph, &[a], false).is_disjoint(&kin(graph, &[b], false))
            } else {
                !is_guard(graph, id)
            }
        }
        (Some(Op::Pointwise(Pointwise::Clip { low, high })), _) => {
            low.is_some() != high.is_some() && !is_guard(graph, id)
        }
        _ => false,
    }
}

/// Whether `factor` contains a bounded function of a value that `other` comes from without one.
fn gates(graph: &Graph, factor: NodeId, other: NodeId) -> bool {
    let other = kin(graph, &[other], true);
    let switches = kin(graph, &[factor], false).into_iter().filter(|&id| is_switch(graph, id));
    let arguments: Vec<NodeId> = switches.flat_map(|id| graph.node(id).inputs().iter().copied()).collect();
    !kin(graph, &arguments, false).is_disjoint(&other)
}

/// The dynamic values that these values are functions of, value by value, and the values themselves; not those behind bounded
/// functions if `stop` is set.
fn kin(graph: &Graph, of: &[NodeId], stop: bool) -> HashSet<NodeId> {
    let mut found = HashSet::new();
    let mut level: Vec<NodeId> = of.to_vec();
    for _ in 0..=DEPTH {
        level.retain(|&id| graph.is_dynamic(id) && found.insert(id));
        let ends = |id| stop && is_switch(graph, id) && !is_exponential(graph, id);
        let through = |&&id: &&NodeId| is_value_by_value(graph, id) && !ends(id);
        level = level.iter().filter(through).flat_map(|&id| graph.node(id).inputs()).copied().collect();
    }
    found
}

/// Whether each value of a node is a function of the values at the same place in the operands.
fn is_value_by_value(graph: &Graph, id: NodeId) -> bool {
    match graph.node(id).op() {
        Some(
            Op::Pointwise(_)
            | Op::Binary(_)
            | Op::Where(_)
            | Op::Compare(_)
            | Op::Cast(_)
            | Op::PRelu(_)
            | Op::ScaleShift(_)
            | Op::BatchNorm(_),
        ) => true,
        Some(Op::Structure(op)) => matches!(
            op,
            Structure::Identity
                | Structure::Reshape { .. }
                | Structure::Flatten { .. }
                | Structure::Transpose { .. }
        ),
        _ => false,
    }
}

/// Whether a node is a comparison, or a function with two plateaus or that vanishes on one side.
fn is_switch(graph: &Graph, id: NodeId) -> bool {
    match graph.node(id).op() {
        Some(Op::Compare(_)) => true,
        Some(Op::Pointwise(function)) => matches!(
            function,
            Pointwise::Sign
                | Pointwise::Floor
                | Pointwise::Ceil
                | Pointwise::Round
                | Pointwise::Sigmoid
                | Pointwise::HardSigmoid { .. }
                | Pointwise::Tanh
                | Pointwise::Softsign
                | Pointwise::Erf
                | Pointwise::Exp
                | Pointwise::Clip { .. }
        ),
        _ => false,
    }
}

fn is_exponential(graph: &Graph, id: NodeId) -> bool {
    matches!(graph.node(id).op(), Some(Op::Pointwise(Pointwise::Exp)))
}

/// Whether a bounded value is only a divisor, or the operand of a root, power or logarithm, which the bound protects.
fn is_guard(graph: &Graph, id: NodeId) -> bool {
    let mut users = graph.users(id).peekable();
    users.peek().is_some()
        && users.all(|user| match graph.node(user).op() {
            Some(Op::Binary(Binary::Div)) => graph.node(user).inputs().first() != Some(&id),
            Some(Op::Pointwise(
                Pointwise::Log | Pointwise::Sqrt | Pointwise::Pow { .. } | Pointwise::Reciprocal,
            )) => true,
            Some(Op::Structure(Structure::Expand { .. } | Structure::Identity)) => is_guard(graph, user),
            _ => false,
        })
}
