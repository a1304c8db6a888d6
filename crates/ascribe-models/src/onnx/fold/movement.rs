//! Constant folding of operators that select, rearrange or repeat values.

use super::{Fold, LIMIT};
use crate::onnx::array::{Array, Data, axes, axis, broadcast, count, indices, positions, strides};
use crate::onnx::value::Res;

/// The indices of an axis that a slice selects by ONNX's conventions: first index, number of indices, step.
pub(in crate::onnx) fn slice_range(side: usize, start: i64, end: i64, step: i64) -> Res<(usize, usize, i64)> {
    if step == 0 {
        return Err("the step is zero".into());
    }
    let n = side as i64;
    let from_front = |i: i64| if i < 0 { i.saturating_add(n) } else { i };
    let (low, high) = if step > 0 { (0, n) } else { (-1, n - 1) };
    let start = from_front(start).clamp(low.max(0), high.max(0));
    let end = from_front(end).clamp(low, high);
    let span = if step > 0 { end - start } else { start - end };
    let len = if span <= 0 || n == 0 { 0 } else { (span - 1) / step.saturating_abs() + 1 };
    Ok((start as usize, len as usize, step))
}

/// The resulting shape of a `Reshape` of shape `x` to `target`.
pub(in crate::onnx) fn reshape_target(x: &[usize], target: &[i64], allow_zero: bool) -> Res<Vec<usize>> {
    let total = count(x)?;
    let mut open = None;
    let mut shape = Vec::with_capacity(target.len());
    for (i, &side) in target.iter().enumerate() {
        shape.push(match side {
            0 if !allow_zero => *x.get(i).ok_or_else(|| {
                format!("cannot copy the size of axis {i}, which shape {x:?} does not have")
            })?,
            -1 if open.is_some() => return Err(format!("the target {target:?} has more than one −1").into()),
            -1 => {
                open = Some(i);
                1
            }
            _ => usize::try_from(side).map_err(|_| format!("the target {target:?} has a negative size"))?,
        });
    }
    let known = count(&shape)?;
    if let Some(i) = open
        && known > 0
    {
        shape[i] = total / known;
    }
    if count(&shape)? == total {
        return Ok(shape);
    }
    Err(format!("cannot reshape {x:?} to {target:?}").into())
}

/// The sizes of the parts of a `Split` of an axis of this length.
pub(in crate::onnx) fn split_sizes(side: usize, given: Option<&[i64]>, parts: usize) -> Res<Vec<usize>> {
    let sizes: Vec<usize> = if let Some(sizes) = given {
        let size = |&s: &i64| {
            usize::try_from(s).map_err(|_| format!("cannot split into parts of sizes {sizes:?}").into())
        };
        sizes.iter().map(size).collect::<Res<_>>()?
    } else {
        let each = side.div_ceil(parts.max(1));
        (0..parts).map(|i| each.min(side.saturating_sub(i * each))).collect()
    };
    let total = sizes.iter().try_fold(0_usize, |n, &s| n.checked_add(s));
    if total == Some(side) && sizes.len() == parts {
        return Ok(sizes);
    }
    Err(format!("cannot split an axis of size {side} into {parts} parts of sizes {sizes:?}").into())
}

impl Fold<'_> {
    /// An error if a result of this shape would be too large.
    fn guard(shape: &[usize]) -> Res<()> {
        if count(shape)? > 4 * LIMIT {
            return Err(format!("would compute a constant of shape {shape:?}, which is too large").into());
        }
        Ok(())
    }

    pub(super) fn slice(&self) -> Res<Array> {
        let x = self.input(0)?;
        let rank = x.shape.len();
        let starts = self.list("starts", 1)?.ok_or("has no starts")?;
        let ends = self.list("ends", 2)?.ok_or("has no ends")?;
        let along = match self.list("axes", 3)? {
            Some(list) => list.iter().map(|&a| axis(a, rank)).collect::<Res<_>>()?,
            None => (0..starts.len()).collect::<Vec<_>>(),
        };
        let steps = self.optional(4).map(Array::as_ints).transpose()?;
        let mut result = x.clone();
        for (i, &at) in along.iter().enumerate() {
            let (Some(&start), Some(&end)) = (starts.get(i), ends.get(i)) else {
                return Err("starts, ends and axes have different lengths".into());
            };
            let step = steps.map_or(Some(1), |s| s.get(i).copied()).ok_or("has too few steps")?;
            let side = *result.shape.get(at).ok_or("slices an axis that does not exist")?;
            let (first, len, step) = slice_range(side, start, end, step)?;
            let along: Vec<usize> = (0..len as i64).map(|i| (first as i64 + i * step) as usize).collect();
            result = take(&result, at, &along);
        }
        Ok(result)
    }

    pub(super) fn split(&self) -> Res<Vec<Array>> {
        let x = self.input(0)?;
        let at = axis(self.attributes.int_or("axis", 0)?, x.shape.len())?;
        let given = self.list("split", 1)?;
        let sizes = split_sizes(x.shape[at], given.as_deref(), self.outputs)?;
        let mut start = 0;
        Ok(sizes
            .into_iter()
            .map(|size| {
                let along: Vec<usize> = (start..start + size).collect();
                start += size;
                take(x, at, &along)
            })
            .collect())
    }

    pub(super) fn gather(&self) -> Res<Array> {
        let (x, index) = (self.input(0)?, self.input(1)?);
        let at = axis(self.attributes.int_or("axis", 0)?, x.shape.len())?;
        let along = index.as_ints()?.iter().map(|&i| axis(i, x.shape[at])).collect::<Res<Vec<usize>>>()?;
        let shape = [&x.shape[..at], &index.shape, &x.shape[at + 1..]].concat();
        Self::guard(&shape)?;
        take(x, at, &along).reshape(shape)
    }

    pub(super) fn reshape(&self) -> Res<Array> {
        let (x, target) = (self.input(0)?, self.list("shape", 1)?.ok_or("has no shape")?);
        let shape = reshape_target(&x.shape, &target, self.attributes.flag("allowzero", false)?)?;
        x.clone().reshape(shape)
    }

    pub(super) fn flatten(&self) -> Res<Array> {
        let x = self.input(0)?;
        let at = self.attributes.int_or("axis", 1)?;
        let at = if at == x.shape.len() as i64 { x.shape.len() } else { axis(at, x.shape.len())? };
        let shape = vec![x.shape[..at].iter().product(), x.shape[at..].iter().product()];
        x.clone().reshape(shape)
    }

    pub(super) fn squeeze(&self) -> Res<Array> {
        let x = self.input(0)?;
        let gone = match self.list("axes", 1)? {
            Some(list) => axes(&list, x.shape.len())?,
            None => (0..x.shape.len()).filter(|&a| x.shape[a] == 1).collect(),
        };
        let shape = (0..x.shape.len()).filter(|a| !gone.contains(a)).map(|a| x.shape[a]).collect();
        x.clone().reshape(shape)
    }

    pub(super) fn unsqueeze(&self) -> Res<Array> {
        let x = self.input(0)?;
        let list = self.list("axes", 1)?.ok_or("has no axes")?;
        let new = axes(&list, x.shape.len() + list.len())?;
        let mut shape = x.shape.clone();
        for at in new {
            shape.insert(at, 1);
        }
        x.clone().reshape(shape)
    }

    pub(super) fn transpose(&self) -> Res<Array> {
        let x = self.input(0)?;
        let rank = x.shape.len();
        let order: Vec<usize> = match self.attributes.ints("perm") {
            Some(perm) if perm.len() == rank => {
                axes(perm, rank)?;
                perm.iter().map(|&a| axis(a, rank)).collect::<Res<_>>()?
            }
            Some(perm) => return Err(format!("perm {perm:?} does not fit {rank} axes").into()),
            None => (0..rank).rev().collect(),
        };
        let from = strides(&x.shape);
        let (shape, steps): (Vec<usize>, Vec<usize>) = order.iter().map(|&a| (x.shape[a], from[a])).unzip();
        Ok(x.pick(positions(&shape, &steps), shape.clone()))
    }

    pub(super) fn expand(&self) -> Res<Array> {
        let (x, target) = (self.input(0)?, self.input(1)?);
        let target = target
            .as_ints()?
            .iter()
            .map(|&s| usize::try_from(s).map_err(|_| "the target shape has a negative size".into()));
        let shape = broadcast(&x.shape, &target.collect::<Res<Vec<usize>>>()?)?;
        Self::guard(&shape)?;
        x.expand(&shape)
    }

    pub(super) fn tile(&self) -> Res<Array> {
        let (x, repeats) = (self.input(0)?, self.input(1)?.as_ints()?);
        if repeats.len() != x.shape.len() {
            return Err(format!("has {} repeats for {} axes", repeats.len(), x.shape.len()).into());
        }
        let mut result = x.clone();
        for (at, &n) in repeats.iter().enumerate() {
            let n = usize::try_from(n)
                .ok()
                .filter(|&n| n <= LIMIT)
                .ok_or_else(|| format!("cannot repeat {n} times"))?;
            let mut shape = result.shape.clone();
            shape[at] = shape[at].saturating_mul(n);
            Self::guard(&shape)?;
            let along: Vec<usize> = (0..n).flat_map(|_| 0..result.shape[at]).collect();
            result = take(&result, at, &along);
        }
        Ok(result)
    }

    /// Padding with a constant; other modes are computed with the operator of the graph.
    pub(super) fn pad(&self) -> Option<Res<Array>> {
        match self.attributes.string_or("mode", "constant") {
            Ok("constant") if self.opset >= 11 => Some(self.pad_constant()),
            _ => None,
        }
    }

    fn pad_constant(&self) -> Res<Array> {
        let (x, pads) = (self.input(0)?, self.input(1)?.as_ints()?);
        let rank = x.shape.len();
        let along = match self.optional(3) {
            Some(list) => list.as_ints()?.iter().map(|&a| axis(a, rank)).collect::<Res<Vec<usize>>>()?,
            None => (0..rank).collect(),
        };
        if pads.len() != 2 * along.len() {
            return Err(format!("has {} pads for {} axes", pads.len(), along.len()).into());
        }
        let mut before = vec![0; rank];
        let mut shape = x.shape.clone();
        for (i, &at) in along.iter().enumerate() {
            before[at] = pads[i];
            let side =
                (shape[at] as i64).checked_add(pads[i]).and_then(|s| s.checked_add(pads[along.len() + i]));
            shape[at] = side
                .and_then(|s| usize::try_from(s).ok())
                .ok_or_else(|| format!("pads {pads:?} are out of range"))?;
        }
        Self::guard(&shape)?;
        let from = strides(&x.shape);
        let mut all = x.clone();
        all.append(&match self.optional(2) {
            Some(value) if value.len() == 1 => value.clone(),
            _ => Array {
                shape: vec![],
                data: match x.data {
                    Data::Int(_) => Data::Int(vec![0]),
                    Data::Bool(_) => Data::Bool(vec![false]),
                    Data::Float(_) => Data::Float(vec![0.0]),
                },
            },
        })?;
        let outside = x.len();
        let position = |index: Vec<usize>| {
            let mut at = 0;
            for (axis, &i) in index.iter().enumerate() {
                match usize::try_from(i as i64 - before[axis]) {
                    Ok(i) if i < x.shape[axis] => at += i * from[axis],
                    _ => return outside,
                }
            }
            at
        };
        Ok(all.pick(indices(&shape).map(position), shape.clone()))
    }
}

/// The values of `x` at the positions `along` of axis `at`.
fn take(x: &Array, at: usize, along: &[usize]) -> Array {
    let inner: usize = x.shape[at + 1..].iter().product();
    let outer: usize = x.shape[..at].iter().product();
    let side = x.shape[at];
    let mut shape = x.shape.clone();
    shape[at] = along.len();
    let positions = (0..outer)
        .flat_map(|o| along.iter().flat_map(move |&a| (0..inner).map(move |i| (o * side + a) * inner + i)));
    x.pick(positions, shape)
}
