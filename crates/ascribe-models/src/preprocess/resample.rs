//! Resizes 8-bit images with exactly the results of Pillow.
//!
//! Networks are evaluated on images that Pillow has resized, so its rounding is part of the reference. Pillow uses a
//! separable filter, which is stretched by the scale when the image gets smaller (antialiasing), with fixed-point
//! coefficients of 22 fractional bits. It resizes all rows first, rounds to 8 bits, and then resizes all columns. If
//! the width or the height does not change, that pass is omitted.
//!
//! Each output pixel depends only on a small window of the input. So [`resize_window`] only computes the pixels inside
//! the crop, and an image with an extreme aspect ratio costs no more than its crop.

use super::Interpolation;

/// Fractional bits of a coefficient: of 32 bits, 8 are for the pixel and 2 for overshoot and sign.
const PRECISION: u32 = 22;

/// For each output position, the first input position and the weights in fixed point.
struct Filter {
    windows: Vec<(usize, Vec<i32>)>,
}

/// Radius and function of a filter.
fn kernel(interpolation: Interpolation) -> (f64, fn(f64) -> f64) {
    match interpolation {
        // Not used, since `Filter::new` handles it separately; a box of half a pixel would select the same pixels.
        Interpolation::Nearest => (0.5, |_| 1.0),
        Interpolation::Bilinear => (1.0, |x| (1.0 - x.abs()).max(0.0)),
        Interpolation::Bicubic => (2.0, |x| {
            // Keys' cubic convolution with a = −1/2.
            const A: f64 = -0.5;
            let x = x.abs();
            if x < 1.0 {
                ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
            } else if x < 2.0 {
                (((x - 5.0) * x + 8.0) * x - 4.0) * A
            } else {
                0.0
            }
        }),
    }
}

impl Filter {
    /// The weights for the outputs `from..from + count` when `input` positions are resized to `output` positions.
    fn new(input: usize, output: usize, from: usize, count: usize, interpolation: Interpolation) -> Self {
        let scale = input as f64 / output as f64;
        if interpolation == Interpolation::Nearest {
            let one = 1 << PRECISION;
            let nearest = |i: usize| (((i as f64 + 0.5) * scale) as usize).min(input - 1);
            return Self { windows: (from..from + count).map(|i| (nearest(i), vec![one])).collect() };
        }
        let (radius, weight) = kernel(interpolation);
        let stretch = scale.max(1.0);
        let support = radius * stretch;
        let windows = (from..from + count).map(|i| {
            let centre = (i as f64 + 0.5) * scale;
            // Rounded by adding a half and truncating towards zero, as in Pillow's C code.
            let first = ((centre - support + 0.5) as i64).max(0) as usize;
            let end = ((centre + support + 0.5) as i64).min(input as i64) as usize;
            let inverse = 1.0 / stretch;
            let weights: Vec<f64> =
                (0..end - first).map(|k| weight(((k + first) as f64 - centre + 0.5) * inverse)).collect();
            // The weights have to be normalised, since the window is cut off at the border and sampled at discrete
            // points.
            let sum: f64 = weights.iter().sum();
            let divisor = if sum == 0.0 { 1.0 } else { sum };
            let fixed = weights.iter().map(|w| {
                let scaled = w / divisor * f64::from(1 << PRECISION);
                (if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
            });
            (first, fixed.collect())
        });
        Self { windows: windows.collect() }
    }
}

/// A range of positions along one side of the resized image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    /// Length of the side after resizing.
    pub(super) full: usize,
    /// First position of the range.
    pub(super) from: usize,
    /// Number of positions in the range; `from + count ≤ full`.
    pub(super) count: usize,
}

/// Resizes an image of three interleaved channels to `columns.full` × `rows.full` and returns the part of the result
/// inside the windows, also interleaved.
///
/// `source` holds `width · height` pixels; no side is zero.
pub(super) fn resize_window(
    source: &[u8],
    (width, height): (usize, usize),
    columns: Window,
    rows: Window,
    interpolation: Interpolation,
) -> Vec<u8> {
    let vertical = Filter::new(height, rows.full, rows.from, rows.count, interpolation);
    // The rows of the source on which the rows of the result depend.
    let (first, end) = if rows.full == height {
        (rows.from, rows.from + rows.count)
    } else {
        let first = vertical.windows.iter().map(|(f, _)| *f).min().unwrap_or(0);
        (first, vertical.windows.iter().map(|(f, w)| f + w.len()).max().unwrap_or(0))
    };
    let rows_needed = source.chunks_exact(3 * width).skip(first).take(end - first);

    let mut narrowed = Vec::with_capacity(3 * columns.count * (end - first));
    if columns.full == width {
        for row in rows_needed {
            narrowed.extend_from_slice(&row[3 * columns.from..3 * (columns.from + columns.count)]);
        }
    } else {
        let horizontal = Filter::new(width, columns.full, columns.from, columns.count, interpolation);
        for row in rows_needed {
            for (start, weights) in &horizontal.windows {
                let mut sums = [1 << (PRECISION - 1); 3];
                let pixels = row[3 * start..3 * (start + weights.len())].as_chunks::<3>().0;
                for (pixel, weight) in pixels.iter().zip(weights) {
                    for (sum, value) in sums.iter_mut().zip(pixel) {
                        *sum += i32::from(*value) * weight;
                    }
                }
                narrowed.extend(sums.map(to_byte));
            }
        }
    }
    if rows.full == height {
        return narrowed;
    }

    let stride = 3 * columns.count;
    let mut result = Vec::with_capacity(stride * rows.count);
    let mut sums = vec![0; stride];
    for (start, weights) in &vertical.windows {
        sums.fill(1 << (PRECISION - 1));
        let lines = narrowed[(start - first) * stride..].chunks_exact(stride);
        for (line, weight) in lines.zip(weights) {
            for (sum, value) in sums.iter_mut().zip(line) {
                *sum += i32::from(*value) * weight;
            }
        }
        result.extend(sums.iter().map(|sum| to_byte(*sum)));
    }
    result
}

/// Rounds a fixed-point sum (to which one half was added) to a byte.
fn to_byte(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(n: usize) -> Window {
        Window { full: n, from: 0, count: n }
    }

    fn any_interpolation() -> impl Strategy<Value = Interpolation> {
        proptest::sample::select(vec![
            Interpolation::Nearest,
            Interpolation::Bilinear,
            Interpolation::Bicubic,
        ])
    }

    #[test]
    fn halving_two_pixels_averages_them() {
        let source = [0, 10, 255, 100, 30, 255];
        let result = resize_window(&source, (2, 1), whole(1), whole(1), Interpolation::Bilinear);
        assert_eq!(result, [50, 20, 255]);
    }

    proptest! {
        #![proptest_config(ascribe_proptest::config(48))]

        #[test]
        fn a_constant_picture_stays_constant(
            (w, h, nw, nh) in (1usize..40, 1usize..40, 1usize..40, 1usize..40), value: u8, filter in any_interpolation()
        ) {
            let result = resize_window(&vec![value; 3 * w * h], (w, h), whole(nw), whole(nh), filter);
            prop_assert_eq!(result, vec![value; 3 * nw * nh]);
        }

        #[test]
        fn a_window_is_a_part_of_the_whole(
            seed: u64, (w, h, nw, nh) in (1usize..30, 1usize..30, 2usize..30, 2usize..30),
            (x, y) in (0usize..100, 0usize..100), filter in any_interpolation()
        ) {
            let mut state = seed | 1;
            let source: Vec<u8> = (0..3 * w * h).map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            }).collect();
            let all = resize_window(&source, (w, h), whole(nw), whole(nh), filter);
            let (x, y) = (x % nw, y % nh);
            let columns = Window { full: nw, from: x, count: nw - x };
            let rows = Window { full: nh, from: y, count: (nh - y).div_ceil(2) };
            let part = resize_window(&source, (w, h), columns, rows, filter);
            for row in 0..rows.count {
                let start = 3 * ((y + row) * nw + x);
                prop_assert_eq!(&part[3 * row * columns.count..3 * (row + 1) * columns.count],
                    &all[start..start + 3 * columns.count]);
            }
        }
    }
}
