//! Masks of objects as pictures.

use std::path::{Component, Path, PathBuf};

use ascribe_metrics::localisation::Mask;
use ascribe_models::preprocess::{DecodeOptions, Interpolation, Preprocessing, Resize, decode};

use crate::error::{Error, Result};

/// The path of a mask file in the folder of the annotations or below it.
///
/// # Errors
/// If the path leads out of the folder, or there is no such file.
pub fn beside(folder: &Path, name: &str) -> Result<PathBuf> {
    let fail = |problem: &str| {
        let expected = "a picture beside the annotations, or in a folder there, by its relative path";
        Err(Error::request(format!("mask '{name}'"), problem, expected))
    };
    let mut parts = Path::new(name).components().peekable();
    if parts.peek().is_none() || parts.any(|part| !matches!(part, Component::Normal(_))) {
        return fail("is no path below the folder of the annotations");
    }
    let path = folder.join(name);
    if path.is_file() { Ok(path) } else { fail("there is no such file") }
}

/// Reads the mask of an object in a picture of this height and width. The mask is resized and cropped like the
/// picture, by nearest-neighbour interpolation. Pixels that are not black belong to the object. A mask of another size, but
/// the same aspect, is scaled to that of the picture first.
///
/// # Errors
/// If the file cannot be read, differs in aspect from the picture, or is entirely black.
pub fn read(path: &Path, original: [usize; 2], preprocessing: &Preprocessing) -> Result<Mask> {
    let mut picture = decode(path, DecodeOptions::default())?;
    let found = [picture.height() as usize, picture.width() as usize];
    let fail = |problem: String, expected: String| {
        Err(Error::request(format!("mask '{}'", path.display()), problem, expected))
    };
    if found != original && super::same_aspect(found, original) {
        let scaled = Preprocessing {
            resize: Some(Resize::Exact(original)),
            interpolation: Interpolation::Nearest,
            ..Preprocessing::default()
        };
        picture = scaled.apply(&picture)?.image;
    } else if found != original {
        let [height, width] = original;
        return fail(
            format!("is {} × {} pixels wide and high", found[1], found[0]),
            format!("{width} × {height}, as the picture, or the same aspect"),
        );
    }
    if picture.as_raw().iter().all(|byte| *byte == 0) {
        return fail("is black".into(), "an object: pixels that are not black, 8 bits each".into());
    }
    let nearest = Preprocessing { interpolation: Interpolation::Nearest, ..preprocessing.clone() };
    let seen = nearest.apply(&picture)?.image;
    let inside = seen.pixels().map(|pixel| pixel.0 != [0; 3]).collect();
    Ok(Mask::new([seen.height() as usize, seen.width() as usize], inside)?)
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::*;

    #[test]
    fn a_mask_is_seen_as_the_picture_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mask.png");
        // Rows 2 and 3 of 4, columns 0 to 2 of 8; values need not be white.
        let inside = |x: u32, y: u32| y >= 2 && x < 3;
        let picture = RgbImage::from_fn(8, 4, |x, y| Rgb([u8::from(inside(x, y)), 0, 0]));
        picture.save(&path).unwrap();
        // Resized to 16 × 8, of which the middle 8 columns remain: columns 2 to 5 of the file, twice each.
        let preprocessing = Preprocessing {
            resize: Some(Resize::Exact([8, 16])),
            crop: Some([8, 8]),
            ..Preprocessing::imagenet()
        };
        let mask = read(&path, [4, 8], &preprocessing).unwrap();
        let expected: Vec<bool> = (0..64).map(|place| place / 8 >= 4 && place % 8 < 2).collect();
        assert_eq!((mask.size(), mask.inside()), ([8, 8], &*expected));
        let message = read(&path, [8, 4], &preprocessing).unwrap_err().to_string();
        assert!(message.contains("8 × 4") && message.contains("expected 4 × 8"), "{message}");
        // The mask of a picture that is twice as large.
        let scaled = read(&path, [8, 16], &Preprocessing::default()).unwrap();
        let expected: Vec<bool> = (0..128).map(|place| place / 16 >= 4 && place % 16 < 6).collect();
        assert_eq!((scaled.size(), scaled.inside()), ([8, 16], &*expected));
        RgbImage::new(8, 4).save(&path).unwrap();
        let message = read(&path, [4, 8], &preprocessing).unwrap_err().to_string();
        assert!(message.contains("is black"), "{message}");
    }

    #[test]
    fn masks_lie_beside_the_annotations() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("masks")).unwrap();
        std::fs::write(folder.path().join("masks/cat.png"), "").unwrap();
        assert!(beside(folder.path(), "masks/cat.png").is_ok());
        let inside = folder.path().join("masks/cat.png");
        for wrong in
            ["", ".", "../cat.png", "masks/../masks/cat.png", "masks", "dog.png", inside.to_str().unwrap()]
        {
            assert!(beside(folder.path(), wrong).is_err(), "{wrong}");
        }
    }
}
