//! Small arrays that are computed at load time, such as shapes and indices.

pub(super) use ascribe_core::ops::strides;

use super::value::{Elem, Res};

/// Values in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Data {
    Int(Vec<i64>),
    Bool(Vec<bool>),
    Float(Vec<f64>),
}

/// An array that is known at load time.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Array {
    pub shape: Vec<usize>,
    pub data: Data,
}

/// Number of values of a shape; an error if it is larger than any real model needs.
pub(super) fn count(shape: &[usize]) -> Res<usize> {
    const LIMIT: usize = 1 << 40;
    let total = shape.iter().try_fold(1_usize, |n, &s| n.checked_mul(s)).filter(|&n| n <= LIMIT);
    // An axis of size 0 makes the product 0, however large the other sizes are. Elsewhere they are multiplied without
    // it, so each must be below the limit, too.
    let total = total.filter(|_| shape.iter().all(|&s| s <= LIMIT));
    total.ok_or_else(|| format!("shape {shape:?} is too large").into())
}

/// All multi-indices of a shape, in row-major order.
pub(super) fn indices(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> + '_ {
    let total: usize = shape.iter().product();
    let strides = strides(shape);
    (0..total).map(move |i| strides.iter().zip(shape).map(|(&s, &n)| i / s % n).collect())
}

/// Flat positions in row-major order of a shape, with these strides along its axes.
struct Positions {
    shape: Vec<usize>,
    strides: Vec<usize>,
    index: Vec<usize>,
    at: usize,
    left: usize,
}

/// The flat positions of the values of `shape`, in row-major order, where a step along an axis is one of `strides`.
pub(super) fn positions(shape: &[usize], strides: &[usize]) -> impl Iterator<Item = usize> {
    Positions {
        shape: shape.to_vec(),
        strides: strides.to_vec(),
        index: vec![0; shape.len()],
        at: 0,
        left: shape.iter().product(),
    }
}

impl Iterator for Positions {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let found = self.at;
        for ((index, &side), &stride) in self.index.iter_mut().zip(&self.shape).zip(&self.strides).rev() {
            *index += 1;
            self.at += stride;
            if *index < side {
                break;
            }
            *index = 0;
            self.at -= side * stride;
        }
        Some(found)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

/// The shape to which two shapes broadcast.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Res<Vec<usize>> {
    let rank = a.len().max(b.len());
    let side = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |j| s[j]);
    let shape: Option<Vec<usize>> = (0..rank)
        .map(|i| match (side(a, i), side(b, i)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect();
    let shape = shape.ok_or_else(|| format!("shapes {a:?} and {b:?} cannot be broadcast together"))?;
    count(&shape)?;
    Ok(shape)
}

/// The index from the front of an axis that may be counted from the back (negative).
pub(super) fn axis(axis: i64, rank: usize) -> Res<usize> {
    let from_front = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(from_front)
        .ok()
        .filter(|&a| a < rank)
        .ok_or_else(|| format!("axis {axis} does not exist; the value has {rank} axes").into())
}

/// The indices from the front of several axes, in ascending order; an error if an axis occurs twice.
pub(super) fn axes(list: &[i64], rank: usize) -> Res<Vec<usize>> {
    let mut axes = list.iter().map(|&a| axis(a, rank)).collect::<Res<Vec<usize>>>()?;
    axes.sort_unstable();
    if axes.windows(2).any(|w| w[0] == w[1]) {
        return Err(format!("axes {list:?} name an axis twice").into());
    }
    Ok(axes)
}

impl Array {
    pub fn ints(values: Vec<i64>) -> Self {
        Self { shape: vec![values.len()], data: Data::Int(values) }
    }

    pub fn int(value: i64) -> Self {
        Self { shape: vec![], data: Data::Int(vec![value]) }
    }

    pub fn len(&self) -> usize {
        match &self.data {
            Data::Int(v) => v.len(),
            Data::Bool(v) => v.len(),
            Data::Float(v) => v.len(),
        }
    }

    pub fn elem(&self) -> Elem {
        match self.data {
            Data::Int(_) => Elem::Int,
            Data::Bool(_) => Elem::Bool,
            Data::Float(_) => Elem::Float,
        }
    }

    /// The values of an integer array, in row-major order.
    pub fn as_ints(&self) -> Res<&[i64]> {
        match &self.data {
            Data::Int(v) => Ok(v),
            _ => Err("expects integers".into()),
        }
    }

    pub fn as_bools(&self) -> Res<&[bool]> {
        match &self.data {
            Data::Bool(v) => Ok(v),
            _ => Err("expects booleans".into()),
        }
    }

    /// All values as `f64`; booleans become 0 and 1.
    pub fn to_floats(&self) -> Vec<f64> {
        match &self.data {
            Data::Int(v) => v.iter().map(|&i| i as f64).collect(),
            Data::Bool(v) => v.iter().map(|&b| f64::from(u8::from(b))).collect(),
            Data::Float(v) => v.clone(),
        }
    }

    /// The value of an array with one element.
    pub fn scalar(&self) -> Res<f64> {
        match self.to_floats()[..] {
            [x] => Ok(x),
            _ => Err(format!("expects one number, not shape {:?}", self.shape).into()),
        }
    }

    /// The value of an integer array with one element.
    pub fn scalar_int(&self) -> Res<i64> {
        match *self.as_ints()? {
            [i] => Ok(i),
            _ => Err(format!("expects one integer, not shape {:?}", self.shape).into()),
        }
    }

    /// The same values in another shape.
    pub fn reshape(mut self, shape: Vec<usize>) -> Res<Self> {
        if count(&shape)? != self.len() {
            return Err(format!("{} values do not fit shape {shape:?}", self.len()).into());
        }
        self.shape = shape;
        Ok(self)
    }

    /// The values at these flat positions, which must be within the array, as an array of shape `shape`.
    pub fn pick(&self, positions: impl IntoIterator<Item = usize>, shape: Vec<usize>) -> Self {
        let positions = positions.into_iter();
        let data = match &self.data {
            Data::Int(v) => Data::Int(positions.map(|i| v[i]).collect()),
            Data::Bool(v) => Data::Bool(positions.map(|i| v[i]).collect()),
            Data::Float(v) => Data::Float(positions.map(|i| v[i]).collect()),
        };
        Self { shape, data }
    }

    /// Broadcasts the array to this shape: repeats it along axes of size 1.
    pub fn expand(&self, shape: &[usize]) -> Res<Self> {
        if broadcast(&self.shape, shape)? != shape {
            return Err(format!("shape {:?} does not broadcast to {shape:?}", self.shape).into());
        }
        let mut steps = vec![0; shape.len() - self.shape.len()];
        steps.extend(
            self.shape.iter().zip(strides(&self.shape)).map(|(&n, step)| if n == 1 { 0 } else { step }),
        );
        Ok(self.pick(positions(shape, &steps), shape.to_vec()))
    }

    /// Appends the values of an array of the same type.
    pub fn append(&mut self, other: &Self) -> Res<()> {
        match (&mut self.data, &other.data) {
            (Data::Int(a), Data::Int(b)) => a.extend(b),
            (Data::Bool(a), Data::Bool(b)) => a.extend(b),
            (Data::Float(a), Data::Float(b)) => a.extend(b),
            _ => return Err("operands have different types".into()),
        }
        Ok(())
    }
}
