//! Encoders of categories: texts, or integers that are no quantities.

use ascribe_core::ops::{Binary, Cast, Compare, Gather, Reduce, ReduceFn};
use ascribe_core::{DType, Device, Tensor};

use super::super::Call;
use super::{floats, ints};
use crate::onnx::array::{Array, Data};
use crate::onnx::context::Context;
use crate::onnx::text;
use crate::onnx::value::{Elem, Known, Res, Value};

/// The version of the operator set from which on a missing value can be the key NaN, as in onnxruntime.
const NAN_IS_A_KEY: i64 = 4;

/// A list of keys or values.
enum List {
    Ints(Vec<i64>),
    Floats(Vec<f64>),
    Texts(Vec<String>),
}

impl List {
    fn len(&self) -> usize {
        match self {
            Self::Ints(all) => all.len(),
            Self::Floats(all) => all.len(),
            Self::Texts(all) => all.len(),
        }
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn elem(&self) -> Elem {
        match self {
            Self::Ints(_) => Elem::Int,
            Self::Floats(_) => Elem::Float,
            Self::Texts(_) => Elem::Text,
        }
    }

    /// The entries at these places, and the other one's entry for `None`.
    fn at(&self, cx: &mut Context, name: &str, places: &[Option<usize>], other: &Self) -> Res<Value> {
        let size = places.len();
        Ok(match (self, other) {
            (Self::Ints(all), Self::Ints(other)) => {
                let pick = |place: &Option<usize>| {
                    place.and_then(|p| all.get(p)).or(other.first()).copied().unwrap_or(0)
                };
                Value::from_array(Array::ints(places.iter().map(pick).collect()), cx.dtype, name)?
            }
            (Self::Floats(all), Self::Floats(other)) => {
                let pick = |place: &Option<usize>| {
                    place.and_then(|p| all.get(p)).or(other.first()).copied().unwrap_or(0.0)
                };
                let data = Data::Float(places.iter().map(pick).collect());
                Value::from_array(Array { shape: vec![size], data }, cx.dtype, name)?
            }
            (Self::Texts(all), Self::Texts(other)) => {
                let pick = |place: &Option<usize>| {
                    place.and_then(|p| all.get(p)).or(other.first()).cloned().unwrap_or_default()
                };
                text::constant(cx, name, &places.iter().map(pick).collect::<Vec<_>>(), &[size])?
            }
            _ => return Err("its default is of another type than its values".into()),
        })
    }
}

/// The place of each value among the keys, plus one; 0 if it is none of them. The first of equal keys counts.
fn places(cx: &mut Context, call: &Call<'_>, x: &Value, keys: &List) -> Res<Value> {
    cx.spend(&[keys.len(), 2])?;
    if let List::Texts(keys) = keys {
        let found = text::positions(cx, &call.sub("positions"), x, keys)?;
        let one = Value::from_array(Array::int(1), cx.dtype, &call.sub("one"))?;
        return cx.apply(&call.sub("places"), Binary::Add, &[&found, &one], Elem::Int);
    }
    let column = cx.reshape_by(&call.sub("column"), x, |shape| Ok([shape, &[1]].concat()))?;
    let (list, column, count) = match (keys, x.elem()?) {
        (List::Ints(keys), Elem::Int) => (
            Value::from_array(Array::ints(keys.clone()), cx.dtype, &call.sub("keys"))?,
            cx.as_long(&call.sub("integers"), &column)?,
            keys.len(),
        ),
        (List::Floats(keys), Elem::Float) => {
            let data = Data::Float(keys.clone());
            (
                Value::from_array(Array { shape: vec![keys.len()], data }, cx.dtype, &call.sub("keys"))?,
                column,
                keys.len(),
            )
        }
        _ => return Err("its keys are of another type than its input".into()),
    };
    let mut here = cx.apply(&call.sub("here"), Compare::Equal, &[&column, &list], Elem::Bool)?;
    if let List::Floats(keys) = keys
        && keys.iter().any(|key| key.is_nan())
        && cx.ml_version >= NAN_IS_A_KEY
    {
        // NaN is not equal to the key NaN: it is where a value is not equal to itself.
        let number = cx.apply(&call.sub("number"), Compare::Equal, &[&column, &column], Elem::Bool)?;
        let missing = cx.apply(&call.sub("missing"), Compare::Not, &[&number], Elem::Bool)?;
        let nan: Vec<u8> = keys.iter().map(|key| u8::from(key.is_nan())).collect();
        let nan =
            Known::value(Tensor::from_vec(nan, count, &Device::Cpu)?, Elem::Bool, &call.sub("missing keys"));
        let missing = cx.apply(&call.sub("missing here"), Compare::And, &[&missing, &nan], Elem::Bool)?;
        here = cx.apply(&call.sub("anywhere"), Compare::Or, &[&here, &missing], Elem::Bool)?;
    }
    let here = cx.apply(&call.sub("matches"), Cast { to: cx.dtype }, &[&here], Elem::Float)?;
    // Places count from the end, so that the largest is that of the first key.
    let numbers: Vec<f64> = (1..=count).rev().map(|place| place as f64).collect();
    let numbers = Value::from_array(
        Array { shape: vec![count], data: Data::Float(numbers) },
        cx.dtype,
        &call.sub("numbers"),
    )?;
    let numbered = cx.apply(&call.sub("numbered"), Binary::Mul, &[&here, &numbers], Elem::Float)?;
    let last = numbered.rank()? - 1;
    let op = Reduce { function: ReduceFn::Max, axes: vec![last], keep: false };
    let from_end = cx.apply(&call.sub("from end"), op, &[&numbered], Elem::Float)?;
    let from_end = cx.apply(&call.sub("whole"), Cast { to: DType::I64 }, &[&from_end], Elem::Int)?;
    let table: Vec<i64> = std::iter::once(0).chain((1..=count as i64).rev()).collect();
    let table = Value::from_array(Array::ints(table), cx.dtype, &call.sub("order"))?;
    cx.apply(&call.sub("places"), Gather { axis: 0 }, &[&table, &from_end], Elem::Int)
}

/// The value of each key, and a default for the rest.
fn mapped(cx: &mut Context, call: &Call<'_>, keys: &List, values: &List, default: &List) -> Res<Value> {
    if keys.is_empty() || keys.len() != values.len() {
        return Err(format!(
            "has {} keys and {} values; expected as many, at least one",
            keys.len(),
            values.len()
        )
        .into());
    }
    let x = call.input(0)?.clone();
    let places = places(cx, call, &x, keys)?;
    let order: Vec<Option<usize>> = std::iter::once(None).chain((0..keys.len()).map(Some)).collect();
    let table = values.at(cx, &call.sub("values"), &order, default)?;
    cx.apply(call.name, Gather { axis: 0 }, &[&table, &places], values.elem())
}

/// One column per category: 1 where the value is that category, 0 elsewhere.
pub(super) fn one_hot(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let x = call.input(0)?;
    let texts = owned(call, "cats_strings")?;
    let (list, x) = if texts.is_empty() {
        let x = match x.elem()? {
            Elem::Text => return Err("its input holds text, but it has no cats_strings".into()),
            Elem::Int => cx.as_long(&call.sub("integers"), x)?,
            // As onnxruntime, towards zero.
            _ => cx.apply(&call.sub("integers"), Cast { to: DType::I64 }, &[x], Elem::Int)?,
        };
        (
            Value::from_array(
                Array::ints(ints(call, "cats_int64s").to_vec()),
                cx.dtype,
                &call.sub("categories"),
            )?,
            x,
        )
    } else if x.elem()? == Elem::Text {
        (text::constant(cx, &call.sub("categories"), &texts, &[texts.len()])?, x.clone())
    } else {
        return Err("has cats_strings, but its input holds no text".into());
    };
    if list.shapes()?[0] == [0] {
        return Err("has no categories (cats_int64s or cats_strings)".into());
    }
    if !call.attributes.flag("zeros", true)? {
        cx.notes.push(format!(
            "{} '{}': an unknown category, which would be an error, becomes a row of zeros",
            call.op, call.name
        ));
    }
    let column = cx.reshape_by(&call.sub("column"), &x, |shape| Ok([shape, &[1]].concat()))?;
    let here = cx.apply(&call.sub("here"), Compare::Equal, &[&column, &list], Elem::Bool)?;
    cx.apply(call.name, Cast { to: cx.dtype }, &[&here], Elem::Float)
}

/// Texts of an attribute.
fn owned(call: &Call<'_>, name: &str) -> Res<Vec<String>> {
    Ok(call.attributes.strings(name)?.into_iter().map(String::from).collect())
}

/// The keys or values of `LabelEncoder`, from the first list that is given.
fn listed(cx: &mut Context, call: &Call<'_>, kind: &str) -> Res<List> {
    if let Some(tensor) = call.attributes.tensor(&format!("{kind}_tensor"))? {
        if tensor.data_type == Some(crate::onnx::proto::data_type::STRING) {
            return Ok(List::Texts(text::texts(&tensor.string_data)?));
        }
        let value = cx.store.read(tensor, kind)?;
        return Ok(match value.array(kind)?.data {
            Data::Float(all) => List::Floats(all),
            Data::Int(all) => List::Ints(all),
            Data::Bool(_) => return Err(format!("{kind}_tensor holds booleans").into()),
        });
    }
    let texts = owned(call, &format!("{kind}_strings"))?;
    if !texts.is_empty() {
        return Ok(List::Texts(texts));
    }
    let own = ints(call, &format!("{kind}_int64s"));
    if !own.is_empty() {
        return Ok(List::Ints(own.to_vec()));
    }
    Ok(List::Floats(floats(call, &format!("{kind}_floats"))))
}

/// `LabelEncoder`: from numbers or texts to numbers or texts.
pub(super) fn label(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let classes = owned(call, "classes_strings")?;
    if !classes.is_empty() {
        // The first version: texts to their places in the list, or back.
        let numbers = List::Ints((0..classes.len() as i64).collect());
        let (text, number) = defaults(call)?;
        return match call.input(0)?.elem()? {
            Elem::Text => mapped(cx, call, &List::Texts(classes), &numbers, &number),
            _ => mapped(cx, call, &numbers, &List::Texts(classes), &text),
        };
    }
    let (keys, values) = (listed(cx, call, "keys")?, listed(cx, call, "values")?);
    let (text, number) = defaults(call)?;
    let default = match (call.attributes.tensor("default_tensor")?, &values) {
        (Some(_), _) => listed(cx, call, "default")?,
        (None, List::Texts(_)) => text,
        (None, List::Ints(_)) => number,
        (None, List::Floats(_)) => List::Floats(vec![call.attributes.float_or("default_float", -0.0)?]),
    };
    mapped(cx, call, &keys, &values, &default)
}

/// The text and the integer of values that are not among the keys.
fn defaults(call: &Call<'_>) -> Res<(List, List)> {
    let text = call.attributes.string_or("default_string", "_Unused")?.to_string();
    Ok((List::Texts(vec![text]), List::Ints(vec![call.attributes.int_or("default_int64", -1)?])))
}

/// `CategoryMapper`: texts to integers, or back.
pub(super) fn category(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let (texts, numbers) =
        (List::Texts(owned(call, "cats_strings")?), List::Ints(ints(call, "cats_int64s").to_vec()));
    let (text, number) = defaults(call)?;
    match call.input(0)?.elem()? {
        Elem::Text => mapped(cx, call, &texts, &numbers, &number),
        _ => mapped(cx, call, &numbers, &texts, &text),
    }
}
