//! Packs the weights of a blocked convolution in the order in which the register tiles read them.

use std::ops::Range;

use super::buffer::Buffer;
use super::layout::BLOCK;
use crate::conv::lattice::Lattice;

/// Most products per chain, that is, summed in one accumulator before they are added to the result. Short chains reduce
/// the rounding error, and their weights stay in the first-level cache.
pub(super) const CHAIN: usize = 192;

/// One to three consecutive blocks of destination channels, which a register tile sums together.
#[derive(Debug, Clone)]
pub(super) struct Panel {
    /// First destination block.
    pub(super) block: usize,
    /// Number of destination blocks.
    pub(super) blocks: usize,
    /// First source block of the panel's group.
    pub(super) src_block: usize,
    /// Where the weights of each class start in the packed weights.
    pub(super) weights: Vec<usize>,
}

/// A residue class: the destination pixels that meet the same taps, and the order in which their products are summed.
#[derive(Debug, Clone)]
pub(super) struct Class {
    pub(super) lattice: Lattice,
    /// The products of a pixel, in the order in which they are summed.
    pub(super) steps: Vec<Step>,
    /// Ranges of steps that are summed in one accumulator. There is at least one range, which may be empty.
    pub(super) chains: Vec<Range<usize>>,
}

/// Consecutive products: source values that lie next to each other in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    /// With a blocked source, the source block within the group; with a planar (NCHW) source, the source channel.
    pub(super) block: usize,
    /// Index of the tap; with a planar source, of the first one.
    pub(super) tap: usize,
    /// Number of products: with a blocked source, the channels of the block; with a planar one, taps of a kernel row.
    pub(super) count: usize,
    /// Number of products in earlier steps: the row of the packed weights where this step begins.
    pub(super) row: usize,
}

impl Class {
    /// Sums one source block after the other, and within a block tap by tap. Chains end between blocks or, if there are
    /// many taps, between taps.
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

    /// For depthwise convolutions: each destination channel sums the taps of its own source channel.
    pub(super) fn depthwise(lattice: Lattice) -> Self {
        let taps = lattice.taps.len();
        let steps = (0..taps).map(|tap| Step { block: 0, tap, count: 1, row: tap }).collect();
        Self { lattice, steps, chains: std::iter::once(0..taps).collect() }
    }

    /// Number of products that are summed for one destination value.
    pub(super) fn rows(&self) -> usize {
        self.steps.last().map_or(0, |step| step.row + step.count)
    }
}

/// Splits `0..len` into `count` ranges of nearly equal size.
pub(super) fn pieces(len: usize, count: usize) -> impl Iterator<Item = Range<usize>> {
    (0..count).map(move |at| at * len / count..(at + 1) * len / count)
}

/// Divides the destination blocks of each group into panels of at most `most_blocks` blocks: of two blocks, and for an
/// odd number one of three (or of one, if there is only one block or `most_blocks` is less than 3).
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

/// Packs `weight(class, destination channel, step, index in the step)`, panel by panel, and stores in each panel where
/// its weights start. Destination channels are numbered through all blocks; for the padding of the last block, `weight`
/// has to return 0.
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
