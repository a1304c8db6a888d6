//! Assigns values of inputs to features.

use candle_core::{DType, Tensor};

use super::windows::slide;
use crate::error::{Error, Result};
use crate::inputs::Inputs;
use crate::variations::Rectangle;

/// A contiguous run of values of an explained input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Index of the explained input.
    pub input: usize,
    /// Row-major offset of the first value within one sample.
    pub start: usize,
    /// Number of values.
    pub len: usize,
}

/// The features of one sample: the values of feature i are `runs[ends[i - 1]..ends[i]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Cover {
    ends: Vec<usize>,
    runs: Vec<Run>,
}

impl Cover {
    fn close(&mut self) {
        self.ends.push(self.runs.len());
    }

    /// Adds a position: extends the last run if the position follows it, otherwise starts a new run.
    fn push(&mut self, input: usize, at: usize) {
        let from = self.ends.last().copied().unwrap_or_default();
        match self.runs[from..].last_mut() {
            Some(run) if run.input == input && run.start + run.len == at => run.len += 1,
            _ => self.runs.push(Run { input, start: at, len: 1 }),
        }
    }
}

/// Sets of values of the explained inputs, numbered from 0: a partition (every value belongs to one feature), or a
/// cover whose features may overlap, such as sliding windows. A feature may extend over several inputs. All samples
/// of a batch share the features, or each has its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Features {
    /// Shape of each explained input without the batch axis.
    sides: Vec<Vec<usize>>,
    /// One cover for all samples, or one for each sample.
    covers: Vec<Cover>,
}

impl Features {
    /// Windows that slide over each explained input, one input after the other. `window` and `stride` apply to the
    /// last axes of the input; the axes before them are covered completely. A single number applies to all
    /// axes after the batch and the channels: a square on images `[N, C, H, W]`, a cube on volumes `[N, C, D, H, W]`, an
    /// interval on time series `[N, C, T]` and tables `[N, F]`. Windows start at multiples of the stride; the last one along
    /// an axis is cut off at the end of the axis.
    ///
    /// # Errors
    /// If a size is 0, there are more sizes than axes, or the numbers of sizes and strides differ.
    pub fn windows(x: &Inputs, window: &[usize], stride: &[usize]) -> Result<Self> {
        let sides = sides(x);
        let mut cover = Cover::default();
        for (input, sides) in sides.iter().enumerate() {
            let axes = sides.len().saturating_sub(1).max(1);
            let each_axis = |sizes: &[usize]| match *sizes {
                [one] => vec![one; axes],
                _ => sizes.to_vec(),
            };
            for window in slide(sides, &each_axis(window), &each_axis(stride))? {
                window.runs(sides, |start, len| cover.runs.push(Run { input, start, len }));
                cover.close();
            }
        }
        Ok(Self { sides, covers: vec![cover] })
    }

    /// The positions of each explained input in row-major order: the pixels of images `[N, C, H, W]`, each with all
    /// channels, the columns of tables `[N, F]`, the steps of time series `[N, C, T]`.
    ///
    /// # Errors
    /// The errors of [`Inputs`].
    pub fn positions(x: &Inputs) -> Result<Self> {
        let sides = sides(x);
        let mut cover = Cover::default();
        for (input, sides) in sides.iter().enumerate() {
            let channels = if sides.len() > 1 { sides[0] } else { 1 };
            let area: usize = sides.iter().product::<usize>() / channels.max(1);
            for at in 0..area {
                let runs = (0..channels).map(|c| Run { input, start: c * area + at, len: 1 });
                cover.runs.extend(runs);
                cover.close();
            }
        }
        Ok(Self { sides, covers: vec![cover] })
    }

    /// Values with the same label form one feature: superpixels, columns of a table that belong together, words over
    /// several inputs. `labels` holds one integer tensor for each explained input, which is broadcast to the shape of
    /// the input: `[H, W]`, `[N, 1, H, W]`. If a tensor has all axes of the input and more than one row, each sample
    /// has its own features.
    ///
    /// # Errors
    /// If there is not one tensor for each explained input; if a shape does not fit; if the labels of a sample are
    /// not 0, 1, … without gaps.
    pub fn labels(x: &Inputs, labels: &[Tensor]) -> Result<Self> {
        let sides = sides(x);
        if labels.len() != sides.len() {
            let problem = format!("are {} tensors", labels.len());
            return Err(Error::invalid("labels", problem, format!("one for each of {} inputs", sides.len())));
        }
        let batch = x.batch()?;
        let own = |(labels, sides): (&Tensor, &Vec<usize>)| {
            batch > 1 && labels.rank() == sides.len() + 1 && labels.dims().first() == Some(&batch)
        };
        let samples = if labels.iter().zip(&sides).any(own) { batch } else { 1 };
        let mut values = Vec::with_capacity(labels.len());
        for (labels, sides) in labels.iter().zip(&sides) {
            let shape: Vec<usize> = std::iter::once(samples).chain(sides.iter().copied()).collect();
            let problem = || {
                let problem = format!("have shape {:?}", labels.dims());
                Error::invalid("labels", problem, format!("{shape:?}, or one that broadcasts to it"))
            };
            if labels.dtype().is_float() {
                return Err(Error::invalid("labels", "are floating-point numbers", "integers"));
            }
            let spread = labels.broadcast_as(shape.as_slice()).map_err(|_| problem())?;
            values.push(spread.to_dtype(DType::I64)?.reshape((samples, ()))?.to_vec2::<i64>()?);
        }
        let covers: Result<Vec<Cover>> = (0..samples).map(|sample| labelled(&values, sample)).collect();
        Ok(Self { sides, covers: covers? })
    }

    /// Checks that these are features of the explained inputs of `x`.
    ///
    /// # Errors
    /// If the inputs have other shapes, or another number of samples.
    pub(super) fn check(&self, x: &Inputs) -> Result<()> {
        let (shapes, batch) = (sides(x), x.batch()?);
        if self.sides != shapes {
            let problem = format!("belong to inputs of the shapes {:?} per sample", self.sides);
            return Err(Error::invalid("features", problem, format!("features of {shapes:?}")));
        }
        if self.covers.len() != 1 && self.covers.len() != batch {
            let problem = format!("belong to {} samples", self.covers.len());
            return Err(Error::invalid("features", problem, format!("features of {batch} samples")));
        }
        Ok(())
    }

    fn cover(&self, sample: usize) -> &Cover {
        if self.covers.len() == 1 { &self.covers[0] } else { &self.covers[sample] }
    }

    /// Number of features of a sample.
    pub fn count(&self, sample: usize) -> usize {
        self.cover(sample).ends.len()
    }

    /// Shapes of all explained inputs without the batch.
    pub fn shapes(&self) -> &[Vec<usize>] {
        &self.sides
    }

    /// The values of a feature.
    ///
    /// # Panics
    /// If the sample has no such feature.
    pub fn runs(&self, sample: usize, feature: usize) -> &[Run] {
        let cover = self.cover(sample);
        let from = if feature == 0 { 0 } else { cover.ends[feature - 1] };
        &cover.runs[from..cover.ends[feature]]
    }

    /// The smallest rectangle of the last two axes that contains all values of some features; `None` if there is more
    /// than one input, the input is not an image `[N, C, H, W]`, or the features are empty.
    pub fn bounds(&self, sample: usize, features: &[usize]) -> Option<Rectangle> {
        let [only] = self.sides.as_slice() else { return None };
        let &[_, height, width] = only.as_slice() else { return None };
        let mut bounds: Option<[usize; 4]> = None;
        for run in features.iter().flat_map(|&feature| self.runs(sample, feature)) {
            let (first, last) = (run.start % (height * width), (run.start + run.len - 1) % (height * width));
            let (top, bottom) = (first / width, last / width);
            // A run that extends beyond the end of a row or of a channel covers whole rows.
            let whole = run.len > width - first % width;
            let (left, right) = if whole { (0, width - 1) } else { (first % width, last % width) };
            let (top, bottom) = if run.start % (height * width) + run.len > height * width {
                (0, height - 1)
            } else {
                (top, bottom)
            };
            let [t, l, b, r] = bounds.get_or_insert([top, left, bottom, right]);
            (*t, *l, *b, *r) = ((*t).min(top), (*l).min(left), (*b).max(bottom), (*r).max(right));
            if (*t, *l, *b, *r) == (0, 0, height - 1, width - 1) {
                break;
            }
        }
        bounds.map(|[top, left, bottom, right]| Rectangle {
            start: [top, left],
            size: [bottom - top + 1, right - left + 1],
        })
    }

    /// For each value of each input, the number of features of the sample that contain it.
    pub fn coverage(&self, sample: usize) -> Vec<Vec<usize>> {
        let mut counts: Vec<Vec<usize>> =
            self.sides.iter().map(|sides| vec![0; sides.iter().product()]).collect();
        for run in &self.cover(sample).runs {
            counts[run.input][run.start..run.start + run.len].iter_mut().for_each(|count| *count += 1);
        }
        counts
    }

    /// Number of values of a sample that belong to no feature.
    pub fn uncovered(&self, sample: usize) -> usize {
        self.coverage(sample).iter().flatten().filter(|&&count| count == 0).count()
    }

    /// Whether every value of a sample belongs to exactly one feature.
    pub fn is_partition(&self, sample: usize) -> bool {
        self.coverage(sample).iter().flatten().all(|&count| count == 1)
    }

    /// Values of features as attributions of inputs: one tensor per explained input of `x`, shaped like it. Each
    /// value of an input gets the mean over the features that contain it, or 0 if there are none. The index order is
    /// `values[sample][feature]`.
    ///
    /// # Errors
    /// If there is not one value for every feature of every sample of `x`.
    pub fn to_inputs(&self, x: &Inputs, values: &[Vec<f64>]) -> Result<Vec<Tensor>> {
        let batch = x.batch()?;
        let counts: Vec<usize> = (0..batch).map(|sample| self.count(sample)).collect();
        if values.iter().map(Vec::len).ne(counts.iter().copied()) {
            let found: Vec<usize> = values.iter().map(Vec::len).collect();
            return Err(Error::invalid(
                "values of features",
                format!("are {found:?}"),
                format!("{counts:?}"),
            ));
        }
        let mut sums: Vec<Vec<f64>> = self
            .sides
            .iter()
            .map(|sides| Vec::with_capacity(batch * sides.iter().product::<usize>()))
            .collect();
        let mut shared = None;
        for (sample, values) in values.iter().enumerate() {
            let mut own: Vec<Vec<f64>> =
                self.sides.iter().map(|sides| vec![0.0; sides.iter().product()]).collect();
            for (feature, value) in values.iter().enumerate() {
                for run in self.runs(sample, feature) {
                    own[run.input][run.start..run.start + run.len].iter_mut().for_each(|sum| *sum += value);
                }
            }
            if shared.is_none() || self.covers.len() > 1 {
                shared = Some(self.coverage(sample));
            }
            for ((sums, own), counts) in sums.iter_mut().zip(own).zip(shared.iter().flatten()) {
                sums.extend(own.iter().zip(counts).map(|(sum, &count)| sum / count.max(1) as f64));
            }
        }
        x.explained()
            .zip(sums)
            .map(|(input, means)| {
                let like = &input.value;
                // Tokens are integers, their attributions are not.
                let dtype = if like.dtype().is_float() { like.dtype() } else { DType::F32 };
                Ok(Tensor::from_vec(means, like.shape(), like.device())?.to_dtype(dtype)?)
            })
            .collect()
    }
}

fn sides(x: &Inputs) -> Vec<Vec<usize>> {
    x.explained().map(|input| input.value.dims()[1..].to_vec()).collect()
}

/// The features of one sample from the labels of all values: `values[input][sample][position]`.
fn labelled(values: &[Vec<Vec<i64>>], sample: usize) -> Result<Cover> {
    let all = || values.iter().flat_map(|of_input| of_input[sample].iter().copied());
    let expected = "0, 1, 2, … without a gap";
    let (Some(low), Some(high)) = (all().min(), all().max()) else {
        return Err(Error::invalid("labels", "are empty", "one for each value"));
    };
    if low < 0 || high >= all().count() as i64 {
        return Err(Error::invalid("labels", format!("reach from {low} to {high}"), expected));
    }
    let mut members: Vec<Vec<(usize, usize)>> = vec![Vec::new(); high as usize + 1];
    for (input, of_input) in values.iter().enumerate() {
        for (at, &label) in of_input[sample].iter().enumerate() {
            members[label as usize].push((input, at));
        }
    }
    let mut cover = Cover::default();
    for (label, positions) in members.into_iter().enumerate() {
        if positions.is_empty() {
            let problem = format!("reach to {high}, and {label} does not occur");
            return Err(Error::invalid("labels", problem, expected));
        }
        for (input, at) in positions {
            cover.push(input, at);
        }
        cover.close();
    }
    Ok(cover)
}
