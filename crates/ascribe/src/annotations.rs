//! Objects in pictures: from a JSON file or Pascal-VOC XML files beside the pictures.
//!
//! `boxes.json` maps file names to objects:
//!
//! ```json
//! {"cat.png": {"size": [451, 300], "objects": [{"class": 285, "box": [10, 20, 400, 300], "difficult": false}]}}
//! ```
//!
//! Boxes are left, top, right, bottom in pixels of the picture, the last two exclusive. Instead of a box, or in
//! addition to it, an object may have a mask: a picture of the same size, given by its path below the folder, whose
//! pixels are not black where the object is. If an object has both, the mask is used, since it is more precise.
//!
//! ```json
//! {"cat.png": {"objects": [{"label": "Egyptian cat", "mask": "masks/cat.png"}]}}
//! ```
//!
//! Pascal-VOC files have the name of the picture, and are in the same folder or in a folder `voc` or `Annotations`.
//! They name classes by label; their boxes are inclusive and count from 1.

mod mask;

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
    by_name: BTreeMap<String, Vec<Annotated>>,
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
    #[serde(default)]
    object: Vec<VocObject>,
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
            self.by_name.insert(name, objects?);
        }
        Ok(())
    }

    /// The ground truth of a picture, in pixels of the network's input; `geometry` describes how the preprocessing
    /// changed the picture. `None` if the picture has no annotations.
    ///
    /// # Errors
    /// If a mask cannot be read, is entirely black, or differs in size from the picture.
    pub fn truth(
        &self,
        picture: &Path,
        geometry: &Geometry,
        preprocessing: &Preprocessing,
    ) -> Result<Option<Truth>> {
        let name = picture.file_name().unwrap_or_default().to_string_lossy();
        let Some(objects) = self.by_name.get(name.as_ref()) else { return Ok(None) };
        let one = BoundingBox { x0: 0.0, y0: 0.0, x1: 1.0, y1: 1.0 };
        let pixel = geometry.to_original(one);
        let pixel = [pixel.x1 - pixel.x0, pixel.y1 - pixel.y0];
        let (mut boxes, mut regions) = (Vec::new(), Vec::new());
        for &Annotated { class, difficult, ref place } in objects {
            match place {
                &Place::Box([x0, y0, x1, y1]) => {
                    let b = geometry.to_input(BoundingBox { x0, y0, x1, y1 });
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
        for object in self.by_name.get(&name).into_iter().flatten() {
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

fn read_voc(path: &Path, labels: Option<&Labels>) -> Result<Vec<Annotated>> {
    let file: VocFile = from_str(&read_text(path)?).map_err(|e| malformed(path, &e))?;
    file.object
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
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    const VOC: &str = "<annotation><object><name>tabby</name><difficult>1</difficult><bndbox><xmin>11</xmin>\
        <ymin>21</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object></annotation>";

    #[test]
    fn both_forms_are_read() {
        let json = r#"{"a.png": {"objects": [{"class": 3, "box": [1, 2, 5, 6]}]}}"#;
        let folder = folder(&[("a.png", ""), ("b.jpg", ""), ("boxes.json", json), ("voc/b.xml", VOC)]);
        let labels = Labels::imagenet_1k();
        let all = Annotations::beside(folder.path(), Some(&labels)).unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(all.classes(Path::new("x/a.png")), [3]);
        assert_eq!(all.classes(Path::new("b.jpg")), [281]);
        let geometry =
            Geometry { original: [100, 50], resized: [200, 100], offset: [10, 20], output: [80, 80] };
        let truth = all.truth(Path::new("b.jpg"), &geometry, &Preprocessing::imagenet()).unwrap().unwrap();
        let scene = truth.boxes().unwrap();
        assert_eq!(scene.objects[0].bounds, [0.0, 30.0, 40.0, 70.0]);
        assert!(scene.objects[0].difficult);
        assert_eq!(scene.pixel, [0.5, 0.5]);
    }

    #[test]
    fn objects_are_boxes_or_masks() {
        let json = r#"{"a.png": {"objects": [
            {"class": 3, "box": [0, 0, 1, 1], "mask": "m/a.png", "difficult": true}, {"class": 4, "box": [1, 0, 3, 2]}
        ]}, "b.png": {"objects": []}}"#;
        let folder = folder(&[("a.png", ""), ("b.png", ""), ("m/a.png", ""), ("boxes.json", json)]);
        let picture = image::RgbImage::from_fn(4, 2, |x, _| image::Rgb([0, u8::from(x == 2), 0]));
        picture.save(folder.path().join("m/a.png")).unwrap();
        let all = Annotations::beside(folder.path(), None).unwrap();
        assert_eq!(all.classes(Path::new("a.png")), [3, 4]);
        let geometry = Geometry { original: [2, 4], resized: [2, 4], offset: [0, 0], output: [2, 4] };
        let preprocessing = Preprocessing::default();
        let of = |name: &str| all.truth(Path::new(name), &geometry, &preprocessing).unwrap();
        let truth = of("a.png").unwrap();
        // The object of class 3 is given by its mask, not by its box.
        assert_eq!((truth.distance(3, 0, 0), truth.distance(4, 1, 0)), (Some(2.0), Some(1.0)));
        assert!(truth.all_difficult(3) && !truth.all_difficult(4));
        assert_eq!(of("b.png").unwrap().distance(3, 0, 0), None);
        assert!(of("c.png").is_none());
        let other = Geometry { original: [4, 2], ..geometry };
        assert!(all.truth(Path::new("a.png"), &other, &preprocessing).is_err());
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (json, word) in [
            ("{", "boxes.json"),
            (r#"{"a.png": {"objects": [{"box": [1, 2, 5, 6]}]}}"#, "neither class nor label"),
            (r#"{"a.png": {"objects": [{"class": 1, "box": [5, 2, 1, 6]}]}}"#, "left < right"),
            (r#"{"a.png": {"objects": [{"class": 1}]}}"#, "neither box nor mask"),
            (
                r#"{"a.png": {"objects": [{"class": 1, "mask": "b.png"}]}}"#,
                "mask 'b.png': there is no such file",
            ),
            (r#"{"a.png": {"objects": [{"class": 1, "mask": "../a.png"}]}}"#, "relative path"),
            (r#"{"a.png": {"objects": [{"label": "taby", "box": [1, 2, 5, 6]}]}}"#, "tabby"),
        ] {
            let folder = folder(&[("a.png", ""), ("boxes.json", json)]);
            let error =
                Annotations::beside(folder.path(), Some(&Labels::imagenet_1k())).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        let folder = folder(&[("notes.txt", "")]);
        assert!(pictures(folder.path()).unwrap_err().to_string().contains("no pictures"));
    }
}
