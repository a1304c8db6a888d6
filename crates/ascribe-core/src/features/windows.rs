//! Windows that slide over the axes of an input.

use crate::error::{Error, Result};

/// One window: start and length along each axis after the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub start: Vec<usize>,
    pub len: Vec<usize>,
}

impl Window {
    /// Calls `visit` with the row-major offset and the length of each contiguous run of values.
    pub fn runs(&self, sides: &[usize], mut visit: impl FnMut(usize, usize)) {
        let Some((&last_len, outer)) = self.len.split_last() else { return };
        let rows: usize = outer.iter().product();
        for row in 0..rows {
            let (mut rest, mut offset, mut stride) = (row, 0, 1);
            for axis in (0..sides.len()).rev() {
                let at = if axis + 1 == sides.len() {
                    self.start[axis]
                } else {
                    let at = self.start[axis] + rest % self.len[axis];
                    rest /= self.len[axis];
                    at
                };
                offset += at * stride;
                stride *= sides[axis];
            }
            visit(offset, last_len);
        }
    }
}

/// All positions of a window on an input of this shape (without the batch).
///
/// Windows start at multiples of the stride. Along an axis there are ⌈(side − window) / stride⌉ + 1 of them; the last
/// one is cut off at the end of the axis. If there are fewer sizes than axes, the leading axes are covered
/// completely.
pub(super) fn slide(sides: &[usize], window: &[usize], stride: &[usize]) -> Result<Vec<Window>> {
    let Some(missing) = sides.len().checked_sub(window.len()).filter(|_| !window.is_empty()) else {
        return Err(Error::invalid(
            "window",
            format!("has {} sides", window.len()),
            format!("1 to {}, the axes of the input after the batch, or a single number", sides.len()),
        ));
    };
    if window.len() != stride.len() {
        return Err(Error::invalid(
            "stride",
            format!("is for another window: {} sides and {} strides", window.len(), stride.len()),
            "the same number of both, or a single number",
        ));
    }
    for (field, sizes) in [("window", window), ("stride", stride)] {
        if sizes.contains(&0) {
            return Err(Error::invalid(field, format!("{sizes:?}"), "at least 1 each"));
        }
    }
    let axes: Vec<Vec<(usize, usize)>> = sides
        .iter()
        .enumerate()
        .map(|(axis, &side)| match axis.checked_sub(missing) {
            None => vec![(0, side)],
            Some(i) => {
                let count = side.saturating_sub(window[i]).div_ceil(stride[i]) + 1;
                let at = (0..count).map(|n| n * stride[i]).filter(|&start| start < side);
                at.map(|start| (start, window[i].min(side - start))).collect()
            }
        })
        .collect();
    let mut all = vec![Window { start: Vec::new(), len: Vec::new() }];
    for axis in &axes {
        all = all
            .iter()
            .flat_map(|w| {
                axis.iter().map(|&(start, len)| Window {
                    start: [w.start.as_slice(), &[start]].concat(),
                    len: [w.len.as_slice(), &[len]].concat(),
                })
            })
            .collect();
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_window_is_cut() {
        let windows = slide(&[1, 5], &[3], &[2]).unwrap();
        let spans: Vec<(usize, usize)> = windows.iter().map(|w| (w.start[1], w.len[1])).collect();
        assert_eq!(spans, [(0, 3), (2, 3)]);
        let spans: Vec<usize> = slide(&[6], &[3], &[2]).unwrap().iter().map(|w| w.len[0]).collect();
        assert_eq!(spans, [3, 3, 2]);
    }

    #[test]
    fn a_large_window_covers_everything_once() {
        let windows = slide(&[3, 4, 4], &[9, 9], &[1, 1]).unwrap();
        assert_eq!(windows, [Window { start: vec![0, 0, 0], len: vec![3, 4, 4] }]);
    }

    #[test]
    fn runs_visit_each_value_once() {
        let window = Window { start: vec![1, 0, 2], len: vec![2, 2, 3] };
        let mut hit = vec![0; 3 * 3 * 6];
        window.runs(&[3, 3, 6], |at, len| hit[at..at + len].iter_mut().for_each(|h| *h += 1));
        assert_eq!(hit.iter().sum::<i32>(), 12);
        for c in 1..3 {
            for y in 0..2 {
                for x in 2..5 {
                    assert_eq!(hit[(c * 3 + y) * 6 + x], 1);
                }
            }
        }
    }

    #[test]
    fn wrong_windows_are_refused() {
        assert!(slide(&[3, 4, 4], &[2, 2], &[1]).unwrap_err().to_string().contains("strides"));
        let message =
            |window: &[usize], stride: &[usize]| slide(&[4, 4], window, stride).unwrap_err().to_string();
        for (field, wrong) in [
            ("window", message(&[2, 2, 2], &[1, 1, 1])),
            ("window", message(&[], &[])),
            ("window", message(&[0, 2], &[1, 1])),
            ("stride", message(&[2, 2], &[1, 0])),
            ("stride", message(&[2, 2], &[1])),
        ] {
            assert!(wrong.starts_with(field), "{wrong}");
        }
    }
}
