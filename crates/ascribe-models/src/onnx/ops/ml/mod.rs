//! Operators of the domain `ai.onnx.ml`: trees, linear models and support vectors, and what prepares the columns of tables.
//!
//! Linear models, kernels and scalings become operators that have a gradient; trees and encoders have none.

mod encode;
mod linear;
mod prepare;
mod scores;
mod svm;
mod trees;

use super::Call;
use crate::onnx::array::{Array, Data};
use crate::onnx::context::{Context, batch_axis};
use crate::onnx::text;
use crate::onnx::value::{Elem, Res, Value};

/// Translates a node.
pub(super) fn translate(cx: &mut Context, call: &Call<'_>) -> Res<Vec<Value>> {
    let one = |value: Res<Value>| value.map(|v| vec![v]);
    match call.op {
        "TreeEnsembleClassifier" => trees::classifier(cx, call),
        "TreeEnsembleRegressor" => one(trees::regressor(cx, call)),
        "TreeEnsemble" => one(trees::ensemble(cx, call)),
        "LinearClassifier" => linear::classifier(cx, call),
        "LinearRegressor" => one(linear::regressor(cx, call)),
        "SVMClassifier" => svm::classifier(cx, call),
        "SVMRegressor" => one(svm::regressor(cx, call)),
        "Scaler" => one(prepare::scaler(cx, call)),
        "Normalizer" => one(prepare::normalizer(cx, call)),
        "Imputer" => one(prepare::imputer(cx, call)),
        "Binarizer" => one(prepare::binarizer(cx, call)),
        "FeatureVectorizer" => one(prepare::vectorizer(cx, call)),
        "ArrayFeatureExtractor" => one(prepare::extractor(cx, call)),
        "OneHotEncoder" => one(encode::one_hot(cx, call)),
        "LabelEncoder" => one(encode::label(cx, call)),
        "CategoryMapper" => one(encode::category(cx, call)),
        "ZipMap" => {
            let names = labels(call)?.ok_or("has no classlabels_int64s and no classlabels_strings")?;
            cx.labels.push(names.texts());
            Ok(vec![call.input(0)?.clone()])
        }
        _ => Err("the operator is not supported".into()),
    }
}

/// The labels of classes.
enum Labels {
    Ints(Vec<i64>),
    Texts(Vec<String>),
}

impl Labels {
    fn len(&self) -> usize {
        match self {
            Self::Ints(all) => all.len(),
            Self::Texts(all) => all.len(),
        }
    }

    fn texts(&self) -> Vec<String> {
        match self {
            Self::Ints(all) => all.iter().map(ToString::to_string).collect(),
            Self::Texts(all) => all.clone(),
        }
    }

    /// The labels at computed places: the label of each sample.
    fn at(&self, cx: &mut Context, name: &str, places: &Value) -> Res<Value> {
        let (list, elem) = match self {
            Self::Ints(all) => {
                (Value::from_array(Array::ints(all.clone()), cx.dtype, &format!("{name}/labels"))?, Elem::Int)
            }
            Self::Texts(all) => {
                (text::constant(cx, &format!("{name}/labels"), all, &[all.len()])?, Elem::Text)
            }
        };
        text::look_up(cx, name, places, &list, elem)
    }
}

/// The labels of a node.
fn labels(call: &Call<'_>) -> Res<Option<Labels>> {
    let texts = call.attributes.strings("classlabels_strings")?;
    if !texts.is_empty() {
        return Ok(Some(Labels::Texts(texts.into_iter().map(String::from).collect())));
    }
    let ints = ["classlabels_ints", "classlabels_int64s"].iter().find_map(|name| call.attributes.ints(name));
    Ok(ints.filter(|list| !list.is_empty()).map(|list| Labels::Ints(list.to_vec())))
}

/// The labels of a classifier.
fn class_labels(cx: &mut Context, call: &Call<'_>) -> Res<Labels> {
    let labels = labels(call)?.ok_or("has no labels of its classes")?;
    if labels.len() < 2 {
        return Err(format!("has {} label; expected at least two classes", labels.len()).into());
    }
    cx.labels.push(labels.texts());
    Ok(labels)
}

/// The operand as numbers `[N, F]`, and F.
fn rows(cx: &mut Context, call: &Call<'_>) -> Res<(Value, usize)> {
    let x = numbers(cx, call, 0)?;
    let shapes = x.shapes()?;
    let (&[_, features], Some(0)) = (&shapes[0][..], batch_axis(&shapes).or(cx.fixed().then_some(0))) else {
        return Err(format!("its input has shape {:?}; expected rows of numbers [N, F]", shapes[0]).into());
    };
    Ok((x, features))
}

/// Operand `slot` as floating-point numbers.
fn numbers(cx: &mut Context, call: &Call<'_>, slot: usize) -> Res<Value> {
    let x = call.input(slot)?;
    if x.elem()? == Elem::Text {
        return Err("its input holds text; expected numbers".into());
    }
    cx.as_float(&call.sub("numbers"), x)
}

/// A list of numbers as a constant of the graph's type.
fn list(cx: &Context, name: &str, values: &[f64], shape: &[usize]) -> Res<Value> {
    let array = Array { shape: vec![values.len()], data: Data::Float(values.to_vec()) };
    Value::from_array(array.reshape(shape.to_vec())?, cx.dtype, name)
}

/// A list attribute; empty if it is absent.
fn floats(call: &Call<'_>, name: &str) -> Vec<f64> {
    call.attributes.floats(name).unwrap_or_default().iter().map(|&value| value.into()).collect()
}

/// A list of integers; empty if it is absent.
fn ints<'a>(call: &'a Call<'_>, name: &str) -> &'a [i64] {
    call.attributes.ints(name).unwrap_or_default()
}

/// A list of floats, or the same list as a tensor, which may hold doubles.
fn floats_or_tensor(cx: &mut Context, call: &Call<'_>, name: &str) -> Res<Vec<f64>> {
    let tensor = call.attributes.tensor(&format!("{name}_as_tensor"))?;
    match tensor {
        Some(tensor) => Ok(cx.store.numbers(tensor, name)?),
        None => Ok(floats(call, name)),
    }
}
