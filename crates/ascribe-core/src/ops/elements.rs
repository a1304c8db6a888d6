//! Reading and writing single elements (or slices) at computed positions.
//!
//! All four operators read or write flat positions of the data that follow from the index.

use candle_core::{DType, Device, Tensor};

use super::operator::{Backend, Grads, Kind, Operator, Slot, Vjp, input, shapes};
use crate::error::{Error, Result};

/// Reads elements along an axis: inputs `data` and integers `index`; the output has the shape of `index`, and
/// `y[i, j, k] = data[i, index[i, j, k], k]` for the axis 1. Other axes of `index` may be shorter than those of `data`.
/// Negative indices count from the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GatherElements {
    /// The axis.
    pub axis: usize,
}

/// Writes elements along an axis: inputs `data`, integers `index` and `updates` shaped like `index`; the output is
/// `data`, with `y[i, index[i, j, k], k]` replaced by (or increased by) `updates[i, j, k]` for the axis 1. Of several
/// values that are written to one place, the last in memory order stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ScatterElements {
    /// The axis.
    pub axis: usize,
    /// Whether updates are added, otherwise they replace.
    pub add: bool,
}

/// Reads slices: inputs `data` and integers `index [batch…, outer…, depth]`; each row of `depth` numbers is a position
/// in the axes of `data` after the first `batch_dims`, which both have in common. The output is
/// `[batch…, outer…, remaining axes of data…]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GatherNd {
    /// Number of leading axes that data and index have in common.
    pub batch_dims: usize,
}

/// Writes slices: inputs `data`, integers `index` as for [`GatherNd`], and `updates [batch…, outer…, remaining axes of
/// data…]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ScatterNd {
    /// Number of leading axes that data, index and updates have in common.
    pub batch_dims: usize,
    /// Whether updates are added, otherwise they replace.
    pub add: bool,
}

fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (0..shape.len().saturating_sub(1)).rev() {
        strides[i] = strides[i + 1] * shape[i + 1];
    }
    strides
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

/// Where in `data` each element of `index` points to.
fn element_positions(data: &[usize], index: &Tensor, axis: usize) -> Result<Vec<u32>> {
    let (own, from) = (strides(index.dims()), strides(data));
    let values = integers(index)?.into_iter().enumerate();
    values
        .map(|(flat, i)| {
            let at = resolve(i, axis, data[axis])?;
            let place = |a: usize| if a == axis { at } else { flat / own[a] % index.dims()[a] };
            Ok((0..data.len()).map(|a| place(a) * from[a]).sum::<usize>() as u32)
        })
        .collect()
}

/// Where in `data` each element of the slices is that the rows of `index` point to.
fn slice_positions(data: &[usize], index: &Tensor, batch_dims: usize) -> Result<Vec<u32>> {
    let depth = index.dims().last().copied().unwrap_or(0);
    let from = strides(data);
    let inner: usize = data[batch_dims + depth..].iter().product();
    let outer: usize = index.dims()[batch_dims..index.rank() - 1].iter().product();
    let block: usize = data[batch_dims..].iter().product();
    let mut positions = Vec::with_capacity(index.elem_count() / depth.max(1) * inner);
    for (row, place) in integers(index)?.chunks(depth.max(1)).enumerate() {
        let mut start = row / outer.max(1) * block;
        for (a, &i) in place.iter().enumerate() {
            start += resolve(i, batch_dims + a, data[batch_dims + a])? * from[batch_dims + a];
        }
        positions.extend((start..start + inner).map(|i| i as u32));
    }
    Ok(positions)
}

fn check_elements(data: &[usize], index: &[usize], axis: usize) -> Result<()> {
    let fits = axis < data.len()
        && data.len() == index.len()
        && index.iter().zip(data).enumerate().all(|(a, (i, d))| a == axis || i <= d);
    if fits {
        return Ok(());
    }
    Err(Error::invalid(
        "index",
        format!("has shape {index:?}"),
        format!("no side longer than those of data {data:?} except along axis {axis}"),
    ))
}

/// The shape of the slices that an index reads.
fn slices_shape(data: &[usize], index: &[usize], batch_dims: usize) -> Result<Vec<usize>> {
    let fits = index.split_last().filter(|(depth, outer)| {
        **depth > 0
            && outer.len() >= batch_dims
            && batch_dims + **depth <= data.len()
            && outer[..batch_dims] == data[..batch_dims]
    });
    let (depth, outer) = fits.ok_or_else(|| {
        Error::invalid(
            "index",
            format!("has shape {index:?}"),
            format!("[…, depth] for data {data:?} with the first {batch_dims} axes in common"),
        )
    })?;
    Ok([outer, &data[batch_dims + depth..]].concat())
}

fn check_updates(updates: &[usize], expected: &[usize]) -> Result<()> {
    if updates == expected {
        return Ok(());
    }
    Err(Error::invalid("updates", format!("have shape {updates:?}"), format!("{expected:?}")))
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

/// Replaces, or adds to, values of `data`.
fn write(data: &Tensor, positions: Vec<u32>, updates: &Tensor, add: bool) -> Result<Tensor> {
    if data.dtype() != updates.dtype() {
        let problem = format!("are {:?} and {:?}", data.dtype(), updates.dtype());
        return Err(Error::invalid("data and updates", problem, "the same data type"));
    }
    let (flat, new) = (data.contiguous()?.flatten_all()?, updates.contiguous()?.flatten_all()?);
    let written = if add {
        flat.index_add(&index_tensor(positions, data.device())?, &new, 0)?
    } else {
        let sources = index_tensor(sources(flat.elem_count(), &positions), data.device())?;
        Tensor::cat(&[&flat, &new], 0)?.index_select(&sources, 0)?
    };
    Ok(written.reshape(data.shape())?)
}

/// The gradients of data, index and updates.
fn write_back(args: &Vjp<'_>, positions: Vec<u32>, add: bool) -> Result<Grads> {
    let (data, updates) = (args.input(0)?, args.input(2)?);
    let grad = args.grad.contiguous()?.flatten_all()?;
    let count = data.elem_count();
    let (of_data, of_updates) = if add {
        let positions = index_tensor(positions, grad.device())?;
        (args.grad.clone(), grad.index_select(&positions, 0)?)
    } else {
        let sources = index_tensor(sources(count, &positions), grad.device())?;
        let both = Tensor::zeros(count + positions.len(), grad.dtype(), grad.device())?;
        let both = both.index_add(&sources, &grad, 0)?;
        (both.narrow(0, 0, count)?.reshape(data.shape())?, both.narrow(0, count, positions.len())?)
    };
    Ok(vec![
        args.wants(0).then_some(of_data),
        None,
        if args.wants(2) { Some(of_updates.contiguous()?.reshape(updates.shape())?) } else { None },
    ])
}

impl Operator for GatherElements {
    fn name(&self) -> &'static str {
        "GatherElements"
    }

    fn kind(&self, _: &[bool]) -> Kind {
        Kind::Structural
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [data, index] = shapes(inputs)?;
        check_elements(data, index, self.axis)?;
        Ok(index.to_vec())
    }

    fn forward(&self, inputs: &[&Tensor], _: Backend) -> Result<Tensor> {
        let (data, index) = (input(inputs, 0)?, input(inputs, 1)?);
        read(data, element_positions(data.dims(), index, self.axis)?, index.dims())
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        if !args.wants(0) {
            return Ok(vec![None, None]);
        }
        let data = args.input(0)?;
        let positions = element_positions(data.dims(), args.input(1)?, self.axis)?;
        Ok(vec![Some(read_back(args.grad, positions, data)?), None])
    }
}

impl Operator for GatherNd {
    fn name(&self) -> &'static str {
        "GatherND"
    }

    fn kind(&self, _: &[bool]) -> Kind {
        Kind::Structural
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [data, index] = shapes(inputs)?;
        slices_shape(data, index, self.batch_dims)
    }

    fn forward(&self, inputs: &[&Tensor], _: Backend) -> Result<Tensor> {
        let (data, index) = (input(inputs, 0)?, input(inputs, 1)?);
        let shape = self.output_shape(&[data.dims(), index.dims()])?;
        read(data, slice_positions(data.dims(), index, self.batch_dims)?, &shape)
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        if !args.wants(0) {
            return Ok(vec![None, None]);
        }
        let data = args.input(0)?;
        let positions = slice_positions(data.dims(), args.input(1)?, self.batch_dims)?;
        Ok(vec![Some(read_back(args.grad, positions, data)?), None])
    }
}

impl Operator for ScatterElements {
    fn name(&self) -> &'static str {
        "ScatterElements"
    }

    fn kind(&self, _: &[bool]) -> Kind {
        written_kind(self.add)
    }

    fn slot(&self, slot: usize, _: &[bool]) -> Slot {
        written_slot(slot)
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [data, index, updates] = shapes(inputs)?;
        check_elements(data, index, self.axis)?;
        check_updates(updates, index)?;
        Ok(data.to_vec())
    }

    fn forward(&self, inputs: &[&Tensor], _: Backend) -> Result<Tensor> {
        let data = input(inputs, 0)?;
        let positions = element_positions(data.dims(), input(inputs, 1)?, self.axis)?;
        write(data, positions, input(inputs, 2)?, self.add)
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        let positions = element_positions(args.input(0)?.dims(), args.input(1)?, self.axis)?;
        write_back(args, positions, self.add)
    }
}

impl Operator for ScatterNd {
    fn name(&self) -> &'static str {
        "ScatterND"
    }

    fn kind(&self, _: &[bool]) -> Kind {
        written_kind(self.add)
    }

    fn slot(&self, slot: usize, _: &[bool]) -> Slot {
        written_slot(slot)
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [data, index, updates] = shapes(inputs)?;
        check_updates(updates, &slices_shape(data, index, self.batch_dims)?)?;
        Ok(data.to_vec())
    }

    fn forward(&self, inputs: &[&Tensor], _: Backend) -> Result<Tensor> {
        let data = input(inputs, 0)?;
        let positions = slice_positions(data.dims(), input(inputs, 1)?, self.batch_dims)?;
        write(data, positions, input(inputs, 2)?, self.add)
    }

    fn vjp(&self, args: &Vjp<'_>) -> Result<Grads> {
        let positions = slice_positions(args.input(0)?.dims(), args.input(1)?, self.batch_dims)?;
        write_back(args, positions, self.add)
    }
}

/// Values that are replaced only move; values that are added sum up.
fn written_kind(add: bool) -> Kind {
    if add { Kind::Sum } else { Kind::Structural }
}

fn written_slot(slot: usize) -> Slot {
    if slot == 1 { Slot::Other } else { Slot::Data }
}

#[cfg(test)]
mod tests;
