//! Instructions in a form that can run on patches.

use ascribe_kernels::blocked::{BlockedConv, Reach};

use super::layout::Work;
use super::region::Patch;
use crate::error::Result;
use crate::plan::pool::Pool;
use crate::plan::program::{ImageId, Instruction, Register, Tail};

/// What an instruction reads, and which window of it.
pub(super) struct Access<'a> {
    /// The source is either a plain input in a register or a blocked image.
    pub(super) picture: Option<Register>,
    pub(super) image: Option<ImageId>,
    pub(super) residual: Option<ImageId>,
    pub(super) reach: Reach,
    pub(super) kind: Kind<'a>,
}

/// What the instruction computes.
pub(super) enum Kind<'a> {
    Conv(&'a BlockedConv, &'a Tail),
    Combine(&'a Tail),
    Pool(&'a Pool),
    Copy([usize; 2]),
    Block,
}

impl<'a> Access<'a> {
    /// The access of an instruction; `None` for instructions that always run on whole images.
    pub(super) fn of(instruction: &'a Instruction) -> Option<Self> {
        let plain = |tail: &Tail| tail.record.is_none() && tail.mask.is_none();
        let (picture, image, reach, kind) = match instruction {
            Instruction::Conv { conv, src, tail, .. } if plain(tail) => {
                (None, Some(*src), conv.reach()?, Kind::Conv(conv, tail))
            }
            Instruction::PlanarConv { conv, src, tail, .. } if plain(tail) => {
                (Some(*src), None, conv.reach()?, Kind::Conv(conv, tail))
            }
            Instruction::Combine { src, tail, .. } if plain(tail) => {
                (None, Some(*src), Reach::POINT, Kind::Combine(tail))
            }
            Instruction::Pool { pool, src, .. } => (None, Some(*src), pool.reach(), Kind::Pool(pool)),
            Instruction::Copy { src, src_block: 0, dst_block, blocks, .. } => {
                (None, Some(*src), Reach::POINT, Kind::Copy([*dst_block, *blocks]))
            }
            Instruction::Block { src, .. } => (Some(*src), None, Reach::POINT, Kind::Block),
            _ => return None,
        };
        let residual = match kind {
            Kind::Conv(_, tail) | Kind::Combine(tail) => tail.residual,
            _ => None,
        };
        Some(Self { picture, image, residual, reach, kind })
    }

    /// Whether the results on these patches are bit-identical to those on the whole image.
    pub(super) fn serves(&self, patch: &Patch) -> bool {
        match self.kind {
            Kind::Pool(pool) => patch.places.iter().all(|&place| pool.serves(place, patch.size)),
            Kind::Conv(conv, _) => {
                patch.places.iter().flatten().all(|at| at.is_multiple_of(conv.patch_step()))
            }
            _ => true,
        }
    }

    /// The instruction for patches of a size; `None` if there is no kernel for it.
    pub(super) fn work(&self, size: [usize; 2]) -> Result<Option<Work>> {
        Ok(Some(match self.kind {
            Kind::Conv(conv, tail) => match conv.for_patch(size)? {
                Some(conv) => Work::Conv(Box::new(conv), tail.clone()),
                None => return Ok(None),
            },
            Kind::Combine(tail) => Work::Combine(tail.clone()),
            Kind::Pool(pool) => Work::Pool(pool.for_patch(size)?),
            Kind::Copy([block, blocks]) => Work::Copy { block, blocks },
            Kind::Block => Work::Block,
        }))
    }
}
