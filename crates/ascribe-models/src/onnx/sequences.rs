//! Sequences and optional values, whose lengths and positions are known when a file is loaded.

use std::rc::Rc;

use super::array::{Array, Data, axis};
use super::attributes::Attributes;
use super::fold::split_sizes;
use super::ops::Call;
use super::translate::Translator;
use super::value::{Elem, Fault, Res, Value};

/// The position in a sequence of this length that a constant input names; `past` is 1 if the position behind the last
/// value counts.
fn position(call: &Call<'_>, slot: usize, length: usize, past: usize) -> Res<Option<usize>> {
    let Some(value) = call.inputs.get(slot).and_then(Option::as_ref) else { return Ok(None) };
    let at = value.array("its position")?.scalar_int()?;
    let from_front = if at < 0 { at + length as i64 } else { at };
    match usize::try_from(from_front) {
        Ok(found) if found < length + past => Ok(Some(found)),
        _ => Err(format!("names position {at} of a sequence of length {length}").into()),
    }
}

impl Translator<'_> {
    /// Translates an operator on sequences or optional values; `None` if it is another.
    pub fn sequence(&mut self, call: &Call<'_>) -> Res<Option<Vec<Value>>> {
        let list = |values: Vec<Value>| Ok(Some(vec![Value::List(Rc::new(values))]));
        let input = |i: usize| call.inputs.get(i).and_then(Option::as_ref);
        let items = || input(0).ok_or_else(|| Fault::from("input 0 is missing"))?.items();
        match call.op {
            "SequenceEmpty" => list(vec![]),
            "SequenceConstruct" => list(call.inputs.iter().flatten().cloned().collect()),
            "SequenceInsert" => {
                let mut values = items()?.to_vec();
                let new = input(1).ok_or("input 1 is missing")?.clone();
                let at = position(call, 2, values.len(), 1)?.unwrap_or(values.len());
                values.insert(at, new);
                list(values)
            }
            "SequenceErase" => {
                let mut values = items()?.to_vec();
                if values.is_empty() {
                    return Err("removes a value from an empty sequence".into());
                }
                values.remove(position(call, 1, values.len(), 0)?.unwrap_or(values.len() - 1));
                list(values)
            }
            "SequenceAt" => {
                let values = items()?;
                let at = position(call, 1, values.len(), 0)?.ok_or("input 1 is missing")?;
                Ok(Some(vec![values[at].clone()]))
            }
            "SequenceLength" => {
                let length = Array::int(items()?.len() as i64);
                Ok(Some(vec![Value::from_array(length, self.cx.dtype, call.name)?]))
            }
            "ConcatFromSequence" => {
                let values = items()?.to_vec();
                let along = call.attributes.int("axis")?.ok_or("has no axis")?;
                let new = call.attributes.flag("new_axis", false)?;
                if values.is_empty() {
                    return Err("concatenates an empty sequence".into());
                }
                Ok(Some(vec![self.join(call.name, &values, along, new)?]))
            }
            "SplitToSequence" => list(self.split(call)?),
            "Optional" => Ok(Some(vec![input(0).cloned().unwrap_or(Value::Absent)])),
            "OptionalHasElement" => {
                let holds = input(0).is_some_and(|value| !matches!(value, Value::Absent));
                let array = Array { shape: vec![], data: Data::Bool(vec![holds]) };
                Ok(Some(vec![Value::from_array(array, self.cx.dtype, call.name)?]))
            }
            "OptionalGetElement" => match input(0) {
                None | Some(Value::Absent) => Err("takes the value of an optional that holds none".into()),
                Some(value) => Ok(Some(vec![value.clone()])),
            },
            "Identity" if matches!(input(0), Some(Value::List(_) | Value::Absent)) => {
                Ok(Some(input(0).cloned().into_iter().collect()))
            }
            _ => Ok(None),
        }
    }

    /// `SplitToSequence`: parts of the sizes given, or of one size, or of length 1, which then lose the axis unless
    /// `keepdims` is set.
    fn split(&mut self, call: &Call<'_>) -> Res<Vec<Value>> {
        let x = call.inputs.first().and_then(Option::as_ref).ok_or("input 0 is missing")?;
        let [shape, other] = x.shapes()?;
        let along = call.attributes.int_or("axis", 0)?;
        let at = axis(along, shape.len())?;
        if shape[at] != other[at] {
            return Err("splits the batch, which would mix samples".into());
        }
        let side = shape[at];
        let given = call.inputs.get(1).and_then(Option::as_ref).map(|v| v.array("split")).transpose()?;
        let sizes = match &given {
            None if !call.attributes.flag("keepdims", true)? => {
                return (0..side).map(|i| self.part(&format!("{}/{i}", call.name), x, along, i)).collect();
            }
            None => vec![1; side],
            Some(size) if size.shape.is_empty() => {
                let size = usize::try_from(size.scalar_int()?).ok().filter(|&s| s > 0);
                let size = size.ok_or("splits into parts that are not of a positive size")?;
                (0..side.div_ceil(size)).map(|i| size.min(side - i * size)).collect()
            }
            Some(sizes) => split_sizes(side, Some(sizes.as_ints()?), sizes.len())?,
        };
        let mut start = 0;
        let mut parts = Vec::with_capacity(sizes.len());
        for (i, size) in sizes.into_iter().enumerate() {
            let bound = |value: usize, part: &str| {
                let name = format!("{}/{i}/{part}", call.name);
                Value::from_array(Array::ints(vec![value as i64]), self.cx.dtype, &name)
            };
            let inputs = [x.clone(), bound(start, "start")?, bound(start + size, "end")?, bound(at, "axis")?];
            parts.push(self.operator(
                &format!("{}/{i}", call.name),
                "Slice",
                &Attributes::default(),
                &inputs,
            )?);
            start += size;
        }
        Ok(parts)
    }
}

impl Value {
    /// The values of a sequence.
    pub fn items(&self) -> Res<&[Value]> {
        match self {
            Self::List(items) => Ok(items),
            other => {
                let elem: Elem = other.elem()?;
                Err(format!("expects a sequence, not a tensor ({elem:?})").into())
            }
        }
    }
}
