//! Targets of models that classify pixels.

use candle_core::{D, DType, Device, Tensor};

use crate::error::{Error, Result};
use crate::outputs::{OutputKind, Outputs};

/// For each sample a class, and the pixels over which its mean logit is taken:
///
/// `S = Σ_p m_p z_c(p) / Σ_p m_p`
///
/// The pixels are those that the model gives the class on the sample itself; they stay the same when the sample is varied.
#[derive(Clone, Debug)]
pub struct Segments {
    classes: Vec<usize>,
    /// `[N, H·W]`, with sum 1 for each sample.
    weights: Tensor,
}

impl Segments {
    /// Classes, and masks `[N, H, W]` that are not zero where a pixel counts.
    ///
    /// # Errors
    /// If there is not one mask for each class, or a mask is empty.
    pub fn new(classes: Vec<usize>, masks: &Tensor) -> Result<Self> {
        let fail = |problem: String, expected: String| Err(Error::invalid("segments", problem, expected));
        if masks.rank() != 3 || masks.dim(0)? != classes.len() {
            let problem = format!("masks {:?} for {} classes", masks.dims(), classes.len());
            return fail(problem, format!("[{}, H, W]", classes.len()));
        }
        let flat = masks.to_dtype(DType::F64)?.reshape((classes.len(), ()))?;
        let sums = flat.sum_keepdim(1)?;
        for (&class, sum) in classes.iter().zip(sums.flatten_all()?.to_vec1::<f64>()?) {
            if sum <= 0.0 || !sum.is_finite() {
                return fail(format!("no pixel has class {class}"), "a class that the model finds".into());
            }
        }
        Ok(Self { classes, weights: flat.broadcast_div(&sums)? })
    }

    /// One class for all samples, and the pixels that have it. If the model has a single class, pixels with a positive
    /// logit have it.
    pub(super) fn of_class(outputs: &Outputs, class: usize) -> Result<Self> {
        let found = classified(outputs)?;
        let samples = found.dim(0)?;
        let channels = outputs.primary().dim(1)?;
        if class >= channels {
            let expected = format!("a class from 0 to {}", channels.saturating_sub(1));
            return Err(Error::invalid("target", format!("class {class}"), expected));
        }
        Self::new(vec![class; samples], &found.eq(class as f64)?).map_err(|error| match error {
            Error::Invalid { problem, .. } => {
                Error::invalid("segment", problem, format!("one of the classes {:?}", present(&found)))
            }
            other => other,
        })
    }

    /// For each sample the class that most pixels have; the background competes like any other class.
    pub(super) fn largest(outputs: &Outputs) -> Result<Self> {
        let found = classified(outputs)?;
        let channels = outputs.primary().dim(1)?;
        let mut classes = Vec::new();
        let mut masks = Vec::new();
        for sample in found.flatten_from(1)?.to_vec2::<f64>()? {
            let mut counts = vec![0_usize; channels];
            sample.iter().filter(|&&c| c >= 0.0).for_each(|&c| counts[c as usize] += 1);
            let most = counts.iter().copied().max().unwrap_or(0);
            let class = counts.iter().position(|&count| count == most).unwrap_or(0);
            masks.extend(sample.iter().map(|&c| f64::from(u8::from(c == class as f64))));
            classes.push(class);
        }
        let masks = Tensor::from_vec(masks, found.dims(), &Device::Cpu)?;
        Self::new(classes, &masks).map_err(|error| match error {
            Error::Invalid { .. } => Error::invalid(
                "segment",
                "the model finds nothing: no pixel has a positive logit",
                "another input, or another target: one value, the mean or the sum of the output",
            ),
            other => other,
        })
    }

    /// The segments of several batches as those of one.
    ///
    /// # Errors
    /// If there are none, or they have different numbers of pixels.
    pub fn joined(all: &[&Self]) -> Result<Self> {
        let weights: Vec<&Tensor> = all.iter().map(|one| &one.weights).collect();
        let classes = all.iter().flat_map(|one| one.classes.iter().copied()).collect();
        Ok(Self { classes, weights: Tensor::cat(&weights, 0)? })
    }

    /// The class of each sample.
    pub fn classes(&self) -> &[usize] {
        &self.classes
    }

    /// Those of a batch whose row `i` varies sample `samples[i]`.
    pub(super) fn for_rows(&self, samples: &[usize]) -> Result<Self> {
        let classes = super::classes_of(&self.classes, samples)?;
        Ok(Self { classes, weights: crate::inputs::rows(&self.weights, samples)? })
    }

    /// The score of each row.
    pub(super) fn score(&self, value: &Tensor, samples: &[usize]) -> Result<Tensor> {
        let own = self.for_rows(samples)?;
        let &[rows, channels, height, width] = value.dims() else { return Err(not_pixels(value.dims())) };
        if height * width != own.weights.dim(1)? {
            let problem = format!("has {} pixels", height * width);
            return Err(Error::invalid(
                "output",
                problem,
                format!("{}, as the segments", own.weights.dim(1)?),
            ));
        }
        let weights = own.weights.to_dtype(value.dtype())?.to_device(value.device())?;
        let maps = value.reshape((rows, channels, height * width))?;
        let means = maps.broadcast_mul(&weights.unsqueeze(1)?)?.sum(2)?;
        super::column_per_sample(&means, &own.classes, &(0..rows).collect::<Vec<_>>())
    }
}

fn not_pixels(shape: &[usize]) -> Error {
    Error::invalid(
        "target",
        format!("is a class of pixels, but the model's output has shape {shape:?}"),
        "an output [N, classes, H, W]",
    )
}

/// The class of each pixel `[N, H, W]`; −1 where a model with one class says no.
fn classified(outputs: &Outputs) -> Result<Tensor> {
    let value = outputs.primary().to_dtype(DType::F64)?.to_device(&Device::Cpu)?;
    if value.rank() != 4 || outputs.kind() != OutputKind::Pixels {
        return Err(not_pixels(value.dims()));
    }
    if value.dim(1)? == 1 {
        return Ok((value.squeeze(1)?.gt(0.0)?.to_dtype(DType::F64)? - 1.0)?);
    }
    let last = value.permute((0, 2, 3, 1))?.contiguous()?;
    Ok(last.argmax(D::Minus1)?.to_dtype(DType::F64)?)
}

/// The classes that occur.
fn present(found: &Tensor) -> Vec<usize> {
    let all = found.flatten_all().and_then(|f| f.to_vec1::<f64>()).unwrap_or_default();
    let mut classes: Vec<usize> = all.into_iter().filter(|c| *c >= 0.0).map(|c| c as usize).collect();
    classes.sort_unstable();
    classes.dedup();
    classes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Target;

    /// Two samples of two classes on three pixels: the first sample has classes 0, 1, 1, the second 0, 0, 0.
    fn outputs() -> Result<Outputs> {
        let value = Tensor::new(
            &[[[[4.0, 0.0, 1.0]], [[1.0, 2.0, 6.0]]], [[[1.0, 2.0, 3.0]], [[0.0, 0.0, 0.0]]]],
            &Device::Cpu,
        )?;
        Outputs::new(vec![("map".into(), value)])
    }

    #[test]
    fn a_class_is_scored_on_its_own_pixels() -> Result<()> {
        let outputs = outputs()?;
        let largest = Target::Top1.resolve(&outputs)?;
        assert_eq!(largest.describe(), "segment:[1, 0]");
        assert_eq!((largest.describe_sample(1), largest.class(0)), ("segment:0".into(), Some(1)));
        assert_eq!(largest.score(&outputs, &[0, 1])?.to_vec1::<f64>()?, [4.0, 2.0]);
        // Both rows vary the second sample: class 0 on all pixels.
        let both = largest.score(&outputs, &[1, 1])?.to_vec1::<f64>()?;
        assert!((both[0] - 5.0 / 3.0).abs() < 1e-12 && (both[1] - 2.0).abs() < 1e-12, "{both:?}");
        assert_eq!(largest.for_rows(&[1, 1])?.describe(), "segment:[0, 0]");
        assert_eq!(largest.for_rows(&[1, 0])?.describe(), "segment:[0, 1]");
        let zero = Target::Segment(0).resolve(&outputs)?;
        assert_eq!(zero.score(&outputs, &[0, 1])?.to_vec1::<f64>()?, [4.0, 2.0]);
        let (_, seeds) = zero.seed(&outputs, &[0, 1])?;
        let third = 1.0 / 3.0;
        assert_eq!(
            seeds[0].flatten_all()?.to_vec1::<f64>()?,
            [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, third, third, third, 0.0, 0.0, 0.0]
        );
        Ok(())
    }

    #[test]
    fn a_class_that_no_pixel_has_is_an_error() -> Result<()> {
        let error = Target::Segment(1).resolve(&outputs()?.sample(1)?).unwrap_err().to_string();
        assert!(error.contains("no pixel has class 1") && error.contains("[0]"), "{error}");
        assert!(Target::Segment(2).resolve(&outputs()?).unwrap_err().to_string().contains("0 to 1"));
        assert!(Target::Class(0).resolve(&outputs()?).unwrap_err().to_string().contains("Target::Segment"));
        Ok(())
    }

    #[test]
    fn values_means_and_similarities() -> Result<()> {
        let value = Tensor::new(&[[3.0, 4.0], [0.0, 2.0]], &Device::Cpu)?;
        let outputs = Outputs::new(vec![("y".into(), value.clone()), ("z".into(), (value * 2.0)?)])?;
        for (target, expected) in [
            (Target::Output(Some("z".into()), vec![1]), [8.0, 4.0]),
            (Target::Output(None, vec![0]), [3.0, 0.0]),
            (Target::Mean(Some("z".into())), [7.0, 2.0]),
            (Target::Sum(None), [7.0, 2.0]),
            (Target::Similarity(vec![0.0, 5.0]), [0.8, 1.0]),
        ] {
            assert_eq!(target.score(&outputs, &[0, 1])?.to_vec1::<f64>()?, expected, "{target:?}");
        }
        for target in [
            Target::Mean(Some("w".into())),
            Target::Output(None, vec![2]),
            Target::Similarity(vec![1.0]),
            Target::Similarity(vec![0.0, 0.0]),
        ] {
            assert!(target.resolve(&outputs).is_err(), "{target:?}");
        }
        Ok(())
    }
}
