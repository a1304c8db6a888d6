//! Configurations as JSON.

use std::result::Result as StdResult;

use candle_core::{Device, Tensor};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::error::{Error, Result};

/// A configuration as JSON.
pub fn write<T: Serialize>(config: &T) -> Value {
    // Field names are strings and numbers are finite or null: this cannot fail for plain structs.
    serde_json::to_value(config).unwrap_or_default()
}

/// Reads the configuration of `id`: an object with the fields that differ from the defaults, or `null` for all defaults.
///
/// # Errors
/// [`Error::Config`], which names the field: an unknown one (with those that exist), or a value of the wrong kind.
pub fn read<T: Serialize + DeserializeOwned + Default>(id: &str, given: &Value) -> Result<T> {
    let fail = |problem: String| Error::Config { id: id.into(), problem };
    let given = match given {
        Value::Null => return Ok(T::default()),
        Value::Object(given) => given,
        other => return Err(fail(format!("is {other}; expected an object with its fields"))),
    };
    let mut all = write(&T::default());
    if let Some(fields) = all.as_object_mut() {
        fields.extend(given.clone());
    }
    serde_path_to_error::deserialize(all).map_err(|e| {
        let path = e.path().to_string();
        let problem = e.into_inner().to_string();
        // For an unknown field, the message names the field already.
        if path == "." || problem.starts_with("unknown field") {
            fail(problem)
        } else {
            fail(format!("`{path}`: {problem}"))
        }
    })
}

/// A tensor as configurations write it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    shape: Vec<usize>,
    values: Vec<f64>,
}

impl Written {
    fn tensor<E: serde::de::Error>(self) -> StdResult<Tensor, E> {
        let Self { shape, values } = self;
        let count = shape.iter().try_fold(1_usize, |n, &side| n.checked_mul(side));
        if count != Some(values.len()) {
            return Err(E::custom(format!("{} values for shape {shape:?}", values.len())));
        }
        Tensor::from_vec(values, shape, &Device::Cpu).map_err(E::custom)
    }
}

/// For `#[serde(deserialize_with = …)]`: a tensor in f64, written as `{ "shape": […], "values": […] }` with the values in
/// row-major order.
///
/// # Errors
/// If the number of values is not that of the shape.
pub fn tensor<'de, D: Deserializer<'de>>(deserializer: D) -> StdResult<Tensor, D::Error> {
    Written::deserialize(deserializer)?.tensor()
}

/// As [`tensor`], for a field that may be `null`.
///
/// # Errors
/// As [`tensor`].
pub fn optional_tensor<'de, D: Deserializer<'de>>(deserializer: D) -> StdResult<Option<Tensor>, D::Error> {
    Option::<Written>::deserialize(deserializer)?.map(Written::tensor).transpose()
}

/// For `#[serde(serialize_with = …)]`: the shape of a tensor; its values are not part of a configuration.
///
/// # Errors
/// Errors of the serializer.
pub fn shape<S: Serializer>(value: &Tensor, serializer: S) -> StdResult<S::Ok, S::Error> {
    serializer.collect_seq(value.dims())
}

/// As [`shape`], for a field that may be `null`.
///
/// # Errors
/// Errors of the serializer.
pub fn optional_shape<S: Serializer>(value: &Option<Tensor>, serializer: S) -> StdResult<S::Ok, S::Error> {
    match value {
        Some(value) => shape(value, serializer),
        None => serializer.serialize_none(),
    }
}

/// For `#[serde(deserialize_with = …)]`: a list, of which a single number may be written without brackets.
///
/// # Errors
/// If it is neither.
pub fn one_or_many<'de, D, T>(deserializer: D) -> StdResult<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a number or a list of numbers")]
    enum OneOrMany<T> {
        One(T),
        Many(Vec<T>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Fields {
        steps: usize,
        inner: Option<Inner>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Inner {
        sigma: f64,
    }

    #[test]
    fn a_wrong_value_names_its_field() {
        let error = |given| read::<Fields>("method", &given).unwrap_err().to_string();
        let message = error(json!({ "steps": "abc" }));
        assert!(
            message.contains("'method'") && message.contains("`steps`") && message.contains("abc"),
            "{message}"
        );
        let message = error(json!({ "inner": { "sigma": true } }));
        assert!(message.contains("`inner.sigma`"), "{message}");
        let message = error(json!({ "stpes": 3 }));
        assert!(message.contains("`stpes`") && message.contains("`steps`"), "{message}");
        assert!(error(json!([1])).contains("[1]"));
    }

    #[test]
    fn fields_that_are_absent_keep_their_defaults() {
        assert_eq!(read::<Fields>("method", &Value::Null).unwrap(), Fields::default());
        let found = read::<Fields>("method", &json!({ "steps": 3 })).unwrap();
        assert_eq!(found, Fields { steps: 3, inner: None });
    }
}
