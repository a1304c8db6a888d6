//! Mean, variance and the spread of both, one value at a time.

use ascribe_core::{Result, Tensor};

/// Running central moments up to the fourth of tensors of one shape (Pébay 2008, eqs. 2.1, 2.2; Welford 1962 for
/// the first two): unlike sums of powers, they do not cancel.
#[derive(Default)]
pub(crate) struct Moments {
    count: f64,
    /// Mean, Σ(g − mean)², Σ(g − mean)³, Σ(g − mean)⁴.
    state: Option<[Tensor; 4]>,
}

impl Moments {
    /// Adds a value.
    pub(crate) fn push(&mut self, value: &Tensor) -> Result<()> {
        self.count += 1.0;
        let n = self.count;
        let Some([mean, m2, m3, m4]) = self.state.take() else {
            let zero = value.zeros_like()?;
            self.state = Some([value.clone(), zero.clone(), zero.clone(), zero]);
            return Ok(());
        };
        let delta = (value - &mean)?;
        let part = (&delta / n)?;
        let part2 = part.sqr()?;
        let term = ((&delta * &part)? * (n - 1.0))?;
        let m4 = (m4 + ((&term * &part2)? * (n * n - 3.0 * n + 3.0))?)?;
        let m4 = ((m4 + ((&part2 * &m2)? * 6.0)?)? - ((&part * &m3)? * 4.0)?)?;
        let m3 = ((m3 + ((&term * &part)? * (n - 2.0))?)? - ((&part * &m2)? * 3.0)?)?;
        let m2 = (m2 + term)?;
        self.state = Some([(mean + part)?, m2, m3, m4]);
        Ok(())
    }

    /// The mean and its standard error; the latter needs two values.
    pub(crate) fn mean(&self) -> Result<Option<(Tensor, Option<Tensor>)>> {
        let Some([mean, m2, ..]) = &self.state else { return Ok(None) };
        let error =
            if self.count > 1.0 { Some((m2 / (self.count * (self.count - 1.0)))?.sqrt()?) } else { None };
        Ok(Some((mean.clone(), error)))
    }

    /// The variance (divided by n) and its large-sample standard error √((m₄ − m₂²) / n).
    pub(crate) fn variance(&self) -> Result<Option<(Tensor, Option<Tensor>)>> {
        let Some([_, m2, _, m4]) = &self.state else { return Ok(None) };
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
        let mut moments = Moments::default();
        for v in values {
            moments.push(&Tensor::new(&[v], &Device::Cpu)?)?;
        }
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let central = |p: i32| values.iter().map(|v| (v - mean).powi(p)).sum::<f64>() / n;
        let get = |t: Option<&Tensor>| t.map_or(Ok(f64::NAN), |t| t.to_vec1::<f64>().map(|v| v[0]));
        let (m, e) = moments.mean()?.unwrap_or_else(|| unreachable!());
        assert!((get(Some(&m))? - mean).abs() < 1e-10);
        assert!((get(e.as_ref())? - (central(2) / (n - 1.0)).sqrt()).abs() < 1e-10);
        let (v, e) = moments.variance()?.unwrap_or_else(|| unreachable!());
        assert!((get(Some(&v))? - central(2)).abs() < 1e-10);
        assert!((get(e.as_ref())? - ((central(4) - central(2).powi(2)) / n).sqrt()).abs() < 1e-9);
        Ok(())
    }
}
