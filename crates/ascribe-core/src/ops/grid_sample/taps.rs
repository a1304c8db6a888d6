//! Which pixels along an axis a coordinate reads, and with which weights.

use super::{GridSample, SampleMode, SamplePadding};

/// A pixel along an axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tap {
    /// Its index; `None` outside of the image.
    pub at: Option<usize>,
    /// Its weight.
    pub weight: f64,
    /// The derivative of the weight with respect to the coordinate of the grid.
    pub slope: f64,
}

/// Mirrors a position at `low` and `high`; also the sign of the derivative.
fn reflect(x: f64, low: f64, high: f64) -> (f64, f64) {
    let span = high - low;
    if span <= 0.0 {
        return (low, 0.0);
    }
    let (distance, sign) = if x < low { (low - x, -1.0) } else { (x - low, 1.0) };
    let turns = (distance / span).floor();
    let rest = distance - turns * span;
    if turns % 2.0 == 0.0 { (low + rest, sign) } else { (high - rest, -sign) }
}

/// A position moved into the image by the padding; also the derivative of the move.
fn inside(op: GridSample, x: f64, side: usize) -> (f64, f64) {
    let last = side as f64 - 1.0;
    let clamp = |x: f64, slope: f64| {
        if x <= 0.0 {
            (0.0, if x == 0.0 { slope } else { 0.0 })
        } else if x >= last {
            (last, if x == last { slope } else { 0.0 })
        } else {
            (x, slope)
        }
    };
    match op.padding {
        SamplePadding::Zeros => (x, 1.0),
        SamplePadding::Border => clamp(x, 1.0),
        SamplePadding::Reflection => {
            let (low, high) = if op.align_corners { (0.0, last) } else { (-0.5, last + 0.5) };
            let (x, slope) = reflect(x, low, high);
            clamp(x, slope)
        }
    }
}

/// The pixel at a whole position.
fn pixel(x: f64, side: usize) -> Option<usize> {
    (x >= 0.0 && x < side as f64).then_some(x as usize)
}

/// Weights and slopes of four neighbours at distance `t` behind the second.
fn cubic(t: f64) -> [(f64, f64); 4] {
    const A: f64 = -0.75;
    // Keys' kernel within 1 of the pixel, and between 1 and 2, with their derivatives.
    let near =
        |x: f64| (((A + 2.0) * x - (A + 3.0)) * x * x + 1.0, (3.0 * (A + 2.0) * x - 2.0 * (A + 3.0)) * x);
    let far =
        |x: f64| (((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A, (3.0 * A * x - 10.0 * A) * x + 8.0 * A);
    let flip = |(weight, slope): (f64, f64)| (weight, -slope);
    [far(t + 1.0), near(t), flip(near(1.0 - t)), flip(far(2.0 - t))]
}

/// The taps of a coordinate of the grid along an axis of this length.
pub(super) fn taps(op: GridSample, coordinate: f64, side: usize) -> Vec<Tap> {
    let size = side as f64;
    let (x, scale) = if op.align_corners {
        ((coordinate + 1.0) * (size - 1.0) / 2.0, (size - 1.0) / 2.0)
    } else {
        (((coordinate + 1.0) * size - 1.0) / 2.0, size / 2.0)
    };
    match op.mode {
        SampleMode::Nearest => {
            let (x, _) = inside(op, x, side);
            vec![Tap { at: pixel(x.round_ties_even(), side), weight: 1.0, slope: 0.0 }]
        }
        SampleMode::Linear => {
            let (x, slope) = inside(op, x, side);
            let (first, slope) = (x.floor(), slope * scale);
            let t = x - first;
            vec![
                Tap { at: pixel(first, side), weight: 1.0 - t, slope: -slope },
                Tap { at: pixel(first + 1.0, side), weight: t, slope },
            ]
        }
        SampleMode::Cubic => {
            let first = x.floor();
            let weights = cubic(x - first).into_iter().enumerate();
            weights
                .map(|(i, (weight, slope))| {
                    let (at, _) = inside(op, first - 1.0 + i as f64, side);
                    Tap { at: pixel(at, side), weight, slope: slope * scale }
                })
                .collect()
        }
    }
}
