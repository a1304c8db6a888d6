//! Noisy copies of inputs.

use ascribe_core::{Error, Inputs, Result, Tensor, config, random, sweep, to_f64};
use serde::{Deserialize, Serialize};

/// The unit of σ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoiseUnit {
    /// The range x_max − x_min of each sample, for each explained input.
    #[default]
    Range,
    /// Absolute, in units of the input.
    Absolute,
}

/// Configuration of the noise.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Noise {
    /// Number n of noisy copies.
    pub samples: usize,
    /// Standard deviation σ.
    pub sigma: f64,
    /// The unit of σ.
    pub unit: NoiseUnit,
    /// Whether the standard error of each value is estimated. This requires every single attribution; without it,
    /// `smooth-grad` of saliency uses a cheaper sum of gradients, if the model supports it
    /// ([`ascribe_core::Differentiable::gradient_sum`]).
    pub spread: bool,
    /// Noise to use instead of random draws: `[n, …]`, one row per copy, shaped like a sample. In a configuration it
    /// is written as `{ "shape": […], "values": […] }`; provenance records do not contain it.
    #[serde(skip_serializing, deserialize_with = "config::optional_tensor")]
    pub given: Option<Tensor>,
}

impl Default for Noise {
    /// 50 copies with 15 % noise, in the middle of the range that Smilkov et al. recommend.
    fn default() -> Self {
        Self { samples: 50, sigma: 0.15, unit: NoiseUnit::Range, spread: true, given: None }
    }
}

impl Noise {
    pub(crate) fn check(&self) -> Result<()> {
        if !(self.sigma >= 0.0 && self.sigma.is_finite()) {
            return Err(Error::invalid("sigma", self.sigma.to_string(), "0 or a positive number"));
        }
        match self.given.as_ref().map(Tensor::dims) {
            Some(dims) if dims.first() != Some(&self.samples) => {
                let problem = format!("given with shape {dims:?}");
                Err(Error::invalid("noise", problem, format!("{} rows", self.samples)))
            }
            _ => Ok(()),
        }
    }

    /// The noisy copies of some points, drawn in parallel, and the sample of each copy.
    pub(crate) fn copies(
        &self,
        x: &Inputs,
        sigmas: &[Vec<f64>],
        points: &[sweep::Point],
        seed: u64,
    ) -> Result<(Inputs, Vec<usize>)> {
        sweep::side_by_side(x, points, &|point, one| {
            self.copy(one, sigmas.get(point.sample).into_iter().flatten(), point.index, seed)
        })
    }

    /// Noisy copy `draw` of one sample's explained inputs, with one standard deviation for each input.
    fn copy<'a>(
        &self,
        one: &[Tensor],
        sigmas: impl IntoIterator<Item = &'a f64>,
        draw: usize,
        seed: u64,
    ) -> Result<Vec<Tensor>> {
        let mut rng = random::stream(seed, random::Domain::NOISE, draw as u64);
        one.iter()
            .zip(sigmas)
            .map(|(x, sigma)| {
                let Some(rows) = &self.given else { return random::normal_around(&mut rng, x, *sigma) };
                let noise = rows.narrow(0, draw, 1)?.to_dtype(x.dtype())?;
                if noise.dims() != x.dims() {
                    let problem = format!("has rows of shape {:?}", &noise.dims()[1..]);
                    return Err(Error::invalid("noise", problem, format!("{:?}", &x.dims()[1..])));
                }
                Ok((x + noise)?)
            })
            .collect()
    }

    /// The standard deviation for each sample and explained input.
    pub(crate) fn sigmas(&self, x: &Inputs) -> Result<Vec<Vec<f64>>> {
        (0..x.batch()?).map(|s| sweep::explained(x, s)?.iter().map(|x| self.sigma(x)).collect()).collect()
    }

    /// The standard deviation for one sample.
    fn sigma(&self, x: &Tensor) -> Result<f64> {
        let range = match self.unit {
            NoiseUnit::Absolute => return Ok(self.sigma),
            NoiseUnit::Range => {
                let flat = x.flatten_all()?;
                let ends = Tensor::stack(&[flat.max(0)?, flat.min(0)?], 0)?;
                let ends = to_f64(&ends)?;
                ends[0] - ends[1]
            }
        };
        Ok(self.sigma * range)
    }
}

#[cfg(test)]
mod tests {
    use ascribe_core::Device;

    use super::*;

    #[test]
    fn sigma_is_a_fraction_of_the_range() -> Result<()> {
        let noise = Noise { sigma: 0.5, ..Noise::default() };
        let x = Tensor::new(&[[-1_f64, 3.0]], &Device::Cpu)?;
        assert_eq!(noise.sigma(&x)?, 2.0);
        let drawn = noise.copy(std::slice::from_ref(&x), &[2.0], 3, 7)?;
        let normal = random::normal(
            &mut random::stream(7, random::Domain::NOISE, 3),
            &[1, 2],
            x.dtype(),
            &Device::Cpu,
        )?;
        assert_eq!(drawn[0].to_vec2::<f64>()?, (x + (normal * 2.0)?)?.to_vec2::<f64>()?);
        Ok(())
    }
}
