//! Findings: what a reader of a map should know about its values.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Something about the values of a map that its picture alone could hide. The map is drawn unchanged; the finding
/// explains why it looks as it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was found.
    pub kind: FindingKind,
    /// One sentence with numbers and the likely reason.
    pub message: String,
}

/// The kinds of [`Finding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FindingKind {
    /// Every value is zero.
    AllZero,
    /// A signed map has no positive value.
    AllNegative,
    /// All values are the same and not zero.
    Constant,
    /// Some values are NaN.
    NotANumber,
    /// Some values are infinite.
    Infinite,
    /// So few values differ from zero that the percentile is zero; the scale goes to the largest value instead.
    Sparse,
    /// A finding of the caller.
    Other,
}

impl Finding {
    /// A finding with its message.
    pub fn new(kind: FindingKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The findings for the values of a map; `signed` is whether negative values were possible.
pub(crate) fn inspect(values: &[f64], signed: bool) -> Vec<Finding> {
    let mut found = Vec::new();
    let total = values.len();
    let nan = values.iter().filter(|v| v.is_nan()).count();
    let infinite = values.iter().filter(|v| v.is_infinite()).count();
    if nan > 0 {
        found.push(Finding::new(
            FindingKind::NotANumber,
            format!(
                "{nan} of {total} values are not a number (drawn hatched): the model or the method divided zero by \
                 zero or overflowed; f64 may help"
            ),
        ));
    }
    if infinite > 0 {
        found.push(Finding::new(
            FindingKind::Infinite,
            format!("{infinite} of {total} values are infinite (drawn as the end of the scale): an overflow; f64 may help"),
        ));
    }
    let (min, max) = finite_range(values);
    if min > max {
        return found;
    }
    if min == 0.0 && max == 0.0 {
        found.push(Finding::new(
            FindingKind::AllZero,
            format!(
                "{}: no gradient or relevance of the target arrives here, \
             or the input equals the baseline",
                if nan + infinite == 0 { "the map is zero everywhere" } else { "all other values are zero" }
            ),
        ));
    } else if signed && max <= 0.0 {
        found.push(Finding::new(
            FindingKind::AllNegative,
            format!("no value is positive (range {min:.3e} to {max:.3e}): every position is evidence against the target"),
        ));
    }
    if min == max && min != 0.0 && total > 1 {
        found.push(Finding::new(
            FindingKind::Constant,
            format!("every value is {min:.3e}: the map does not distinguish positions"),
        ));
    }
    found
}

/// Smallest and largest finite value; (∞, −∞) if there is none.
pub(crate) fn finite_range(values: &[f64]) -> (f64, f64) {
    values
        .iter()
        .filter(|v| v.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &v| (low.min(v), high.max(v)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(values: &[f64], signed: bool) -> Vec<FindingKind> {
        inspect(values, signed).into_iter().map(|f| f.kind).collect()
    }

    #[test]
    fn each_kind_is_found_and_ordinary_maps_are_silent() {
        use FindingKind::{AllNegative, AllZero, Constant, Infinite, NotANumber};
        assert_eq!(kinds(&[0.0, -0.0], true), [AllZero]);
        assert_eq!(kinds(&[-1.0, -2.0], true), [AllNegative]);
        assert_eq!(kinds(&[0.0, -2.0], true), [AllNegative]);
        assert_eq!(kinds(&[3.0, 3.0], false), [Constant]);
        assert_eq!(kinds(&[-3.0, -3.0], true), [AllNegative, Constant]);
        assert_eq!(kinds(&[f64::NAN, 1.0, 2.0], true), [NotANumber]);
        assert_eq!(kinds(&[f64::INFINITY, 1.0, 2.0], true), [Infinite]);
        assert_eq!(kinds(&[f64::NAN, 0.0], true), [NotANumber, AllZero]);
        assert_eq!(kinds(&[f64::NAN; 4], true), [NotANumber]);
        assert_eq!(kinds(&[-1.0, 2.0], true), []);
        assert_eq!(kinds(&[0.0, 2.0], false), []);
    }

    #[test]
    fn the_message_counts() {
        let message = inspect(&[f64::NAN, 1.0, f64::NAN, 2.0], true)[0].to_string();
        assert!(message.starts_with("2 of 4 values are not a number"), "{message}");
    }
}
