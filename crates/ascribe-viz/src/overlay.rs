//! A picture of one attribution over its photograph, with title, colour bar, notes and findings.

use image::{DynamicImage, RgbImage};

use crate::canvas::{INK, MUTED, WARNING};
use crate::colorbar;
use crate::finding::{Finding, FindingKind};
use crate::heatmap::Heatmap;
use crate::metadata::{About, Metadata, PanelInfo};
use crate::number;
use crate::paint::{Region, cropped, paint, resized};
use crate::scale::Scale;
use crate::scene::{Align, Rect, Scene, fit_side};
use crate::setters::setters;
use crate::style::Style;
use crate::text::TextStyle;
use crate::write::Picture;
use crate::{Error, Result};

const MARGIN: u32 = 24;
const GUTTER: u32 = 16;
const DEFAULT_SIDE: (u32, u32) = (640, 1024);
pub(crate) const TITLE: TextStyle = TextStyle::new(20.0, INK).bold();
pub(crate) const SUBTITLE: TextStyle = TextStyle::new(15.0, MUTED);
pub(crate) const NOTE: TextStyle = TextStyle::new(12.5, MUTED);
pub(crate) const ALERT: TextStyle = TextStyle::new(12.5, WARNING);

/// Builds the picture of one attribution: the photograph, next to it the map over a grey copy of the photograph, a
/// colour bar, and lines with method, target, reduction, clipping and findings.
///
/// ```
/// use ascribe_viz::{About, Heatmap, Overlay};
/// use image::RgbImage;
///
/// let photo = RgbImage::from_pixel(64, 48, image::Rgb([90, 120, 60]));
/// let map = Heatmap::new(2, 2, vec![0.5, -0.25, 0.0, 1.0], true)?;
/// let picture = Overlay::new(photo, map)
///     .about(About::new().method("Occlusion").target("Egyptian cat (285)").probability(0.62))
///     .render()?;
/// assert_eq!(picture.metadata.panels[0].scale.min, -0.25);
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("cat.png");
/// picture.save(&path)?;
/// # Ok::<(), ascribe_viz::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Overlay {
    photo: RgbImage,
    map: Heatmap,
    region: Option<Region>,
    style: Style,
    scale: Option<Scale>,
    about: About,
    title: Option<String>,
    subtitle: Option<String>,
    note: Option<String>,
    findings: Vec<Finding>,
    side: u32,
    input: bool,
    bare: bool,
    crop: bool,
}

impl Overlay {
    setters!(title, subtitle, about, style, region);

    /// Draws a map over the photograph that it explains. The map may have a lower resolution; it is resized to the
    /// whole photograph, or to [`Overlay::region`].
    pub fn new(photo: impl Into<DynamicImage>, map: Heatmap) -> Self {
        let photo = photo.into().into_rgb8();
        let side = photo.width().max(photo.height()).clamp(DEFAULT_SIDE.0, DEFAULT_SIDE.1);
        Self {
            photo,
            map,
            region: None,
            style: Style::default(),
            scale: None,
            about: About::default(),
            title: None,
            subtitle: None,
            note: None,
            findings: Vec::new(),
            side,
            input: true,
            bare: false,
            crop: false,
        }
    }

    /// Sets whether only the region is shown. By default, the whole photograph is shown and the rest is dimmed.
    pub fn cropped(mut self, yes: bool) -> Self {
        self.crop = yes;
        self
    }

    /// Sets the scale, instead of computing it from the map, so that pictures can be compared.
    pub fn scale(mut self, scale: Scale) -> Self {
        self.scale = Some(scale);
        self
    }

    /// Adds a line below the picture, for example on cost and completeness.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// Adds a finding of the caller (for example why no gradient reaches a layer) to the findings about the values.
    pub fn finding(mut self, message: impl Into<String>) -> Self {
        self.findings.push(Finding::new(FindingKind::Other, message));
        self
    }

    /// Sets the longer side of the drawn photograph in pixels, 64 to 8192. By default it is that of the photograph,
    /// limited to 640 to 1024.
    pub fn side(mut self, pixels: u32) -> Self {
        self.side = pixels;
        self
    }

    /// Sets whether the photograph is also shown next to the map (default: true).
    pub fn beside_input(mut self, yes: bool) -> Self {
        self.input = yes;
        self
    }

    /// Sets whether only the map over the photograph is drawn, without text, colour bar and margins.
    pub fn bare(mut self, yes: bool) -> Self {
        self.bare = yes;
        self
    }

    /// Draws the picture.
    ///
    /// # Errors
    /// If a setting is out of range or the region is not within the photograph.
    pub fn render(&self) -> Result<Picture> {
        let (scene, metadata) = self.compose()?;
        Ok(Picture { image: scene.draw(if self.bare { 0 } else { MARGIN })?, metadata })
    }

    /// Computes the layout and the metadata.
    fn compose(&self) -> Result<(Scene, Metadata)> {
        self.style.check()?;
        if !(64..=8192).contains(&self.side) {
            let value = f64::from(self.side);
            return Err(Error::Setting {
                what: "the picture's longer side",
                value,
                expected: "from 64 to 8192",
            });
        }
        let (photo, region) = match self.region {
            Some(region) if self.crop => (&cropped(&self.photo, region)?, None),
            region => (&self.photo, region),
        };
        let size = fit_side(photo, self.side, "the overlay")?;
        let scale = match self.scale {
            Some(scale) => scale,
            None => self.style.fit([&self.map])?,
        };
        let painted = paint(photo, region, size, &self.map, &scale, &self.style)?;
        let mut panel = PanelInfo::new(&self.map, scale, &self.style);
        if self.scale.is_some() {
            panel.findings.retain(|f| f.kind != FindingKind::Sparse);
        }
        panel.findings.extend(self.findings.iter().cloned());

        let mut scene = Scene::default();
        if self.bare {
            scene.image(0, 0, painted);
        } else {
            self.arrange(&mut scene, resized(photo, size.0, size.1), painted, &scale, &panel);
        }
        let mut metadata = Metadata::new(&self.shown_title(), self.about.clone());
        metadata.panels.push(panel);
        Ok((scene, metadata))
    }

    fn shown_title(&self) -> String {
        self.title.clone().or_else(|| self.about.method.clone()).unwrap_or_else(|| "Attribution".into())
    }

    fn shown_subtitle(&self) -> String {
        self.subtitle.clone().unwrap_or_else(|| {
            let probability = self.about.probability.map(number::percent);
            let parts = [self.about.target.clone(), probability, self.about.model.clone()];
            parts.into_iter().flatten().collect::<Vec<_>>().join("  ·  ")
        })
    }

    /// Adds everything except a bare overlay to the scene: texts, photograph, map and colour bar.
    fn arrange(
        &self,
        scene: &mut Scene,
        photo: RgbImage,
        painted: RgbImage,
        scale: &Scale,
        panel: &PanelInfo,
    ) {
        let (w, h) = painted.dimensions();
        let panels = if self.input { 2 * w + GUTTER } else { w };
        let width = panels.max(320);
        let mut y = MARGIN;
        let area = |y| Rect::new(MARGIN, y, width, 0);
        y += scene.paragraph(area(y), &self.shown_title(), TITLE, Align::Left, 2);
        y += scene.paragraph(area(y + 2), &self.shown_subtitle(), SUBTITLE, Align::Left, 2) + 2;
        y += 14;
        let mut x = MARGIN;
        if self.input {
            scene.image(x, y, photo);
            x += w + GUTTER;
        }
        scene.image(x, y, painted);
        x += w + GUTTER;
        let nan = self.map.values().iter().any(|v| v.is_nan());
        let bar = h.max(120);
        colorbar::vertical(scene, x, y, bar, scale, &self.style, nan);
        y += bar + 12;
        for line in self.notes(scale) {
            y += scene.paragraph(area(y), &line, NOTE, Align::Left, 3);
        }
        for finding in &panel.findings {
            y += scene.paragraph(area(y + 4), &format!("Note: {finding}"), ALERT, Align::Left, 4) + 4;
        }
    }

    /// The lines below the picture.
    fn notes(&self, scale: &Scale) -> Vec<String> {
        let (min, max) = self.map.range().map_or((f64::NAN, f64::NAN), |r| r);
        let (min, max) = (number::short(min), number::short(max));
        let mut first = format!("values {min} … {max}  ·  {}", scale.words());
        if self.map.has_channels() {
            first = format!("{}  ·  {first}", self.map.reduction().words());
        }
        if let Some(smoothing) = self.style.smoothing_words() {
            first = format!("{first}  ·  {smoothing}");
        }
        std::iter::once(first).chain(self.note.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn photo(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 3) as u8, (y * 5) as u8, 77]))
    }

    #[test]
    fn a_bare_overlay_has_exactly_the_asked_size() {
        let map = Heatmap::new(7, 7, (0..49).map(f64::from).collect(), false).unwrap();
        let picture = Overlay::new(photo(100, 50), map).bare(true).side(300).render().unwrap();
        assert_eq!(picture.image.dimensions(), (300, 150));
    }

    #[test]
    fn the_metadata_states_clip_range_map_and_reduction() {
        let values: Vec<f64> = (0..1000).map(|i| f64::from(i) - 300.0).collect();
        let map = Heatmap::new(20, 50, values, true).unwrap();
        let about = About::new().method("Saliency").target("tabby (281)").probability(0.3);
        let picture = Overlay::new(photo(60, 40), map).about(about).render().unwrap();
        let json: serde_json::Value = serde_json::from_str(&picture.metadata.to_json()).unwrap();
        assert_eq!(json["title"], "Saliency");
        assert_eq!(json["about"]["target"], "tabby (281)");
        let panel = &json["panels"][0];
        assert_eq!((&panel["colormap"], &panel["reduction"]), (&"blue-white-red".into(), &"sum".into()));
        assert_eq!(panel["scale"]["percentile"], 99.5);
        assert_eq!((&panel["scale"]["min"], &panel["scale"]["max"]), (&(-300.0).into(), &699.0.into()));
        assert_eq!(panel["grid"], serde_json::json!([20, 50]));
    }

    #[test]
    fn findings_are_reported_and_drawn() {
        let zero = Heatmap::new(2, 2, vec![0.0; 4], true).unwrap();
        let quiet = Overlay::new(photo(60, 40), Heatmap::new(2, 2, vec![1.0, 0.0, -1.0, 0.5], true).unwrap());
        let loud = Overlay::new(photo(60, 40), zero).finding("the layer is dead");
        let picture = loud.render().unwrap();
        let kinds: Vec<_> = picture.findings().map(|f| f.kind).collect();
        assert_eq!(kinds, [FindingKind::AllZero, FindingKind::Other]);
        assert!(picture.image.height() > quiet.render().unwrap().image.height());
        assert!(picture.image.pixels().any(|p| p.0 == WARNING));
    }

    #[test]
    fn bad_settings_are_errors() {
        let map = Heatmap::new(1, 1, vec![1.0], true).unwrap();
        assert!(Overlay::new(photo(10, 10), map.clone()).side(0).render().is_err());
        assert!(Overlay::new(RgbImage::new(0, 0), map).render().is_err());
    }

    proptest! {
        #![proptest_config(ascribe_proptest::config(24))]

        #[test]
        fn nothing_overlaps_whatever_the_words(
            title in "\\PC{0,80}", target in "\\PC{0,200}", note in "\\PC{0,300}",
            w in 20u32..120, h in 20u32..120, side in 64u32..400, input: bool, nan: bool,
        ) {
            let values = vec![if nan { f64::NAN } else { 0.25 }, -1.0, 3.0, 0.0];
            let map = Heatmap::new(2, 2, values, true).unwrap();
            let overlay = Overlay::new(photo(w, h), map)
                .about(About::new().method(title).target(target))
                .note(note).beside_input(input).side(side);
            let (scene, _) = overlay.compose().unwrap();
            prop_assert!(scene.overlap().is_none(), "{:?}", scene.overlap().map(|(a, b)| (a.bounds, b.bounds)));
            prop_assert!(scene.items.iter().all(|i| i.bounds.x >= MARGIN && i.bounds.y >= MARGIN));
        }
    }
}
