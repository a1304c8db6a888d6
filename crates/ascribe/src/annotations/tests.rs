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
    let geometry = Geometry { original: [100, 50], resized: [200, 100], offset: [10, 20], output: [80, 80] };
    let truth = all.truth(Path::new("b.jpg"), &geometry, &Preprocessing::imagenet()).unwrap().unwrap();
    let scene = truth.boxes().unwrap();
    assert_eq!(scene.objects[0].bounds, [0.0, 30.0, 40.0, 70.0]);
    assert!(scene.objects[0].difficult);
    assert_eq!(scene.pixel, [0.5, 0.5]);
}

#[test]
fn boxes_are_scaled_to_the_picture_at_hand() {
    let json = r#"{
        "a.png": {"size": [100, 50], "objects": [{"class": 3, "box": [10, 20, 30, 40]}]},
        "b.png": {"width": 100, "height": 50, "objects": [{"class": 3, "box": [10, 20, 30, 40]}]},
        "c.png": {"objects": [{"class": 3, "box": [10, 20, 30, 40]}]}
    }"#;
    let voc =
        VOC.replace("<object>", "<size><width>100</width><height>50</height><depth>3</depth></size><object>");
    let folder = folder(&[
        ("a.png", ""),
        ("b.png", ""),
        ("c.png", ""),
        ("d.png", ""),
        ("boxes.json", json),
        ("d.xml", &voc),
    ]);
    let all = Annotations::beside(folder.path(), Some(&Labels::imagenet_1k())).unwrap();
    let bounds = |name: &str, original: [usize; 2]| {
        let geometry = Geometry { original, resized: original, offset: [0, 0], output: original };
        let truth = all.truth(Path::new(name), &geometry, &Preprocessing::default())?;
        Ok::<_, Error>(truth.unwrap().boxes().unwrap().objects[0].bounds)
    };
    for name in ["a.png", "b.png", "d.png"] {
        assert_eq!(bounds(name, [50, 100]).unwrap(), [10.0, 20.0, 30.0, 40.0]);
        assert_eq!(bounds(name, [100, 200]).unwrap(), [20.0, 40.0, 60.0, 80.0]);
        // A third of the size, rounded.
        assert!((bounds(name, [17, 33]).unwrap()[0] - 3.3).abs() < 1e-12);
        let message = bounds(name, [100, 100]).unwrap_err().to_string();
        assert!(message.contains(name) && message.contains("100 × 50"), "{message}");
        let turned = bounds(name, [100, 50]).unwrap_err().to_string();
        assert!(turned.contains("EXIF"), "{turned}");
    }
    assert_eq!(bounds("c.png", [100, 100]).unwrap(), [10.0, 20.0, 30.0, 40.0]);
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
        (r#"{"a.png": {"objects": [{"class": 1, "mask": "b.png"}]}}"#, "mask 'b.png': there is no such file"),
        (r#"{"a.png": {"objects": [{"class": 1, "mask": "../a.png"}]}}"#, "relative path"),
        (r#"{"a.png": {"size": [0, 5], "objects": []}}"#, "size [0.0, 5.0]"),
        (r#"{"a.png": {"objects": [{"label": "taby", "box": [1, 2, 5, 6]}]}}"#, "tabby"),
    ] {
        let folder = folder(&[("a.png", ""), ("boxes.json", json)]);
        let error = Annotations::beside(folder.path(), Some(&Labels::imagenet_1k())).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    let folder = folder(&[("notes.txt", "")]);
    assert!(pictures(folder.path()).unwrap_err().to_string().contains("no pictures"));
}
