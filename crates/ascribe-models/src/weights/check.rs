//! Compares the parameters in a file with those that an architecture expects.

use std::collections::HashMap;
use std::fmt;

use super::StateDict;

/// The parameters of a file that are missing, unexpected, or of another shape than expected.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ParameterMismatch {
    /// Names that are missing in the file, with the expected shape.
    pub missing: Vec<(String, Vec<usize>)>,
    /// Names in the file that the architecture does not use, with their shape.
    pub extra: Vec<(String, Vec<usize>)>,
    /// Name, expected shape, shape in the file.
    pub misshaped: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl ParameterMismatch {
    fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty() && self.misshaped.is_empty()
    }
}

impl fmt::Display for ParameterMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the parameters do not fit the architecture: {} missing, {} unexpected, {} of the wrong shape",
            self.missing.len(),
            self.extra.len(),
            self.misshaped.len()
        )?;
        for (name, shape) in &self.missing {
            write!(f, "\n  missing: {name} {shape:?}")?;
        }
        for (name, shape) in &self.extra {
            write!(f, "\n  unexpected: {name} {shape:?}")?;
        }
        for (name, expected, found) in &self.misshaped {
            write!(f, "\n  wrong shape: {name} is {found:?}, expected {expected:?}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ParameterMismatch {}

/// Whether a parameter is the number of training batches that batch normalisation counts, which does not affect the
/// output of the network.
pub(super) fn is_counter(name: &str) -> bool {
    name == "num_batches_tracked" || name.ends_with(".num_batches_tracked")
}

/// Compares names and shapes; unexpected parameters are accepted if `optional(name)` is true.
pub(super) fn check<S: AsRef<str>>(
    found: &StateDict,
    expected: &[(S, Vec<usize>)],
    optional: impl Fn(&str) -> bool,
) -> Result<(), ParameterMismatch> {
    let wanted: HashMap<&str, &[usize]> =
        expected.iter().map(|(name, shape)| (name.as_ref(), shape.as_slice())).collect();
    let mut mismatch = ParameterMismatch::default();
    for (name, shape) in expected {
        let name = name.as_ref();
        if is_counter(name) {
            continue;
        }
        match found.get(name) {
            Err(_) => mismatch.missing.push((name.to_owned(), shape.clone())),
            Ok(tensor) if tensor.dims() != shape.as_slice() => {
                mismatch.misshaped.push((name.to_owned(), shape.clone(), tensor.dims().to_vec()));
            }
            Ok(_) => {}
        }
    }
    for (name, tensor) in found.iter() {
        if !wanted.contains_key(name) && !is_counter(name) && !optional(name) {
            mismatch.extra.push((name.to_owned(), tensor.dims().to_vec()));
        }
    }
    if mismatch.is_empty() { Ok(()) } else { Err(mismatch) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Tensor};

    fn dict(entries: &[(&str, &[usize])]) -> StateDict {
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        entries.iter().map(|(name, shape)| (*name, zeros(shape))).collect()
    }

    #[test]
    fn all_differences_are_listed_by_name() {
        let found = dict(&[
            ("fc.weight", &[10, 4]),
            ("fc.bias", &[9]),
            ("head.bias", &[1]),
            ("bn.num_batches_tracked", &[]),
        ]);
        let expected = [("fc.weight", vec![10, 4]), ("fc.bias", vec![10]), ("bn.weight", vec![4])];
        let mismatch = found.check(&expected).unwrap_err();
        assert_eq!(mismatch.missing, [("bn.weight".to_owned(), vec![4])]);
        assert_eq!(mismatch.extra, [("head.bias".to_owned(), vec![1])]);
        assert_eq!(mismatch.misshaped, [("fc.bias".to_owned(), vec![10], vec![9])]);
        let text = mismatch.to_string();
        for line in ["missing: bn.weight [4]", "unexpected: head.bias [1]", "fc.bias is [9], expected [10]"] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn auxiliary_heads_can_be_optional() {
        let found = dict(&[("fc.weight", &[2]), ("aux1.fc.weight", &[3])]);
        let expected = [("fc.weight", vec![2])];
        assert!(found.check(&expected).is_err());
        assert!(found.check_with_optional(&expected, |name| name.starts_with("aux1.")).is_ok());
    }
}
