//! The pixels of an image that may change, and patches that contain them.

use ascribe_kernels::blocked::Reach;

use crate::variations::Rectangle;

/// A rectangle of pixels from `start` (inclusive) to `end` (exclusive).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) start: [usize; 2],
    pub(super) end: [usize; 2],
}

impl From<&Rectangle> for Region {
    fn from(rectangle: &Rectangle) -> Self {
        let Rectangle { start, size } = *rectangle;
        Self { start, end: [start[0] + size[0], start[1] + size[1]] }
    }
}

impl Region {
    /// The empty region.
    pub(super) const NONE: Self = Self { start: [0, 0], end: [0, 0] };

    pub(super) fn is_empty(&self) -> bool {
        (0..2).any(|axis| self.start[axis] >= self.end[axis])
    }

    /// The smallest region that contains both.
    pub(super) fn join(self, other: Self) -> Self {
        match (self.is_empty(), other.is_empty()) {
            (true, _) => other,
            (_, true) => self,
            _ => Self {
                start: [0, 1].map(|axis| self.start[axis].min(other.start[axis])),
                end: [0, 1].map(|axis| self.end[axis].max(other.end[axis])),
            },
        }
    }

    /// The pixels of an image of `size` that depend on this region of the image it is computed from.
    pub(super) fn through(self, reach: &Reach, size: [usize; 2]) -> Self {
        if self.is_empty() {
            return Self::NONE;
        }
        // Pixel p depends on p · stride + first up to p · stride + first + extent − 1.
        let axis = |axis: usize| {
            let (stride, first) = (reach.stride[axis], reach.first[axis]);
            let lowest = self.start[axis] as isize - first - (reach.extent[axis] as isize - 1);
            let highest = self.end[axis] as isize - 1 - first;
            let start = lowest.max(0) as usize;
            let end = if highest < 0 { 0 } else { highest as usize / stride + 1 };
            (start.div_ceil(stride), end.min(size[axis]))
        };
        let (rows, columns) = (axis(0), axis(1));
        let found = Self { start: [rows.0, columns.0], end: [rows.1, columns.1] };
        if found.is_empty() { Self::NONE } else { found }
    }
}

/// Winograd convolution computes tiles of 2 × 2 pixels. Therefore all patches start at even pixels, which also makes
/// patches of images of the same size coincide as often as possible.
pub(super) const STEP: usize = 2;

/// One patch of an image for each rectangle; all have the same size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Patch {
    pub(super) size: [usize; 2],
    /// The first pixel of the patch for each rectangle.
    pub(super) places: Vec<[usize; 2]>,
}

impl Patch {
    /// Patches that contain these regions and lie inside an image of this size; `None` if no pixel changes.
    pub(super) fn around(regions: &[Region], image: [usize; 2]) -> Option<Self> {
        if regions.iter().all(Region::is_empty) {
            return None;
        }
        let even = |at: usize| at / STEP * STEP;
        let size = [0, 1].map(|axis| {
            let lens = regions.iter().filter(|region| !region.is_empty());
            let size = lens.map(|r| r.end[axis] - even(r.start[axis])).max().unwrap_or(0);
            // A patch that ends at the border of the image must also start at an even pixel.
            (size + (image[axis] - size) % STEP).min(image[axis])
        });
        let place =
            |region: &Region| [0, 1].map(|axis| even(region.start[axis]).min(image[axis] - size[axis]));
        Some(Self { size, places: regions.iter().map(place).collect() })
    }

    pub(super) fn pixels(&self) -> usize {
        self.size[0] * self.size[1]
    }
}

/// Largest number of parts that an axis of the image is divided into.
const PARTS: usize = 4;
/// Smallest average number of rectangles in a group, so that batches are full.
const MEMBERS: usize = 16;

/// Divides an image into parts and groups the rectangles by the part that contains their centre. Returns the group of
/// each rectangle with its index in the group, and the rectangles of each group.
pub(super) fn grouped(rectangles: &[Region], picture: [usize; 2]) -> (Vec<[usize; 2]>, Vec<Vec<Region>>) {
    let parts = (1..=PARTS).rev().find(|n| n * n * MEMBERS <= rectangles.len()).unwrap_or(1);
    let mut groups = vec![Vec::new(); parts * parts];
    let member = |region: &Region| {
        let part = |axis: usize| {
            ((region.start[axis] + region.end[axis]) * parts / (2 * picture[axis]).max(1)).min(parts - 1)
        };
        let group = part(0) * parts + part(1);
        groups[group].push(*region);
        [group, groups[group].len() - 1]
    };
    (rectangles.iter().map(member).collect(), groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_those_of_the_definition() {
        let reach =
            |stride, first, extent| Reach { stride: [stride; 2], first: [first; 2], extent: [extent; 2] };
        for reach in [reach(1, -1, 3), reach(2, -3, 7), reach(3, 0, 1), reach(2, 0, 2), reach(1, -6, 5)] {
            for (start, end) in (0..9).flat_map(|start| (start..10).map(move |end| (start, end))) {
                let found = Region { start: [start; 2], end: [end; 2] }.through(&reach, [8, 8]);
                let touched: Vec<usize> = (0..8)
                    .filter(|&p| {
                        let at = reach.start([p, p])[0];
                        (at..at + reach.extent[0] as isize)
                            .any(|q| (start as isize..end as isize).contains(&q))
                    })
                    .collect();
                let expected = match (touched.first(), touched.last()) {
                    (Some(&first), Some(&last)) => Region { start: [first; 2], end: [last + 1; 2] },
                    _ => Region::NONE,
                };
                assert_eq!(found, expected, "{start}..{end} through {reach:?}");
            }
        }
    }

    #[test]
    fn patches_hold_their_regions() {
        for side in 1..12 {
            let spans: Vec<(usize, usize)> =
                (0..side).flat_map(|a| (a + 1..=side.min(a + 4)).map(move |b| (a, b))).collect();
            for few in spans.windows(3) {
                let regions: Vec<Region> =
                    few.iter().map(|&(a, b)| Region { start: [a; 2], end: [b; 2] }).collect();
                let patch = Patch::around(&regions, [side; 2]).unwrap();
                for (place, region) in patch.places.iter().zip(&regions) {
                    assert!(place[0].is_multiple_of(STEP) && place[0] + patch.size[0] <= side);
                    assert!(place[0] <= region.start[0] && region.end[0] <= place[0] + patch.size[0]);
                }
            }
        }
        assert_eq!(Patch::around(&[Region::NONE], [4, 4]), None);
    }

    #[test]
    fn every_rectangle_has_a_place_in_a_group() {
        let corners = (0..12).flat_map(|y| (0..12).map(move |x| [y, x]));
        let all: Vec<Region> = corners.map(|start| Region { start, end: start.map(|at| at + 3) }).collect();
        for (count, parts) in [(144, 3), (100, 2), (3, 1)] {
            let (members, groups) = grouped(&all[..count], [14, 14]);
            assert_eq!(groups.len(), parts * parts);
            for (rectangle, [group, number]) in all.iter().zip(&members) {
                assert_eq!(groups[*group][*number], *rectangle);
            }
            assert_eq!((members.len(), groups.iter().map(Vec::len).sum()), (count, count));
        }
    }
}
