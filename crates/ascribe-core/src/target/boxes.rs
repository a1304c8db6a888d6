//! Targets of detectors.

use candle_core::{DType, Device, Tensor};

use crate::detections::{Corners, Detection, Detections, Form, overlap};
use crate::error::{Error, Result};
use crate::outputs::Outputs;

/// For each sample a detection, whose class score is explained.
///
/// When the input is varied, the detection is looked for again: the score is that of the detection's class at the candidate
/// `j` that maximises `IoU(b, b_j) · cos(p, p_j) · o_j`, with the box `b` and the scores of classes `p` of the detection (the
/// similarity of Petsiuk et al. 2021, Black-box Explanation of Object Detectors via Saliency Maps, §3.3), and the score `o_j` of
/// the candidate's best class as the probability that it is an object. If no candidate meets the box, it is the lowest score of the class, or 0 where the model lists what it has found.
///
/// For methods that use gradients ([`Boxes::anchored`]) it is always the candidate that the detection came from, so that
/// the score is a continuous function of the input; unless the model lists what it has found, where rows have no place of
/// their own.
#[derive(Clone, Debug)]
pub struct Boxes {
    form: Form,
    rank: usize,
    picks: Vec<Pick>,
    anchored: bool,
}

/// The detection of a sample.
#[derive(Clone, Debug)]
struct Pick {
    detection: Detection,
    /// Its scores of all classes.
    scores: Vec<f64>,
}

impl Boxes {
    /// Detection number `rank` of each sample, the best one first.
    pub(super) fn ranked(outputs: &Outputs, rank: usize) -> Result<Self> {
        let found = Detections::of(outputs)?;
        let pick = |sample: usize| {
            let best = found.list(sample, rank + 1)?;
            let detection = best.get(rank).cloned().ok_or_else(|| {
                let problem = format!("box {rank} of sample {sample}");
                Error::invalid("target", problem, format!("one of {} boxes", best.len()))
            })?;
            let scores = found.scores[sample][detection.candidate].clone();
            Ok(Pick { detection, scores })
        };
        let picks = (0..outputs.primary().dim(0)?).map(pick).collect::<Result<_>>()?;
        Ok(Self { form: found.form, rank, picks, anchored: false })
    }

    /// The detections of several batches as those of one.
    ///
    /// # Errors
    /// If there are none, or the boxes are in different forms.
    pub fn joined(all: &[&Self]) -> Result<Self> {
        let first = all.first().ok_or_else(|| Error::invalid("boxes", "of no samples", "at least one"))?;
        if !all.iter().all(|one| one.is_like(first)) {
            return Err(Error::invalid("boxes", "are in different forms", "outputs of one form"));
        }
        let picks = all.iter().flat_map(|one| one.picks.iter().cloned()).collect();
        Ok(Self { picks, ..(*first).clone() })
    }

    /// Whether the detections of both can be those of one batch.
    pub fn is_like(&self, other: &Self) -> bool {
        self.form == other.form && self.anchored == other.anchored && self.rank == other.rank
    }

    /// Which detection it is, counted from the best one, 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The detection of each sample.
    pub fn detections(&self) -> impl Iterator<Item = &Detection> {
        self.picks.iter().map(|pick| &pick.detection)
    }

    /// With the candidates that the detections came from, whatever the input.
    #[must_use]
    pub fn anchored(self) -> Self {
        Self { anchored: true, ..self }
    }

    /// Those of a batch whose row `i` varies sample `samples[i]`.
    pub(super) fn for_rows(&self, samples: &[usize]) -> Result<Self> {
        let picks: Option<Vec<Pick>> = samples.iter().map(|&s| self.picks.get(s).cloned()).collect();
        let picks = picks.ok_or_else(|| {
            let most = samples.iter().max().map_or(0, |s| s + 1);
            Error::invalid(
                "target",
                format!("{} boxes given", self.picks.len()),
                format!("{most}, one per sample"),
            )
        })?;
        Ok(Self { picks, ..self.clone() })
    }

    /// The score of each row.
    pub(super) fn score(&self, outputs: &Outputs, samples: &[usize]) -> Result<Tensor> {
        let own = self.for_rows(samples)?;
        let parts = self.form.parts(outputs)?;
        let (rows, candidates, classes) = parts.scores.dims3()?;
        let listed = parts.classes.is_some();
        let places: Vec<Option<usize>> = if self.anchored && !listed {
            own.picks.iter().map(|pick| Some(pick.detection.candidate)).collect()
        } else {
            let found = Detections::read(self.form.clone(), &outputs.like(detached(outputs))?)?;
            own.picks.iter().enumerate().map(|(row, pick)| pick.find(&found, row)).collect()
        };
        let flat = parts.scores.contiguous()?.reshape((rows, candidates * classes))?;
        let mut index = Vec::with_capacity(rows);
        let mut weights = Vec::with_capacity(rows);
        for (row, (pick, place)) in own.picks.iter().zip(places).enumerate() {
            let (place, weight) = match place {
                Some(place) => (place, 1.0),
                None if listed => (0, 0.0),
                None => (lowest(&parts.scores.get(row)?, pick.detection.class)?, 1.0),
            };
            if place >= candidates {
                let expected = format!("the {candidates} candidates of this output");
                return Err(Error::invalid("box", format!("candidate {place}"), expected));
            }
            let column = if listed { 0 } else { pick.detection.class };
            index.push((place * classes + column) as u32);
            weights.push(weight);
        }
        let index = Tensor::from_vec(index, (rows, 1), flat.device())?;
        let weights = Tensor::from_vec::<_, f64>(weights, rows, flat.device())?.to_dtype(flat.dtype())?;
        Ok((flat.gather(&index, 1)?.squeeze(1)? * weights)?)
    }
}

impl Pick {
    /// The candidate of a row that is most like the detection; `None` if none meets it.
    fn find(&self, found: &Detections, row: usize) -> Option<usize> {
        let Detection { class, corners, .. } = &self.detection;
        let alike = |candidate: usize, other: &Corners| {
            let overlap = overlap(corners, other);
            match &found.classes {
                _ if overlap == 0.0 => 0.0,
                Some(classes) if classes[row][candidate] != *class => 0.0,
                Some(_) => overlap * found.confidence(row, candidate),
                None => {
                    let similarity = cosine(&self.scores, &found.scores[row][candidate]);
                    overlap * similarity * found.confidence(row, candidate)
                }
            }
        };
        let all = found.corners[row]
            .iter()
            .enumerate()
            .map(|(candidate, other)| (candidate, alike(candidate, other)));
        let best = all.fold((0, 0.0), |best, one| if one.1 > best.1 { one } else { best });
        (best.1 > 0.0).then_some(best.0)
    }
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths > 0.0 { dot(a, b) / lengths } else { 0.0 }
}

/// The candidate with the lowest score of a class.
fn lowest(scores: &Tensor, class: usize) -> Result<usize> {
    let column = scores.narrow(1, class, 1)?.squeeze(1)?.to_dtype(DType::F64)?.to_device(&Device::Cpu)?;
    let lowest = column.to_vec1::<f64>()?.into_iter().enumerate().min_by(|a, b| a.1.total_cmp(&b.1));
    Ok(lowest.map_or(0, |(candidate, _)| candidate))
}

/// The outputs as plain values, without the operations that they come from.
fn detached(outputs: &Outputs) -> Vec<(String, Tensor)> {
    outputs.iter().map(|(name, value)| (name.to_string(), value.detach())).collect()
}
