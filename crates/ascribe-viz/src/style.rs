//! How maps are coloured: scale, colour maps, and blending with the photograph.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::heatmap::{Heatmap, Upsampling};
use crate::oklab::Oklab;
use crate::paint::HATCH;
use crate::scale::{DEFAULT_PERCENTILE, Scale, ScaleKind};
use crate::{Colormap, Error, Result};

/// The image with which the colours are blended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backdrop {
    /// The photograph in greyscale: light under colour maps that are light at zero, dark under the others. So no colour
    /// of the photograph can be mistaken for one of the map.
    #[default]
    Gray,
    /// The photograph in colour.
    Photo,
    /// None: only the colours of the map.
    Plain,
}

/// How a map is coloured: scale, colour maps, blending. The defaults suit most maps.
///
/// The colour of a pixel is `under + α · (colour − under)`. Without `fade`, `under` is the backdrop and α is the
/// `opacity`. With `fade`, α is `opacity` times the distance of the value from zero as a fraction of the scale, and
/// `under` is the backdrop tinted with the colour (blend mode multiply if zero is light, screen if it is dark). So zero
/// does not change the backdrop, the ends of the scale have the colours of the map, and in between the structure of the
/// photograph is visible. Colour bars are blended in the same way with the middle grey of the backdrop, so that colours
/// in the picture are those of the bar.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Style {
    /// The percentile at which colours are clipped: above 50 and at most 100.
    pub percentile: f64,
    /// Overrides the kind of scale. By default it is diverging for signed maps and sequential for magnitudes.
    pub scale: Option<ScaleKind>,
    /// The colour map for magnitudes.
    pub sequential: Colormap,
    /// The colour map for signed values.
    pub diverging: Colormap,
    /// How maps are resized to the size of the picture.
    pub upsampling: Upsampling,
    /// Standard deviation, in cells of the map, of the Gaussian with which the map is smoothed for display; 0 (the
    /// default) means no smoothing. Smoothing preserves sums over regions but not single pixels.
    pub smoothing: f64,
    /// The image with which the colours are blended.
    pub backdrop: Backdrop,
    /// The largest opacity of the map, 0..=1.
    pub opacity: f64,
    /// Whether values near zero are transparent, so that the backdrop is visible.
    pub fade: bool,
}

impl Default for Style {
    fn default() -> Self {
        Self {
            percentile: DEFAULT_PERCENTILE,
            scale: None,
            sequential: Colormap::Inferno,
            diverging: Colormap::BlueWhiteRed,
            upsampling: Upsampling::Bilinear,
            smoothing: 0.0,
            backdrop: Backdrop::Gray,
            opacity: 0.95,
            fade: true,
        }
    }
}

impl Style {
    /// The colour map for a kind of scale.
    pub fn colormap(&self, kind: ScaleKind) -> Colormap {
        match kind {
            ScaleKind::Diverging => self.diverging,
            ScaleKind::Sequential | ScaleKind::Range => self.sequential,
        }
    }

    /// The map for display, smoothed if `smoothing` is set.
    pub(crate) fn shown<'a>(&self, map: &'a Heatmap) -> Result<Cow<'a, Heatmap>> {
        if self.smoothing == 0.0 {
            Ok(Cow::Borrowed(map))
        } else {
            map.smooth(self.smoothing).map(Cow::Owned)
        }
    }

    /// A description of the smoothing for captions; `None` without smoothing.
    pub(crate) fn smoothing_words(&self) -> Option<String> {
        (self.smoothing != 0.0)
            .then(|| format!("smoothed for display (Gaussian, σ = {} cells)", self.smoothing))
    }

    /// The scale for one map, or the common scale for several maps, after smoothing.
    ///
    /// # Errors
    /// If the style's percentile is out of range.
    pub fn fit<'a>(&self, maps: impl IntoIterator<Item = &'a Heatmap>) -> Result<Scale> {
        let maps = maps.into_iter().map(|m| self.shown(m)).collect::<Result<Vec<_>>>()?;
        Scale::shared(maps.iter().map(AsRef::as_ref), self.scale, self.percentile)
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// If a colour map is of the wrong kind, or the opacity is out of range.
    pub(crate) fn check(&self) -> Result<()> {
        if !(0.0..=1.0).contains(&self.opacity) {
            return Err(Error::Setting { what: "the opacity", value: self.opacity, expected: "from 0 to 1" });
        }
        for (map, kind, what) in [
            (self.sequential, ScaleKind::Sequential, "the sequential colour map"),
            (self.diverging, ScaleKind::Diverging, "the diverging colour map"),
        ] {
            if map.kind() != kind {
                let fitting: Vec<_> =
                    Colormap::ALL.into_iter().filter(|m| m.kind() == kind).map(Colormap::id).collect();
                return Err(Error::Layout {
                    what: what.into(),
                    problem: format!("`{map}` is not of this kind; use one of {}", fitting.join(", ")),
                });
            }
        }
        Ok(())
    }

    /// The colour of a value over a backdrop.
    pub(crate) fn color(&self, scale: &Scale, value: f64, below: [u8; 3]) -> [u8; 3] {
        let Some(position) = scale.position(value) else { return HATCH };
        let map = self.colormap(scale.kind);
        let (above, neutral) = (map.eval(position), map.neutral());
        let alpha = match (self.backdrop, self.fade) {
            (Backdrop::Plain, _) => 1.0,
            (_, true) => self.opacity * scale.strength(value),
            (_, false) => self.opacity,
        };
        std::array::from_fn(|i| {
            let [below, above, neutral] = [below[i], above[i], neutral[i]].map(|c| f64::from(c) / 255.0);
            let under = match (self.fade, map.is_light_at_zero()) {
                (false, _) => below,
                (true, true) => below * (above / neutral).min(1.0),
                (true, false) => 1.0 - (1.0 - below) * ((1.0 - above) / (1.0 - neutral)).min(1.0),
            };
            ((under + alpha * (above - under)) * 255.0).round() as u8
        })
    }

    /// The colour of the backdrop for a pixel of the photograph.
    pub(crate) fn backdrop(&self, kind: ScaleKind, pixel: [u8; 3]) -> [u8; 3] {
        let map = self.colormap(kind);
        match self.backdrop {
            Backdrop::Photo => pixel,
            Backdrop::Plain => map.neutral(),
            Backdrop::Gray => {
                let l = Oklab::from_srgb8(pixel).l;
                let (from, to) = if map.is_light_at_zero() { (0.54, 1.0) } else { (0.08, 0.62) };
                Oklab { l: from + l * (to - from), a: 0.0, b: 0.0 }.to_srgb8()
            }
        }
    }

    /// The backdrop of colour bars: that for a middle grey.
    pub(crate) fn bar_backdrop(&self, kind: ScaleKind) -> [u8; 3] {
        self.backdrop(kind, [119; 3])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_checked_and_round_trip() {
        assert!(Style { opacity: 1.5, ..Style::default() }.check().is_err());
        let message =
            Style { diverging: Colormap::Viridis, ..Style::default() }.check().unwrap_err().to_string();
        assert!(message.contains("viridis") && message.contains("blue-white-red"), "{message}");
        let json = serde_json::to_string(&Style::default()).unwrap();
        assert_eq!(serde_json::from_str::<Style>(&json).unwrap(), Style::default());
    }
}
