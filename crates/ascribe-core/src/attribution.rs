//! The result of an explanation.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::roles::Arrangement;
use crate::values::signs;

/// Number of rows that a model has evaluated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Rows of forward passes.
    pub forward: usize,
    /// Rows of backward passes.
    pub backward: usize,
}

impl Cost {
    /// One evaluation and one backward walk per sample.
    pub fn once(x: &crate::Inputs) -> Self {
        let samples = x.batch().unwrap_or(0);
        Self { forward: samples, backward: samples }
    }
}

impl std::ops::Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            forward: self.forward.saturating_add(other.forward),
            backward: self.backward.saturating_add(other.backward),
        }
    }
}

impl std::ops::Mul<usize> for Cost {
    type Output = Self;

    fn mul(self, times: usize) -> Self {
        Self { forward: self.forward.saturating_mul(times), backward: self.backward.saturating_mul(times) }
    }
}

/// How an attribution was computed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Provenance {
    /// Identifier of the method.
    pub method: String,
    /// The method's full configuration.
    pub config: serde_json::Value,
    /// Whether only differences between values are meaningful, see [`crate::Method::is_relative`].
    #[serde(default)]
    pub relative: bool,
    /// Target of each sample.
    pub targets: Vec<String>,
    /// Score of each sample.
    pub scores: Vec<f64>,
    /// Score of each sample's baseline, where the method has one.
    pub baseline_scores: Option<Vec<f64>>,
    /// For each sample, the sum of its attribution minus what the sum should be, for methods that satisfy completeness.
    pub completeness_gap: Option<Vec<f64>>,
    /// Rows that the model has evaluated.
    pub cost: Cost,
    /// Wall time in seconds.
    pub seconds: f64,
    /// Seed of the run.
    pub seed: u64,
    /// Further results of the method by name: rules, a local R², steps of a path, …
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub details: serde_json::Map<String, serde_json::Value>,
    /// Remarks: why a map is zero, steps taken by an adaptive method, …
    pub notes: Vec<String>,
    /// Reasons to doubt the result, and what to do about them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Attribution of one input.
#[derive(Clone, Debug)]
pub struct Values {
    /// Name of the input or of the layer; empty for a single anonymous input.
    pub name: String,
    /// Signed, unnormalised values; shaped like what they belong to.
    pub values: Tensor,
    /// Standard error of each value, for methods that estimate by sampling.
    pub spread: Option<Tensor>,
    /// The order of the axes, where it is not `[N, C, positions…]`: at layers whose channels are last, for example.
    pub layout: Option<Arrangement>,
}

impl Values {
    /// The values in the order `[N, C, positions…]`.
    ///
    /// # Errors
    /// If the values have another number of axes than the layout.
    pub fn arranged(&self) -> Result<Tensor> {
        self.layout.as_ref().map_or_else(|| Ok(self.values.clone()), |layout| layout.arranged(&self.values))
    }

    /// The same values, given in the order `[N, C, positions…]`, in another order of axes.
    ///
    /// # Errors
    /// As [`Arrangement::restored`].
    pub fn restored(self, layout: &Arrangement) -> Result<Self> {
        let values = layout.restored(&self.values)?;
        let spread = self.spread.as_ref().map(|spread| layout.restored(spread)).transpose()?;
        Ok(Self { values, spread, layout: Some(layout.clone()), ..self })
    }
}

/// An explanation: one tensor per explained input, signed and unnormalised, and how they were computed.
#[derive(Clone, Debug)]
pub struct Attribution {
    /// One entry per explained input.
    pub parts: Vec<Values>,
    /// Further results of the method by name, first axis the batch: superpixels, coefficients, relevance of layers, …
    pub extras: BTreeMap<String, Tensor>,
    /// How they were computed.
    pub provenance: Provenance,
}

impl Attribution {
    /// The attribution of the first (often the only) explained input.
    ///
    /// # Panics
    /// Never for attributions made by an explainer, which have at least one part.
    pub fn values(&self) -> &Tensor {
        &self.parts[0].values
    }

    /// The sum of each sample's attribution, over all inputs.
    ///
    /// # Errors
    /// If the values cannot be read.
    pub fn totals(&self) -> Result<Vec<f64>> {
        totals(self.parts.iter().map(|p| &p.values))
    }

    /// A note for every sample whose attribution is zero everywhere or has no positive value.
    ///
    /// # Errors
    /// If the values cannot be read.
    pub fn findings(&self) -> Result<Vec<String>> {
        let mut findings = Vec::new();
        for part in &self.parts {
            let of = if part.name.is_empty() { String::new() } else { format!(" of '{}'", part.name) };
            for (sample, signs) in signs(&part.values)?.into_iter().enumerate() {
                if signs.positive {
                    continue;
                }
                let what = if signs.negative { "positive nowhere" } else { "zero everywhere" };
                findings.push(format!("the attribution{of} is {what} for sample {sample}"));
            }
        }
        Ok(findings)
    }

    /// Serialises values and provenance to the safetensors format: tensors `attribution` (or one per input,
    /// `attribution.NAME`), `spread` likewise, `extra.NAME`, all f32 or f64, and the provenance as JSON in the metadata
    /// entry `provenance`.
    ///
    /// # Errors
    /// If the values cannot be read or serialised.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        let fail = |problem: String| Error::Serialise { what: "attribution".into(), problem };
        let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
        let mut push = |name: String, tensor: &Tensor| -> Result<()> {
            let (dtype, bytes) = le_bytes(tensor)?;
            tensors.push((name, dtype, tensor.dims().to_vec(), bytes));
            Ok(())
        };
        for part in &self.parts {
            let suffix = if self.parts.len() == 1 { String::new() } else { format!(".{}", part.name) };
            for (kind, tensor) in [("attribution", Some(&part.values)), ("spread", part.spread.as_ref())] {
                if let Some(tensor) = tensor {
                    push(format!("{kind}{suffix}"), tensor)?;
                }
            }
        }
        for (name, tensor) in &self.extras {
            push(format!("extra.{name}"), tensor)?;
        }
        let views: Result<Vec<(&str, TensorView<'_>)>> = tensors
            .iter()
            .map(|(name, dtype, shape, bytes)| {
                let view = TensorView::new(*dtype, shape.clone(), bytes).map_err(|e| fail(e.to_string()))?;
                Ok((name.as_str(), view))
            })
            .collect();
        let provenance = serde_json::to_string(&self.provenance).map_err(|e| fail(e.to_string()))?;
        let metadata = HashMap::from([("provenance".to_string(), provenance)]);
        safetensors::serialize(views?, Some(metadata)).map_err(|e| fail(e.to_string()))
    }

    /// Writes [`Attribution::to_safetensors`] to a file, completely or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        crate::file::write(path.as_ref(), &self.to_safetensors()?)
    }
}

/// Sum of each row, over all tensors.
pub(crate) fn totals<'a>(values: impl Iterator<Item = &'a Tensor>) -> Result<Vec<f64>> {
    let mut totals: Vec<f64> = Vec::new();
    for value in values {
        let rows = value.dim(0)?;
        let sums = value.to_dtype(DType::F64)?.to_device(&Device::Cpu)?.reshape((rows, ()))?.sum(1)?;
        totals.resize(rows, 0.0);
        totals.iter_mut().zip(sums.to_vec1::<f64>()?).for_each(|(t, s)| *t += s);
    }
    Ok(totals)
}

fn le_bytes(tensor: &Tensor) -> Result<(Dtype, Vec<u8>)> {
    let flat = tensor.flatten_all()?.to_device(&Device::Cpu)?;
    if tensor.dtype() == DType::F64 {
        return Ok((Dtype::F64, flat.to_vec1::<f64>()?.iter().flat_map(|v| v.to_le_bytes()).collect()));
    }
    let values = flat.to_dtype(DType::F32)?.to_vec1::<f32>()?;
    Ok((Dtype::F32, values.iter().flat_map(|v| v.to_le_bytes()).collect()))
}
