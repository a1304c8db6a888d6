//! Ground truth of a sample beside its label: where its objects are, and what an attribution of it should be.
//!
//! A [`Truth`] has up to four parts, and a metric declares which of them it can use ([`TruthKind`]): the boxes of the
//! objects, their masks, a known attribution, and human-annotated weights of each position.

use std::fmt;

use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::inputs::check_finite;
use crate::target::to_f64;

/// A bounding box of an object in an image, in pixels of the attribution map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Object {
    /// Its class.
    pub class: usize,
    /// Left, top, right, bottom; the last two exclusive. May extend beyond the map.
    #[serde(rename = "box")]
    pub bounds: [f64; 4],
    /// Whether the annotators marked it as difficult.
    #[serde(default)]
    pub difficult: bool,
}

/// The objects in one image, given by boxes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scene {
    /// The objects.
    pub objects: Vec<Object>,
    /// Width and height of one map pixel in pixels of the original image.
    pub pixel: [f64; 2],
}

impl Scene {
    /// A scene whose map has the resolution of the image.
    pub fn new(objects: Vec<Object>) -> Self {
        Self { objects, pixel: [1.0, 1.0] }
    }

    /// Distance in original pixels from the map pixel at (row, column) to the nearest pixel of any object of this
    /// class; `None` if there is no such object.
    pub fn distance(&self, class: usize, row: usize, column: usize) -> Option<f64> {
        let axis = |at: f64, low: f64, high: f64, scale: f64| {
            // Distances are between pixel centres; the last pixel of a box is at `high - 1`.
            (low - at).max(at - (high - 1.0)).max(0.0) * scale
        };
        let of = |o: &Object| {
            let [left, top, right, bottom] = o.bounds;
            let dx = axis(column as f64, left, right, self.pixel[0]);
            dx.hypot(axis(row as f64, top, bottom, self.pixel[1]))
        };
        self.objects.iter().filter(|o| o.class == class).map(of).min_by(f64::total_cmp)
    }
}

/// Which pixels of an attribution map `[H, W]` belong to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    size: [usize; 2],
    inside: Vec<bool>,
}

impl Mask {
    /// A mask of this height and width; `inside` says for each pixel, in row-major order, whether it belongs to the
    /// object.
    ///
    /// # Errors
    /// If a side is 0, or there is not one value per pixel.
    pub fn new([height, width]: [usize; 2], inside: Vec<bool>) -> Result<Self> {
        if height.checked_mul(width) != Some(inside.len()) || inside.is_empty() {
            let problem = format!("has {} values", inside.len());
            return Err(Error::invalid("mask", problem, format!("at least one, {height} rows of {width}")));
        }
        Ok(Self { size: [height, width], inside })
    }

    /// Height and width.
    pub fn size(&self) -> [usize; 2] {
        self.size
    }

    /// Whether each pixel belongs to the object, in row-major order.
    pub fn inside(&self) -> &[bool] {
        &self.inside
    }

    /// Number of pixels that belong to the object.
    pub fn area(&self) -> usize {
        self.inside.iter().filter(|inside| **inside).count()
    }

    /// Distance from the pixel at (row, column) to the nearest pixel of the object, measured between pixel centres;
    /// `pixel` is the width and height of a pixel. `None` if the mask is empty.
    pub fn distance(&self, row: usize, column: usize, pixel: [f64; 2]) -> Option<f64> {
        let places = self.inside.iter().enumerate().filter(|(_, inside)| **inside);
        let distance = |(place, _): (usize, &bool)| {
            let (y, x) = (place / self.size[1], place % self.size[1]);
            (x.abs_diff(column) as f64 * pixel[0]).hypot(y.abs_diff(row) as f64 * pixel[1])
        };
        places.map(distance).min_by(f64::total_cmp)
    }
}

/// An object in an image, given by its mask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its class; `None` if the mask applies to any class that is explained.
    pub class: Option<usize>,
    /// Its pixels.
    pub mask: Mask,
    /// Whether the annotators marked it as difficult.
    pub difficult: bool,
}

/// The objects in one image, given by masks.
#[derive(Clone, Debug, PartialEq)]
pub struct Masks {
    /// The objects. An object that was cropped away completely has an empty mask.
    pub regions: Vec<Region>,
    /// Width and height of one map pixel in pixels of the original image.
    pub pixel: [f64; 2],
}

impl Masks {
    /// Masks that have the resolution of the image.
    pub fn new(regions: Vec<Region>) -> Self {
        Self { regions, pixel: [1.0, 1.0] }
    }

    /// The mask of an object of one class, at the resolution of the image.
    pub fn of(class: usize, mask: Mask) -> Self {
        Self::new(vec![Region { class: Some(class), mask, difficult: false }])
    }
}

/// A part of a [`Truth`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TruthKind {
    /// The boxes of the objects.
    Boxes,
    /// The masks of the objects.
    Masks,
    /// A known attribution.
    Attribution,
    /// Human-annotated weights of each position.
    Weights,
}

impl fmt::Display for TruthKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boxes => "boxes",
            Self::Masks => "masks",
            Self::Attribution => "a known attribution map",
            Self::Weights => "a human-weighted map",
        })
    }
}

impl TruthKind {
    /// The names of some kinds, joined by "or" or "and".
    pub fn join(kinds: &[Self], word: &str) -> String {
        kinds.iter().map(ToString::to_string).collect::<Vec<_>>().join(&format!(" {word} "))
    }
}

/// The ground truth of one sample.
///
/// ```
/// use ascribe_core::truth::{Mask, Masks, Truth, TruthKind};
/// let mask = Mask::new([1, 3], vec![true, false, false])?;
/// let truth = Truth::from(Masks::of(7, mask));
/// assert_eq!(truth.kinds(), [TruthKind::Masks]);
/// assert_eq!(truth.distance(7, 0, 2), Some(2.0));
/// # Ok::<(), ascribe_core::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Truth {
    boxes: Option<Scene>,
    masks: Option<Masks>,
    attribution: Option<Tensor>,
    weights: Option<Tensor>,
}

impl From<Scene> for Truth {
    fn from(boxes: Scene) -> Self {
        Self { boxes: Some(boxes), ..Self::default() }
    }
}

impl From<Masks> for Truth {
    fn from(masks: Masks) -> Self {
        Self { masks: Some(masks), ..Self::default() }
    }
}

impl Truth {
    /// Adds the boxes of the objects.
    #[must_use]
    pub fn with_boxes(self, boxes: Scene) -> Self {
        Self { boxes: Some(boxes), ..self }
    }

    /// Adds the masks of the objects. An object should be given either by its box or by its mask, not by both.
    #[must_use]
    pub fn with_masks(self, masks: Masks) -> Self {
        Self { masks: Some(masks), ..self }
    }

    /// Adds the known attribution: real values, shaped like the attribution of the sample without the batch axis, or
    /// like its map, that is, without the channel axis too.
    ///
    /// # Errors
    /// If a value is not finite.
    pub fn with_attribution(self, values: Tensor) -> Result<Self> {
        check_finite("known attribution map", &values)?;
        Ok(Self { attribution: Some(values), ..self })
    }

    /// Adds human-annotated weights of each position: values in [0, 1], shaped like the map of the sample.
    ///
    /// # Errors
    /// If a value is not in this range.
    pub fn with_weights(self, values: Tensor) -> Result<Self> {
        let all = to_f64(&values.to_dtype(DType::F64)?.flatten_all()?)?;
        if let Some(wrong) = all.iter().find(|value| !(0.0..=1.0).contains(*value)) {
            return Err(Error::invalid("human-weighted map", format!("holds {wrong}"), "values from 0 to 1"));
        }
        Ok(Self { weights: Some(values), ..self })
    }

    /// The boxes of the objects.
    pub fn boxes(&self) -> Option<&Scene> {
        self.boxes.as_ref()
    }

    /// The masks of the objects.
    pub fn masks(&self) -> Option<&Masks> {
        self.masks.as_ref()
    }

    /// The attribution that is known to be right.
    pub fn attribution(&self) -> Option<&Tensor> {
        self.attribution.as_ref()
    }

    /// Human-annotated weights of each position.
    pub fn weights(&self) -> Option<&Tensor> {
        self.weights.as_ref()
    }

    /// The kinds of ground truth that are known.
    pub fn kinds(&self) -> Vec<TruthKind> {
        let parts = [
            (TruthKind::Boxes, self.boxes.is_some()),
            (TruthKind::Masks, self.masks.is_some()),
            (TruthKind::Attribution, self.attribution.is_some()),
            (TruthKind::Weights, self.weights.is_some()),
        ];
        parts.into_iter().filter(|(_, known)| *known).map(|(kind, _)| kind).collect()
    }

    /// Checks that the ground truth has the shape of an attribution of one sample without the batch axis, that is,
    /// `[C, H, W]` for an image. Boxes have no shape.
    ///
    /// # Errors
    /// If a shape differs; the error names the part and both shapes.
    pub fn check_shape(&self, attribution: &[usize]) -> Result<()> {
        let map = match attribution {
            [one] => std::slice::from_ref(one),
            [_, map @ ..] => map,
            [] => return Err(Error::invalid("attribution", "has no values", "a map")),
        };
        let fail = |what: &str, found: &[usize]| {
            Err(Error::invalid(
                what,
                format!("has shape {found:?}"),
                format!("{map:?}, as the attribution map"),
            ))
        };
        let regions = self.masks.iter().flat_map(|masks| &masks.regions);
        for size in regions.map(|region| region.mask.size()) {
            if map != size {
                return fail("mask", &size);
            }
        }
        match (&self.attribution, &self.weights) {
            (Some(known), _) if known.dims() != map && known.dims() != attribution => {
                fail("known attribution map", known.dims())
            }
            (_, Some(weights)) if weights.dims() != map => fail("human-weighted map", weights.dims()),
            _ => Ok(()),
        }
    }

    fn regions(&self, class: usize) -> impl Iterator<Item = &Region> {
        let all = self.masks.iter().flat_map(|masks| &masks.regions);
        all.filter(move |region| region.class.is_none_or(|own| own == class))
    }

    /// Distance in original pixels from the map pixel at (row, column) to the nearest pixel of any object of this
    /// class, given by its box or its mask; `None` if there is no such object.
    pub fn distance(&self, class: usize, row: usize, column: usize) -> Option<f64> {
        let pixel = self.masks.as_ref().map_or([1.0; 2], |masks| masks.pixel);
        let by_box = self.boxes.as_ref().and_then(|scene| scene.distance(class, row, column));
        let by_mask = self.regions(class).filter_map(|region| region.mask.distance(row, column, pixel));
        by_mask.chain(by_box).min_by(f64::total_cmp)
    }

    /// Whether all objects of a class are marked as difficult, or there are none.
    pub fn all_difficult(&self, class: usize) -> bool {
        let boxes = self.boxes.iter().flat_map(|scene| &scene.objects).filter(|object| object.class == class);
        boxes.map(|object| object.difficult).chain(self.regions(class).map(|r| r.difficult)).all(|d| d)
    }

    /// The distinct classes of the objects in order of appearance, starting with those of boxes.
    pub fn classes(&self) -> Vec<usize> {
        let boxes = self.boxes.iter().flat_map(|scene| &scene.objects).map(|object| object.class);
        let masks = self.masks.iter().flat_map(|masks| &masks.regions).filter_map(|region| region.class);
        let mut classes = Vec::new();
        for class in boxes.chain(masks) {
            if !classes.contains(&class) {
                classes.push(class);
            }
        }
        classes
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn scene() -> Scene {
        let object = |class, bounds, difficult| Object { class, bounds, difficult };
        Scene::new(vec![object(1, [10.0, 10.0, 20.0, 20.0], false), object(2, [0.0, 0.0, 5.0, 5.0], true)])
    }

    /// The same scene, given by masks of 24 × 30 pixels.
    fn masks() -> Masks {
        let region = |object: &Object| {
            let [left, top, right, bottom] = object.bounds.map(|b| b as usize);
            let inside =
                |place: usize| (top..bottom).contains(&(place / 30)) && (left..right).contains(&(place % 30));
            let mask = Mask::new([24, 30], (0..24 * 30).map(inside).collect()).unwrap();
            Region { class: Some(object.class), mask, difficult: object.difficult }
        };
        Masks::new(scene().objects.iter().map(region).collect())
    }

    #[test]
    fn distances_are_to_the_nearest_pixel_of_the_box() {
        assert_eq!(scene().distance(1, 15, 15), Some(0.0));
        assert_eq!(scene().distance(1, 19, 22), Some(3.0));
        assert_eq!(scene().distance(1, 6, 7), Some(5.0));
        assert_eq!(scene().distance(3, 0, 0), None);
        let coarse = Scene { pixel: [2.0, 3.0], ..scene() };
        assert_eq!(coarse.distance(1, 8, 15), Some(6.0));
    }

    #[test]
    fn a_box_and_its_mask_are_the_same_truth() {
        for pixel in [[1.0, 1.0], [2.0, 3.0]] {
            let by_box = Truth::from(Scene { pixel, ..scene() });
            let by_mask = Truth::from(Masks { pixel, ..masks() });
            for place in 0..24 * 30 {
                let (row, column) = (place / 30, place % 30);
                for class in 1..4 {
                    assert_eq!(by_box.distance(class, row, column), by_mask.distance(class, row, column));
                }
            }
            for truth in [by_box, by_mask] {
                assert!(truth.all_difficult(2) && !truth.all_difficult(1) && truth.all_difficult(3));
                assert_eq!(truth.classes(), [1, 2]);
            }
        }
    }

    #[test]
    fn a_mask_without_class_holds_for_every_class() {
        let mut all = masks();
        all.regions.truncate(1);
        all.regions[0].class = None;
        let truth = Truth::from(all);
        assert_eq!(truth.distance(5, 15, 15), Some(0.0));
        assert!(truth.classes().is_empty() && !truth.all_difficult(5));
        // Boxes and masks of the same image are used together.
        let both = truth.with_boxes(scene());
        assert_eq!((both.distance(2, 0, 0), both.classes()), (Some(0.0), vec![1, 2]));
    }

    #[test]
    fn an_object_that_was_cropped_away_has_no_distance() {
        let truth = Truth::from(Masks::of(1, Mask::new([2, 2], vec![false; 4]).unwrap()));
        assert_eq!(truth.distance(1, 0, 0), None);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let message = |found: Result<()>| found.unwrap_err().to_string();
        assert!(message(Mask::new([2, 3], vec![true; 5]).map(drop)).contains("2 rows of 3"));
        assert!(Mask::new([0, 3], Vec::new()).is_err() && Mask::new([usize::MAX, 3], vec![true]).is_err());
        let map = |value: f64| Tensor::full(value, (4, 6), &Device::Cpu).unwrap();
        let weights = |value| Truth::default().with_weights(map(value));
        for wrong in [-0.1, 1.5, f64::NAN] {
            assert!(message(weights(wrong).map(drop)).contains("from 0 to 1"));
        }
        assert!(Truth::default().with_attribution(map(f64::NAN)).is_err());
        let truth = weights(0.5).unwrap().with_attribution(map(-3.0)).unwrap().with_masks(masks());
        assert_eq!(truth.kinds(), [TruthKind::Masks, TruthKind::Attribution, TruthKind::Weights]);
        assert!(message(truth.check_shape(&[3, 4, 6])).contains("mask: has shape [24, 30]; expected [4, 6]"));
        let weights = weights(0.5).unwrap();
        assert!(weights.check_shape(&[3, 4, 6]).is_ok());
        assert!(message(weights.check_shape(&[3, 6, 4])).contains("human-weighted map"));
        let known = Truth::default().with_attribution(map(-3.0)).unwrap();
        assert!(known.check_shape(&[3, 4, 6]).is_ok() && known.check_shape(&[4, 6]).is_ok());
        assert!(message(known.check_shape(&[3, 4, 4])).contains("known attribution map"));
    }
}
