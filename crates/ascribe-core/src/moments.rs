//! Running mean and variance with their standard errors.

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::target::to_f64;

/// Running central moments of tensors of one shape (Pébay 2008, eqs. 2.1, 2.2; Welford 1962 for the first two), in
/// double precision. Unlike sums of powers, they do not suffer from cancellation.
#[derive(Clone, Debug, Default)]
pub struct Moments {
    count: f64,
    /// Shape, data type and device of the values.
    like: Option<(Vec<usize>, DType, Device)>,
    mean: Vec<f64>,
    /// Σ(g − mean)².
    m2: Vec<f64>,
    /// Σ(g − mean)³, Σ(g − mean)⁴, which only the variance's error needs.
    high: Vec<[f64; 2]>,
}

/// Smallest number of values per parallel task.
const TASK: usize = 16 * 1024;

impl Moments {
    /// Adds a value for the mean only.
    ///
    /// # Errors
    /// If the value cannot be read.
    pub fn push(&mut self, value: &Tensor) -> Result<()> {
        let (n, value) = self.next(value)?;
        let low = self.mean.par_iter_mut().zip(&mut self.m2);
        low.zip(&value).with_min_len(TASK).for_each(|((mean, m2), value)| {
            let delta = value - *mean;
            *mean += delta / n;
            *m2 += delta * (delta / n) * (n - 1.0);
        });
        Ok(())
    }

    /// Adds a value for the mean and the variance.
    ///
    /// # Errors
    /// If the value cannot be read.
    pub fn push_for_variance(&mut self, value: &Tensor) -> Result<()> {
        let (n, value) = self.next(value)?;
        self.high.resize(value.len(), [0.0; 2]);
        let all = self.mean.par_iter_mut().zip(&mut self.m2).zip(&mut self.high);
        all.zip(&value).with_min_len(TASK).for_each(|(((mean, m2), [m3, m4]), value)| {
            let delta = value - *mean;
            let part = delta / n;
            let term = delta * part * (n - 1.0);
            *m4 += term * part * part * (n * n - 3.0 * n + 3.0) + 6.0 * part * part * *m2 - 4.0 * part * *m3;
            *m3 += term * part * (n - 2.0) - 3.0 * part * *m2;
            *m2 += term;
            *mean += part;
        });
        Ok(())
    }

    /// The number of values including this one, and the elements of this one.
    fn next(&mut self, value: &Tensor) -> Result<(f64, Vec<f64>)> {
        if let Some((dims, ..)) = self.like.as_ref().filter(|(dims, ..)| dims != value.dims()) {
            let problem = format!("has shape {:?}", value.dims());
            return Err(Error::invalid("value", problem, format!("{dims:?}, as those before it")));
        }
        self.count += 1.0;
        let numbers = to_f64(&value.flatten_all()?)?;
        self.like.get_or_insert_with(|| (value.dims().to_vec(), value.dtype(), value.device().clone()));
        self.mean.resize(numbers.len(), 0.0);
        self.m2.resize(numbers.len(), 0.0);
        Ok((self.count, numbers))
    }

    /// The mean and its standard error, shaped like the values; the latter requires at least two values.
    ///
    /// # Errors
    /// If the tensors cannot be created.
    pub fn mean(&self) -> Result<Option<(Tensor, Option<Tensor>)>> {
        let n = self.count;
        self.results(self.mean.clone(), || self.m2.iter().map(|m2| (m2 / (n * (n - 1.0))).sqrt()).collect())
    }

    /// The variance (divided by n) and its large-sample standard error √((m₄ − m₂²) / n), of values that were added
    /// with [`Moments::push_for_variance`].
    ///
    /// # Errors
    /// If the tensors cannot be created.
    pub fn variance(&self) -> Result<Option<(Tensor, Option<Tensor>)>> {
        if self.high.is_empty() {
            return Ok(None);
        }
        let n = self.count;
        let error = |(m2, [_, m4]): (&f64, &[f64; 2])| {
            let variance = m2 / n;
            ((m4 / n - variance * variance).max(0.0) / n).sqrt()
        };
        let errors = || self.m2.iter().zip(&self.high).map(error).collect();
        self.results(self.m2.iter().map(|m2| m2 / n).collect(), errors)
    }

    /// Both as tensors shaped like the values.
    fn results(
        &self,
        value: Vec<f64>,
        error: impl FnOnce() -> Vec<f64>,
    ) -> Result<Option<(Tensor, Option<Tensor>)>> {
        let Some((dims, dtype, device)) = &self.like else { return Ok(None) };
        let tensor = |numbers: Vec<f64>| -> Result<Tensor> {
            let tensor = Tensor::from_vec(numbers, dims.as_slice(), &Device::Cpu)?;
            Ok(tensor.to_dtype(*dtype)?.to_device(device)?)
        };
        let error = if self.count > 1.0 { Some(tensor(error())?) } else { None };
        Ok(Some((tensor(value)?, error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_definitions() -> Result<()> {
        let values = [1e3 + 0.5, 1e3 - 2.0, 1e3 + 1.25, 1e3, 1e3 + 7.0];
        let (mut moments, mut low) = (Moments::default(), Moments::default());
        for v in values {
            moments.push_for_variance(&Tensor::new(&[v], &Device::Cpu)?)?;
            low.push(&Tensor::new(&[v], &Device::Cpu)?)?;
        }
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let central = |p: i32| values.iter().map(|v| (v - mean).powi(p)).sum::<f64>() / n;
        let get = |t: Option<&Tensor>| t.map_or(Ok(f64::NAN), |t| t.to_vec1::<f64>().map(|v| v[0]));
        let (m, e) = moments.mean()?.unwrap_or_else(|| unreachable!());
        assert!((get(Some(&m))? - mean).abs() < 1e-10);
        assert!((get(e.as_ref())? - (central(2) / (n - 1.0)).sqrt()).abs() < 1e-10);
        let (same, _) = low.mean()?.unwrap_or_else(|| unreachable!());
        assert!(get(Some(&same))? == get(Some(&m))? && low.variance()?.is_none());
        let (v, e) = moments.variance()?.unwrap_or_else(|| unreachable!());
        assert!((get(Some(&v))? - central(2)).abs() < 1e-10);
        assert!((get(e.as_ref())? - ((central(4) - central(2).powi(2)) / n).sqrt()).abs() < 1e-9);
        Ok(())
    }
}
