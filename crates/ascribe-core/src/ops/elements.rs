//! Reading and writing single elements (or slices) at computed positions.
//!
//! Reading and writing use flat positions of the data that follow from the index.

mod reduction;
mod unpool;

use candle_core::{DType, Device, Tensor};

pub use self::reduction::ScatterReduction;
pub use self::unpool::MaxUnpool;
use super::broadcast::strides;
use super::operator::{Backend, Grads, Kind, Operator, Slot, Vjp, input, shapes};
use crate::error::{Error, Result};

/// Where in the data the integers of an index point to. Negative ones count from the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Places {
    /// Single elements: `index[i, j, k]` stands for `data[i, index[i, j, k], k]` for the axis 1 (ONNX's `GatherElements`
    /// and `ScatterElements`). Other axes of the index may be shorter than those of the data.
    Elements {
        /// The axis.
        axis: usize,
    },
    /// Slices: each row of an index `[batch…, outer…, depth]` is a position in the axes of the data after the first
    /// `batch_dims`, which both have in common (ONNX's `GatherND` and `ScatterND`).
    Slices {
        /// Number of leading axes that data and index have in common.
        batch_dims: usize,
    },
}

/// Reads at places: inputs `data` and integers `index`; the output has the shape of `index` for elements, and
/// `[batch…, outer…, remaining axes of data…]` for slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GatherAt {
    /// Where to read.
    pub places: Places,
}

/// Writes at places: inputs `data`, integers `index` and `updates` in the shape that [`GatherAt`] would read; the output
/// is `data` with the values at the places replaced by the updates or reduced with them. Of several values that replace
/// one, the last in memory order stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ScatterAt {
    /// Where to write.
    pub places: Places,
    /// How updates and data become one value.
    pub reduction: ScatterReduction,
}

/// The integers of an index.
fn integers(index: &Tensor) -> Result<Vec<i64>> {
    if !index.dtype().is_int() {
        return Err(Error::invalid("index", format!("holds {:?}", index.dtype()), "integers"));
    }
    Ok(index.to_device(&Device::Cpu)?.to_dtype(DType::I64)?.flatten_all()?.to_vec1::<i64>()?)
}

/// The index from the front.
fn resolve(i: i64, axis: usize, side: usize) -> Result<usize> {
    let from_front = if i < 0 { i.saturating_add(side as i64) } else { i };
    usize::try_from(from_front).ok().filter(|&i| i < side).ok_or_else(|| {
        let expected =
            format!("from {} to {}: axis {axis} holds {side} values", -(side as i64), side as i64 - 1);
        Error::invalid("index", i.to_string(), expected)
    })
}

impl Places {
    /// The shape of what an index reads.
    fn shape(&self, data: &[usize], index: &[usize]) -> Result<Vec<usize>> {
        match *self {
            Self::Elements { axis } => {
                let fits = axis < data.len()
                    && data.len() == index.len()
                    && index.iter().zip(data).enumerate().all(|(a, (i, d))| a == axis || i <= d);
                if fits {
                    return Ok(index.to_vec());
                }
                let expected = format!("no side longer than those of data {data:?} except along axis {axis}");
                Err(Error::invalid("index", format!("has shape {index:?}"), expected))
            }
            Self::Slices { batch_dims } => {
                let fits = index.split_last().filter(|(depth, outer)| {
                    **depth > 0
                        && outer.len() >= batch_dims
                        && batch_dims + **depth <= data.len()
                        && outer[..batch_dims] == data[..batch_dims]
                });
                let (depth, outer) = fits.ok_or_else(|| {
                    let expected =
                        format!("[…, depth] for data {data:?} with the first {batch_dims} axes in common");
                    Error::invalid("index", format!("has shape {index:?}"), expected)
                })?;
                Ok([outer, &data[batch_dims + depth..]].concat())
            }
        }
    }

    /// The flat positions in the data of all values that an index reads, in order.
    fn positions(&self, data: &[usize], index: &Tensor) -> Result<Vec<u32>> {
        let from = strides(data);
        let own = strides(index.dims());
        let values = integers(index)?;
        match *self {
            Self::Elements { axis } => {
                let values = values.into_iter().enumerate();
                let position = |(flat, i): (usize, i64)| {
                    let at = resolve(i, axis, data[axis])?;
                    let place = |a: usize| if a == axis { at } else { flat / own[a] % index.dims()[a] };
                    Ok((0..data.len()).map(|a| place(a) * from[a]).sum::<usize>() as u32)
                };
                values.map(position).collect()
            }
            Self::Slices { batch_dims } => {
                let depth = index.dims().last().copied().unwrap_or(0);
                let inner: usize = data[batch_dims + depth..].iter().product();
                let outer: usize = index.dims()[batch_dims..index.rank() - 1].iter().product();
                let block: usize = data[batch_dims..].iter().product();
                let mut positions = Vec::with_capacity(index.elem_count() / depth.max(1) * inner);
                for (row, place) in values.chunks(depth.max(1)).enumerate() {
                    let mut start = row / outer.max(1) * block;
                    for (a, &i) in place.iter().enumerate() {
                        start += resolve(i, batch_dims + a, data[batch_dims + a])? * from[batch_dims + a];
                    }
                    positions.extend((start..start + inner).map(|i| i as u32));
                }
                Ok(positions)
            }
        }
    }
}

fn index_tensor(positions: Vec<u32>, device: &Device) -> Result<Tensor> {
    let count = positions.len();
    Ok(Tensor::from_vec(positions, count, device)?)
}

/// The values of `data` at these positions.
fn read(data: &Tensor, positions: Vec<u32>, shape: &[usize]) -> Result<Tensor> {
    let positions = index_tensor(positions, data.device())?;
    Ok(data.contiguous()?.flatten_all()?.index_select(&positions, 0)?.reshape(shape)?)
}

/// The transpose of [`read`]: adds values at positions of zeros in the shape of `data`.
fn read_back(grad: &Tensor, positions: Vec<u32>, data: &Tensor) -> Result<Tensor> {
    let positions = index_tensor(positions, data.device())?;
    let zeros = data.zeros_like()?.contiguous()?.flatten_all()?;
    Ok(zeros.index_add(&positions, &grad.contiguous()?.flatten_all()?, 0)?.reshape(data.shape())?)
}

/// For each place of the data, where its value comes from: the data, or behind it, one of the updates.
fn sources(count: usize, positions: &[u32]) -> Vec<u32> {
    let mut sources: Vec<u32> = (0..count as u32).collect();
    for (i, &at) in positions.iter().enumerate() {
        sources[at as usize] = (count + i) as u32;
    }
    sources
}

/// Writes `updates` to these positions of `data`.
fn write(
    data: &Tensor,
    positions: Vec<u32>,
    updates: &Tensor,
    reduction: ScatterReduction,
) -> Result<Tensor> {
    if data.dtype() != updates.dtype() {
        let problem = format!("are {:?} and {:?}", data.dtype(), updates.dtype());
        return Err(Error::invalid("data and updates", problem, "the same data type"));
    }
    let (flat, new) = (data.contiguous()?.flatten_all()?, updates.contiguous()?.flatten_all()?);
    let written = match reduction {
        ScatterReduction::Add => flat.index_add(&index_tensor(positions, data.device())?, &new, 0)?,
        ScatterReduction::Replace => {
            let sources = index_tensor(sources(flat.elem_count(), &positions), data.device())?;
            Tensor::cat(&[&flat, &new], 0)?.index_select(&sources, 0)?
        }
        _ => reduction::forward(&flat, &positions, &new, reduction)?,
    };
    Ok(written.reshape(data.shape())?)
}

/// The gradients of data, index and updates.
fn write_back(args: &Vjp<'_>, positions: Vec<u32>, reduction: ScatterReduction) -> Result<Grads> {
    let (data, updates) = (args.input(0)?, args.input(2)?);
    let grad = args.grad.contiguous()?.flatten_all()?;
    let count = data.elem_count();
    let (of_data, of_updates) = match reduction {
        ScatterReduction::Add => {
            let positions = index_tensor(positions, grad.device())?;
            (args.grad.clone(), grad.index_select(&positions, 0)?)
        }
        ScatterReduction::Replace => {
            let sources = index_tensor(sources(count, &positions), grad.device())?;
            let both = Tensor::zeros(count + positions.len(), grad.dtype(), grad.device())?;
            let both = both.index_add(&sources, &grad, 0)?;
            (both.narrow(0, 0, count)?, both.narrow(0, count, positions.len())?)
        }
        _ => reduction::backward(data, &positions, updates, &grad, reduction)?,
    };
    let shaped = |wanted: bool, grad: Tensor, like: &Tensor| {
        wanted.then(|| grad.contiguous()?.reshape(like.shape())).transpose()
    };
    Ok(vec![shaped(args.wants(0), of_data, data)?, None, shaped(args.wants(2), of_updates, updates)?])
}

impl Operator for GatherAt {
    fn name(&self) -> &'static str {
        match self.places {
            Places::Elements { .. } => "GatherElements",
            Places::Slices { .. } => "GatherND",
        }
    }

    fn kind(&self, _: &[bool]) -> Kind {
        Kind::Structural
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [data, index] = shapes(inputs)?;
        self.places.shape(data, index)
    }

    fn forward(&self, inputs: &[&Tensor], _: Backend) -> Result<Tensor> {
        let (data, index) = (input(inputs, 0)?, input(inputs, 1)?);
        let shape = self.places.shape(data.dims(), index.dims())?;
        read(data, self.places.positions(data.dims(), index)?, &shape)
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        if !args.wants(0) {
            return Ok(vec![None, None]);
        }
        let data = args.input(0)?;
        let positions = self.places.positions(data.dims(), args.input(1)?)?;
        Ok(vec![Some(read_back(args.grad, positions, data)?), None])
    }
}

impl Operator for ScatterAt {
    fn name(&self) -> &'static str {
        match self.places {
            Places::Elements { .. } => "ScatterElements",
            Places::Slices { .. } => "ScatterND",
        }
    }

    /// Values that are replaced only move; values that are added sum up.
    fn kind(&self, dynamic: &[bool]) -> Kind {
        let both = dynamic.first() == Some(&true) && dynamic.get(2) == Some(&true);
        match self.reduction {
            ScatterReduction::Replace => Kind::Structural,
            ScatterReduction::Add => Kind::Sum,
            // Several updates may be multiplied with each other.
            ScatterReduction::Mul if both || dynamic.get(2) == Some(&true) => Kind::Product,
            ScatterReduction::Mul => Kind::Affine,
            ScatterReduction::Max | ScatterReduction::Min => Kind::MaxPool,
        }
    }

    fn slot(&self, slot: usize, dynamic: &[bool]) -> Slot {
        match (slot, self.reduction) {
            (1, _) => Slot::Other,
            (2, ScatterReduction::Mul) if dynamic.get(2) != Some(&true) => Slot::Weight,
            _ => Slot::Data,
        }
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [data, index, updates] = shapes(inputs)?;
        let expected = self.places.shape(data, index)?;
        if updates == expected {
            return Ok(data.to_vec());
        }
        Err(Error::invalid("updates", format!("have shape {updates:?}"), format!("{expected:?}")))
    }

    fn forward(&self, inputs: &[&Tensor], _: Backend) -> Result<Tensor> {
        let data = input(inputs, 0)?;
        let positions = self.places.positions(data.dims(), input(inputs, 1)?)?;
        write(data, positions, input(inputs, 2)?, self.reduction)
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        let positions = self.places.positions(args.input(0)?.dims(), args.input(1)?)?;
        write_back(args, positions, self.reduction)
    }
}

#[cfg(test)]
mod tests;
