//! Maps values to positions on a colour map, with percentile clipping and centring on zero.

use serde::{Deserialize, Serialize};

use crate::finding::{Finding, FindingKind};
use crate::heatmap::Heatmap;
use crate::{Error, Result};

/// The default percentile at which colours are clipped.
pub const DEFAULT_PERCENTILE: f64 = 99.5;

/// How values are mapped to a colour map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScaleKind {
    /// For signed values: zero is the centre, the ends are ±limit.
    Diverging,
    /// For magnitudes: zero is the low end.
    Sequential,
    /// For values of which only differences have a meaning: the low end is the smallest value, wherever zero is.
    Range,
}

impl ScaleKind {
    /// The kind that fits a map.
    fn of(map: &Heatmap) -> Self {
        match (map.is_relative(), map.is_signed()) {
            (true, _) => Self::Range,
            (false, true) => Self::Diverging,
            (false, false) => Self::Sequential,
        }
    }
}

/// A scale, which maps values to positions 0..=1.
///
/// `P_q` is the q-th percentile (with linear interpolation between order statistics) over all finite values of the maps
/// before upsampling:
///
/// ```text
/// diverging:   position(v) = ½ + ½ · v / L,                 L = P_q(|v|)
/// sequential:  position(v) = (v − low) / (high − low),      high = max(0, P_q(v)), low = min(0, P_{100−q}(v))
/// range:       position(v) = (v − low) / (high − low),      high = P_q(v),         low = P_{100−q}(v)
/// ```
///
/// Positions are clamped to 0..=1. Except for ranges, zero is always on the scale: at the centre (diverging) or, for
/// magnitudes, at the low end. If nearly all values are equal, so that both limits would be the same although the
/// values differ, the limits are the extreme values instead (`percentile` is then 100, and a finding says so).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    /// How values are mapped.
    pub kind: ScaleKind,
    /// The value at position 0.
    pub low: f64,
    /// The value at position 1.
    pub high: f64,
    /// The percentile q of the limits.
    pub percentile: f64,
    /// The smallest finite value, before clipping.
    pub min: f64,
    /// The largest finite value, before clipping.
    pub max: f64,
    /// Number of finite values outside `low..=high`.
    pub clipped: usize,
    /// Number of values, including those that are not finite.
    pub count: usize,
}

impl Scale {
    /// The scale for one map, of the kind that fits it.
    ///
    /// # Errors
    /// If `percentile` is not in 50 < q ≤ 100.
    pub fn of(map: &Heatmap, percentile: f64) -> Result<Self> {
        let kind = ScaleKind::of(map);
        Self::fit(kind, percentile, map.values().iter().copied())
    }

    /// One scale for several maps, so that their colours can be compared. Its limits are the widest limits of the
    /// single maps. (Percentiles of all values together would be dominated by the maps with most values.) Without
    /// `kind`, it is diverging if any map is signed, a range if all maps are relative ([`Heatmap::is_relative`]), and
    /// otherwise sequential.
    ///
    /// # Errors
    /// If `percentile` is not in 50 < q ≤ 100, or there is no map.
    pub fn shared<'a>(
        maps: impl IntoIterator<Item = &'a Heatmap>,
        kind: Option<ScaleKind>,
        percentile: f64,
    ) -> Result<Self> {
        let maps: Vec<&Heatmap> = maps.into_iter().collect();
        let own = || {
            let has = |kind| maps.iter().any(|map| ScaleKind::of(map) == kind);
            let wide = [ScaleKind::Diverging, ScaleKind::Sequential].into_iter().find(|&kind| has(kind));
            wide.unwrap_or(ScaleKind::Range)
        };
        let kind = kind.unwrap_or_else(own);
        let values = |m: &'a Heatmap| m.values().iter().copied();
        let scales =
            maps.iter().map(|m| Self::fit(kind, percentile, values(m))).collect::<Result<Vec<_>>>()?;
        let Some(mut all) = scales.first().copied() else {
            let problem = "a scale needs at least one map".into();
            return Err(Error::Layout { what: "the shared scale".into(), problem });
        };
        for s in &scales[1..] {
            all.low = all.low.min(s.low);
            all.high = all.high.max(s.high);
            all.percentile = all.percentile.max(s.percentile);
            all.min = all.min.min(s.min);
            all.max = all.max.max(s.max);
            all.count += s.count;
        }
        let outside = |v: &f64| v.is_finite() && (*v < all.low || *v > all.high);
        all.clipped = maps.iter().flat_map(|m| values(m)).filter(outside).count();
        Ok(all)
    }

    /// The scale of the given kind for the given values. If no value is finite, the limits are zero.
    ///
    /// # Errors
    /// If `percentile` is not in 50 < q ≤ 100.
    pub fn fit(kind: ScaleKind, percentile: f64, values: impl IntoIterator<Item = f64>) -> Result<Self> {
        if !(percentile > 50.0 && percentile <= 100.0) {
            return Err(Error::Setting {
                what: "the clip percentile",
                value: percentile,
                expected: "above 50 and at most 100",
            });
        }
        let mut count = 0;
        let mut sorted: Vec<f64> =
            values.into_iter().inspect(|_| count += 1).filter(|v| v.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = match (sorted.first(), sorted.last()) {
            (Some(&min), Some(&max)) => (min, max),
            _ => (0.0, 0.0),
        };
        let mut magnitudes: Vec<f64> = Vec::new();
        if kind == ScaleKind::Diverging {
            magnitudes = sorted.iter().map(|v| v.abs()).collect();
            magnitudes.sort_by(f64::total_cmp);
        }
        let limits = |q: f64| match kind {
            ScaleKind::Diverging => {
                let limit = of_sorted(&magnitudes, q);
                (-limit, limit)
            }
            ScaleKind::Sequential => (of_sorted(&sorted, 100.0 - q).min(0.0), of_sorted(&sorted, q).max(0.0)),
            ScaleKind::Range => (of_sorted(&sorted, 100.0 - q), of_sorted(&sorted, q)),
        };
        let (mut used, (mut low, mut high)) = (percentile, limits(percentile));
        if low == high && min < max {
            (used, (low, high)) = (100.0, limits(100.0));
        }
        let clipped = sorted.iter().filter(|&&v| v < low || v > high).count();
        Ok(Self { kind, low, high, percentile: used, min, max, clipped, count })
    }

    /// The position of a value, clipped to 0..=1. Infinite values are at the ends; `None` for NaN. If both limits are
    /// zero, zero is at the neutral position.
    pub fn position(&self, value: f64) -> Option<f64> {
        if value.is_nan() {
            return None;
        }
        // Computed in units of the larger limit, so that the difference of large limits does not overflow.
        let unit = self.low.abs().max(self.high.abs());
        if unit == 0.0 {
            return Some(if value > 0.0 {
                1.0
            } else if value < 0.0 {
                0.0
            } else {
                self.zero()
            });
        }
        if self.low == self.high {
            return Some(if value > self.high { 1.0 } else { 0.0 });
        }
        let (low, high) = (self.low / unit, self.high / unit);
        Some(((value.clamp(self.low, self.high) / unit - low) / (high - low)).clamp(0.0, 1.0))
    }

    /// The distance of a value from zero, as a fraction of the larger limit and clipped to 0..=1; 1 for NaN. For a
    /// range, the position of the value.
    pub fn strength(&self, value: f64) -> f64 {
        if self.kind == ScaleKind::Range {
            return self.position(value).unwrap_or(1.0);
        }
        let unit = self.low.abs().max(self.high.abs());
        if value.is_nan() || (unit == 0.0 && value != 0.0) {
            1.0
        } else if unit == 0.0 {
            0.0
        } else {
            (value.clamp(self.low, self.high) / unit).abs()
        }
    }

    /// The position of zero; for a range that does not contain zero, the end that is nearer to zero.
    pub fn zero(&self) -> f64 {
        match self.kind {
            ScaleKind::Diverging => 0.5,
            ScaleKind::Sequential | ScaleKind::Range if self.low == self.high => 0.0,
            ScaleKind::Range => self.position(0.0).unwrap_or(0.0),
            ScaleKind::Sequential => {
                let unit = self.high.max(-self.low);
                (-self.low / unit) / (self.high / unit - self.low / unit)
            }
        }
    }

    /// Whether values below `low`, and above `high`, were clipped.
    pub fn clips(&self) -> (bool, bool) {
        (self.min < self.low, self.max > self.high)
    }

    /// A description of the clipping for captions.
    pub fn words(&self) -> String {
        let of = if self.kind == ScaleKind::Diverging { "|values|" } else { "values" };
        if self.clipped == 0 {
            return "colours span the whole range".into();
        }
        format!(
            "colours clip at the {} percentile of {of} ({:.2} % of places)",
            ordinal(self.percentile),
            100.0 * self.clipped as f64 / self.count as f64
        )
    }

    /// A finding if the requested percentile could not be used.
    pub(crate) fn finding(&self, wished: f64) -> Option<Finding> {
        (self.percentile != wished).then(|| {
            Finding::new(
                FindingKind::Sparse,
                format!(
                    "nearly all values are zero: the {} percentile is zero too, so colours span the whole range",
                    ordinal(wished)
                ),
            )
        })
    }
}

/// The q-th percentile (0..=100) of the finite values, with linear interpolation between order statistics (numpy's
/// method "linear"). `None` if no value is finite.
///
/// ```
/// assert_eq!(ascribe_viz::percentile([4.0, 1.0, 3.0, 2.0], 50.0), Some(2.5));
/// ```
pub fn percentile(values: impl IntoIterator<Item = f64>, q: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    (!sorted.is_empty() && (0.0..=100.0).contains(&q)).then(|| of_sorted(&sorted, q))
}

/// The q-th percentile of sorted values; 0 if there are none.
fn of_sorted(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let rank = q / 100.0 * last as f64;
    let below = (rank.floor() as usize).min(last);
    let (a, b) = (sorted[below], sorted[(below + 1).min(last)]);
    let t = rank - below as f64;
    // a + t·(b − a) would overflow for values of opposite sign near the largest float.
    a * (1.0 - t) + b * t
}

/// The ordinal number, for example "99th", "99.5th" or "100th".
fn ordinal(q: f64) -> String {
    let suffix = match (q.fract() == 0.0, q as u64 % 10, q as u64) {
        (true, 1, n) if n != 11 => "st",
        (true, 2, n) if n != 12 => "nd",
        (true, 3, n) if n != 13 => "rd",
        _ => "th",
    };
    format!("{q}{suffix}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Colormap;

    fn fit(kind: ScaleKind, q: f64, values: &[f64]) -> Scale {
        Scale::fit(kind, q, values.iter().copied()).unwrap()
    }

    #[test]
    fn the_percentile_is_exact_on_known_data() {
        let values: Vec<f64> = (0..=1000).map(f64::from).collect();
        let scale = fit(ScaleKind::Sequential, 99.5, &values);
        assert_eq!((scale.low, scale.high, scale.min, scale.max), (0.0, 995.0, 0.0, 1000.0));
        assert_eq!((scale.clipped, scale.count), (5, 1001));
        // numpy.percentile([1, 2, 3, 10], 90) = 7.9
        assert!((percentile([10.0, 1.0, 3.0, 2.0], 90.0).unwrap() - 7.9).abs() < 1e-12);
        assert_eq!(percentile([f64::NAN], 50.0), None);
    }

    #[test]
    fn diverging_limits_are_symmetric_whatever_the_values() {
        let scale = fit(ScaleKind::Diverging, 100.0, &[-1.0, 0.0, 4.0]);
        assert_eq!((scale.low, scale.high), (-4.0, 4.0));
        assert_eq!(scale.position(0.0), Some(0.5));
        assert_eq!(
            Colormap::BlueWhiteRed.eval(scale.position(0.0).unwrap()),
            Colormap::BlueWhiteRed.neutral()
        );
        assert_eq!(scale.position(-1.0), Some(0.375));
    }

    #[test]
    fn degenerate_values_have_honest_positions() {
        let zeros = fit(ScaleKind::Diverging, 99.0, &[0.0; 9]);
        assert_eq!((zeros.low, zeros.high, zeros.position(0.0)), (0.0, 0.0, Some(0.5)));
        let zeros = fit(ScaleKind::Sequential, 99.0, &[0.0; 9]);
        assert_eq!((zeros.position(0.0), zeros.strength(0.0)), (Some(0.0), 0.0));
        let negative = fit(ScaleKind::Diverging, 100.0, &[-3.0, -1.0]);
        assert_eq!((negative.position(-3.0), negative.high), (Some(0.0), 3.0));
        let negative = fit(ScaleKind::Sequential, 100.0, &[-3.0, -1.0]);
        assert_eq!((negative.low, negative.high, negative.zero()), (-3.0, 0.0, 1.0));
        let odd = fit(ScaleKind::Diverging, 100.0, &[f64::NAN, f64::INFINITY, 2.0]);
        assert_eq!((odd.high, odd.position(f64::INFINITY), odd.position(f64::NAN)), (2.0, Some(1.0), None));
        assert_eq!(fit(ScaleKind::Diverging, 99.0, &[f64::NAN]).position(1.0), Some(1.0));
    }

    #[test]
    fn sparse_maps_fall_back_to_the_extremes_and_say_so() {
        let mut values = vec![0.0; 999];
        values.push(7.0);
        let scale = fit(ScaleKind::Diverging, 99.0, &values);
        assert_eq!((scale.high, scale.percentile), (7.0, 100.0));
        assert_eq!(scale.finding(99.0).unwrap().kind, FindingKind::Sparse);
        assert!(scale.finding(100.0).is_none());
    }

    #[test]
    fn a_range_spends_all_colours_on_differences() {
        let scale = fit(ScaleKind::Range, 100.0, &[0.5, 0.75, 0.55, 0.6]);
        assert_eq!((scale.low, scale.high, scale.zero()), (0.5, 0.75, 0.0));
        assert!((scale.position(0.6).unwrap() - 0.4).abs() < 1e-12);
        assert_eq!((scale.strength(0.5), scale.strength(0.75)), (0.0, 1.0));
        let constant = fit(ScaleKind::Range, 99.0, &[0.5, 0.5]);
        assert_eq!(constant.position(0.5), Some(constant.strength(0.5)));
        assert!(constant.position(0.5).unwrap().is_finite());
    }

    #[test]
    fn a_shared_scale_is_as_wide_as_the_widest() {
        let map = |values: Vec<f64>| Heatmap::new(1, values.len(), values, true).unwrap();
        let (fine, coarse) = (map(vec![0.1; 10_000]), map(vec![-5.0, 2.0]));
        let scale = Scale::shared([&fine, &coarse], None, 99.0).unwrap();
        assert!((scale.high - 4.97).abs() < 1e-12 && scale.low == -scale.high, "{scale:?}");
        assert_eq!((scale.min, scale.max, scale.clipped, scale.count), (-5.0, 2.0, 1, 10_002));
        assert!(Scale::shared([], None, 99.0).is_err());
    }

    #[test]
    fn the_percentile_must_make_sense() {
        for q in [50.0, 0.0, -1.0, 100.1, f64::NAN] {
            assert!(Scale::fit(ScaleKind::Sequential, q, [1.0]).is_err(), "{q}");
        }
    }

    proptest! {
        #![proptest_config(ascribe_proptest::config(128))]

        #[test]
        fn positions_are_monotone_bounded_and_zero_is_neutral(
            mut values in prop::collection::vec(
                prop_oneof![-1e3..1e3f64, Just(0.0), Just(1e308), Just(-1e308), -1e-300..1e-300f64], 1..40),
            q in 50.5f64..=100.0, diverging: bool,
        ) {
            let kind = if diverging { ScaleKind::Diverging } else { ScaleKind::Sequential };
            let scale = fit(kind, q, &values);
            values.sort_by(f64::total_cmp);
            let positions: Vec<f64> = values.iter().map(|&v| scale.position(v).unwrap()).collect();
            prop_assert!(positions.windows(2).all(|p| p[0] <= p[1]), "{:?}", positions);
            prop_assert!(positions.iter().all(|p| (0.0..=1.0).contains(p)));
            prop_assert!((scale.position(0.0).unwrap() - scale.zero()).abs() < 1e-15);
            if diverging { prop_assert_eq!(scale.position(0.0), Some(0.5)); }
        }
    }
}
