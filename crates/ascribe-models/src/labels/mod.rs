//! The names (labels) of a classifier's classes.
//!
//! The 1000 ImageNet names in `imagenet-1k.txt` are those of torchvision 0.29
//! (`torchvision.models._meta`, BSD 3-Clause, © Soumith Chintala 2016), one class per line, in the
//! order of the networks' outputs.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result, nearest};
use crate::files;

const IMAGENET_1K: &str = include_str!("imagenet-1k.txt");
const FORMAT: &str = "label file";
/// Size of the largest label file that is accepted.
const MAX_BYTES: u64 = 64 << 20;
/// Most classes that are accepted; no classifier has so many.
const MAX_CLASSES: usize = 10_000_000;

/// The names of classes, by class number.
///
/// ```
/// use ascribe_models::labels::Labels;
///
/// let labels = Labels::imagenet_1k();
/// assert_eq!(labels.get(285), Some("Egyptian cat"));
/// assert_eq!(labels.find("tabby")?, 281);
/// # Ok::<(), ascribe_models::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    names: Vec<String>,
}

impl Labels {
    /// The 1000 classes of the ILSVRC 2012 challenge, in the usual order.
    pub fn imagenet_1k() -> Self {
        Self { names: IMAGENET_1K.lines().map(str::to_owned).collect() }
    }

    /// The label set that the registry calls `id` (`imagenet-1k` is the only one so far).
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is no label set with that name.
    pub fn builtin(id: &str) -> Result<Self> {
        match id {
            "imagenet-1k" => Ok(Self::imagenet_1k()),
            _ => Err(Error::invalid(
                format!("label set '{id}'"),
                "is not known",
                "'imagenet-1k', or a label file",
            )),
        }
    }

    /// Creates labels from names in the order of the classes.
    pub fn new(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { names: names.into_iter().map(Into::into).collect() }
    }

    /// Reads a label file.
    ///
    /// A text file has one name per line; empty lines at the end are ignored. A JSON file contains an array of names;
    /// or an object that maps class numbers to names, `{"0": "cat"}`, or to arrays whose last string is the name,
    /// `{"0": ["n01440764", "tench"]}`; or one of these under the key `id2label` or `labels`.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read; [`Error::Malformed`] when it has none of these formats, a class
    /// number is missing, or it contains no names.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = files::read_text(path, MAX_BYTES)?;
        let is_json = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json"));
        let names = if is_json { from_json(&text) } else { Ok(from_lines(&text)) };
        let names = names.map_err(|problem| Error::malformed(path, FORMAT, problem))?;
        if names.is_empty() {
            return Err(Error::malformed(
                path,
                FORMAT,
                "it contains no names; expected one name per line, or a JSON array",
            ));
        }
        Ok(Self { names })
    }

    /// The name of class number `class`.
    pub fn get(&self, class: usize) -> Option<&str> {
        self.names.get(class).map(String::as_str)
    }

    /// The number of the class called `label`; the name must match exactly.
    ///
    /// # Errors
    /// [`Error::UnknownLabel`] with similar names; [`Error::AmbiguousLabel`] when several classes
    /// have that name.
    pub fn find(&self, label: &str) -> Result<usize> {
        let classes: Vec<usize> = (0..self.len()).filter(|i| self.names[*i] == label).collect();
        match classes.as_slice() {
            [one] => Ok(*one),
            [] => {
                let near = nearest(label, self.names.iter().map(String::as_str), 5);
                Err(Error::UnknownLabel { label: label.to_owned(), near })
            }
            _ => Err(Error::AmbiguousLabel { label: label.to_owned(), classes }),
        }
    }

    /// Number of classes.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are no classes.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// All names, by class number.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }
}

/// The names in a text file.
fn from_lines(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.trim_end().lines().map(|line| line.trim().to_owned()).collect()
}

/// The names in a JSON file.
fn from_json(text: &str) -> Result<Vec<String>, String> {
    let value: Value = serde_json::from_str(text).map_err(|e| format!("its JSON is not valid: {e}"))?;
    match value {
        Value::Array(items) => {
            items.iter().enumerate().map(|(i, item)| name(item).ok_or_else(|| no_name(i))).collect()
        }
        Value::Object(mut object) => match object.remove("id2label").or_else(|| object.remove("labels")) {
            Some(Value::Object(inner)) => from_numbered(&inner),
            Some(Value::Array(items)) => {
                items.iter().enumerate().map(|(i, item)| name(item).ok_or_else(|| no_name(i))).collect()
            }
            Some(_) => Err("'id2label' or 'labels' is neither an array nor an object".into()),
            None => from_numbered(&object),
        },
        _ => {
            Err("it is neither a JSON array of names nor a JSON object that maps class numbers to names"
                .into())
        }
    }
}

/// The names in an object that maps class numbers to names.
fn from_numbered(object: &serde_json::Map<String, Value>) -> Result<Vec<String>, String> {
    let mut numbered = BTreeMap::new();
    for (key, item) in object {
        let class: usize = key.parse().map_err(|_| format!("key '{key}' is not a class number"))?;
        if class >= MAX_CLASSES {
            return Err(format!("class number {class} is out of range"));
        }
        numbered.insert(class, name(item).ok_or_else(|| no_name(class))?);
    }
    match numbered.keys().enumerate().find(|(i, class)| i != *class) {
        Some((missing, _)) => Err(format!("class {missing} has no name, but later classes have one")),
        None => Ok(numbered.into_values().collect()),
    }
}

/// The name in an entry: a string, or the last string of an array.
fn name(item: &Value) -> Option<String> {
    match item {
        Value::String(name) => Some(name.clone()),
        Value::Array(parts) => parts.last()?.as_str().map(str::to_owned),
        _ => None,
    }
}

fn no_name(class: usize) -> String {
    format!("the entry of class {class} is not a name")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(name: &str, text: &str) -> Result<Labels> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        Labels::load(path)
    }

    #[test]
    fn imagenet_has_a_thousand_distinct_names() {
        let labels = Labels::imagenet_1k();
        assert_eq!(labels.len(), 1000);
        for (class, name) in labels.iter().enumerate() {
            assert!(!name.is_empty());
            assert_eq!(labels.find(name).unwrap(), class);
        }
        assert_eq!(labels.get(1000), None);
    }

    #[test]
    fn near_labels_are_suggested() {
        let message = Labels::imagenet_1k().find("egyptian cat").unwrap_err().to_string();
        assert!(message.contains("'Egyptian cat'"), "{message}");
        assert!(Labels::imagenet_1k().find("").is_err());
    }

    #[test]
    fn text_and_json_forms() {
        let expected = Labels::new(["tench", "goldfish"]);
        for (name, text) in [
            ("a.txt", "\u{feff}tench\r\ngoldfish\n\n"),
            ("a.json", r#"["tench", "goldfish"]"#),
            ("a.json", r#"{"1": "goldfish", "0": "tench"}"#),
            ("a.json", r#"{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}"#),
            ("a.json", r#"{"model_type": "vit", "id2label": {"0": "tench", "1": "goldfish"}}"#),
        ] {
            assert_eq!(load(name, text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn malformed_files_are_errors() {
        for text in [
            "",
            "{",
            "3",
            "[1]",
            r#"{"a": "b"}"#,
            r#"{"0": "a", "2": "b"}"#,
            r#"{"0": []}"#,
            "[]",
            "{}",
            r#"{"99999999999": "x"}"#,
        ] {
            assert!(load("a.json", text).is_err(), "{text}");
        }
        assert!(load("a.txt", "\n\n").is_err());
        assert!(Labels::load(std::env::temp_dir()).is_err());
    }

    #[test]
    fn labels_of_several_classes_are_ambiguous() {
        let message = Labels::new(["crane", "heron", "crane"]).find("crane").unwrap_err().to_string();
        assert!(message.contains("0, 2"), "{message}");
    }
}
