//! Inputs of a model.

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::values;

/// Whether a method may vary an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The input is explained: methods vary it, and it gets an attribution.
    Explained,
    /// The input is fixed: methods do not vary it.
    Fixed,
}

/// One named input.
#[derive(Clone, Debug)]
pub struct Input {
    /// Name; empty for a single anonymous input.
    pub name: String,
    /// Values; the first axis is the batch.
    pub value: Tensor,
    /// Whether it is explained.
    pub role: Role,
}

/// One or more tensors with the same number of samples along the first axis.
///
/// ```
/// use ascribe_core::Inputs;
/// use candle_core::{Device, Tensor};
/// let x = Inputs::single(Tensor::zeros((2, 3), candle_core::DType::F32, &Device::Cpu)?)?;
/// assert_eq!(x.batch()?, 2);
/// # Ok::<(), ascribe_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Inputs {
    entries: Vec<Input>,
}

impl Inputs {
    /// One anonymous input.
    ///
    /// # Errors
    /// If it has no batch axis or no samples.
    pub fn single(value: Tensor) -> Result<Self> {
        Self::named([("", value)])
    }

    /// Several inputs by name. Integer inputs are [`Role::Fixed`], since they have no gradient, unless they are to be explained
    /// ([`Inputs::explain`]).
    ///
    /// # Errors
    /// If there is none, one has no batch axis or no samples, or the numbers of samples differ.
    pub fn named<N: Into<String>>(inputs: impl IntoIterator<Item = (N, Tensor)>) -> Result<Self> {
        let entries: Vec<Input> = inputs
            .into_iter()
            .map(|(name, value)| {
                let role = if value.dtype().is_float() { Role::Explained } else { Role::Fixed };
                Input { name: name.into(), value, role }
            })
            .collect();
        let inputs = Self { entries };
        inputs.check()?;
        Ok(inputs)
    }

    fn check(&self) -> Result<()> {
        let mut batch = None;
        if self.entries.is_empty() {
            return Err(Error::invalid("inputs", "none given", "at least one tensor"));
        }
        for input in &self.entries {
            let what =
                || if input.name.is_empty() { "input".into() } else { format!("input '{}'", input.name) };
            let Some(&n) = input.value.dims().first() else {
                return Err(Error::invalid(what(), "is a scalar", "a first axis that counts the samples"));
            };
            if input.value.elem_count() == 0 {
                let problem = format!("has shape {:?}, no values", input.value.dims());
                return Err(Error::invalid(what(), problem, "at least one sample with at least one value"));
            }
            if *batch.get_or_insert(n) != n {
                let problem = format!("has {n} samples");
                return Err(Error::invalid(
                    what(),
                    problem,
                    format!("{} as the first input", batch.unwrap_or(0)),
                ));
            }
        }
        Ok(())
    }

    /// Adds an input.
    ///
    /// # Errors
    /// As [`Inputs::named`].
    pub fn with(mut self, name: &str, value: Tensor, role: Role) -> Result<Self> {
        self.entries.push(Input { name: name.into(), value, role });
        self.check()?;
        Ok(self)
    }

    /// Makes an input [`Role::Fixed`]: methods will neither vary nor explain it.
    ///
    /// # Errors
    /// If there is no such input.
    pub fn fix(self, name: &str) -> Result<Self> {
        self.with_role(name, Role::Fixed)
    }

    /// Makes an input [`Role::Explained`]. Integers are explained by methods that only replace values; they have no gradient.
    ///
    /// # Errors
    /// If there is no such input.
    pub fn explain(self, name: &str) -> Result<Self> {
        self.with_role(name, Role::Explained)
    }

    fn with_role(mut self, name: &str, role: Role) -> Result<Self> {
        let input = self.entries.iter_mut().find(|i| i.name == name).ok_or_else(|| {
            Error::invalid("inputs", format!("there is no '{name}'"), "the name of an input")
        })?;
        input.role = role;
        Ok(self)
    }

    /// All inputs.
    pub fn iter(&self) -> impl Iterator<Item = &Input> {
        self.entries.iter()
    }

    /// Number of inputs.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none; never true.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of the input of this name; a single anonymous input is returned for any name.
    pub fn find(&self, name: &str) -> Option<&Tensor> {
        match self.entries.as_slice() {
            [only] if only.name.is_empty() => Some(&only.value),
            entries => entries.iter().find(|i| i.name == name).map(|i| &i.value),
        }
    }

    /// The inputs to be explained.
    pub fn explained(&self) -> impl Iterator<Item = &Input> {
        self.entries.iter().filter(|i| i.role == Role::Explained)
    }

    /// Replaces the values of the explained inputs, in order.
    ///
    /// # Errors
    /// If their number differs, or the numbers of samples then do.
    pub fn with_explained(&self, values: Vec<Tensor>) -> Result<Self> {
        let mut next = values.into_iter();
        let mut entries = self.entries.clone();
        for input in entries.iter_mut().filter(|i| i.role == Role::Explained) {
            input.value = next.next().ok_or_else(|| {
                Error::invalid("values", "too few", format!("{} explained inputs", self.explained().count()))
            })?;
        }
        if next.next().is_some() {
            let expected = format!("{} explained inputs", self.explained().count());
            return Err(Error::invalid("values", "too many", expected));
        }
        let inputs = Self { entries };
        inputs.check()?;
        Ok(inputs)
    }

    /// Rows that are variations of the samples at these positions: `values` for the explained inputs, in order, and the
    /// samples' own values for the other inputs.
    ///
    /// # Errors
    /// As [`Inputs::select`] and [`Inputs::with_explained`].
    pub fn varied(&self, samples: &[usize], values: Vec<Tensor>) -> Result<Self> {
        let fixed: Vec<Input> = self.entries.iter().filter(|i| i.role != Role::Explained).cloned().collect();
        let fixed = if fixed.is_empty() { fixed } else { Self { entries: fixed }.select(samples)?.entries };
        let mut fixed = fixed.into_iter();
        let own = |input: &Input| match input.role {
            Role::Explained => Some(input.clone()),
            Role::Fixed => fixed.next(),
        };
        let inputs = Self { entries: self.entries.iter().filter_map(own).collect() };
        inputs.with_explained(values)
    }

    /// Number of samples.
    ///
    /// # Errors
    /// Never for inputs made through this type.
    pub fn batch(&self) -> Result<usize> {
        let first = self.entries.first().and_then(|i| i.value.dims().first().copied());
        first.ok_or_else(|| Error::invalid("inputs", "none given", "at least one tensor"))
    }

    /// The samples at these positions, in this order; positions may repeat.
    ///
    /// # Errors
    /// If a position is out of range.
    pub fn select(&self, samples: &[usize]) -> Result<Self> {
        let batch = self.batch()?;
        if samples.iter().copied().eq(0..batch) {
            return Ok(self.clone());
        }
        if let Some(bad) = samples.iter().find(|&&s| s >= batch) {
            return Err(Error::invalid("sample", format!("number {bad}"), format!("less than {batch}")));
        }
        let entries: Result<Vec<Input>> =
            self.entries.iter().map(|i| Ok(Input { value: rows(&i.value, samples)?, ..i.clone() })).collect();
        let inputs = Self { entries: entries? };
        inputs.check()?;
        Ok(inputs)
    }

    /// Checks that all floating-point values are finite.
    ///
    /// # Errors
    /// Names the input and the position of the first NaN or infinity.
    pub fn check_finite(&self) -> Result<()> {
        for input in self.entries.iter().filter(|i| i.value.dtype().is_float()) {
            check_finite(&format!("input '{}'", input.name), &input.value)?;
        }
        Ok(())
    }
}

/// Rows of a tensor, along the first axis.
pub(crate) fn rows(value: &Tensor, samples: &[usize]) -> Result<Tensor> {
    if let [one] = samples {
        return Ok(value.narrow(0, *one, 1)?.contiguous()?);
    }
    let index: Vec<u32> = samples.iter().map(|&s| s as u32).collect();
    let index = Tensor::from_vec(index, samples.len(), value.device())?;
    Ok(value.contiguous()?.index_select(&index, 0)?)
}

/// Checks that all values of a tensor are finite.
///
/// # Errors
/// Names the value and the position of the first NaN or infinity.
pub fn check_finite(what: &str, value: &Tensor) -> Result<()> {
    let Some((at, found)) = values::first_not_finite(value)? else { return Ok(()) };
    let mut index = Vec::with_capacity(value.rank());
    let mut rest = at;
    for &side in value.dims().iter().rev() {
        index.push(rest % side);
        rest /= side;
    }
    index.reverse();
    Err(Error::invalid(what, format!("is {found} at {index:?}"), "finite values"))
}
