//! Constant folding: a small interpreter for shape arithmetic and other computations on constants.
//!
//! Integers have 64 bits. Floating-point values are computed in f64 and then rounded once to the type of the graph; for
//! a single +, −, ×, ÷ or √ this gives the same result as computing in f32.

mod arithmetic;
mod movement;
mod node;
mod scatter;
mod signal;

pub(super) use movement::{reshape_target, slice_range, split_sizes};
pub(super) use node::fold;

use super::array::{Array, Data, axes, axis, count, positions, strides};
use super::attributes::Attributes;
use super::proto::data_type;
use super::value::{Elem, Res};

/// Most values of an operand that is computed by the interpreter; larger ones are computed with the operators of the
/// graph.
pub(super) const LIMIT: usize = 1 << 20;

/// One node to evaluate.
pub(super) struct Fold<'a> {
    pub op: &'a str,
    pub opset: i64,
    pub attributes: &'a Attributes,
    pub inputs: &'a [Option<Array>],
    /// Number of outputs of the node.
    pub outputs: usize,
}

impl Fold<'_> {
    /// Input `i`; an error if it is missing.
    fn input(&self, i: usize) -> Res<&Array> {
        self.optional(i).ok_or_else(|| format!("input {i} is missing").into())
    }

    /// Input `i`, if it is given.
    fn optional(&self, i: usize) -> Option<&Array> {
        self.inputs.get(i).and_then(Option::as_ref)
    }

    /// A list of integers: an attribute in older operator sets, an input in newer ones.
    fn list(&self, attribute: &str, input: usize) -> Res<Option<Vec<i64>>> {
        match (self.attributes.ints(attribute), self.optional(input)) {
            (Some(list), _) => Ok(Some(list.to_vec())),
            (None, Some(array)) => Ok(Some(array.as_ints()?.to_vec())),
            (None, None) => Ok(None),
        }
    }

    /// Computes the outputs; `None` if the interpreter does not know the operator.
    pub fn run(&self) -> Option<Res<Vec<Array>>> {
        let one = |result: Res<Array>| Some(result.map(|a| vec![a]));
        match self.op {
            "Identity" => one(self.input(0).cloned()),
            "Cast" | "CastLike" => one(self.cast()),
            "Size" => one(self.input(0).map(|x| Array::int(x.len() as i64))),
            "Shape" => one(self.input(0).and_then(|x| self.shape(&x.shape))),
            "Range" => one(self.range()),
            "Concat" => one(self.concat()),
            "Slice" => one(self.slice()),
            "Split" => Some(self.split()),
            "Gather" => one(self.gather()),
            "Reshape" => one(self.reshape()),
            "Flatten" => one(self.flatten()),
            "Squeeze" => one(self.squeeze()),
            "Unsqueeze" => one(self.unsqueeze()),
            "Transpose" => one(self.transpose()),
            "Expand" => one(self.expand()),
            "Tile" => one(self.tile()),
            "Pad" => self.pad().map(|r| r.map(|a| vec![a])),
            "GatherElements" => one(self.gather_elements()),
            "GatherND" if self.attributes.int_or("batch_dims", 0).is_ok_and(|b| b == 0) => {
                one(self.gather_nd())
            }
            "ScatterND" => self.scatter_nd().map(|r| r.map(|a| vec![a])),
            "ScatterElements" => self.scatter_elements().map(|r| r.map(|a| vec![a])),
            "NonZero" => one(self.non_zero()),
            "HannWindow" | "HammingWindow" | "BlackmanWindow" => one(self.window()),
            "MelWeightMatrix" => one(self.mel()),
            "Trilu" => one(self.trilu()),
            "CumSum" => one(self.cum_sum()),
            "OneHot" => one(self.one_hot()),
            "Where" => one(self.select()),
            "Not" => one(self.input(0).and_then(|x| {
                let data = Data::Bool(x.as_bools()?.iter().map(|b| !b).collect());
                Ok(Array { shape: x.shape.clone(), data })
            })),
            "ReduceProd" | "ReduceSum" | "ReduceMin" | "ReduceMax" | "ReduceMean" => one(self.reduce()),
            _ => self.arithmetic().map(|r| r.map(|a| vec![a])),
        }
    }

    /// The result of the operator `Shape` for a value of this shape.
    pub fn shape(&self, shape: &[usize]) -> Res<Array> {
        let rank = shape.len() as i64;
        let clamp = |i: i64| if i < 0 { i + rank } else { i }.clamp(0, rank) as usize;
        let start = clamp(self.attributes.int_or("start", 0)?);
        let end = clamp(self.attributes.int_or("end", rank)?).max(start);
        Ok(Array::ints(shape[start..end].iter().map(|&s| s as i64).collect()))
    }

    fn cast(&self) -> Res<Array> {
        let x = self.input(0)?;
        let elem = if self.op == "CastLike" {
            self.input(1)?.elem()
        } else {
            super::tensors::elem_of(self.attributes.int("to")?.unwrap_or(0) as i32)?
        };
        let data = match elem {
            Elem::Float => Data::Float(x.to_floats()),
            Elem::Bool => Data::Bool(x.to_floats().iter().map(|&v| v != 0.0).collect()),
            Elem::Int => match &x.data {
                Data::Int(v) => Data::Int(v.clone()),
                // Rounds towards zero, as C does. Out of range, where C has undefined behaviour, `as` saturates.
                _ => Data::Int(x.to_floats().iter().map(|&v| v as i64).collect()),
            },
            Elem::Text => return Err("converts numbers to text".into()),
        };
        // A cast to a narrow integer type would have to wrap around, which is not implemented: no model computes shapes
        // in them.
        let to = self.attributes.int("to")?.unwrap_or(0) as i32;
        if let (Data::Int(v), data_type::INT8 | data_type::UINT8 | data_type::INT16 | data_type::UINT16) =
            (&data, to)
            && v.iter().any(|&i| !(-128..=127).contains(&i))
        {
            return Err("casts a constant to an integer type that may be too narrow for its values".into());
        }
        Ok(Array { shape: x.shape.clone(), data })
    }

    fn range(&self) -> Res<Array> {
        let (start, limit, step) = (self.input(0)?, self.input(1)?, self.input(2)?);
        let (a, b, d) = (start.scalar()?, limit.scalar()?, step.scalar()?);
        let steps = ((b - a) / d).ceil();
        if steps.is_nan() || steps > LIMIT as f64 {
            return Err(format!("would make a range of {steps} values, which is too long").into());
        }
        let n = steps.max(0.0) as usize;
        let data = match &start.data {
            Data::Int(_) => {
                let (a, d) = (start.scalar_int()?, step.scalar_int()?);
                Data::Int((0..n as i64).map(|i| a.wrapping_add(i.wrapping_mul(d))).collect())
            }
            _ => Data::Float((0..n).map(|i| a + i as f64 * d).collect()),
        };
        Ok(Array { shape: vec![n], data })
    }

    fn reduce(&self) -> Res<Array> {
        let x = self.input(0)?;
        let rank = x.shape.len();
        let list = self.list("axes", 1)?.unwrap_or_default();
        if list.is_empty() && self.attributes.flag("noop_with_empty_axes", false)? {
            return Ok(x.clone());
        }
        let gone = if list.is_empty() { (0..rank).collect() } else { axes(&list, rank)? };
        let kept: Vec<usize> = (0..rank).filter(|a| !gone.contains(a)).collect();
        let out: Vec<usize> = kept.iter().map(|&a| x.shape[a]).collect();
        let strides = strides(&x.shape);
        let along = |axes: &[usize]| -> Vec<usize> {
            let (sides, steps): (Vec<usize>, Vec<usize>) =
                axes.iter().map(|&a| (x.shape[a], strides[a])).unzip();
            positions(&sides, &steps).collect()
        };
        // The values of a group lie at these distances from its first one.
        let (first, group) = (along(&kept), along(&gone));
        if group.is_empty() && !first.is_empty() {
            return Err("reduces an empty axis".into());
        }
        let data = match &x.data {
            Data::Int(v) => Data::Int(
                first
                    .iter()
                    .map(|&start| {
                        let values = group.iter().map(|&i| v[start + i]);
                        match self.op {
                            "ReduceProd" => values.fold(1, i64::wrapping_mul),
                            "ReduceSum" => values.fold(0, i64::wrapping_add),
                            "ReduceMin" => values.min().unwrap_or(0),
                            "ReduceMax" => values.max().unwrap_or(0),
                            _ => values.fold(0, i64::wrapping_add) / group.len() as i64,
                        }
                    })
                    .collect(),
            ),
            Data::Float(v) => Data::Float(
                first
                    .iter()
                    .map(|&start| {
                        let values = group.iter().map(|&i| v[start + i]);
                        match self.op {
                            "ReduceProd" => values.product(),
                            "ReduceSum" => values.sum(),
                            "ReduceMin" => values.fold(f64::INFINITY, f64::min),
                            "ReduceMax" => values.fold(f64::NEG_INFINITY, f64::max),
                            _ => values.sum::<f64>() / group.len() as f64,
                        }
                    })
                    .collect(),
            ),
            Data::Bool(_) => return Err("reduces booleans".into()),
        };
        let keep = self.attributes.flag("keepdims", true)?;
        let shape = if keep {
            (0..rank).map(|a| if gone.contains(&a) { 1 } else { x.shape[a] }).collect()
        } else {
            out
        };
        Ok(Array { shape, data })
    }

    fn concat(&self) -> Res<Array> {
        let parts: Vec<&Array> = (0..self.inputs.len()).map(|i| self.input(i)).collect::<Res<_>>()?;
        let first = *parts.first().ok_or("has nothing to concatenate")?;
        let at = axis(self.attributes.int("axis")?.ok_or("has no axis")?, first.shape.len())?;
        let mut shape = first.shape.clone();
        shape[at] = 0;
        for part in &parts {
            let fits = part.shape.len() == shape.len()
                && part.shape.iter().zip(&shape).enumerate().all(|(i, (a, b))| i == at || a == b);
            if !fits {
                return Err(format!(
                    "shapes {:?} and {:?} cannot be concatenated along axis {at}",
                    first.shape, part.shape
                )
                .into());
            }
            shape[at] += part.shape[at];
        }
        if count(&shape)? > 4 * LIMIT {
            return Err(format!("would compute a constant of shape {shape:?}, which is too large").into());
        }
        let outer: usize = shape[..at].iter().product();
        let mut result = first.pick([], shape.clone());
        for o in 0..outer {
            for part in &parts {
                let chunk: usize = part.shape[at..].iter().product();
                result.append(&part.pick(o * chunk..(o + 1) * chunk, vec![]))?;
            }
        }
        Ok(result)
    }
}
