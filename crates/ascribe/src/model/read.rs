//! Inputs of a model from files.

use std::path::Path;

use ascribe_core::{DType, Device, Inputs, NodeId, Tensor};
use ascribe_models::preprocess::Prepared;
use ascribe_models::tensors;
use ascribe_models::weights::StateDict;

use super::{Model, takes_integers};
use crate::error::{Error, Result};

/// An input, read from a file.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The tensors.
    pub inputs: Inputs,
    /// The picture that they were made from, as the network sees it.
    pub picture: Option<Prepared>,
}

impl Model {
    /// Reads an input: a picture, which is preprocessed, or tensors that are already
    /// preprocessed (`.safetensors`, `.npy`).
    ///
    /// # Errors
    /// If the file cannot be read or does not fit the model.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Loaded> {
        let path = path.as_ref();
        if tensors::is_tensor_file(path) {
            return Ok(Loaded { inputs: self.tensors(path, &tensors::read(path)?)?, picture: None });
        }
        let prepared = self.preprocessing.load(path)?;
        self.check_picture(&prepared.tensor)?;
        let value = if takes_integers(&self.graph) {
            prepared.tensor.round().and_then(|t| t.to_dtype(DType::I64))
        } else {
            prepared.tensor.to_dtype(self.dtype())
        };
        let inputs = self.explaining(Inputs::single(value.map_err(ascribe_core::Error::from)?)?)?;
        Ok(Loaded { inputs, picture: Some(prepared) })
    }

    /// Checks that a preprocessed picture has the size of the model's input, where the file fixes that.
    fn check_picture(&self, picture: &Tensor) -> Result<()> {
        let Some(input) = self.graph.inputs().first() else { return Ok(()) };
        let name = self.graph.node(*input).name();
        let open = self.declared_inputs().iter().any(|declared| declared.name == name && declared.is_open());
        let Some(spec) = self.graph.input_spec(*input).filter(|_| !open) else { return Ok(()) };
        let own = &picture.dims()[1..];
        let fits = own.len() == spec.sides.len()
            && own.iter().zip(&spec.sides).all(|(own, side)| side.is_none_or(|side| side == *own));
        if fits {
            return Ok(());
        }
        let sides: Vec<String> = spec
            .sides
            .iter()
            .map(|side| side.map_or_else(|| "any".into(), |side| side.to_string()))
            .collect();
        Err(Error::request(
            "picture",
            format!("is {own:?} after preprocessing"),
            format!(
                "[{}], as the model's input '{name}': `Preprocessing::crop` sets the size, `Preprocessing::channels` the channels",
                sides.join(", ")
            ),
        ))
    }

    /// Inputs of which something is explained: where all are integers, the tokens (what an embedding looks up), or the only one.
    fn explaining(&self, x: Inputs) -> Result<Inputs> {
        if x.explained().next().is_some() {
            return Ok(x);
        }
        let graph = &self.graph;
        let looked_up = |from: NodeId| {
            let mut reached = vec![false; graph.len()];
            reached[from.index()] = true;
            graph.nodes().any(|(id, node)| {
                reached[id.index()] |= node.inputs().iter().any(|i| reached[i.index()]);
                reached[id.index()] && id != from && graph.is_embedding(id)
            })
        };
        let tokens = match graph.inputs() {
            [only] => Some(*only),
            several => several.iter().copied().find(|&input| looked_up(input)),
        };
        // A single input may have no name.
        let only = x.iter().next().filter(|_| x.len() == 1).map(|input| input.name.clone());
        match tokens {
            Some(id) => Ok(x.explain(&only.unwrap_or_else(|| graph.node(id).name().to_string()))?),
            None => Ok(x),
        }
    }

    /// Matches tensors with the model's inputs: a single one may be called `input`, several are matched by name.
    fn tensors(&self, path: &Path, given: &StateDict) -> Result<Inputs> {
        let own: Vec<&str> = self.graph.inputs().iter().map(|&id| self.graph.node(id).name()).collect();
        let shared =
            |name: &str| self.declared_inputs().iter().any(|d| d.name == name && d.batch_axis.is_none());
        // Integers of a column that is read as a number are numbers.
        let number = |name: &str| {
            let declared = self.declared_inputs().iter().find(|d| d.name == name);
            declared.is_some_and(|d| !d.integer && d.holds_integers())
        };
        let convert = |name: &str, t: &Tensor| -> Result<Tensor> {
            let dtype = if t.dtype().is_float() || number(name) { self.dtype() } else { DType::I64 };
            let value = t.to_dtype(dtype).and_then(|t| t.to_device(&Device::Cpu));
            let value =
                value.and_then(|t| if shared(name) && t.rank() == 0 { t.unsqueeze(0) } else { Ok(t) });
            let value = value.map_err(ascribe_core::Error::from)?;
            match self.layout(name) {
                Some(arrangement) => Ok(arrangement.arranged(&value).map_err(|error| match error {
                    ascribe_core::Error::Invalid { problem, expected, .. } => {
                        ascribe_core::Error::invalid(format!("input '{name}'"), problem, expected)
                    }
                    other => other,
                })?),
                None => Ok(value),
            }
        };
        let find = |name: &str| {
            given.get(name).map_err(|_| {
                let names: Vec<&str> = given.iter().map(|(name, _)| name).collect();
                let problem = format!("holds no tensor '{name}', but {}", names.join(", "));
                let expected = format!("a tensor for each input of the model: {}", own.join(", "));
                Error::request(format!("input '{}'", path.display()), problem, expected)
            })
        };
        let found: Result<Vec<(String, Tensor)>> = match own.as_slice() {
            [only] => {
                let alone = given.iter().next().filter(|_| given.len() == 1);
                let name = if given.contains(only) { only } else { "input" };
                let tensor = alone.map_or_else(|| find(name), |(_, tensor)| Ok(tensor))?;
                Ok(vec![((*only).to_string(), convert(only, tensor)?)])
            }
            several => {
                several.iter().map(|name| Ok(((*name).to_string(), convert(name, find(name)?)?))).collect()
            }
        };
        let mut found = found?;
        // A number that all samples share is repeated for each of them.
        let samples =
            found.iter().filter(|(name, _)| !shared(name)).find_map(|(_, t)| t.dims().first().copied());
        for (_, value) in found.iter_mut().filter(|(name, t)| shared(name) && t.dims().first() == Some(&1)) {
            let rows = samples.unwrap_or(1);
            let mut shape = value.dims().to_vec();
            shape[0] = rows;
            *value =
                value.broadcast_as(shape).and_then(|t| t.contiguous()).map_err(ascribe_core::Error::from)?;
        }
        self.explaining(Inputs::named(found)?)
    }
}
