//! What a picture shows, and where.

use serde::{Deserialize, Serialize};

/// An object in a picture, in pixels of the attribution map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Object {
    /// Its class.
    pub class: usize,
    /// Left, top, right, bottom; the last two exclusive. May reach beyond the map.
    #[serde(rename = "box")]
    pub bounds: [f64; 4],
    /// Whether the annotators marked it as difficult.
    #[serde(default)]
    pub difficult: bool,
}

/// The objects in one picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scene {
    /// The objects.
    pub objects: Vec<Object>,
    /// Width and height of one map pixel in pixels of the original picture.
    pub pixel: [f64; 2],
}

impl Scene {
    /// A scene whose map has the picture's own resolution.
    pub fn new(objects: Vec<Object>) -> Self {
        Self { objects, pixel: [1.0, 1.0] }
    }

    /// Distance in original pixels from the map pixel at (row, column) to the nearest pixel of any object of
    /// this class; `None` if there is none.
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

    /// Whether all objects of a class are marked as difficult (or there is none).
    pub fn all_difficult(&self, class: usize) -> bool {
        self.objects.iter().filter(|o| o.class == class).all(|o| o.difficult)
    }
}
