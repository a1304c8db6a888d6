//! Operators that move values: reshapes, transposes, slices, concatenations.

use candle_core::{DType, Tensor};

use super::windows::resized;
use super::{Context, Transferred, link};
use crate::graph::NodeId;
use crate::ops::{Op, Pad, Structure};
use crate::roles::AxisRole;
use crate::roles::axis::{Atom, Axis, Part, length, regroup};
use crate::roles::infer::{Link, Place};

impl Context<'_> {
    pub(super) fn structure(&self, op: &Structure) -> Transferred {
        let x = self.operand(0);
        match op {
            Structure::Identity => self.same(),
            Structure::Reshape { .. } | Structure::Flatten { .. } => {
                let regrouped = regroup(x, self.shape());
                let links = regrouped
                    .iter()
                    .enumerate()
                    .filter_map(|(to, (_, from))| from.map(|from| link(0, from, to)))
                    .collect();
                Transferred { axes: regrouped.into_iter().map(|(axis, _)| axis).collect(), links }
            }
            Structure::Transpose { order } => Transferred {
                axes: order.iter().filter_map(|&i| x.get(i).cloned()).collect(),
                links: order.iter().enumerate().map(|(to, &from)| link(0, from, to)).collect(),
            },
            Structure::Concat { axis } => self.concat(*axis),
            Structure::Slice { axis, start, len, step } => {
                let mut found = self.same();
                if let Some(sliced) = found.axes.get_mut(*axis) {
                    *sliced = slice(sliced, *start, *len, *step);
                }
                found
            }
            Structure::Expand { .. } => self.broadcast(&[0], 0, self.shape()),
            Structure::ExpandBatch => {
                let mut found = self.broadcast(&[0], 0, self.shape());
                if let (Some(axis), Some(like)) = (found.axes.first_mut(), self.operand(1).first()) {
                    *axis = axis.join(like);
                }
                found
            }
            Structure::Tile { repeats } => {
                let mut found = self.same();
                for ((axis, &count), &side) in found.axes.iter_mut().zip(repeats).zip(self.shape()) {
                    if count > 1 {
                        *axis = Axis::unknown(side);
                    }
                }
                found
            }
        }
    }

    fn concat(&self, axis: usize) -> Transferred {
        let shape = self.shape();
        let slots: Vec<usize> = (0..self.node.inputs().len()).collect();
        let mut found = self.broadcast(&slots, 0, shape);
        found.links.retain(|l| l.to != Place::Axis(axis));
        let dynamic: Vec<usize> = slots.into_iter().filter(|&slot| self.is_dynamic(slot)).collect();
        found.links.extend(dynamic.iter().map(|&slot| link(slot, axis, axis)));
        if axis < shape.len() {
            found.axes[axis] = self.rolled(axis).unwrap_or_else(|| self.joined(axis, shape[axis]));
        }
        found
    }

    /// The axis of slices of one value that are put together again, in their order or rolled.
    fn rolled(&self, along: usize) -> Option<Axis> {
        let mut source: Option<NodeId> = None;
        let mut pieces = Vec::new();
        for &operand in self.node.inputs() {
            let node = self.graph.node(operand);
            let Some(Op::Structure(Structure::Slice { axis, start, len, step: 1 })) = node.op() else {
                return None;
            };
            let &[of] = node.inputs() else { return None };
            if *axis != along || source.is_some_and(|s| s != of) {
                return None;
            }
            source = Some(of);
            pieces.push((*start, *len));
        }
        let axis = self.values[source?.index()].axes.get(along)?;
        let (start, total) = (pieces.first()?.0, axis.len());
        let mut next = start;
        for (start, len) in pieces {
            if start != next {
                return None;
            }
            next = (next + len) % total;
        }
        if next != start || self.shape()[along] != total {
            return None;
        }
        let part = axis.single().filter(|part| part.is_whole());
        match part {
            _ if start == 0 => Some(axis.clone()),
            Some(part) if part.role.is_spatial() => {
                Some(Axis(vec![Atom::Part(Part { shift: (part.shift + start) % total, ..part })]))
            }
            _ => None,
        }
    }

    /// The axis that different values are put behind each other along.
    fn joined(&self, along: usize, total: usize) -> Axis {
        let slots = 0..self.node.inputs().len();
        let axes: Vec<Option<&Axis>> = slots
            .map(|slot| if self.is_dynamic(slot) { self.operand(slot).get(along) } else { None })
            .collect();
        let known: Vec<&Axis> = axes.iter().flatten().copied().collect();
        let unknown = |axis: &Axis| axis.0.is_empty() || axis.all(|r| r == AxisRole::Unknown);
        let every = |test: &dyn Fn(AxisRole) -> bool| {
            known.iter().any(|axis| axis.all(test))
                && known.iter().all(|axis| axis.all(test) || unknown(axis))
        };
        let is_grid =
            |axis: &Axis| axis.parts().any(|p| p.len > 1 && p.role.is_spatial() && p.role != AxisRole::Token);
        let grids: Vec<&&Axis> = known.iter().filter(|axis| is_grid(axis)).collect();
        if every(&AxisRole::is_channel) {
            return Axis::whole(AxisRole::Channel, total);
        }
        match grids.as_slice() {
            [] if every(&|role| role == AxisRole::Token) => Axis::whole(AxisRole::Token, total),
            [] => Axis::unknown(total),
            [grid] => {
                let Some((before, parts, after)) = grid.positions() else { return Axis::unknown(total) };
                let others = |axis: &Axis| unknown(axis) || axis.all(AxisRole::is_spatial);
                if !known.iter().all(|axis| is_grid(axis) || others(axis)) {
                    return Axis::unknown(total);
                }
                let place = axes.iter().position(|axis| axis.is_some_and(is_grid)).unwrap_or(0);
                let sides = self
                    .node
                    .inputs()
                    .iter()
                    .map(|id| self.shapes[id.index()].get(along).copied().unwrap_or(0));
                let front: usize = sides.take(place).sum();
                let own = before + length(&parts) + after;
                Axis::sequence(front + before, parts, total - front - own + after)
            }
            [first, rest @ ..] => {
                let role = first.role();
                let alike = |axis: &Axis| axis.single().is_some_and(|p| p.is_whole() && p.role == role);
                if known.len() == axes.len() && alike(first) && rest.iter().all(|axis| alike(axis)) {
                    return Axis::whole(role, total);
                }
                let tokens = known.iter().all(|axis| axis.all(AxisRole::is_spatial));
                if tokens { Axis::whole(AxisRole::Token, total) } else { Axis::unknown(total) }
            }
        }
    }

    pub(super) fn pad(&self, pad: &Pad) -> Transferred {
        let mut found = self.same();
        for (i, (before, after)) in pad.before.iter().zip(&pad.after).enumerate() {
            let (true, Some(axis)) = (before + after > 0, found.axes.get_mut(i)) else { continue };
            let side = axis.len() + before + after;
            let grid = axis.positions().filter(|_| axis.role() == AxisRole::Token && axis.single().is_none());
            *axis = match grid {
                Some((b, parts, a)) => Axis::sequence(b + before, parts, a + after),
                None if axis.all(AxisRole::is_channel) => Axis::whole(AxisRole::Channel, side),
                None => resized(axis, side, AxisRole::Unknown),
            };
        }
        found
    }

    /// Indices of an axis by a constant: a range is a slice, a single index takes the axis away.
    pub(super) fn gather(&self, axis: usize) -> Transferred {
        let x = self.operand(0);
        let index = self.node.inputs().get(1).and_then(|id| self.graph.node(*id).constant());
        let (Some(index), Some(own), true) = (index.and_then(indices), x.get(axis), self.is_dynamic(0))
        else {
            return Transferred::default();
        };
        let rank = self.operand_shape(1).len();
        let resolved: Vec<usize> =
            index.iter().map(|&i| (if i < 0 { i + own.len() as i64 } else { i }) as usize).collect();
        let range = resolved.windows(2).all(|pair| pair[1] == pair[0] + 1);
        let sliced = match resolved.as_slice() {
            [first, ..] if range => slice(own, *first, resolved.len(), 1),
            _ => Axis::unknown(resolved.len()),
        };
        let mut found = Transferred::default();
        for (from, kept) in x.iter().enumerate() {
            if from != axis {
                found.links.push(link(0, from, found.axes.len()));
                found.axes.push(kept.clone());
            } else if rank == 1 {
                found.links.push(link(0, from, found.axes.len()));
                found.axes.push(sliced.clone());
            } else {
                found.axes.extend(unfolded(own, &resolved, self.operand_shape(1)));
                if rank == 0 && is_further(own, &resolved) {
                    found.links.push(Link { operand: 0, from, to: Place::FurtherToken });
                }
            }
        }
        found
    }
}

/// Whether none of these indices is a position of a sequence's grid.
fn is_further(axis: &Axis, indices: &[usize]) -> bool {
    let Some(Atom::Sequence { before, grid, .. }) = axis.sole() else { return false };
    let (before, behind) = (*before, before + length(grid));
    indices.iter().all(|&i| i < before || i >= behind)
}

/// The axes of a table of indices of an axis: where every index occurs once, and they grow evenly along the table's rows and
/// columns (patches cut out by `Unfold`), digits of the axis's coordinate.
fn unfolded(axis: &Axis, indices: &[usize], shape: &[usize]) -> Vec<Axis> {
    let unknown = || shape.iter().map(|&side| Axis::unknown(side)).collect();
    let (&[rows, columns], Some(part)) = (shape, axis.single().filter(|part| part.is_whole())) else {
        return unknown();
    };
    let at = |i: usize| indices.get(i).copied().unwrap_or(0);
    let [row, column] = [at(columns), at(1)];
    let even = (0..indices.len()).all(|i| at(i) == i / columns * row + i % columns * column);
    let digits = rows * columns == part.len && ((row, column) == (1, rows) || (row, column) == (columns, 1));
    if !even || !digits || rows < 2 || columns < 2 {
        return unknown();
    }
    let digit = |len, step| Axis(vec![Atom::Part(Part { len, step, ..part })]);
    vec![digit(rows, row), digit(columns, column)]
}

fn indices(index: &Tensor) -> Option<Vec<i64>> {
    index.to_dtype(DType::I64).ok()?.flatten_all().ok()?.to_vec1().ok()
}

/// What remains of an axis when every `step`-th index from `start` on is taken.
fn slice(axis: &Axis, start: usize, len: usize, step: isize) -> Axis {
    let side = axis.len();
    if (start, len, step) == (0, side, 1) {
        return axis.clone();
    }
    if let Some(Atom::Sequence { before, grid, after }) = axis.sole() {
        let (first, behind, end) = (*before, before + length(grid), start + len);
        return match step {
            1 if end <= first || start >= behind => Axis::whole(AxisRole::Token, len),
            1 if start <= first && end >= behind => {
                Axis::sequence(first - start, grid.clone(), after - (side - end))
            }
            _ => Axis::unknown(len),
        };
    }
    if axis.all(AxisRole::is_channel) {
        return Axis::whole(AxisRole::Channel, len);
    }
    if len == 1 {
        return axis.reduced();
    }
    match axis.single() {
        // Every second row is a row of a coarser grid.
        Some(part) if step > 0 && part.is_whole() && part.role.is_spatial() => Axis::whole(part.role, len),
        _ => Axis::unknown(len),
    }
}
