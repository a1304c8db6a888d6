//! The weights of a blocked convolution, in the order in which tiles read them.

use std::ops::Range;

use super::buffer::Buffer;
use super::layout::BLOCK;
use crate::conv::lattice::Lattice;

/// Products per accumulator chain at most: short chains round less, and their weights stay in the
/// first-level cache.
pub(super) const CHAIN: usize = 192;

/// Blocks of output channels that are summed together.
#[derive(Debug, Clone)]
pub(super) struct Panel {
    /// First destination block.
    pub(super) block: usize,
    /// Number of destination blocks.
    pub(super) blocks: usize,
    /// First source block of the panel's group.
    pub(super) src_block: usize,
    /// Start of each class's weights.
    pub(super) weights: Vec<usize>,
}

/// Destination pixels that meet the same taps.
#[derive(Debug, Clone)]
pub(super) struct Class {
    pub(super) lattice: Lattice,
    /// The order of the products.
    pub(super) steps: Vec<Step>,
    /// Chains: ranges of steps. There is at least one, maybe empty.
    pub(super) chains: Vec<Range<usize>>,
}

/// Source values that are multiplied one after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    /// Source block in its group (blocked), or source channel (planar).
    pub(super) block: usize,
    /// Index of the tap (the first one, when planar).
    pub(super) tap: usize,
    /// Source channels of the block (blocked), or taps of a row (planar).
    pub(super) count: usize,
    /// Products before this one.
    pub(super) row: usize,
}

impl Class {
    /// Sums source blocks one after the other, each tap by tap; chains end between blocks, or, with many
    /// taps, between taps.
    pub(super) fn blocked(lattice: Lattice, channels: usize) -> Self {
        const MOST: usize = CHAIN / BLOCK;
        let (taps, blocks) = (lattice.taps.len(), channels.div_ceil(BLOCK));
        let mut steps = Vec::with_capacity(blocks * taps);
        for block in 0..blocks {
            let count = BLOCK.min(channels - block * BLOCK);
            for tap in 0..taps {
                steps.push(Step { block, tap, count, row: (block * taps * BLOCK) + tap * count });
            }
        }
        let chains = if taps == 0 {
            std::iter::once(0..0).collect()
        } else if taps <= MOST {
            let together = blocks.div_ceil(blocks.div_ceil(MOST / taps));
            pieces(blocks, blocks.div_ceil(together)).map(|r| r.start * taps..r.end * taps).collect()
        } else {
            (0..blocks)
                .flat_map(|block| {
                    pieces(taps, taps.div_ceil(MOST))
                        .map(move |r| block * taps + r.start..block * taps + r.end)
                })
                .collect()
        };
        Self { lattice, steps, chains }
    }

    /// Sums each channel on its own.
    pub(super) fn depthwise(lattice: Lattice) -> Self {
        let taps = lattice.taps.len();
        let steps = (0..taps).map(|tap| Step { block: 0, tap, count: 1, row: tap }).collect();
        Self { lattice, steps, chains: std::iter::once(0..taps).collect() }
    }

    /// Number of products per value.
    pub(super) fn rows(&self) -> usize {
        self.steps.last().map_or(0, |step| step.row + step.count)
    }
}

/// `0..len` in `count` pieces of nearly equal size.
pub(super) fn pieces(len: usize, count: usize) -> impl Iterator<Item = Range<usize>> {
    (0..count).map(move |at| at * len / count..(at + 1) * len / count)
}

/// Cuts the destination blocks of each of `groups` groups into panels of two blocks, and one of three or one
/// where the number is odd.
pub(super) fn panels(groups: usize, rows: usize, channels: usize, most_blocks: usize) -> Vec<Panel> {
    let (blocks, src_blocks) = (rows.div_ceil(BLOCK), channels.div_ceil(BLOCK));
    let mut panels = Vec::new();
    for group in 0..groups {
        let mut first = 0;
        while first < blocks {
            let count = match blocks - first {
                3 if most_blocks >= 3 => 3,
                left => left.min(2).min(most_blocks),
            };
            panels.push(Panel {
                block: group * blocks + first,
                blocks: count,
                src_block: group * src_blocks,
                weights: Vec::new(),
            });
            first += count;
        }
    }
    panels
}

/// Packs `weight(class, destination channel, step, place in the step)`, panel by panel, and tells each panel
/// where its weights are. Destination channels count through the blocks; it is 0 where there is no channel.
pub(super) fn pack(
    panels: &mut [Panel],
    classes: &[Class],
    weight: impl Fn(usize, usize, &Step, usize) -> f32,
) -> Buffer {
    let rows: usize = classes.iter().map(Class::rows).sum();
    let lanes: usize = panels.iter().map(|panel| panel.blocks * BLOCK).sum();
    let mut packed = Buffer::new(rows * lanes);
    let mut start = 0;
    for panel in panels {
        let lanes = panel.blocks * BLOCK;
        for (index, class) in classes.iter().enumerate() {
            panel.weights.push(start);
            let out = &mut packed[start..][..class.rows() * lanes];
            for step in &class.steps {
                for (place, row) in
                    out[step.row * lanes..].chunks_exact_mut(lanes).take(step.count).enumerate()
                {
                    for (lane, value) in row.iter_mut().enumerate() {
                        *value = weight(index, panel.block * BLOCK + lane, step, place);
                    }
                }
            }
            start += out.len();
        }
    }
    packed
}
