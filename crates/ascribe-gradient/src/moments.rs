//! Mean, variance and the spread of both, one value at a time.

use ascribe_core::{Result, Tensor};

/// Running central moments of tensors of one shape (Pébay 2008, eqs. 2.1, 2.2; Welford 1962 for the first two): unlike
/// sums of powers, they do not cancel.
#[derive(Default)]
pub(crate) struct Moments {
    count: f64,
    /// Mean, Σ(g − mean)².
    low: Option<[Tensor; 2]>,
    /// Σ(g − mean)³, Σ(g − mean)⁴, which only the variance's error needs.
    high: Option<[Tensor; 2]>,
}

impl Moments {
    /// Adds a value, for means only.
    pub(crate) fn push(&mut self, value: &Tensor) -> Result<()> {
        self.add(value, false)
    }

    /// Adds a value, for variances too.
    pub(crate) fn push_for_variance(&mut self, value: &Tensor) -> Result<()> {
        self.add(value, true)
    }

    fn add(&mut self, value: &Tensor, high: bool) -> Result<()> {
        self.count += 1.0;
        let n = self.count;
        let Some([mean, m2]) = self.low.take() else {
            let zero = value.zeros_like()?;
            self.low = Some([value.clone(), zero.clone()]);
            self.high = high.then(|| [zero.clone(), zero]);
            return Ok(());
        };
        let delta = (value - &mean)?;
        let part = (&delta / n)?;
        let term = ((&delta * &part)? * (n - 1.0))?;
        if let Some([m3, m4]) = self.high.take() {
            let part2 = part.sqr()?;
            let m4 = (m4 + ((&term * &part2)? * (n * n - 3.0 * n + 3.0))?)?;
            let m4 = ((m4 + ((&part2 * &m2)? * 6.0)?)? - ((&part * &m3)? * 4.0)?)?;
            let m3 = ((m3 + ((&term * &part)? * (n - 2.0))?)? - ((&part * &m2)? * 3.0)?)?;
            self.high = Some([m3, m4]);
        }
        self.low = Some([(mean + part)?, (m2 + term)?]);
        Ok(())
    }

    /// The mean and its standard error; the latter needs two values.
    pub(crate) fn mean(&self) -> Result<Option<(Tensor, Option<Tensor>)>> {
        let Some([mean, m2]) = &self.low else { return Ok(None) };
        let error =
            if self.count > 1.0 { Some((m2 / (self.count * (self.count - 1.0)))?.sqrt()?) } else { None };
        Ok(Some((mean.clone(), error)))
    }

    /// The variance (divided by n) and its large-sample standard error √((m₄ − m₂²) / n), of values that were added for
    /// that.
    pub(crate) fn variance(&self) -> Result<Option<(Tensor, Option<Tensor>)>> {
        let (Some([_, m2]), Some([_, m4])) = (&self.low, &self.high) else { return Ok(None) };
        let variance = (m2 / self.count)?;
        let excess = ((m4 / self.count)? - variance.sqr()?)?.relu()?;
        let error = if self.count > 1.0 { Some((excess / self.count)?.sqrt()?) } else { None };
        Ok(Some((variance, error)))
    }
}

#[cfg(test)]
mod tests {
    use ascribe_core::Device;

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
