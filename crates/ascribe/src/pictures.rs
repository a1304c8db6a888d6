//! The pictures of a folder as a dataset.

use std::path::PathBuf;

use ascribe_core::Dataset;
use ascribe_core::dataset::Sample;

use crate::annotations::Annotations;
use crate::error::{Error, Result};
use crate::model::Model;

/// Picture files, preprocessed for a model, with their annotations. The name of a sample is the path of its picture.
#[derive(Clone, Debug)]
pub struct Pictures<'a> {
    model: &'a Model,
    paths: Vec<PathBuf>,
    annotations: Annotations,
}

impl<'a> Pictures<'a> {
    /// Pictures without annotations.
    pub fn new(model: &'a Model, paths: Vec<PathBuf>) -> Self {
        Self { model, paths, annotations: Annotations::default() }
    }

    /// Adds annotations of the pictures.
    #[must_use]
    pub fn annotated(self, annotations: Annotations) -> Self {
        Self { annotations, ..self }
    }

    fn path(&self, number: usize) -> ascribe_core::Result<&PathBuf> {
        self.paths.get(number).ok_or_else(|| {
            let count = self.paths.len();
            ascribe_core::Error::invalid(
                "pictures",
                format!("number {number} of {count}"),
                format!("below {count}"),
            )
        })
    }

    /// The class of the objects in a picture, if all of them have the same class.
    fn only_class(&self, path: &std::path::Path) -> Option<usize> {
        match *self.annotations.classes(path) {
            [class] => Some(class),
            _ => None,
        }
    }

    fn read(&self, path: &PathBuf) -> Result<Sample> {
        let loaded = self.model.read(path)?;
        let truth = match &loaded.picture {
            Some(picture) => self.annotations.truth(path, &picture.geometry, &self.model.preprocessing)?,
            None => None,
        };
        Ok(Sample { inputs: loaded.inputs, label: self.only_class(path), truth })
    }
}

impl Dataset for Pictures<'_> {
    fn len(&self) -> usize {
        self.paths.len()
    }

    /// The label is the class of the objects, if all of them have the same class.
    fn sample(&self, number: usize) -> ascribe_core::Result<Sample> {
        self.read(self.path(number)?).map_err(|error| match error {
            Error::Core(error) => error,
            other => ascribe_core::Error::Dataset(Box::new(other)),
        })
    }

    fn label(&self, number: usize) -> ascribe_core::Result<Option<usize>> {
        Ok(self.only_class(self.path(number)?))
    }

    fn name(&self, number: usize) -> String {
        self.paths.get(number).map_or_else(|| number.to_string(), |path| path.display().to_string())
    }
}
