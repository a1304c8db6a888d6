//! The Oklab colour space (Björn Ottosson, "A perceptual color space for image processing", 2020).
//!
//! Euclidean distance in Oklab approximates how different two colours look. So equidistant points on a straight line
//! are a perceptually uniform colour map.

use std::sync::LazyLock;

/// A colour: lightness (0 is black, 1 is white), `a` from green to red, and `b` from blue to yellow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Oklab {
    pub l: f64,
    pub a: f64,
    pub b: f64,
}

impl Oklab {
    /// From lightness, chroma and hue in degrees.
    pub fn from_lch(l: f64, chroma: f64, hue: f64) -> Self {
        let (sin, cos) = hue.to_radians().sin_cos();
        Self { l, a: chroma * cos, b: chroma * sin }
    }

    /// Linear interpolation to `other`.
    pub fn lerp(self, other: Self, t: f64) -> Self {
        Self {
            l: self.l + t * (other.l - self.l),
            a: self.a + t * (other.a - self.a),
            b: self.b + t * (other.b - self.b),
        }
    }

    /// Converts to linear-light sRGB. Components outside 0..=1 mean that the colour is outside the sRGB gamut.
    pub fn to_linear(self) -> [f64; 3] {
        let l = (self.l + 0.396_337_777_4 * self.a + 0.215_803_757_3 * self.b).powi(3);
        let m = (self.l - 0.105_561_345_8 * self.a - 0.063_854_172_8 * self.b).powi(3);
        let s = (self.l - 0.089_484_177_5 * self.a - 1.291_485_548_0 * self.b).powi(3);
        [
            4.076_741_662_1 * l - 3.307_711_591_3 * m + 0.230_969_929_2 * s,
            -1.268_438_004_6 * l + 2.609_757_401_1 * m - 0.341_319_396_5 * s,
            -0.004_196_086_3 * l - 0.703_418_614_7 * m + 1.707_614_701_0 * s,
        ]
    }

    /// Converts to 8-bit sRGB, clamped to its gamut.
    pub fn to_srgb8(self) -> [u8; 3] {
        // The code is the number of rounding thresholds that the value has reached.
        self.to_linear().map(|c| STEPS.partition_point(|step| *step <= c) as u8)
    }

    /// Converts from 8-bit sRGB.
    pub fn from_srgb8(rgb: [u8; 3]) -> Self {
        let [r, g, b] = rgb.map(|c| LINEAR[usize::from(c)]);
        let l = (0.412_221_470_8 * r + 0.536_332_536_3 * g + 0.051_445_992_9 * b).cbrt();
        let m = (0.211_903_498_2 * r + 0.680_699_545_1 * g + 0.107_396_956_6 * b).cbrt();
        let s = (0.088_302_461_9 * r + 0.281_718_837_6 * g + 0.629_978_700_5 * b).cbrt();
        Self {
            l: 0.210_454_255_3 * l + 0.793_617_785_0 * m - 0.004_072_046_8 * s,
            a: 1.977_998_495_1 * l - 2.428_592_205_0 * m + 0.450_593_709_9 * s,
            b: 0.025_904_037_1 * l + 0.782_771_766_2 * m - 0.808_675_766_0 * s,
        }
    }

    /// Perceived difference between two colours.
    #[cfg(test)]
    pub fn distance(self, other: Self) -> f64 {
        ((self.l - other.l).powi(2) + (self.a - other.a).powi(2) + (self.b - other.b).powi(2)).sqrt()
    }
}

/// Linear light of each 8-bit code.
static LINEAR: LazyLock<[f64; 256]> =
    LazyLock::new(|| std::array::from_fn(|code| decode(code as f64 / 255.0)));
/// Rounding thresholds: the linear light halfway between each 8-bit code and the next.
static STEPS: LazyLock<[f64; 255]> =
    LazyLock::new(|| std::array::from_fn(|code| decode((code as f64 + 0.5) / 255.0)));

/// Converts an sRGB value to linear light (the sRGB transfer function).
fn decode(c: f64) -> f64 {
    if c <= 0.040_45 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Converts linear light to an sRGB value.
    fn encode(c: f64) -> f64 {
        if c <= 0.003_130_8 { 12.92 * c } else { 1.055 * c.powf(1.0 / 2.4) - 0.055 }
    }

    #[test]
    fn grey_values_are_rounded_to_the_nearest_code() {
        for at in -10..2010 {
            let grey = Oklab { l: f64::from(at) / 2000.0, a: 0.0, b: 0.0 };
            let codes = grey.to_linear().map(|c| (encode(c.clamp(0.0, 1.0)) * 255.0).round() as u8);
            assert_eq!(grey.to_srgb8(), codes, "{grey:?}");
        }
    }

    #[test]
    fn white_black_and_every_primary_survive_the_round_trip() {
        for rgb in [[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [12, 200, 99]] {
            assert_eq!(Oklab::from_srgb8(rgb).to_srgb8(), rgb);
        }
        assert!((Oklab::from_srgb8([255, 255, 255]).l - 1.0).abs() < 1e-6);
    }

    #[test]
    fn red_has_the_published_coordinates() {
        // The values for sRGB red that the author of Oklab published.
        let red = Oklab::from_srgb8([255, 0, 0]);
        assert!((red.l - 0.627_955).abs() < 1e-4, "{red:?}");
        assert!((red.a - 0.224_863).abs() < 1e-4, "{red:?}");
        assert!((red.b - 0.125_846).abs() < 1e-4, "{red:?}");
    }
}
