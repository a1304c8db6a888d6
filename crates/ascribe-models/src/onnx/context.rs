//! The graph under construction, with all shapes computed for two batch sizes.
//!
//! Every shape, and all shape arithmetic, is computed for two different batch sizes. An axis whose size differs between
//! them contains the batch; all other axes have a fixed size. So shape arithmetic can be folded to constants at load
//! time although the batch size stays variable.

use std::collections::{HashMap, HashSet};

use ascribe_core::ops::{Backend, Op, Side, Structure};
use ascribe_core::{DType, GraphBuilder, NodeId, Tensor};

use super::array::{Array, count};
use super::ops::{Mark, Quantization};
use super::tensors::Store;
use super::text::Texts;
use super::value::{Elem, Known, Res, Shapes, Signal, Value};

/// The state of the construction.
#[derive(Debug)]
pub(super) struct Context {
    pub builder: GraphBuilder,
    /// Type that floating-point values are computed in.
    pub dtype: DType,
    /// The two batch sizes; equal if the batch size is fixed.
    pub worlds: [usize; 2],
    /// The batch size that the file fixes, while it is being made variable. Constants of the file may contain it.
    pub baked: Option<usize>,
    /// A node whose first axis is the batch, to which constants can be expanded.
    pub anchor: Option<NodeId>,
    /// Reads the stored tensors of the file.
    pub store: Store,
    /// How many more values the constants computed at load time may have.
    pub budget: usize,
    /// Most values that a node may have per sample.
    pub largest: usize,
    /// Indices whose first column stands for the number of the sample, and is filled with zeros.
    pub own_indices: HashSet<NodeId>,
    /// How the values of nodes are quantised.
    pub quantized: HashMap<NodeId, Quantization>,
    /// What nodes have to do with dynamic quantisation.
    pub dynamic: HashMap<NodeId, Mark>,
    /// Whether constants have been de-quantised.
    pub quantized_weights: bool,
    /// Version of the operator set `ai.onnx.ml`.
    pub ml_version: i64,
    /// The texts of the file.
    pub texts: Texts,
    /// The labels of classes that classifiers and their maps name, in the order of the nodes.
    pub labels: Vec<Vec<String>>,
    /// Remarks of operators on what they changed.
    pub notes: Vec<String>,
}

/// The axis that contains the batch: the one whose size depends on the batch size.
pub(super) fn batch_axis(shape: &Shapes) -> Option<usize> {
    shape[0].iter().zip(&shape[1]).position(|(a, b)| a != b)
}

/// Both results, or the first error.
fn unzip<T>(results: [Res<T>; 2]) -> Res<[T; 2]> {
    let [a, b] = results;
    Ok([a?, b?])
}

/// Calls `f(0)` and `f(1)`, for the first and the second batch size.
pub(super) fn both<T>(mut f: impl FnMut(usize) -> Res<T>) -> Res<[T; 2]> {
    unzip([f(0), f(1)])
}

impl Context {
    /// Whether the batch size is fixed.
    pub fn fixed(&self) -> bool {
        self.worlds[0] == self.worlds[1]
    }

    /// How many rows each sample has along this axis; `None` if the axis does not contain the batch.
    pub fn multiple(&self, shape: &Shapes, axis: usize) -> Option<usize> {
        let (a, b) = (shape[0][axis], shape[1][axis]);
        let [m, n] = self.worlds;
        (a != b && m != n && a % m == 0 && b % n == 0 && a / m == b / n).then(|| a / m)
    }

    /// Whether a node stands for the levels of a quantisation.
    pub fn holds_levels(&self, id: NodeId) -> bool {
        self.quantized.contains_key(&id) || matches!(self.dynamic.get(&id), Some(Mark::Levels(_)))
    }

    /// The batch axis of a value and how many rows each sample has along it.
    pub fn batch(&self, shape: &Shapes) -> Option<(usize, usize)> {
        let axis = batch_axis(shape)?;
        Some((axis, self.multiple(shape, axis)?))
    }

    /// Checks the shape of a result: it must not be too large, only one axis may depend on the batch size, and that
    /// axis must have a fixed number of rows per sample.
    pub fn check(&self, shape: &Shapes) -> Res<()> {
        count(&shape[1])?;
        // A few bytes in a file can demand a huge result, which would take memory when the graph runs.
        if count(&shape[0])? / self.worlds[0].max(1) > self.largest {
            return Err(format!(
                "shape {:?} for a batch of {} is too large: more than {} values per sample",
                shape[0], self.worlds[0], self.largest
            )
            .into());
        }
        let dependent = shape[0].iter().zip(&shape[1]).filter(|(a, b)| a != b).count();
        if shape[0].len() != shape[1].len() || dependent > 1 {
            let why = format!(
                "the result's shape depends on the batch size in more than one axis: {shape:?} for the batch sizes {:?}",
                self.worlds
            );
            return Err(why.into());
        }
        if batch_axis(shape).is_some_and(|axis| self.multiple(shape, axis).is_none()) {
            let [a, b] = self.worlds;
            return Err(format!(
                "the result does not have a fixed number of rows per sample: its shape is {:?} for a batch of {a} and {:?} for a batch of {b}",
                shape[0], shape[1]
            )
            .into());
        }
        Ok(())
    }

    /// Subtracts a new constant of this shape from the budget of values computed at load time.
    pub fn spend(&mut self, shape: &[usize]) -> Res<()> {
        let total = count(shape)?;
        self.budget = self
            .budget
            .checked_sub(total)
            .ok_or_else(|| format!("would compute a constant of shape {shape:?}; the constants computed at load time exceed the limit (max_folded_values)"))?;
        Ok(())
    }

    /// Adds an operator to the graph, or computes it now if all operands are constants.
    pub fn apply(&mut self, name: &str, op: impl Into<Op>, operands: &[&Value], elem: Elem) -> Res<Value> {
        let op = op.into();
        let operands = operands.iter().map(|v| self.materialise(v, name)).collect::<Res<Vec<Value>>>()?;
        let known: Option<Vec<&Known>> = operands.iter().map(Value::known).collect();
        let shapes = operands.iter().map(Value::shapes).collect::<Res<Vec<Shapes>>>()?;
        let output = |world: usize| -> Res<Vec<usize>> {
            let inputs: Vec<&[usize]> = shapes.iter().map(|s| s[world].as_slice()).collect();
            Ok(op.operator().output_shape(&inputs)?)
        };
        if let Some(known) = known {
            self.spend(&output(0)?)?;
            let tensors: Vec<&Tensor> = known.iter().map(|k| &k.tensor).collect();
            let value = op.operator().forward(&tensors, Backend::Auto)?;
            let own = match (&op, known.first()) {
                // A weight that is only reshaped or transposed keeps its name.
                (Op::Structure(_), Some(first)) if known.len() == 1 => first.name.as_str(),
                _ => name,
            };
            return Ok(Known::value(value, elem, own));
        }
        let shape = [output(0)?, output(1)?];
        self.check(&shape)?;
        if shape[0].contains(&0) {
            return Err(format!("the result is empty: its shape is {:?}", shape[0]).into());
        }
        let rows = self.batch(&shape).map(|(_, rows)| rows);
        let outer = operands.iter().find_map(|v| match v {
            Value::Node(s) if rows.is_some() && self.batch(&s.shape).map(|b| b.1) == rows => Some(s.outer),
            _ => None,
        });
        let ids = operands.iter().map(|v| self.lift(v)).collect::<Res<Vec<NodeId>>>()?;
        let id = self.builder.op(name, op, &ids)?;
        Ok(Value::Node(Signal { id, shape, elem, outer: outer.unwrap_or(1) }))
    }

    /// As [`Context::apply`], for operators that broadcast. If it fails, it is tried again with constants that contain
    /// the file's fixed batch size, and are the same for all samples, reduced to a single sample.
    pub fn apply_broadcast(
        &mut self,
        name: &str,
        op: impl Into<Op>,
        operands: &[&Value],
        elem: Elem,
    ) -> Res<Value> {
        let op = op.into();
        let fault = match self.apply(name, op.clone(), operands, elem) {
            Ok(value) => return Ok(value),
            Err(fault) => fault,
        };
        let rank = operands.iter().map(|v| v.rank()).collect::<Res<Vec<_>>>()?.into_iter().max().unwrap_or(0);
        let axis = operands.iter().find_map(|v| {
            let shape = v.shapes().ok()?;
            Some(batch_axis(&shape)? + rank - shape[0].len())
        });
        let Some(axis) = axis else { return Err(fault) };
        let mut freed = Vec::new();
        for value in operands {
            let own = (axis + value.rank()?).checked_sub(rank);
            freed.push(match own {
                Some(own) => self.unbake(value, own)?.unwrap_or_else(|| (*value).clone()),
                None => (*value).clone(),
            });
        }
        let refs: Vec<&Value> = freed.iter().collect();
        self.apply(name, op, &refs, elem).map_err(|_| fault)
    }

    /// If a constant has the file's fixed batch size along `axis` and is the same for all samples: the part of one
    /// sample.
    pub fn unbake(&self, value: &Value, axis: usize) -> Res<Option<Value>> {
        let (Value::Known(known), Some(batch)) = (value, self.baked) else { return Ok(None) };
        if batch < 2 || known.tensor.dims().get(axis) != Some(&batch) {
            return Ok(None);
        }
        let first = known.tensor.narrow(axis, 0, 1)?.contiguous()?;
        let differs = known.tensor.broadcast_ne(&first)?.max_all()?.to_scalar::<u8>()? != 0;
        Ok((!differs).then(|| Known::value(first, known.elem, &known.name)))
    }

    /// The node of a value; adds a node for a constant that has none yet.
    pub fn lift(&mut self, value: &Value) -> Res<NodeId> {
        match value {
            Value::Node(signal) => Ok(signal.id),
            Value::Known(known) => {
                if let Some(&id) = known.node.get() {
                    return Ok(id);
                }
                let id = self.builder.constant(&known.name, known.tensor.contiguous()?);
                Ok(*known.node.get_or_init(|| id))
            }
            Value::Varying(_) | Value::List(_) | Value::Absent | Value::Missing(_) => {
                value.elem()?;
                let one = self.materialise(value, "constant")?;
                self.lift(&one)
            }
        }
    }

    /// Turns a result of shape arithmetic that depends on the batch size, and is used by an operator of the graph, into
    /// a constant for one sample that is repeated for each sample.
    pub fn materialise(&mut self, value: &Value, name: &str) -> Res<Value> {
        let Value::Varying(arrays) = value else { return Ok(value.clone()) };
        let shape = value.shapes()?;
        self.check(&shape)?;
        let Some((axis, rows)) = self.batch(&shape) else {
            return Err("uses a value that depends on the batch size in a computation on data".into());
        };
        let one = both(|w| one_sample(&arrays[w], axis, rows, self.worlds[w]))?;
        if one[0] != one[1] {
            return Err("uses constants that differ between the samples of a batch".into());
        }
        let [array, _] = one;
        // The shape of one sample, [before, rows, after], with a batch axis of size 1 in front.
        let (before, after) = (&shape[0][..axis], &shape[0][axis + 1..]);
        let mut single = vec![1];
        single.extend_from_slice(before);
        single.push(rows);
        single.extend_from_slice(after);
        let single = Value::from_array(array.reshape(single)?, self.dtype, name)?;
        self.spread(name, &single, axis, &shape)
    }

    /// Repeats a value of shape `[1, before…, rows, after…]` for each sample, and moves the batch into axis `axis` of
    /// the result, which has shape `shape`.
    pub fn spread(&mut self, name: &str, single: &Value, axis: usize, shape: &Shapes) -> Res<Value> {
        let anchor = self.anchor.ok_or("depends on the batch size, but the model has no input")?;
        let (elem, [mut first, _]) = (single.elem()?, single.shapes()?);
        let rank = first.len();
        let stored = self.lift(single)?;
        let id = self.builder.op(&format!("{name}/expand"), Structure::ExpandBatch, &[stored, anchor])?;
        let with_batch = self.worlds.map(|batch| {
            first[0] = batch;
            first.clone()
        });
        let mut value = Value::Node(Signal { id, shape: with_batch, elem, outer: 1 });
        if axis > 0 {
            let mut order: Vec<usize> = (1..=axis).collect();
            order.push(0);
            order.extend(axis + 1..rank);
            value =
                self.apply(&format!("{name}/transpose"), Structure::Transpose { order }, &[&value], elem)?;
        }
        self.reshape(&format!("{name}/merge"), &value, shape, 1)
    }

    /// Reshapes a value; the size of at most one axis of the new shape may depend on the batch. `outer` is
    /// [`Signal::outer`] of the result.
    pub fn reshape(&mut self, name: &str, value: &Value, target: &Shapes, outer: usize) -> Res<Value> {
        self.check(target)?;
        let elem = value.elem()?;
        let from = value.shapes()?;
        for (old, new) in from.iter().zip(target) {
            if count(old)? != count(new)? {
                return Err(format!("cannot reshape {old:?} to {new:?}").into());
            }
        }
        let open = batch_axis(target);
        let sides = (0..target[0].len())
            .map(|i| if open == Some(i) { Side::Infer } else { Side::Fixed(target[0][i]) })
            .collect();
        let mut value = self.apply(name, Structure::Reshape { shape: sides }, &[value], elem)?;
        if let Value::Node(signal) = &mut value {
            signal.outer = outer;
        }
        Ok(value)
    }

    /// Reshapes a value without changing the place of the batch; `change` maps the old shape to the new one.
    pub fn reshape_by(
        &mut self,
        name: &str,
        value: &Value,
        change: impl Fn(&[usize]) -> Res<Vec<usize>>,
    ) -> Res<Value> {
        let shape = value.shapes()?;
        let target = both(|w| change(&shape[w]))?;
        let outer = match value {
            Value::Node(signal) => signal.outer,
            _ => 1,
        };
        self.reshape(name, value, &target, outer)
    }

    /// A constant number of the graph's type.
    pub fn number(&self, name: &str, value: f64) -> Res<Value> {
        let array = Array { shape: vec![], data: super::array::Data::Float(vec![value]) };
        Value::from_array(array, self.dtype, name)
    }

    /// Converts integers, which an input may hold in fewer bits, to 64 bits; other values stay as they are.
    pub fn as_long(&mut self, name: &str, value: &Value) -> Res<Value> {
        match value {
            Value::Node(signal) if signal.elem == Elem::Int => {
                self.apply(name, ascribe_core::ops::Cast { to: DType::I64 }, &[value], Elem::Int)
            }
            _ => Ok(value.clone()),
        }
    }

    /// Converts a value to the floating-point type of the graph.
    pub fn as_float(&mut self, name: &str, value: &Value) -> Res<Value> {
        match value.elem()? {
            Elem::Float => Ok(value.clone()),
            _ => self.apply(name, ascribe_core::ops::Cast { to: self.dtype }, &[value], Elem::Float),
        }
    }
}

/// The part of one sample of an array with `rows` rows per sample along `axis`; an error unless all samples have the
/// same part.
pub(super) fn one_sample(array: &Array, axis: usize, rows: usize, batch: usize) -> Res<Array> {
    let before: usize = array.shape[..axis].iter().product();
    let inner: usize = rows * array.shape[axis + 1..].iter().product::<usize>();
    let part = |sample: usize| {
        let positions = (0..before).flat_map(|b| {
            let start = (b * batch + sample) * inner;
            start..start + inner
        });
        array.pick(positions, vec![before, inner])
    };
    let first = part(0);
    if (1..batch).any(|sample| part(sample) != first) {
        return Err("uses constants that differ between the samples of a batch".into());
    }
    Ok(first)
}
