//! The values that the names in an ONNX graph refer to while the graph is translated.

use std::cell::OnceCell;
use std::rc::Rc;

use ascribe_core::{DType, Device, NodeId, Tensor};

use super::array::{Array, Data, count};

/// Why a node cannot be translated.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// The reason, which is still to be reported.
    Why(String),
    /// An operand is missing because of a problem that has already been reported.
    Reported,
}

/// Result of translating (a part of) a node.
pub(super) type Res<T> = Result<T, Fault>;

impl From<String> for Fault {
    fn from(why: String) -> Self {
        Self::Why(why)
    }
}

impl From<&str> for Fault {
    fn from(why: &str) -> Self {
        Self::Why(why.into())
    }
}

impl From<ascribe_core::Error> for Fault {
    fn from(error: ascribe_core::Error) -> Self {
        Self::Why(error.to_string())
    }
}

impl From<candle_core::Error> for Fault {
    fn from(error: candle_core::Error) -> Self {
        Self::Why(error.to_string())
    }
}

/// The kind of elements of a value. All floating-point types are computed in the one type of the graph, integers have
/// 64 bits, booleans are stored as bytes, and texts as their numbers ([`super::text::Texts`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Elem {
    Float,
    Int,
    Bool,
    Text,
}

/// A shape for each of the two batch sizes for which shapes are computed (see [`super::context`]).
pub(super) type Shapes = [Vec<usize>; 2];

/// A tensor that is known at load time and does not depend on the batch size.
#[derive(Debug)]
pub(super) struct Known {
    pub tensor: Tensor,
    pub elem: Elem,
    /// The data type in the file, for stored integers.
    pub code: Option<i32>,
    /// Its name in the file.
    pub name: String,
    /// The constant node of the graph, once a node uses the value.
    pub node: OnceCell<NodeId>,
}

/// A value that the graph computes.
#[derive(Clone, Debug)]
pub(super) struct Signal {
    pub id: NodeId,
    pub shape: Shapes,
    pub elem: Elem,
    /// If reshaping has merged the batch with other axes into one axis: the number of positions of these axes that come
    /// before the batch index in memory order (1 for `[batch · k]`, `k` for `[k · batch]`).
    pub outer: usize,
}

/// The value that a name refers to.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// A constant.
    Known(Rc<Known>),
    /// A result of shape arithmetic that depends on the batch size: its value for each of the two batch sizes.
    Varying(Rc<[Array; 2]>),
    /// Computed from the inputs.
    Node(Signal),
    /// A sequence of values.
    List(Rc<Vec<Value>>),
    /// An optional value that is absent.
    Absent,
    /// Not available: for the reason given, or without a reason because the problem has already been reported.
    Missing(Option<Rc<str>>),
}

impl Known {
    /// A constant as a [`Value`].
    pub fn value(tensor: Tensor, elem: Elem, name: &str) -> Value {
        Value::Known(Rc::new(Self { tensor, elem, code: None, name: name.into(), node: OnceCell::new() }))
    }

    /// A constant of the file, with its data type.
    pub fn stored(tensor: Tensor, elem: Elem, code: i32, name: &str) -> Value {
        let node = OnceCell::new();
        Value::Known(Rc::new(Self { tensor, elem, code: Some(code), name: name.into(), node }))
    }

    /// The values as an array.
    pub fn array(&self) -> Res<Array> {
        let flat = self.tensor.flatten_all()?;
        let data = match self.elem {
            Elem::Float => Data::Float(flat.to_dtype(DType::F64)?.to_vec1()?),
            Elem::Int => Data::Int(flat.to_dtype(DType::I64)?.to_vec1()?),
            Elem::Bool => {
                Data::Bool(flat.to_dtype(DType::U8)?.to_vec1::<u8>()?.into_iter().map(|b| b != 0).collect())
            }
            Elem::Text => return Err("is supported on numbers, not on text".into()),
        };
        Ok(Array { shape: self.tensor.dims().to_vec(), data })
    }
}

/// A tensor from an array; floating-point values get the type `dtype`.
pub(super) fn tensor(array: Array, dtype: DType) -> Res<Tensor> {
    let shape = array.shape;
    Ok(match array.data {
        Data::Int(v) => Tensor::from_vec(v, shape, &Device::Cpu)?,
        Data::Bool(v) => {
            let bytes: Vec<u8> = v.into_iter().map(u8::from).collect();
            Tensor::from_vec(bytes, shape, &Device::Cpu)?
        }
        Data::Float(v) if dtype == DType::F64 => Tensor::from_vec(v, shape, &Device::Cpu)?,
        Data::Float(v) => {
            let single: Vec<f32> = v.into_iter().map(|x| x as f32).collect();
            Tensor::from_vec(single, shape, &Device::Cpu)?.to_dtype(dtype)?
        }
    })
}

impl Value {
    /// A constant from an array.
    pub fn from_array(array: Array, dtype: DType, name: &str) -> Res<Self> {
        let elem = array.elem();
        Ok(Known::value(tensor(array, dtype)?, elem, name))
    }

    /// From the value for each batch size: a constant if both are the same, otherwise a value that varies with the
    /// batch size.
    pub fn from_arrays(arrays: [Array; 2], dtype: DType, name: &str) -> Res<Self> {
        if arrays[0] == arrays[1] {
            let [array, _] = arrays;
            Self::from_array(array, dtype, name)
        } else {
            Ok(Self::Varying(Rc::new(arrays)))
        }
    }

    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing(_))
    }

    pub fn is_node(&self) -> bool {
        matches!(self, Self::Node(_))
    }

    /// The constant, if it is one.
    pub fn known(&self) -> Option<&Known> {
        match self {
            Self::Known(known) => Some(known),
            _ => None,
        }
    }

    /// The kind of its elements.
    pub fn elem(&self) -> Res<Elem> {
        match self {
            Self::Known(known) => Ok(known.elem),
            Self::Varying(arrays) => Ok(arrays[0].elem()),
            Self::Node(signal) => Ok(signal.elem),
            Self::List(_) | Self::Absent | Self::Missing(_) => Err(self.no_tensor()),
        }
    }

    /// Why the value is not a tensor.
    fn no_tensor(&self) -> Fault {
        match self {
            Self::List(_) => "uses a sequence where a tensor is expected".into(),
            Self::Missing(why) => missing(why.as_ref()),
            _ => "uses an optional value that is absent".into(),
        }
    }

    /// The shape for each batch size.
    pub fn shapes(&self) -> Res<Shapes> {
        match self {
            Self::Known(known) => Ok([known.tensor.dims().to_vec(), known.tensor.dims().to_vec()]),
            Self::Varying(arrays) => Ok([arrays[0].shape.clone(), arrays[1].shape.clone()]),
            Self::Node(signal) => Ok(signal.shape.clone()),
            Self::List(_) | Self::Absent | Self::Missing(_) => Err(self.no_tensor()),
        }
    }

    /// Number of axes.
    pub fn rank(&self) -> Res<usize> {
        Ok(self.shapes()?[0].len())
    }

    /// The values for each batch size; `None` if the graph computes them or there are more than `limit`.
    pub fn arrays(&self, limit: usize) -> Res<Option<[Array; 2]>> {
        match self {
            Self::Known(known) if count(known.tensor.dims())? <= limit => {
                let array = known.array()?;
                Ok(Some([array.clone(), array]))
            }
            Self::Varying(arrays) => Ok(Some((**arrays).clone())),
            _ => Ok(None),
        }
    }

    /// The array of a constant; an error, which calls the value `what`, if it is no constant.
    pub fn array(&self, what: &str) -> Res<Array> {
        match self {
            Self::Known(known) => known.array(),
            Self::List(_) | Self::Absent | Self::Missing(_) => Err(self.no_tensor()),
            Self::Varying(_) => Err(format!("{what} depends on the batch size").into()),
            Self::Node(_) => Err(format!("{what} is computed from the inputs; expected a constant").into()),
        }
    }
}

/// The fault of using a value that is not available.
fn missing(why: Option<&Rc<str>>) -> Fault {
    why.map_or(Fault::Reported, |why| Fault::Why(why.to_string()))
}
