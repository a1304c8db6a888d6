//! Finds the descriptions of tensors in the pickle of a checkpoint.

use std::collections::HashMap;

use candle_core::Tensor;

use super::element::{Element, checked_count};
use super::nesting;
use super::pickle::{Id, Node, Pickle};

/// A tensor as a view of a storage. Offset and strides are in elements.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct View {
    /// Key of the storage.
    pub(super) key: String,
    pub(super) element: Element,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

impl View {
    /// Size of the tensor in bytes; `None` if it overflows.
    pub(super) fn bytes(&self) -> Option<u64> {
        Some(checked_count(&self.shape)?.checked_mul(self.element.size())? as u64)
    }

    /// The tensor, in row-major order, from the bytes of its storage.
    pub(super) fn tensor(&self, storage: &[u8]) -> Result<Tensor, String> {
        let Self { key, element, offset, shape, strides } = self;
        let size = element.size();
        let outside = || {
            format!(
                "a tensor of shape {shape:?} with strides {strides:?} at {offset} extends beyond its storage \
                 '{key}' of {} elements",
                storage.len() / size
            )
        };
        let count = checked_count(shape).ok_or_else(outside)?;
        if count == 0 {
            return element.tensor(&[], shape);
        }
        let last = shape
            .iter()
            .zip(strides)
            .try_fold(*offset, |at, (dim, stride)| at.checked_add((dim - 1).checked_mul(*stride)?));
        let end =
            last.and_then(|last| last.checked_add(1)?.checked_mul(size)).filter(|end| *end <= storage.len());
        let end = end.ok_or_else(outside)?;
        if is_row_major(shape, strides) {
            return element.tensor(&storage[offset * size..end], shape);
        }
        if count > storage.len() / size {
            return Err(format!(
                "a tensor of shape {shape:?} repeats its storage '{key}'; save a contiguous copy of it"
            ));
        }
        let mut bytes = Vec::with_capacity(count * size);
        let mut index = vec![0; shape.len()];
        for _ in 0..count {
            let at = offset + index.iter().zip(strides).map(|(i, s)| i * s).sum::<usize>();
            bytes.extend_from_slice(&storage[at * size..(at + 1) * size]);
            for (i, dim) in index.iter_mut().zip(shape).rev() {
                *i += 1;
                if *i < *dim {
                    break;
                }
                *i = 0;
            }
        }
        element.tensor(&bytes, shape)
    }
}

fn is_row_major(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1;
    shape.iter().zip(strides).rev().all(|(dim, stride)| {
        let fits = *dim == 1 || *stride == expected;
        expected *= dim;
        fits
    })
}

/// The tensors of a state dict by name, in order, and the names of entries that are not tensors.
#[derive(Debug)]
pub(super) struct Entries {
    pub(super) tensors: Vec<(String, View)>,
    pub(super) ignored: Vec<String>,
    /// Whether PyTorch Lightning wrote the checkpoint.
    pub(super) is_lightning: bool,
}

/// Finds the state dict in a checkpoint and describes its tensors.
pub(super) fn entries(pickle: &Pickle) -> Result<Entries, String> {
    let node = nesting::state_dict(pickle)?;
    let Node::Dict(items) = node else {
        return Err(format!(
            "it contains {}, not a state dict{}; in Python, save `model.state_dict()` instead of the model",
            pickle.describe(node),
            nesting::keys(pickle)
        ));
    };
    let (mut tensors, mut ignored) = (Vec::new(), Vec::new());
    for (key, value) in items {
        let name = pickle.text(*key);
        match (name, tensor_view(pickle, *value)) {
            (Some(name), Ok(Some(view))) => tensors.push((name.to_owned(), view)),
            (Some(name), Err(problem)) => return Err(format!("parameter '{name}': {problem}")),
            (name, _) => ignored.push(name.unwrap_or("(an entry whose key is not a string)").to_owned()),
        }
    }
    if tensors.is_empty() {
        let keys: Vec<_> = ignored.iter().take(8).map(String::as_str).collect();
        return Err(format!("it contains no tensors (its entries are: {})", keys.join(", ")));
    }
    Ok(Entries { tensors, ignored, is_lightning: nesting::is_lightning(pickle) })
}

/// Whether a value is a call that creates a tensor.
pub(super) fn is_tensor(pickle: &Pickle, node: &Node) -> bool {
    matches!(node, Node::Call { callable, .. }
        if matches!(pickle.global(*callable), Some(("torch._utils" | "torch._tensor", _))))
}

/// The element types of all storages to which the pickle refers, by key.
pub(super) fn storages(pickle: &Pickle) -> HashMap<String, Element> {
    let references = pickle.nodes().filter_map(|node| match node {
        Node::Persistent(id) => storage(pickle, *id).ok(),
        _ => None,
    });
    references.map(|reference| (reference.key, reference.element)).collect()
}

/// The view that `id` describes; `None` if it is not a tensor.
fn tensor_view(pickle: &Pickle, id: Id) -> Result<Option<View>, String> {
    let Some((mut function, mut args)) = pickle.call(id) else { return Ok(None) };
    let arg = |args: &[Id], i: usize| {
        args.get(i).copied().ok_or_else(|| "its description is incomplete".to_owned())
    };
    // Parameters and subclasses of tensors wrap the call that creates the tensor.
    for _ in 0..4 {
        match function {
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                (function, args) = pickle.call(arg(args, 0)?).ok_or("its data is not a tensor")?;
            }
            ("torch._tensor", "_rebuild_from_type_v2") => {
                function = pickle.global(arg(args, 0)?).ok_or("its constructor is not a function")?;
                args = pickle.tuple(arg(args, 2)?).ok_or("its constructor's arguments are not a tuple")?;
            }
            _ => break,
        }
    }
    match function {
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3") => {}
        ("torch._utils" | "torch._tensor", kind) => {
            return Err(format!(
                "tensors made by {kind} (quantised, sparse, …) are not supported; save it as a dense tensor"
            ));
        }
        _ => return Ok(None),
    }
    let Node::Persistent(reference) = pickle.get(arg(args, 0)?) else {
        return Err("its storage is missing".into());
    };
    let Reference { key, element, offset: base } = storage(pickle, *reference)?;
    let element = match function.1 {
        "_rebuild_tensor_v3" => element_of_dtype(pickle, arg(args, 6)?)?,
        _ => element,
    };
    let offset = count(pickle, arg(args, 1)?)?.checked_add(base).ok_or("its offset is out of range")?;
    let (shape, strides) = (counts(pickle, arg(args, 2)?)?, counts(pickle, arg(args, 3)?)?);
    if shape.len() != strides.len() {
        return Err(format!("it has {} dimensions but {} strides", shape.len(), strides.len()));
    }
    Ok(Some(View { key, element, offset, shape, strides }))
}

/// A non-negative integer.
fn count(pickle: &Pickle, id: Id) -> Result<usize, String> {
    let value = pickle.integer(id).and_then(|v| usize::try_from(v).ok());
    value.ok_or_else(|| "a size, stride or offset is not a non-negative integer".into())
}

/// A tuple of non-negative integers: a shape, or strides.
fn counts(pickle: &Pickle, id: Id) -> Result<Vec<usize>, String> {
    let items = match pickle.get(id) {
        Node::Tuple(items) | Node::List(items) => items.as_slice(),
        // torch.Size((…))
        Node::Call { args, .. } => match pickle.tuple(*args) {
            Some([size]) => pickle.tuple(*size).ok_or("its shape is not a tuple")?,
            _ => return Err("its shape is not a tuple".into()),
        },
        _ => return Err("its shape or strides are not a tuple".into()),
    };
    if items.len() > 64 {
        return Err(format!("it has {} dimensions, more than PyTorch's 64", items.len()));
    }
    items.iter().map(|id| count(pickle, *id)).collect()
}

/// A reference to (part of) a storage.
struct Reference {
    key: String,
    element: Element,
    offset: usize,
}

/// Reads `('storage', type, key, location, length[, (view key, offset, length)])`.
fn storage(pickle: &Pickle, id: Id) -> Result<Reference, String> {
    let fields = pickle.tuple(id).unwrap_or_default();
    let [tag, kind, key, _location, _length, rest @ ..] = fields else {
        return Err("its storage is not described as in PyTorch".into());
    };
    if pickle.text(*tag) != Some("storage") {
        return Err("its storage is not described as in PyTorch".into());
    }
    let (module, class) = pickle.global(*kind).ok_or("the type of its storage is not a class")?;
    let element = match class {
        "FloatStorage" => Element::F32,
        "DoubleStorage" => Element::F64,
        "HalfStorage" => Element::F16,
        "BFloat16Storage" => Element::BF16,
        "BoolStorage" => Element::Bool,
        "ByteStorage" | "UntypedStorage" => Element::U8,
        "CharStorage" => Element::I8,
        "ShortStorage" => Element::I16,
        "IntStorage" => Element::I32,
        "LongStorage" => Element::I64,
        other => {
            return Err(format!("its storage type {module}.{other} is not supported; convert it to float32"));
        }
    };
    let key = match pickle.get(*key) {
        Node::Str(key) if key.len() <= 256 => key.clone(),
        Node::Int(key) => key.to_string(),
        _ => return Err("its storage has no valid name".into()),
    };
    let offset = match rest.first().and_then(|view| pickle.tuple(*view)) {
        Some([_, offset, _]) => count(pickle, *offset)?,
        _ => 0,
    };
    Ok(Reference { key, element, offset })
}

/// The element type for a `torch.dtype`.
fn element_of_dtype(pickle: &Pickle, id: Id) -> Result<Element, String> {
    let (_, name) = pickle.global(id).ok_or("its type is not a torch.dtype")?;
    Ok(match name {
        "bool" => Element::Bool,
        "uint8" => Element::U8,
        "int8" => Element::I8,
        "uint16" => Element::U16,
        "int16" => Element::I16,
        "uint32" => Element::U32,
        "int32" => Element::I32,
        "uint64" => Element::U64,
        "int64" => Element::I64,
        "float16" => Element::F16,
        "bfloat16" => Element::BF16,
        "float32" => Element::F32,
        "float64" => Element::F64,
        other => return Err(format!("its type torch.{other} is not supported; convert it to float32")),
    })
}
