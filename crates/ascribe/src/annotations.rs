//! Objects in pictures: from a JSON file or Pascal-VOC XML files beside the pictures.
//!
//! `boxes.json` maps file names to objects:
//!
//! ```json
//! {"cat.png": {"size": [451, 300], "objects": [{"class": 285, "box": [10, 20, 400, 300], "difficult": false}]}}
//! ```
//!
//! Boxes are left, top, right, bottom in pixels of the picture, the last two exclusive. `size` (or `width` and `height`, as in
//! COCO) is the width and height of the picture that they were made for. If the picture at hand has another size, but the same
//! aspect, boxes are scaled; another aspect is an error. Without it, boxes are those of the picture at hand.
//!
//! Instead of a box, or in addition to it, an object may have a mask: a picture of the same size or aspect, given by its path
//! below the folder, whose pixels are not black where the object is. If an object has both, the mask is used, since it is more
//! precise.
//!
//! ```json
//! {"cat.png": {"objects": [{"label": "Egyptian cat", "mask": "masks/cat.png"}]}}
//! ```
//!
//! Pascal-VOC files have the name of the picture, and are in the same folder or in a folder `voc` or `Annotations`.
//! They name classes by label; their boxes are inclusive and count from 1. Their `<size>` counts as that of `boxes.json`.

mod mask;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ascribe_core::Truth;
use ascribe_metrics::localisation::{Masks, Object, Region, Scene};
use ascribe_models::labels::Labels;
use ascribe_models::preprocess::{BoundingBox, Geometry, Preprocessing};
use quick_xml::de::from_str;
use serde::Deserialize;

use crate::error::{Error, Result};

/// Extensions of the picture files that [`pictures`] finds.
const PICTURES: [&str; 9] = ["png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff", "ppm"];

/// The objects in the pictures of a folder.
#[derive(Clone, Debug, Default)]
pub struct Annotations {
    by_name: BTreeMap<String, Scenery>,
}

/// The objects of a picture.
#[derive(Clone, Debug)]
struct Scenery {
    /// Width and height of the picture that they were made for, if known.
    size: Option<[f64; 2]>,
    objects: Vec<Annotated>,
}

/// An object, in pixels of its picture.
#[derive(Clone, Debug)]
struct Annotated {
    class: usize,
    difficult: bool,
    place: Place,
}

/// Where an object is.
#[derive(Clone, Debug)]
enum Place {
    /// Left, top, right, bottom.
    Box([f64; 4]),
    /// The path of a mask.
    Mask(PathBuf),
}

#[derive(Deserialize)]
struct JsonPicture {
    size: Option<[f64; 2]>,
    width: Option<f64>,
    height: Option<f64>,
    objects: Vec<JsonObject>,
}

#[derive(Deserialize)]
struct JsonObject {
    class: Option<usize>,
    label: Option<String>,
    #[serde(rename = "box")]
    bounds: Option<[f64; 4]>,
    mask: Option<String>,
    #[serde(default)]
    difficult: bool,
}

#[derive(Deserialize)]
struct VocFile {
    size: Option<VocSize>,
    #[serde(default)]
    object: Vec<VocObject>,
}

#[derive(Deserialize)]
struct VocSize {
    width: f64,
    height: f64,
}

#[derive(Deserialize)]
struct VocObject {
    name: String,
    #[serde(default)]
    difficult: u8,
    bndbox: VocBox,
}

#[derive(Deserialize)]
struct VocBox {
    xmin: f64,
    ymin: f64,
    xmax: f64,
    ymax: f64,
}

/// The pictures of a folder, by name.
///
/// # Errors
/// If the folder cannot be read or holds no pictures.
pub fn pictures(folder: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    let folder = folder.as_ref();
    let fail = |source| ascribe_core::Error::Io { path: folder.display().to_string(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_lowercase();
        if path.is_file() && PICTURES.contains(&ending.as_str()) {
            found.push(path);
        }
    }
    found.sort();
    if found.is_empty() {
        return Err(Error::request(
            format!("folder '{}'", folder.display()),
            "holds no pictures",
            "png, jpeg, webp, …",
        ));
    }
    Ok(found)
}

impl Annotations {
    /// Reads all annotations of the pictures of a folder.
    ///
    /// # Errors
    /// If an annotation file cannot be read, or names a label that does not exist.
    pub fn beside(folder: impl AsRef<Path>, labels: Option<&Labels>) -> Result<Self> {
        let folder = folder.as_ref();
        let mut all = Self::default();
        let json = folder.join("boxes.json");
        if json.is_file() {
            all.read_json(&json, labels)?;
        }
        for picture in pictures(folder)? {
            let Some(name) = picture.file_name().map(|n| n.to_string_lossy().into_owned()) else { continue };
            if all.by_name.contains_key(&name) {
                continue;
            }
            let file = picture.with_extension("xml");
            let file_name = file.file_name().unwrap_or_default().to_owned();
            let places =
                [file, folder.join("voc").join(&file_name), folder.join("Annotations").join(&file_name)];
            if let Some(xml) = places.iter().find(|p| p.is_file()) {
                all.by_name.insert(name, read_voc(xml, labels)?);
            }
        }
        Ok(all)
    }

    fn read_json(&mut self, path: &Path, labels: Option<&Labels>) -> Result<()> {
        let text = read_text(path)?;
        let pictures: BTreeMap<String, JsonPicture> =
            serde_json::from_str(&text).map_err(|e| malformed(path, &e))?;
        for (name, picture) in pictures {
            let objects = picture.objects.into_iter().map(|object| json_object(object, &name, path, labels));
            let objects: Result<Vec<Annotated>> = objects.collect();
            let size = picture.size.or_else(|| Some([picture.width?, picture.height?]));
            let size = size.map(|size| checked_size(size, path)).transpose()?;
            self.by_name.insert(name, Scenery { size, objects: objects? });
        }
        Ok(())
    }

    /// The ground truth of a picture, in pixels of the network's input; `geometry` describes how the preprocessing
    /// changed the picture. `None` if the picture has no annotations.
    ///
    /// # Errors
    /// If a mask cannot be read or is entirely black, or the aspect of a mask, or that for which boxes were made, is not that of
    /// the picture.
    pub fn truth(
        &self,
        picture: &Path,
        geometry: &Geometry,
        preprocessing: &Preprocessing,
    ) -> Result<Option<Truth>> {
        let name = picture.file_name().unwrap_or_default().to_string_lossy();
        let Some(Scenery { size, objects }) = self.by_name.get(name.as_ref()) else { return Ok(None) };
        let scale = match *size {
            Some(size) => scale(size, geometry.original, &name)?,
            None => [1.0; 2],
        };
        let one = BoundingBox { x0: 0.0, y0: 0.0, x1: 1.0, y1: 1.0 };
        let pixel = geometry.to_original(one);
        let pixel = [pixel.x1 - pixel.x0, pixel.y1 - pixel.y0];
        let (mut boxes, mut regions) = (Vec::new(), Vec::new());
        for &Annotated { class, difficult, ref place } in objects {
            match place {
                &Place::Box([x0, y0, x1, y1]) => {
                    let [sx, sy] = scale;
                    let scaled = BoundingBox { x0: x0 * sx, y0: y0 * sy, x1: x1 * sx, y1: y1 * sy };
                    let b = geometry.to_input(scaled);
                    boxes.push(Object { class, bounds: [b.x0, b.y0, b.x1, b.y1], difficult });
                }
                Place::Mask(path) => {
                    let mask = mask::read(path, geometry.original, preprocessing)?;
                    regions.push(Region { class: Some(class), mask, difficult });
                }
            }
        }
        let mut truth = Truth::default();
        if !boxes.is_empty() || regions.is_empty() {
            truth = truth.with_boxes(Scene { objects: boxes, pixel });
        }
        if !regions.is_empty() {
            truth = truth.with_masks(Masks { regions, pixel });
        }
        Ok(Some(truth))
    }

    /// The distinct classes of a picture's objects, in order of appearance.
    pub fn classes(&self, picture: &Path) -> Vec<usize> {
        let mut classes = Vec::new();
        let name = picture.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        for object in self.by_name.get(&name).into_iter().flat_map(|scenery| &scenery.objects) {
            if !classes.contains(&object.class) {
                classes.push(object.class);
            }
        }
        classes
    }

    /// Number of pictures with annotations.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

/// Whether two sizes, height and width, have the same aspect: whether one is the other after scaling, up to the rounding of
/// sides to pixels.
fn same_aspect([h, w]: [usize; 2], [other_h, other_w]: [usize; 2]) -> bool {
    let [h, w, other_h, other_w] = [h, w, other_h, other_w].map(|side| side as f64);
    let [sy, sx] = [other_h / h, other_w / w];
    (w * sy - other_w).abs() <= 1.0 || (h * sx - other_h).abs() <= 1.0
}

/// The factors from pixels of the picture that boxes were made for, of this width and height, to those of the picture.
fn scale([width, height]: [f64; 2], original: [usize; 2], picture: &str) -> Result<[f64; 2]> {
    let [own_height, own_width] = original;
    if same_aspect([height as usize, width as usize], original) {
        return Ok([own_width as f64 / width, own_height as f64 / height]);
    }
    let turned = if same_aspect([width as usize, height as usize], original) {
        "; the picture may have been turned as its EXIF orientation says, which can be switched off"
    } else {
        ""
    };
    Err(Error::request(
        format!("annotations of '{picture}'"),
        format!("are for a picture of {width} × {height} pixels, but it has {own_width} × {own_height}"),
        format!("the same size, or the same aspect{turned}"),
    ))
}

fn checked_size(size: [f64; 2], path: &Path) -> Result<[f64; 2]> {
    if size.iter().all(|side| *side >= 1.0 && side.fract() == 0.0 && *side <= f64::from(1 << 20)) {
        return Ok(size);
    }
    Err(malformed(path, &format!("size {size:?} is not a width and a height in pixels")))
}

fn read_text(path: &Path) -> Result<String> {
    let fail = |source| ascribe_core::Error::Io { path: path.display().to_string(), source };
    Ok(std::fs::read_to_string(path).map_err(fail)?)
}

fn malformed(path: &Path, problem: &dyn std::fmt::Display) -> Error {
    let expected = "annotations as `boxes.json` or Pascal-VOC XML";
    Error::request(format!("annotations '{}'", path.display()), problem.to_string(), expected)
}

fn class_of(label: &str, labels: Option<&Labels>, path: &Path) -> Result<usize> {
    let labels = labels
        .ok_or_else(|| malformed(path, &format!("label '{label}', but the model's labels are unknown")))?;
    Ok(labels.find(label)?)
}

fn json_object(object: JsonObject, picture: &str, path: &Path, labels: Option<&Labels>) -> Result<Annotated> {
    let fail = |problem: &str| Err(malformed(path, &format!("an object of '{picture}' has {problem}")));
    let class = match (object.class, &object.label) {
        (Some(class), _) => class,
        (None, Some(label)) => class_of(label, labels, path)?,
        (None, None) => return fail("neither class nor label"),
    };
    let bounds = object.bounds.map(|bounds| checked(bounds, path)).transpose()?;
    let place = match (object.mask, bounds) {
        (Some(mask), _) => Place::Mask(mask::beside(path.parent().unwrap_or(Path::new(".")), &mask)?),
        (None, Some(bounds)) => Place::Box(bounds),
        (None, None) => return fail("neither box nor mask"),
    };
    Ok(Annotated { class, difficult: object.difficult, place })
}

fn checked(bounds: [f64; 4], path: &Path) -> Result<[f64; 4]> {
    let [x0, y0, x1, y1] = bounds;
    if bounds.iter().all(|b| b.is_finite()) && x0 < x1 && y0 < y1 {
        return Ok(bounds);
    }
    Err(malformed(path, &format!("box {bounds:?} is not left < right, top < bottom")))
}

fn read_voc(path: &Path, labels: Option<&Labels>) -> Result<Scenery> {
    let file: VocFile = from_str(&read_text(path)?).map_err(|e| malformed(path, &e))?;
    // Some tools write 0 × 0 where they do not know the size.
    let size = file.size.map(|s| [s.width, s.height]).filter(|size| *size != [0.0; 2]);
    let size = size.map(|size| checked_size(size, path)).transpose()?;
    let objects: Result<Vec<Annotated>> = file
        .object
        .into_iter()
        .map(|o| {
            let class = match o.name.trim().parse() {
                Ok(number) => number,
                Err(_) => class_of(o.name.trim(), labels, path)?,
            };
            let b = o.bndbox;
            let bounds = checked([b.xmin - 1.0, b.ymin - 1.0, b.xmax, b.ymax], path)?;
            Ok(Annotated { class, difficult: o.difficult != 0, place: Place::Box(bounds) })
        })
        .collect();
    Ok(Scenery { size, objects: objects? })
}
