//! The attributes of a node, read as the type that the caller expects.

use super::proto;
use super::value::Res;

/// The attributes of one node.
#[derive(Clone, Debug, Default)]
pub(super) struct Attributes {
    entries: Vec<proto::Attribute>,
}

impl Attributes {
    pub fn new(entries: Vec<proto::Attribute>) -> Self {
        Self { entries }
    }

    pub fn iter(&self) -> impl Iterator<Item = &proto::Attribute> {
        self.entries.iter()
    }

    fn find(&self, name: &str) -> Option<&proto::Attribute> {
        self.entries.iter().find(|a| a.name.as_deref() == Some(name))
    }

    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// An attribute read by `get`; an error that calls the type `kind` if `get` returns `None`.
    fn typed<T>(
        &self,
        name: &str,
        kind: &str,
        get: impl Fn(&proto::Attribute) -> Option<T>,
    ) -> Res<Option<T>> {
        match self.find(name) {
            None => Ok(None),
            Some(a) => {
                get(a).map(Some).ok_or_else(|| format!("attribute '{name}' is not of type {kind}").into())
            }
        }
    }

    pub fn int(&self, name: &str) -> Res<Option<i64>> {
        self.typed(name, "integer", |a| a.i)
    }

    pub fn int_or(&self, name: &str, default: i64) -> Res<i64> {
        Ok(self.int(name)?.unwrap_or(default))
    }

    /// An integer attribute that stands for a boolean.
    pub fn flag(&self, name: &str, default: bool) -> Res<bool> {
        Ok(self.int(name)?.map_or(default, |i| i != 0))
    }

    pub fn float(&self, name: &str) -> Res<Option<f64>> {
        self.typed(name, "number", |a| a.f.map(f64::from))
    }

    /// The attribute, or the default, which is rounded to f32 as a stored attribute would be.
    pub fn float_or(&self, name: &str, default: f32) -> Res<f64> {
        Ok(self.float(name)?.unwrap_or_else(|| f64::from(default)))
    }

    pub fn string(&self, name: &str) -> Res<Option<&str>> {
        match self.find(name) {
            None => Ok(None),
            Some(a) => {
                let text = a.s.as_ref().and_then(|s| std::str::from_utf8(s).ok());
                text.map(Some).ok_or_else(|| format!("attribute '{name}' is not a string").into())
            }
        }
    }

    pub fn string_or(&self, name: &str, default: &'static str) -> Res<&str> {
        Ok(self.string(name)?.unwrap_or(default))
    }

    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        self.find(name).map(|a| a.ints.as_slice())
    }

    pub fn floats(&self, name: &str) -> Option<&[f32]> {
        self.find(name).map(|a| a.floats.as_slice())
    }

    /// A list of strings; empty if it is absent.
    pub fn strings(&self, name: &str) -> Res<Vec<&str>> {
        let list = self.find(name).map_or(&[][..], |a| a.strings.as_slice());
        let text = list.iter().map(|s| std::str::from_utf8(s).ok()).collect::<Option<Vec<&str>>>();
        text.ok_or_else(|| format!("attribute '{name}' does not hold text").into())
    }

    pub fn tensor(&self, name: &str) -> Res<Option<&proto::Tensor>> {
        match self.find(name) {
            None => Ok(None),
            Some(a) => {
                a.t.as_ref().map(Some).ok_or_else(|| format!("attribute '{name}' is not a tensor").into())
            }
        }
    }
}
