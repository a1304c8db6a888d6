//! Masks, and how hidden values are replaced.

use candle_core::{DType, Device, Tensor, WithDType};

use super::cover::{Features, Run};
use crate::error::{Error, Result};
use crate::ops::{Backend, Binary, Operator};

/// What is hidden in one sample.
#[derive(Clone, Debug)]
pub enum Mask {
    /// These features are hidden, everything else is kept.
    Without(Vec<usize>),
    /// These features are kept; everything else is hidden, including values that belong to no feature.
    With(Vec<usize>),
    /// The fraction m of each value that is kept, between 0 and 1: one tensor for each explained input, broadcast to
    /// the input's shape `[1, …]`. A value x becomes r + (x − r) m, where r is its replacement.
    Soft(Vec<Tensor>),
}

impl Mask {
    /// Row `index` of soft masks `[n, sides…]` for positions with these sides: `[n, H, W]` for images.
    ///
    /// # Errors
    /// If the masks have a different shape, or there is no such row.
    pub fn row(masks: &Tensor, index: usize, sides: &[usize]) -> Result<Self> {
        let fits = |dims: &[usize]| dims.split_first().is_some_and(|(&n, rest)| rest == sides && index < n);
        if !fits(masks.dims()) {
            let sides: Vec<String> = sides.iter().map(ToString::to_string).collect();
            let expected = format!("[n, {}], with more than {index} rows", sides.join(", "));
            return Err(Error::invalid("masks", format!("have shape {:?}", masks.dims()), expected));
        }
        let row = masks.narrow(0, index, 1)?.unsqueeze(0)?.to_dtype(DType::F64)?;
        Ok(Self::Soft(vec![row.to_device(&Device::Cpu)?]))
    }

    /// Checks that the features exist, or that there is one tensor for each input.
    ///
    /// # Errors
    /// Names the feature.
    pub(super) fn check(&self, features: &Features, sample: usize) -> Result<()> {
        match self {
            Self::Without(listed) | Self::With(listed) => {
                let count = features.count(sample);
                match listed.iter().find(|feature| **feature >= count) {
                    Some(feature) => Err(Error::invalid(
                        "mask",
                        format!("names feature {feature}"),
                        format!("a number below {count}, the number of features of sample {sample}"),
                    )),
                    None => Ok(()),
                }
            }
            Self::Soft(shares) => {
                let inputs = features.shapes().len();
                if shares.len() == inputs {
                    return Ok(());
                }
                let problem = format!("has {} tensors", shares.len());
                Err(Error::invalid("mask", problem, format!("{inputs}, one for each explained input")))
            }
        }
    }

    /// The explained inputs of one sample (first axis of length 1), with `fill` where they are hidden; `zero` says
    /// that `fill` is zero everywhere.
    ///
    /// # Errors
    /// If `x`, `fill` and the mask do not fit each other.
    pub(super) fn apply(
        &self,
        x: &[Tensor],
        fill: &[Tensor],
        zero: bool,
        features: &Features,
        sample: usize,
    ) -> Result<Vec<Tensor>> {
        if x.iter().map(Tensor::dims).ne(fill.iter().map(Tensor::dims)) {
            let dims = |all: &[Tensor]| format!("{:?}", all.iter().map(Tensor::dims).collect::<Vec<_>>());
            return Err(Error::invalid(
                "replacement of hidden values",
                format!("has shapes {}", dims(fill)),
                dims(x),
            ));
        }
        let (under, over, shown) = match self {
            Self::Without(hidden) => (x, fill, hidden),
            Self::With(kept) => (fill, x, kept),
            Self::Soft(shares) => {
                let parts = x.iter().zip(fill).zip(shares);
                return parts.map(|((x, fill), share)| blend(x, (!zero).then_some(fill), share)).collect();
            }
        };
        let runs = |input: usize| {
            let all = shown.iter().flat_map(|&feature| features.runs(sample, feature));
            all.filter(move |run| run.input == input)
        };
        under
            .iter()
            .zip(over)
            .enumerate()
            .map(|(input, (under, over))| {
                if runs(input).next().is_none() {
                    return Ok(under.clone());
                }
                splice(under, over, runs(input))
            })
            .collect()
    }
}

/// `r + (x − r) m`; without r, `x m`.
fn blend(x: &Tensor, r: Option<&Tensor>, share: &Tensor) -> Result<Tensor> {
    if share.broadcast_as(x.shape()).is_err() {
        let expected = format!("one that broadcasts to {:?}", x.dims());
        return Err(Error::invalid("mask", format!("has shape {:?}", share.dims()), expected));
    }
    if !x.dtype().is_float() {
        // Levels of pixels can be mixed, numbers of tokens cannot.
        if x.rank() != 4 {
            let problem = format!("would mix integers {:?}", x.dims());
            return Err(Error::invalid("mask", problem, "floating-point values, or pictures [N, C, H, W]"));
        }
        let exact = |value: &Tensor| value.to_dtype(DType::F64);
        let mixed = blend(&exact(x)?, r.map(exact).transpose()?.as_ref(), share)?;
        return Ok(mixed.round()?.to_dtype(x.dtype())?);
    }
    let share = share.to_dtype(x.dtype())?.to_device(x.device())?;
    let times = |value: &Tensor| Binary::Mul.forward(&[value, &share], Backend::Auto);
    match r {
        None => times(x),
        Some(r) => Ok((r + times(&(x - r)?)?)?),
    }
}

/// `under`, with the values in these runs taken from `over`.
fn splice<'a>(under: &Tensor, over: &Tensor, runs: impl Iterator<Item = &'a Run>) -> Result<Tensor> {
    match (under.dtype(), under.device().is_cpu()) {
        (DType::F32, true) => spliced::<f32>(under, over, runs),
        (DType::F64, true) => spliced::<f64>(under, over, runs),
        _ => chosen(under, over, runs),
    }
}

/// [`splice`] on the CPU, with one copy of the values.
fn spliced<'a, T: WithDType>(
    under: &Tensor,
    over: &Tensor,
    runs: impl Iterator<Item = &'a Run>,
) -> Result<Tensor> {
    let mut values = under.flatten_all()?.to_vec1::<T>()?;
    let over = over.contiguous()?;
    let (storage, layout) = over.storage_and_layout();
    let from = layout.start_offset();
    if let candle_core::Storage::Cpu(storage) = &*storage {
        let over = &storage.as_slice::<T>()?[from..from + values.len()];
        for &Run { start, len, .. } in runs {
            values[start..start + len].copy_from_slice(&over[start..start + len]);
        }
    }
    Ok(Tensor::from_vec(values, under.shape(), under.device())?)
}

/// [`splice`] on any device and for any type.
fn chosen<'a>(under: &Tensor, over: &Tensor, runs: impl Iterator<Item = &'a Run>) -> Result<Tensor> {
    let mut choice = vec![0_u8; under.elem_count()];
    for run in runs {
        choice[run.start..run.start + run.len].fill(1);
    }
    let choice = Tensor::from_vec(choice, under.shape(), under.device())?;
    Ok(choice.where_cond(&over.contiguous()?, &under.contiguous()?)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::random;

    proptest! {
        #![proptest_config(ascribe_proptest::config(32))]

        #[test]
        fn copying_runs_is_choosing_values(seed in any::<u64>(), len in 1_usize..40, cuts in prop::collection::vec((0_usize..40, 1_usize..9), 0..6)) {
            let draw = |n| random::normal(&mut random::stream(seed, random::Domain::DATA, n), &[1, len], DType::F32, &Device::Cpu);
            let (under, over) = (draw(0)?, draw(1)?);
            let runs: Vec<Run> = cuts.iter().filter(|(start, n)| start + n <= len)
                .map(|&(start, len)| Run { input: 0, start, len }).collect();
            let fast = splice(&under, &over, runs.iter())?.to_vec2::<f32>()?;
            prop_assert_eq!(fast, chosen(&under, &over, runs.iter())?.to_vec2::<f32>()?);
        }
    }
}
