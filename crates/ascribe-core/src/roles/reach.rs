//! Whether the positions of a value have an influence on the output.

use super::axis::Axis;
use super::infer::{Place, Value};
use super::{AxisRole, counts};
use crate::graph::Graph;

/// Which of an axis's indices the output depends on.
#[derive(Clone, Copy, Debug, Default)]
struct Read {
    /// Those of the grid's positions.
    grid: bool,
    /// Those of further tokens.
    others: bool,
}

/// For each node, whether the first output depends on the positions of its value.
pub(super) fn reach(graph: &Graph, values: &[Value]) -> Vec<bool> {
    let mut read: Vec<Vec<Read>> = values.iter().map(|v| vec![Read::default(); v.axes.len()]).collect();
    let mut live = vec![false; graph.len()];
    if let Some(output) = graph.outputs().first() {
        live[output.index()] = true;
        read[output.index()].fill(Read { grid: true, others: true });
    }
    for (id, node) in graph.nodes().rev().filter(|(id, _)| graph.is_dynamic(*id)) {
        let user = id.index();
        if !live[user] {
            continue;
        }
        for (slot, operand) in node.inputs().iter().enumerate() {
            let operand = operand.index();
            live[operand] = true;
            for from in 0..values[operand].axes.len() {
                let axis = &values[operand].axes[from];
                let mut links =
                    values[user].links.iter().filter(|l| l.operand == slot && l.from == from).peekable();
                let mut now = Read::default();
                if links.peek().is_none() {
                    now = Read { grid: true, others: true };
                }
                for link in links {
                    let part = match link.to {
                        Place::Axis(to) => passed(axis, &values[user].axes[to], read[user][to]),
                        Place::FurtherToken => Read { grid: false, others: true },
                    };
                    now = Read { grid: now.grid || part.grid, others: now.others || part.others };
                }
                let before = &mut read[operand][from];
                *before = Read { grid: before.grid || now.grid, others: before.others || now.others };
            }
        }
    }
    (0..graph.len())
        .map(|i| {
            let positions = values[i].axes.iter().zip(&read[i]).filter(|(axis, _)| axis.has_positions());
            live[i] && positions.fold(true, |all, (_, read)| all && read.grid)
        })
        .collect()
}

/// What is read of an operand's axis, given what is read of the axis of the result that its indices went to.
fn passed(from: &Axis, to: &Axis, read: Read) -> Read {
    let any = read.grid || read.others;
    match (counts(from), counts(to)) {
        // Further tokens alone, cut out of a sequence.
        ((_, others @ 1..), (len, 0))
            if !to.any(|r| r == AxisRole::Unknown) && len <= others && !same(from, to) =>
        {
            Read { grid: false, others: any }
        }
        // The grid alone.
        ((_, 1..), (_, 0)) if same(from, to) => Read { grid: any, others: false },
        // Positions or further tokens that became part of a sequence.
        ((_, 0), (_, 1..)) if same(from, to) => Read { grid: read.grid, others: read.grid },
        ((_, 0), (_, 1..)) => Read { grid: read.others, others: read.others },
        ((_, 1..), (_, 1..)) if same(from, to) => read,
        _ => Read { grid: any, others: any },
    }
}

/// Whether two axes have the same positions.
fn same(a: &Axis, b: &Axis) -> bool {
    a.has_positions() && a.parts().filter(|p| p.len > 1).eq(b.parts().filter(|p| p.len > 1))
}
