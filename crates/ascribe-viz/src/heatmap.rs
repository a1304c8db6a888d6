//! Heatmaps: attributions reduced to one value per position.

use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

use crate::finding::{self, Finding};
use crate::resample;
use crate::{Error, Reduction, Result};

/// How a map is resized to the size of the picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Upsampling {
    /// Every pixel has the value of the cell in which it lies. This shows the true resolution of the attribution.
    Nearest,
    /// Linear interpolation between cell centres (half-pixel convention), with averaging if the map gets smaller.
    #[default]
    Bilinear,
}

/// A map with one value per position, row by row from the top left.
///
/// The values are those of the attribution: apart from the stated [`Reduction`] of channels, nothing is clipped,
/// rescaled or made positive. What a reader should know about them (all zero, NaN, …) is in [`Heatmap::findings`].
///
/// ```
/// use ascribe_viz::{Heatmap, Reduction};
/// use candle_core::{Device, Tensor};
///
/// let attribution = Tensor::new(&[[[[1.0f32, -2.0]], [[0.5, 0.5]]]], &Device::Cpu)?; // [1, 2, 1, 2]
/// let map = Heatmap::from_tensor(&attribution, Reduction::Sum)?;
/// assert_eq!((map.height(), map.width(), map.values()), (1, 2, &[1.5, -1.5][..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Heatmap {
    height: usize,
    width: usize,
    values: Vec<f64>,
    reduction: Reduction,
    signed: bool,
    relative: bool,
    channels: usize,
}

impl Heatmap {
    /// Creates a map from its values. `signed` is whether negative values have a meaning.
    ///
    /// # Errors
    /// If height or width is zero or the number of values is not `height · width`.
    pub fn new(height: usize, width: usize, values: Vec<f64>, signed: bool) -> Result<Self> {
        if height == 0 || width == 0 || height.checked_mul(width) != Some(values.len()) {
            return Err(Error::ValueCount { height, width, found: values.len() });
        }
        let reduction = if signed { Reduction::Sum } else { Reduction::SumAbs };
        Ok(Self { height, width, values, reduction, signed, relative: false, channels: 1 })
    }

    /// Creates a map from an attribution of shape [H, W], [C, H, W] or [1, C, H, W], of any float type and on any
    /// device.
    ///
    /// # Errors
    /// If the attribution has another shape (for a batch, see [`Heatmap::batch`]) or an axis of size zero.
    pub fn from_tensor(attribution: &Tensor, reduction: Reduction) -> Result<Self> {
        let shape = attribution.dims();
        let (channels, height, width) = match *shape {
            [h, w] => (1, h, w),
            [c, h, w] | [1, c, h, w] => (c, h, w),
            [n, _, _, _] => {
                return Err(Error::Shape {
                    shape: shape.to_vec(),
                    hint: format!("; use one of its {n} samples, or Heatmap::batch for all of them"),
                });
            }
            _ => return Err(Error::Shape { shape: shape.to_vec(), hint: String::new() }),
        };
        if channels == 0 || height == 0 || width == 0 {
            return Err(Error::Shape { shape: shape.to_vec(), hint: ", without an axis of size 0".into() });
        }
        let raw = attribution.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        let places = height * width;
        let values = (0..places)
            .map(|place| reduction.apply(raw.iter().skip(place).step_by(places).copied()))
            .collect();
        let signed = reduction.is_signed();
        Ok(Self { height, width, values, reduction, signed, relative: false, channels })
    }

    /// Creates one map per sample of an attribution of shape [N, C, H, W].
    ///
    /// # Errors
    /// If the attribution has another shape or an axis of size zero.
    pub fn batch(attributions: &Tensor, reduction: Reduction) -> Result<Vec<Self>> {
        let shape = attributions.dims();
        if shape.len() != 4 || shape[0] == 0 {
            return Err(Error::Shape {
                shape: shape.to_vec(),
                hint: "; a batch has shape [N, C, H, W] with N at least 1".into(),
            });
        }
        (0..shape[0]).map(|n| Self::from_tensor(&attributions.get(n)?, reduction)).collect()
    }

    /// Number of rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Number of columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The values, row by row.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// How channels were reduced.
    pub fn reduction(&self) -> Reduction {
        self.reduction
    }

    /// Whether more than one channel was reduced, so that captions should say how.
    pub fn has_channels(&self) -> bool {
        self.channels > 1
    }

    /// Whether the sign of values has a meaning; otherwise the values are magnitudes.
    pub fn is_signed(&self) -> bool {
        self.signed
    }

    /// Whether only differences between values have a meaning, and zero has none.
    pub fn is_relative(&self) -> bool {
        self.relative
    }

    /// Sets whether only differences between values have a meaning, as for RISE. The colours then span the range of the
    /// values.
    pub fn with_relative(mut self, relative: bool) -> Self {
        self.relative = relative;
        self
    }

    /// Sets whether the map is shown as a signed map or as magnitudes. The values do not change.
    pub fn with_signed(mut self, signed: bool) -> Self {
        self.signed = signed;
        self
    }

    /// Smallest and largest finite value; `None` if no value is finite.
    pub fn range(&self) -> Option<(f64, f64)> {
        let (low, high) = finding::finite_range(&self.values);
        (low <= high).then_some((low, high))
    }

    /// What a reader should know about the values: all zero, no positive value, constant, NaN, or infinite.
    pub fn findings(&self) -> Vec<Finding> {
        finding::inspect(&self.values, self.signed)
    }

    /// Smooths the map with a Gaussian of standard deviation `sigma` cells (truncated at 4σ, with weights renormalised
    /// at the edges). With `sigma` 0 the map does not change. Values near a NaN become NaN.
    ///
    /// # Errors
    /// If `sigma` is negative, not finite, or more than 1000 cells.
    pub fn smooth(&self, sigma: f64) -> Result<Self> {
        if !(0.0..=1000.0).contains(&sigma) {
            return Err(Error::Setting {
                what: "the smoothing",
                value: sigma,
                expected: "from 0 to 1000 cells",
            });
        }
        let rows = resample::gaussian(self.height, sigma);
        let columns = resample::gaussian(self.width, sigma);
        let values = resample::apply(&self.values, self.width, &rows, &columns);
        Ok(Self { values, ..*self })
    }

    /// Resizes the map, with its edges aligned (cell centres are at half-integers, as in image resizing). Every output
    /// value that depends on a NaN is NaN.
    ///
    /// # Errors
    /// If height or width is zero.
    pub fn resize(&self, height: usize, width: usize, how: Upsampling) -> Result<Self> {
        if height == 0 || width == 0 {
            return Err(Error::ValueCount { height, width, found: 0 });
        }
        let rows = resample::taps(self.height, height, how);
        let columns = resample::taps(self.width, width, how);
        let values = resample::apply(&self.values, self.width, &rows, &columns);
        Ok(Self { height, width, values, ..*self })
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use proptest::prelude::*;

    use super::*;

    fn tensor(values: &[f64], shape: &[usize]) -> Tensor {
        Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
    }

    #[test]
    fn every_reduction_is_its_formula() {
        let a = tensor(&[3.0, -1.0, -4.0, 2.0], &[2, 1, 2]); // places (3, −4) and (−1, 2)
        let reduced = |r| Heatmap::from_tensor(&a, r).unwrap().values().to_vec();
        assert_eq!(reduced(Reduction::Sum), [-1.0, 1.0]);
        assert_eq!(reduced(Reduction::Mean), [-0.5, 0.5]);
        assert_eq!(reduced(Reduction::MaxAbs), [4.0, 2.0]);
        assert_eq!(reduced(Reduction::SumAbs), [7.0, 3.0]);
        assert_eq!(reduced(Reduction::MeanAbs), [3.5, 1.5]);
        let l2 = reduced(Reduction::L2);
        assert!((l2[0] - 5.0).abs() < 1e-15 && (l2[1] - 5f64.sqrt()).abs() < 1e-15, "{l2:?}");
    }

    #[test]
    fn l2_neither_overflows_nor_vanishes() {
        for scale in [1e-300, 1e300] {
            let map = Heatmap::from_tensor(&tensor(&[3.0 * scale, 4.0 * scale], &[2, 1, 1]), Reduction::L2)
                .unwrap();
            assert!((map.values()[0] / scale - 5.0).abs() < 1e-12, "{:?}", map.values());
        }
    }

    #[test]
    fn a_nan_in_one_channel_is_never_reduced_away() {
        let a = tensor(&[f64::NAN, 1.0, 2.0, 1.0], &[2, 1, 2]);
        for r in Reduction::ALL {
            let map = Heatmap::from_tensor(&a, r).unwrap();
            assert!(map.values()[0].is_nan() && !map.values()[1].is_nan(), "{r}: {:?}", map.values());
            assert_eq!(map.findings()[0].kind, crate::FindingKind::NotANumber);
        }
    }

    #[test]
    fn wrong_shapes_say_what_is_right() {
        let batch = tensor(&[0.0; 8], &[2, 1, 2, 2]);
        let message = Heatmap::from_tensor(&batch, Reduction::Sum).unwrap_err().to_string();
        assert!(message.contains("[2, 1, 2, 2]") && message.contains("Heatmap::batch"), "{message}");
        assert_eq!(Heatmap::batch(&batch, Reduction::Sum).unwrap().len(), 2);
        assert!(Heatmap::from_tensor(&tensor(&[0.0; 3], &[3]), Reduction::Sum).is_err());
        assert!(Heatmap::from_tensor(&tensor(&[], &[3, 0, 2]), Reduction::Sum).is_err());
        assert!(Heatmap::new(2, 2, vec![0.0; 3], true).is_err());
        assert!(Heatmap::new(usize::MAX, 2, vec![0.0; 3], true).is_err());
        assert!("max".parse::<Reduction>().unwrap_err().to_string().contains("max-abs"));
    }

    #[test]
    fn smoothing_spreads_a_point_as_a_gaussian() {
        let mut values = vec![0.0; 41];
        values[20] = 1.0;
        let map = Heatmap::new(1, 41, values, true).unwrap();
        let smooth = map.smooth(2.0).unwrap();
        assert!((smooth.values().iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let ratio = smooth.values()[22] / smooth.values()[20];
        assert!((ratio - (-0.5f64).exp()).abs() < 1e-12, "one σ away: {ratio}");
        assert_eq!(map.smooth(0.0).unwrap(), map);
        assert!(map.smooth(f64::NAN).is_err() && map.smooth(-1.0).is_err());
    }

    #[test]
    fn half_precision_is_read() {
        let a = tensor(&[0.5, -0.25], &[1, 1, 2]).to_dtype(DType::F16).unwrap();
        assert_eq!(Heatmap::from_tensor(&a, Reduction::Sum).unwrap().values(), [0.5, -0.25]);
    }

    proptest! {
        #![proptest_config(ascribe_proptest::config(64))]

        #[test]
        fn resizing_stays_in_range_and_keeps_constants(
            (h, w, values) in (1usize..6, 1usize..6).prop_flat_map(|(h, w)| {
                (Just(h), Just(w), prop::collection::vec(-5.0f64..5.0, h * w))
            }),
            height in 1usize..20, width in 1usize..20, nearest: bool,
        ) {
            let how = if nearest { Upsampling::Nearest } else { Upsampling::Bilinear };
            let map = Heatmap::new(h, w, values, true).unwrap();
            let (low, high) = map.range().unwrap();
            let big = map.resize(height, width, how).unwrap();
            prop_assert_eq!(big.values().len(), height * width);
            prop_assert!(big.values().iter().all(|v| (low - 1e-12..=high + 1e-12).contains(v)));
            prop_assert_eq!(&map.resize(h, w, how).unwrap(), &map);
        }
    }
}
