//! Texts: the categories of inputs and the labels of classes. In the graph they are the numbers of [`Texts`].

use std::collections::HashMap;

use ascribe_core::ops::Gather;
use ascribe_core::{Device, Tensor};
use bytes::Bytes;

use super::array::count;
use super::context::Context;
use super::proto;
use super::value::{Elem, Known, Res, Value};

/// The texts that encoders, labels and stored tensors hold, numbered in the order in which they are met. Any other text is −1.
#[derive(Debug, Default)]
pub(super) struct Texts {
    all: Vec<String>,
    numbers: HashMap<String, i64>,
}

impl Texts {
    /// The number of a text, which is new if the text is.
    pub fn number(&mut self, text: &str) -> i64 {
        if let Some(&number) = self.numbers.get(text) {
            return number;
        }
        let number = self.all.len() as i64;
        self.all.push(text.into());
        self.numbers.insert(text.into(), number);
        number
    }

    /// All, by number.
    pub fn all(&self) -> &[String] {
        &self.all
    }
}

/// A constant list of texts.
pub(super) fn constant(cx: &mut Context, name: &str, texts: &[String], shape: &[usize]) -> Res<Value> {
    let numbers: Vec<i64> = texts.iter().map(|text| cx.texts.number(text)).collect();
    Ok(Known::value(Tensor::from_vec(numbers, shape, &Device::Cpu)?, Elem::Text, name))
}

/// The texts of bytes of the file.
pub(super) fn texts(bytes: &[Bytes]) -> Res<Vec<String>> {
    let one =
        |bytes: &Bytes| String::from_utf8(bytes.to_vec()).map_err(|_| "holds text that is not UTF-8".into());
    bytes.iter().map(one).collect()
}

/// A stored tensor of texts.
pub(super) fn stored(cx: &mut Context, tensor: &proto::Tensor, name: &str) -> Res<Value> {
    let side = |&d: &i64| usize::try_from(d).map_err(|_| format!("has an axis of negative size {d}").into());
    let shape = tensor.dims.iter().map(side).collect::<Res<Vec<usize>>>()?;
    let texts = texts(&tensor.string_data)?;
    if texts.len() != count(&shape)? {
        return Err(
            format!("has {} texts, but its shape {shape:?} needs {}", texts.len(), count(&shape)?).into()
        );
    }
    constant(cx, name, &texts, &shape)
}

/// Looks values up in a list; the last entry of the list is that of −1.
pub(super) fn look_up(cx: &mut Context, name: &str, index: &Value, list: &Value, elem: Elem) -> Res<Value> {
    cx.apply(name, Gather { axis: 0 }, &[list, index], elem)
}

/// The texts of an input that holds positions in a list of categories, or −1.
pub(super) fn of_positions(cx: &mut Context, name: &str, value: &Value, categories: &[String]) -> Res<Value> {
    let index = cx.as_long(&format!("{name}/positions"), value)?;
    let mut numbers: Vec<i64> = categories.iter().map(|text| cx.texts.number(text)).collect();
    numbers.push(-1);
    let list = Tensor::from_vec(numbers, categories.len() + 1, &Device::Cpu)?;
    let list = Known::value(list, Elem::Text, &format!("{name}/categories"));
    look_up(cx, &format!("{name}/text"), &index, &list, Elem::Text)
}

/// The positions of texts in a list, −1 for texts that are not in it.
pub(super) fn positions(cx: &mut Context, name: &str, value: &Value, list: &[String]) -> Res<Value> {
    let place = |text: &String| list.iter().position(|own| own == text).map_or(-1, |place| place as i64);
    let mut places: Vec<i64> = cx.texts.all().iter().map(place).collect();
    places.push(-1);
    let size = places.len();
    let places =
        Known::value(Tensor::from_vec(places, size, &Device::Cpu)?, Elem::Int, &format!("{name}/places"));
    look_up(cx, name, value, &places, Elem::Int)
}
