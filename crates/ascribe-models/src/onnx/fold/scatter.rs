//! Constant folding of operators that gather or scatter by index, and of those that make masks.

use super::{Fold, LIMIT};
use crate::onnx::array::{Array, Data, axis, count, indices, strides};
use crate::onnx::value::Res;

impl Fold<'_> {
    /// Whether scattered values replace the values of the data (no reduction), which is the only mode that is computed
    /// here.
    fn replaces(&self) -> bool {
        self.attributes.string_or("reduction", "none").is_ok_and(|mode| mode == "none")
    }

    pub(super) fn scatter_nd(&self) -> Option<Res<Array>> {
        self.replaces().then(|| {
            let (x, index, updates) = (self.input(0)?, self.input(1)?, self.input(2)?);
            let (&depth, outer) = index.shape.split_last().ok_or("indices are a scalar")?;
            if depth > x.shape.len() {
                return Err("has more indices per position than the data has axes".into());
            }
            let inner: usize = x.shape[depth..].iter().product();
            let rows: usize = outer.iter().product();
            if updates.len() != rows * inner {
                return Err(format!("has {} updates for {rows} indices", updates.len()).into());
            }
            let from = strides(&x.shape);
            let flat = index.as_ints()?;
            let mut place: Vec<usize> = (0..x.len()).collect();
            for row in 0..rows {
                let mut start = 0;
                for (a, stride) in from.iter().enumerate().take(depth) {
                    start += axis(flat[row * depth + a], x.shape[a])? * stride;
                }
                for i in 0..inner {
                    place[start + i] = x.len() + row * inner + i;
                }
            }
            let mut both = x.clone();
            both.append(updates)?;
            Ok(both.pick(place, x.shape.clone()))
        })
    }

    pub(super) fn scatter_elements(&self) -> Option<Res<Array>> {
        self.replaces().then(|| {
            let (x, index, updates) = (self.input(0)?, self.input(1)?, self.input(2)?);
            let at = axis(self.attributes.int_or("axis", 0)?, x.shape.len())?;
            let fits = index.shape.len() == x.shape.len()
                && index.shape == updates.shape
                && index.shape.iter().zip(&x.shape).enumerate().all(|(i, (a, b))| i == at || a <= b);
            if !fits {
                return Err("the shapes of data, indices and updates do not fit each other".into());
            }
            let (from, flat) = (strides(&x.shape), index.as_ints()?);
            let mut place: Vec<usize> = (0..x.len()).collect();
            for (row, mut position) in indices(&index.shape).enumerate() {
                position[at] = axis(flat[row], x.shape[at])?;
                place[position.iter().zip(&from).map(|(i, s)| i * s).sum::<usize>()] = x.len() + row;
            }
            let mut both = x.clone();
            both.append(updates)?;
            Ok(both.pick(place, x.shape.clone()))
        })
    }

    pub(super) fn gather_elements(&self) -> Res<Array> {
        let (x, index) = (self.input(0)?, self.input(1)?);
        let at = axis(self.attributes.int_or("axis", 0)?, x.shape.len())?;
        let fits = index.shape.len() == x.shape.len()
            && index.shape.iter().zip(&x.shape).enumerate().all(|(i, (a, b))| i == at || a <= b);
        if !fits {
            return Err(
                format!("indices of shape {:?} do not fit data of shape {:?}", index.shape, x.shape).into()
            );
        }
        let (from, flat) = (strides(&x.shape), index.as_ints()?);
        let positions = indices(&index.shape)
            .enumerate()
            .map(|(row, mut position)| {
                position[at] = axis(flat[row], x.shape[at])?;
                Ok(position.iter().zip(&from).map(|(i, s)| i * s).sum())
            })
            .collect::<Res<Vec<usize>>>()?;
        Ok(x.pick(positions, index.shape.clone()))
    }

    pub(super) fn gather_nd(&self) -> Res<Array> {
        let (x, index) = (self.input(0)?, self.input(1)?);
        let (&depth, outer) = index.shape.split_last().ok_or("indices are a scalar")?;
        if depth > x.shape.len() {
            return Err("has more indices per position than the data has axes".into());
        }
        let shape = [outer, &x.shape[depth..]].concat();
        if count(&shape)? > 4 * LIMIT {
            return Err(format!("would compute a constant of shape {shape:?}, which is too large").into());
        }
        let inner: usize = x.shape[depth..].iter().product();
        let (from, flat) = (strides(&x.shape), index.as_ints()?);
        let mut positions = Vec::new();
        for row in 0..outer.iter().product() {
            let mut start = 0;
            for (a, stride) in from.iter().enumerate().take(depth) {
                start += axis(flat[row * depth + a], x.shape[a])? * stride;
            }
            positions.extend(start..start + inner);
        }
        Ok(x.pick(positions, shape))
    }

    pub(super) fn non_zero(&self) -> Res<Array> {
        let x = self.input(0)?;
        let rank = x.shape.len();
        let values = x.to_floats();
        let found: Vec<Vec<usize>> =
            indices(&x.shape).zip(values).filter(|(_, v)| *v != 0.0).map(|(i, _)| i).collect();
        let data = (0..rank).flat_map(|a| found.iter().map(move |i| i[a] as i64)).collect();
        Ok(Array { shape: vec![rank, found.len()], data: Data::Int(data) })
    }

    pub(super) fn trilu(&self) -> Res<Array> {
        let x = self.input(0)?;
        let k = self.optional(1).map_or(Ok(0), Array::scalar_int)?;
        let upper = self.attributes.flag("upper", true)?;
        let &[.., rows, cols] = &x.shape[..] else { return Err("expects at least two axes".into()) };
        let keep = |i: usize| {
            let (r, c) = ((i / cols % rows) as i64, (i % cols) as i64);
            let diagonal = r.saturating_add(k);
            if upper { c >= diagonal } else { c <= diagonal }
        };
        let data = match &x.data {
            Data::Int(v) => {
                Data::Int(v.iter().enumerate().map(|(i, &v)| if keep(i) { v } else { 0 }).collect())
            }
            Data::Bool(v) => Data::Bool(v.iter().enumerate().map(|(i, &v)| v && keep(i)).collect()),
            Data::Float(v) => {
                Data::Float(v.iter().enumerate().map(|(i, &v)| if keep(i) { v } else { 0.0 }).collect())
            }
        };
        Ok(Array { shape: x.shape.clone(), data })
    }

    pub(super) fn cum_sum(&self) -> Res<Array> {
        let x = self.input(0)?;
        let at = axis(self.input(1)?.scalar_int()?, x.shape.len())?;
        let (exclusive, reverse) =
            (self.attributes.flag("exclusive", false)?, self.attributes.flag("reverse", false)?);
        let (step, side) = (strides(&x.shape)[at], x.shape[at]);
        // The position whose sum continues at this one.
        let last = |i: usize| match (i / step % side, reverse) {
            (place, true) => (place + 1 < side).then_some(i + step),
            (place, false) => (place > 0).then(|| i - step),
        };
        let mut order: Vec<usize> = (0..x.len()).collect();
        if reverse {
            order.reverse();
        }
        let data = match &x.data {
            Data::Int(v) => {
                let mut sums = v.clone();
                for &i in &order {
                    sums[i] = v[i].wrapping_add(last(i).map_or(0, |j| sums[j]));
                }
                let before = |i: usize| last(i).map_or(0, |j| sums[j]);
                Data::Int(if exclusive { (0..v.len()).map(before).collect() } else { sums })
            }
            Data::Float(v) => {
                let mut sums = v.clone();
                for &i in &order {
                    sums[i] = v[i] + last(i).map_or(0.0, |j| sums[j]);
                }
                let before = |i: usize| last(i).map_or(0.0, |j| sums[j]);
                Data::Float(if exclusive { (0..v.len()).map(before).collect() } else { sums })
            }
            Data::Bool(_) => return Err("sums booleans".into()),
        };
        Ok(Array { shape: x.shape.clone(), data })
    }

    pub(super) fn one_hot(&self) -> Res<Array> {
        let (index, depth, values) = (self.input(0)?, self.input(1)?.scalar()?, self.input(2)?);
        if values.len() != 2 {
            return Err("expects two values, one for off and one for on".into());
        }
        let depth = if (1.0..=LIMIT as f64).contains(&depth) {
            depth as usize
        } else {
            return Err("its depth is out of range".into());
        };
        let rank = index.shape.len() + 1;
        let at = axis(self.attributes.int_or("axis", -1)?, rank)?;
        let mut shape = index.shape.clone();
        shape.insert(at, depth);
        if count(&shape)? > 4 * LIMIT {
            return Err(format!("would compute a constant of shape {shape:?}, which is too large").into());
        }
        let hot: Vec<i64> = index.to_floats().iter().map(|&i| i as i64).collect();
        let from = strides(&index.shape);
        let position = |mut i: Vec<usize>| {
            let d = i.remove(at) as i64;
            let value = hot[i.iter().zip(&from).map(|(i, s)| i * s).sum::<usize>()];
            usize::from(value == d || value + depth as i64 == d)
        };
        Ok(values.pick(indices(&shape).map(position), shape.clone()))
    }
}
