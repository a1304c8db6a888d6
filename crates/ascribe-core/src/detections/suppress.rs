//! Overlap of boxes, and non-maximum suppression.

use super::{Corners, Detection};

/// Overlap above which the lower one of two boxes of a class is dropped.
const OVERLAP: f64 = 0.5;

/// Intersection over union of two boxes: 0 if they do not meet.
pub fn overlap(a: &Corners, b: &Corners) -> f64 {
    let area = |c: &Corners| (c[2] - c[0]).max(0.0) * (c[3] - c[1]).max(0.0);
    let both = [a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])];
    let both = area(&both);
    let union = area(a) + area(b) - both;
    if union > 0.0 { both / union } else { 0.0 }
}

/// The `count` best candidates in the order of their scores; with `suppress`, those that a better one of their class covers
/// are left out. Candidates of equal score keep their order; NaN scores are left out.
pub(super) fn suppressed(mut all: Vec<Detection>, count: usize, suppress: bool) -> Vec<Detection> {
    all.retain(|one| !one.score.is_nan());
    all.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept: Vec<Detection> = Vec::new();
    for one in all {
        if kept.len() == count {
            break;
        }
        let covers =
            |other: &Detection| other.class == one.class && overlap(&other.corners, &one.corners) > OVERLAP;
        if !suppress || !kept.iter().any(covers) {
            kept.push(one);
        }
    }
    kept
}
