//! Samples as rows of numbers.

use candle_core::{Device, Tensor};
use nalgebra::DMatrix;

use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::features::Hidden;
use crate::inputs::{Inputs, check_finite};
use crate::run::Run;
use crate::values;

/// The largest number of values of a sample whose joint distribution is estimated: a covariance matrix of them takes 32 MB, and
/// each set of kept values a factorization of it.
pub const LARGEST: usize = 2000;

/// How the values of a sample are one row of numbers: explained input after explained input, each in row-major order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Sides of each explained input without the batch.
    sides: Vec<Vec<usize>>,
}

impl Layout {
    fn of(inputs: &Inputs) -> Self {
        Self { sides: inputs.explained().map(|input| input.value.dims()[1..].to_vec()).collect() }
    }

    /// Number of values.
    pub fn count(&self) -> usize {
        self.sides.iter().map(|sides| sides.iter().product::<usize>()).sum()
    }

    /// The values of a sample, and which of them are hidden.
    ///
    /// # Errors
    /// If the sample has other inputs than the data, the mask is soft, or a kept value is not finite.
    pub fn read(&self, hidden: &Hidden<'_>) -> Result<(Vec<f64>, Vec<bool>)> {
        let found: Vec<&[usize]> = hidden.x.iter().map(|x| &x.dims()[1..]).collect();
        if found.iter().ne(self.sides.iter()) {
            let expected = format!("those of the data that the fill was fitted on, {:?}", self.sides);
            return Err(Error::invalid("inputs", format!("have shapes {found:?} per sample"), expected));
        }
        let positions = hidden.positions()?.concat();
        let mut row = Vec::with_capacity(positions.len());
        for x in hidden.x {
            row.extend(values::numbers(x)?);
        }
        check_kept(&row, &positions)?;
        Ok((row, positions))
    }

    /// A row of numbers as tensors, shaped and typed as those of the sample.
    pub fn write(row: &[f64], like: &[Tensor]) -> Result<Vec<Tensor>> {
        let mut rest = row;
        like.iter()
            .map(|x| {
                let (own, others) = rest.split_at(x.elem_count());
                rest = others;
                let own = Tensor::from_slice(own, x.shape(), &Device::Cpu)?;
                Ok(own.to_dtype(x.dtype())?.to_device(x.device())?)
            })
            .collect()
    }
}

/// Checks that what is kept can be conditioned on. Hidden values may be missing.
pub(super) fn check_kept(row: &[f64], hidden: &[bool]) -> Result<()> {
    match row.iter().zip(hidden).position(|(value, hidden)| !hidden && !value.is_finite()) {
        Some(at) => {
            let problem = format!("value {at} is {} and kept", row[at]);
            Err(Error::invalid("inputs", problem, "finite kept values"))
        }
        None => Ok(()),
    }
}

/// All samples of a dataset.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// How samples become columns.
    pub layout: Layout,
    /// One row per variable, one column per sample.
    pub samples: DMatrix<f64>,
}

impl Table {
    /// Reads a dataset.
    ///
    /// # Errors
    /// If it has fewer than two samples, they have more than [`LARGEST`] values, differ in their shapes or are not finite; the
    /// dataset's own; if the run is cancelled.
    pub fn read(data: &dyn Dataset, run: &Run) -> Result<Self> {
        let count = data.len();
        if count < 2 {
            return Err(Error::invalid(
                "dataset",
                format!("has {count} samples"),
                "at least 2 to estimate a distribution",
            ));
        }
        let layout = Layout::of(&data.sample(0)?.inputs);
        let variables = layout.count();
        if variables == 0 {
            return Err(Error::invalid("dataset", "its samples have no explained inputs", "at least one"));
        }
        if variables > LARGEST {
            let problem = format!("its samples have {variables} values");
            return Err(Error::invalid(
                "dataset",
                problem,
                format!("at most {LARGEST}, whose joint distribution is estimated"),
            ));
        }
        let mut all = Vec::with_capacity(variables * count);
        for number in 0..count {
            run.step(number, count)?;
            let inputs = data.sample(number)?.inputs;
            let found = Layout::of(&inputs);
            if found != layout {
                let problem = format!("sample {number} has explained inputs of shapes {:?}", found.sides);
                return Err(Error::invalid(
                    "dataset",
                    problem,
                    format!("{:?}, those of sample 0", layout.sides),
                ));
            }
            for input in inputs.explained() {
                check_finite(&format!("sample {number} of the dataset"), &input.value)?;
                all.extend(values::numbers(&input.value)?);
            }
        }
        run.step(count, count)?;
        Ok(Self { layout, samples: DMatrix::from_vec(variables, count, all) })
    }
}

/// The positions that are kept.
pub(super) fn kept(hidden: &[bool]) -> Vec<usize> {
    (0..hidden.len()).filter(|&at| !hidden[at]).collect()
}
