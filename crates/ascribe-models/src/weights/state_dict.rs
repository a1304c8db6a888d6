//! An ordered map from parameter names to tensors.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Tensor};
use indexmap::IndexMap;

use super::check::{self, ParameterMismatch};
use crate::error::{Error, Result, nearest};

/// The name under which PyTorch's `AveragedModel` counts the models that it has averaged.
const COUNTER: &str = "n_averaged";

/// The parameters of a network by name, in the order of the file, each with the type it has in the file.
///
/// Tensors are on the CPU. Types that candle does not support are widened without loss: `bool` to `u8`,
/// `i8` to `i16`, `u16` to `u32`, `u64` to `i64`.
#[derive(Debug, Clone, Default)]
pub struct StateDict {
    tensors: IndexMap<String, Tensor>,
    metadata: BTreeMap<String, String>,
    ignored: Vec<String>,
}

impl StateDict {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a `.safetensors` file or a PyTorch checkpoint (`.pth`, `.pt`, `.pth.tar`, `.bin`, `.ckpt`).
    ///
    /// The format is detected from the contents, not from the name. All formats that `torch.save` has written since
    /// 2016 are supported (zip archives and the older format). A state dict that is nested under `state_dict`,
    /// `model_state_dict`, `model`, `net` and the like is found, and prefixes `module.` and `_orig_mod.` that all names
    /// have are removed; in checkpoints of Lightning, `model.`, too. No code in the checkpoint is executed.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read, [`Error::Malformed`] when it is truncated, corrupt, inconsistent, not
    /// a parameter file, or holds several state dicts, such as the parameters and their running averages. Sizes are checked against the size of the file before memory is allocated.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        super::load::load(path.as_ref())
    }

    /// Writes a safetensors file, atomically.
    ///
    /// With `Some(dtype)`, floating-point tensors are converted first (`DType::F16` halves the size of an f32 file);
    /// integers are not changed. The bytes of the file depend only on the contents.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be written, [`Error::Invalid`] when a finite value
    /// overflows in the conversion.
    pub fn save(&self, path: impl AsRef<Path>, dtype: Option<DType>) -> Result<()> {
        let converted = match dtype {
            Some(dtype) => &self.to_dtype(dtype)?,
            None => self,
        };
        super::safetensors::write(path.as_ref(), converted.iter(), &converted.metadata)
    }

    /// Adds a parameter. If there is one with that name, it is replaced and returned.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) -> Option<Tensor> {
        self.tensors.insert(name.into(), tensor)
    }

    /// Removes a parameter and returns it; the others keep their order.
    pub fn remove(&mut self, name: &str) -> Option<Tensor> {
        self.tensors.shift_remove(name)
    }

    /// The parameter called `name`, as it is in the file.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`] with similar names.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).ok_or_else(|| Error::UnknownParameter {
            name: name.to_owned(),
            near: nearest(name, self.names(), 3),
        })
    }

    /// The parameter called `name`, converted to `dtype`.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`] with similar names.
    pub fn get_as(&self, name: &str, dtype: DType) -> Result<Tensor> {
        Ok(self.get(name)?.to_dtype(dtype)?)
    }

    /// Whether there is a parameter called `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// All names and tensors, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// All names, in order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Total number of values in all tensors, without the counters `num_batches_tracked`.
    pub fn parameter_count(&self) -> usize {
        self.iter().filter(|(name, _)| !check::is_counter(name)).map(|(_, t)| t.elem_count()).sum()
    }

    /// Text metadata of the file (`__metadata__` of safetensors), by key.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Mutable access to the metadata.
    pub fn metadata_mut(&mut self) -> &mut BTreeMap<String, String> {
        &mut self.metadata
    }

    /// Entries of the checkpoint that are not tensors and were left out (`epoch`, `_extra_state`, …).
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }

    pub(super) fn set_ignored(&mut self, ignored: Vec<String>) {
        self.ignored = ignored;
    }

    /// Replaces each name by `rename(name)`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when two parameters would get the same name.
    pub fn rename(self, mut rename: impl FnMut(&str) -> String) -> Result<Self> {
        let mut tensors = IndexMap::with_capacity(self.tensors.len());
        for (name, tensor) in self.tensors {
            let new = rename(&name);
            if tensors.contains_key(&new) {
                return Err(Error::invalid(
                    format!("parameter '{name}'"),
                    format!("is renamed to '{new}', which exists already"),
                    "a distinct name for each parameter",
                ));
            }
            tensors.insert(new, tensor);
        }
        Ok(Self { tensors, ..self })
    }

    /// Removes these prefixes, in any order and repeatedly, each from all names if every name starts with it and is longer.
    /// `n_averaged`, the counter of PyTorch's `AveragedModel`, does not have the prefix and is left out then.
    pub(super) fn strip_prefixes(mut self, prefixes: &[&str]) -> Self {
        let parameters = |name: &&str| *name != COUNTER;
        while let Some(prefix) = prefixes.iter().find(|prefix| {
            let has = |name: &str| name.len() > prefix.len() && name.starts_with(**prefix);
            self.names().any(|n| parameters(&n)) && self.names().filter(parameters).all(has)
        }) {
            if self.tensors.shift_remove(COUNTER).is_some() {
                self.ignored.push(COUNTER.into());
            }
            let tensors = self.tensors.into_iter().map(|(name, t)| (name[prefix.len()..].to_owned(), t));
            self = Self { tensors: tensors.collect(), ..self };
        }
        self
    }

    /// The parameters whose names start with `prefix`, without it.
    pub(crate) fn below(&self, prefix: &str) -> Self {
        let below = self.tensors.iter().filter_map(|(name, tensor)| {
            let name = name.strip_prefix(prefix).filter(|rest| !rest.is_empty())?;
            Some((name.to_owned(), tensor.clone()))
        });
        Self { tensors: below.collect(), metadata: self.metadata.clone(), ignored: self.ignored.clone() }
    }

    /// Converts all floating-point tensors to `dtype`; integers are not changed.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a finite value overflows, as values above 65,504 do in f16.
    pub fn to_dtype(&self, dtype: DType) -> Result<Self> {
        let mut tensors = IndexMap::with_capacity(self.tensors.len());
        for (name, tensor) in &self.tensors {
            let converted = if tensor.dtype().is_float() && tensor.dtype() != dtype {
                let converted = tensor.to_dtype(dtype)?;
                if count_finite(&converted)? < count_finite(tensor)? {
                    return Err(Error::invalid(
                        format!("parameter '{name}'"),
                        format!("holds values that overflow in {dtype:?}"),
                        "a type with a larger range, such as F32",
                    ));
                }
                converted
            } else {
                tensor.clone()
            };
            tensors.insert(name.clone(), converted);
        }
        Ok(Self { tensors, metadata: self.metadata.clone(), ignored: self.ignored.clone() })
    }

    /// Compares names and shapes with what an architecture expects.
    ///
    /// `num_batches_tracked`, a counter of batch normalisation for training, is ignored in both.
    ///
    /// # Errors
    /// [`ParameterMismatch`], which lists all parameters that are missing, unexpected or of the wrong shape.
    pub fn check<S: AsRef<str>>(&self, expected: &[(S, Vec<usize>)]) -> Result<(), ParameterMismatch> {
        check::check(self, expected, |_| false)
    }

    /// As [`check`](Self::check), but unexpected parameters for which `optional(name)` is true are accepted, such as
    /// those of auxiliary classifiers that are only used in training.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn check_with_optional<S: AsRef<str>>(
        &self,
        expected: &[(S, Vec<usize>)],
        optional: impl Fn(&str) -> bool,
    ) -> Result<(), ParameterMismatch> {
        check::check(self, expected, optional)
    }
}

impl<S: Into<String>> FromIterator<(S, Tensor)> for StateDict {
    fn from_iter<I: IntoIterator<Item = (S, Tensor)>>(pairs: I) -> Self {
        Self { tensors: pairs.into_iter().map(|(n, t)| (n.into(), t)).collect(), ..Self::default() }
    }
}

/// Number of finite values.
fn count_finite(tensor: &Tensor) -> Result<usize> {
    let flat = tensor.flatten_all()?;
    Ok(match tensor.dtype() {
        DType::F64 => flat.to_vec1::<f64>()?.iter().filter(|v| v.is_finite()).count(),
        _ => flat.to_dtype(DType::F32)?.to_vec1::<f32>()?.iter().filter(|v| v.is_finite()).count(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn scalar(v: f32) -> Tensor {
        Tensor::new(v, &Device::Cpu).unwrap()
    }

    #[test]
    fn names_keep_their_order_and_unknown_ones_get_suggestions() {
        let dict: StateDict = [("b.weight", scalar(1.)), ("a.weight", scalar(2.))].into_iter().collect();
        assert_eq!(dict.names().collect::<Vec<_>>(), ["b.weight", "a.weight"]);
        let message = dict.get("a.weigth").unwrap_err().to_string();
        assert!(message.contains("'a.weigth'") && message.contains("did you mean 'a.weight'"), "{message}");
    }

    #[test]
    fn overflow_in_f16_is_an_error_that_names_the_parameter() {
        let dict: StateDict = [("running_var", scalar(1e6))].into_iter().collect();
        assert!(dict.to_dtype(DType::F16).unwrap_err().to_string().contains("running_var"));
        let dict: StateDict = [("x", scalar(f32::INFINITY))].into_iter().collect();
        assert!(dict.to_dtype(DType::F16).is_ok());
    }

    #[test]
    fn renaming_two_to_one_is_an_error() {
        let dict: StateDict = [("a", scalar(1.)), ("b", scalar(2.))].into_iter().collect();
        assert!(dict.clone().rename(|_| "c".into()).is_err());
        assert_eq!(dict.rename(|n| format!("x.{n}")).unwrap().names().collect::<Vec<_>>(), ["x.a", "x.b"]);
    }

    #[test]
    fn prefixes_are_removed_only_when_all_names_have_them() {
        let stripped = |names: &[&str]| {
            let dict: StateDict = names.iter().map(|name| (*name, scalar(1.))).collect();
            let dict = dict.strip_prefixes(&["module.", "_orig_mod."]);
            dict.names().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(stripped(&["module.a", "module.b"]), ["a", "b"]);
        assert_eq!(stripped(&["module.a", "b"]), ["module.a", "b"]);
        assert_eq!(stripped(&["_orig_mod.module.a", "_orig_mod.module.module.b"]), ["a", "module.b"]);
        assert_eq!(stripped(&["module.module.a"]), ["a"]);
        assert_eq!(stripped(&["n_averaged", "module.a"]), ["a"]);
        assert_eq!(stripped(&["n_averaged", "a"]), ["n_averaged", "a"]);
        assert_eq!(stripped(&["module."]), ["module."]);
    }
}
