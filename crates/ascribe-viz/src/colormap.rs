//! Colour maps, from a position in 0..=1 to a colour.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::oklab::Oklab;
use crate::scale::ScaleKind;
use crate::{Error, Result};

/// A perceptually uniform colour map: equal steps of the value look equally different. Lightness is monotone
/// (sequential) or symmetric about the centre (diverging), so that the order of values can also be seen in greyscale
/// and by colour-blind readers.
///
/// The sequential maps are those of matplotlib (Smith & van der Walt 2015; cividis: Nuñez et al. 2018). The diverging
/// ones are two straight lines in Oklab from a neutral grey to two colours of the same lightness and chroma, whose hues
/// people with protanopia, deuteranopia and tritanopia can distinguish:
///
/// ```text
/// colour(t) = neutral + |2t − 1| · (end± − neutral),   end− at t < ½, end+ at t > ½, in Oklab
/// ```
///
/// So the perceived distance from neutral is proportional to the magnitude, and the same on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Colormap {
    /// Dark violet to yellow.
    Viridis,
    /// Black via red to pale yellow.
    Inferno,
    /// Black via magenta to pale pink.
    Magma,
    /// Blue via magenta to yellow.
    Plasma,
    /// Dark blue to yellow; looks nearly the same with the common kinds of colour blindness.
    Cividis,
    /// Black to white.
    Gray,
    /// Diverging with a white centre: negative values are blue, positive ones red. For light backdrops.
    BlueWhiteRed,
    /// Diverging with a black centre: negative values are blue, positive ones orange. For dark backdrops.
    BlueBlackOrange,
}

/// Lightness of the centre and of the ends.
const WHITE_CENTRE: (f64, f64) = (0.97, 0.45);
/// Chroma of the ends, and hue of the negative and of the positive end. The chroma is the largest for which the whole
/// line is within the sRGB gamut.
const RED_BLUE: (f64, f64, f64) = (0.18, 262.0, 29.0);
/// As [`WHITE_CENTRE`].
const BLACK_CENTRE: (f64, f64) = (0.15, 0.70);
/// As [`RED_BLUE`].
const ORANGE_BLUE: (f64, f64, f64) = (0.155, 250.0, 50.0);

impl Colormap {
    /// Every colour map.
    pub const ALL: [Self; 8] = [
        Self::Viridis,
        Self::Inferno,
        Self::Magma,
        Self::Plasma,
        Self::Cividis,
        Self::Gray,
        Self::BlueWhiteRed,
        Self::BlueBlackOrange,
    ];

    /// The name in configurations and metadata, for example `blue-white-red`.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Viridis => "viridis",
            Self::Inferno => "inferno",
            Self::Magma => "magma",
            Self::Plasma => "plasma",
            Self::Cividis => "cividis",
            Self::Gray => "gray",
            Self::BlueWhiteRed => "blue-white-red",
            Self::BlueBlackOrange => "blue-black-orange",
        }
    }

    /// The kind of scale for which the map is made.
    pub const fn kind(self) -> ScaleKind {
        match self {
            Self::BlueWhiteRed | Self::BlueBlackOrange => ScaleKind::Diverging,
            _ => ScaleKind::Sequential,
        }
    }

    /// Whether the colour of zero is light. Such a map is for a light backdrop.
    pub const fn is_light_at_zero(self) -> bool {
        matches!(self, Self::BlueWhiteRed)
    }

    /// The sRGB colour at `t`. Positions outside 0..=1 get the colour of the nearer end, NaN that of the low end.
    pub fn eval(self, t: f64) -> [u8; 3] {
        let t = if t.is_nan() { 0.0 } else { t.clamp(0.0, 1.0) };
        let table = |g: colorous::Gradient| {
            let c = g.eval_continuous(t);
            [c.r, c.g, c.b]
        };
        match self {
            Self::Viridis => table(colorous::VIRIDIS),
            Self::Inferno => table(colorous::INFERNO),
            Self::Magma => table(colorous::MAGMA),
            Self::Plasma => table(colorous::PLASMA),
            Self::Cividis => table(colorous::CIVIDIS),
            Self::Gray => Oklab { l: t, a: 0.0, b: 0.0 }.to_srgb8(),
            Self::BlueWhiteRed => diverging(t, WHITE_CENTRE, RED_BLUE).to_srgb8(),
            Self::BlueBlackOrange => diverging(t, BLACK_CENTRE, ORANGE_BLUE).to_srgb8(),
        }
    }

    /// The colour of zero: the centre of a diverging map, the low end of a sequential one.
    pub fn neutral(self) -> [u8; 3] {
        match self.kind() {
            ScaleKind::Diverging => self.eval(0.5),
            ScaleKind::Sequential | ScaleKind::Range => self.eval(0.0),
        }
    }
}

/// The colour at `t` of a diverging map.
fn diverging(t: f64, (centre, end): (f64, f64), (chroma, low, high): (f64, f64, f64)) -> Oklab {
    let neutral = Oklab { l: centre, a: 0.0, b: 0.0 };
    let hue = if t < 0.5 { low } else { high };
    neutral.lerp(Oklab::from_lch(end, chroma, hue), (2.0 * t - 1.0).abs())
}

impl fmt::Display for Colormap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

impl FromStr for Colormap {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|m| m.id() == name).ok_or_else(|| Error::UnknownName {
            what: "colour map",
            name: name.to_owned(),
            valid: Self::ALL.map(Self::id).join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lightness(map: Colormap, t: f64) -> f64 {
        Oklab::from_srgb8(map.eval(t)).l
    }

    #[test]
    fn sequential_lightness_rises_all_the_way() {
        for map in Colormap::ALL.into_iter().filter(|m| m.kind() == ScaleKind::Sequential) {
            let l: Vec<f64> = (0..=64).map(|i| lightness(map, f64::from(i) / 64.0)).collect();
            for (i, pair) in l.windows(2).enumerate() {
                assert!(pair[1] > pair[0] - 2e-3, "{map} falls at {i}: {pair:?}");
            }
            assert!(l[64] - l[0] > 0.4, "{map} spans {}", l[64] - l[0]);
        }
    }

    #[test]
    fn diverging_lightness_is_monotone_on_each_side_and_symmetric() {
        for map in [Colormap::BlueWhiteRed, Colormap::BlueBlackOrange] {
            let sign = if map.is_light_at_zero() { -1.0 } else { 1.0 };
            for i in 0..50 {
                let (d, e) = (f64::from(i) / 100.0, f64::from(i + 1) / 100.0);
                for side in [-1.0, 1.0] {
                    let step = lightness(map, 0.5 + side * e) - lightness(map, 0.5 + side * d);
                    assert!(sign * step > 0.0, "{map} at {side}·{e}: {step}");
                }
                let skew = lightness(map, 0.5 + d) - lightness(map, 0.5 - d);
                assert!(skew.abs() < 4e-3, "{map} differs between its sides by {skew} at {d}");
            }
        }
    }

    #[test]
    fn diverging_centre_is_a_neutral_grey() {
        for map in [Colormap::BlueWhiteRed, Colormap::BlueBlackOrange] {
            let [r, g, b] = map.neutral();
            assert_eq!((r, g), (g, b), "{map}");
            assert_eq!(map.eval(0.5), map.neutral());
        }
    }

    #[test]
    fn diverging_steps_are_equal_and_inside_the_gamut() {
        for (centre, ends) in [(WHITE_CENTRE, RED_BLUE), (BLACK_CENTRE, ORANGE_BLUE)] {
            let at = |i: u32| diverging(f64::from(i) / 64.0, centre, ends);
            let first = at(0).distance(at(1));
            for i in 0..64 {
                let step = at(i).distance(at(i + 1));
                assert!((step - first).abs() < 1e-9, "step {i}: {step} against {first}");
            }
            for i in 0..=64 {
                for c in at(i).to_linear() {
                    assert!((-1e-3..=1.001).contains(&c), "position {i} is outside the sRGB gamut: {c}");
                }
            }
        }
    }

    #[test]
    fn a_name_leads_back_to_its_map_and_a_wrong_one_lists_all() {
        for map in Colormap::ALL {
            assert_eq!(map.id().parse::<Colormap>().unwrap(), map);
            assert_eq!(serde_json::to_value(map).unwrap(), map.id());
        }
        let message = "jet".parse::<Colormap>().unwrap_err().to_string();
        assert!(message.contains("`jet`") && message.contains("viridis, inferno"), "{message}");
    }
}
