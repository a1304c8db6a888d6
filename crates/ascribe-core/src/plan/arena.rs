//! One block of memory for all images of a run.

use std::ops::Range;

use ascribe_kernels::blocked::Buffer;

use super::program::{Instruction, Program};

/// The offset of each image, in elements per sample. Images whose lifetimes do not overlap may share memory.
#[derive(Debug, Default)]
pub(super) struct Placement {
    pub(super) offsets: Vec<usize>,
    pub(super) len: usize,
}

/// The first and the last instruction that access each image.
fn lives(program: &Program) -> Vec<Option<[usize; 2]>> {
    let mut lives: Vec<Option<[usize; 2]>> = vec![None; program.images.len()];
    let instructions = program.forward.iter().chain(&program.backward);
    for (at, uses) in instructions.map(Instruction::uses).enumerate() {
        for image in uses.reads.into_iter().chain(uses.writes) {
            let life = lives[image.0].get_or_insert([at, at]);
            life[1] = at;
        }
    }
    lives
}

impl Placement {
    /// Places the images of a program.
    pub(super) fn of(program: &Program) -> Self {
        Self::keeping(program, |_| false)
    }

    /// Places the images of a program; those in `kept` stay valid after its end.
    pub(super) fn keeping(program: &Program, kept: impl Fn(usize) -> bool) -> Self {
        let lens: Vec<usize> = program.images.iter().map(|image| image.shape(1).len()).collect();
        let mut lives = lives(program);
        for (_, life) in lives.iter_mut().enumerate().filter(|(image, _)| kept(*image)) {
            *life = life.map(|[first, _]| [first, usize::MAX]);
        }
        Self::new(&lens, &lives)
    }

    /// Places the largest images first, each at the lowest offset that is free during its lifetime.
    pub(super) fn new(lens: &[usize], lives: &[Option<[usize; 2]>]) -> Self {
        let mut order: Vec<usize> = (0..lens.len()).filter(|&i| lives[i].is_some()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(lens[i]));
        let mut placed: Vec<usize> = Vec::with_capacity(order.len());
        let mut offsets = vec![0; lens.len()];
        let mut len = 0;
        for piece in order {
            let meets = |other: &&usize| match (lives[piece], lives[**other]) {
                (Some([a, b]), Some([c, d])) => a <= d && c <= b,
                _ => false,
            };
            let mut taken: Vec<Range<usize>> =
                placed.iter().filter(meets).map(|&i| offsets[i]..offsets[i] + lens[i]).collect();
            taken.sort_by_key(|range| range.start);
            let mut at = 0;
            for range in taken {
                if at + lens[piece] <= range.start {
                    break;
                }
                at = at.max(range.end);
            }
            offsets[piece] = at;
            len = len.max(at + lens[piece]);
            placed.push(piece);
        }
        Self { offsets, len }
    }
}

/// The memory of the images.
#[derive(Debug)]
pub(super) struct Arena {
    memory: Buffer,
}

impl Default for Arena {
    fn default() -> Self {
        Self { memory: Buffer::new(0) }
    }
}

impl Arena {
    /// Allocates at least `len` elements; the contents are lost if the arena grows.
    pub(super) fn reserve(&mut self, len: usize) {
        if self.memory.len() < len {
            self.memory = Buffer::new(len);
        }
    }

    /// Borrows ranges to read and one range to write, which must not overlap any of the others.
    pub(super) fn split<const N: usize>(
        &mut self,
        reads: [Option<Range<usize>>; N],
        write: Range<usize>,
    ) -> ([Option<&[f32]>; N], &mut [f32]) {
        let (low, rest) = self.memory.split_at_mut(write.start);
        let (written, high) = rest.split_at_mut(write.len());
        let (low, high): (&[f32], &[f32]) = (low, high);
        let reads = reads.map(|range| {
            range.map(|range| {
                if range.end <= write.start {
                    &low[range]
                } else {
                    &high[range.start - write.end..range.end - write.end]
                }
            })
        });
        (reads, written)
    }

    /// A range to read.
    pub(super) fn read(&self, range: Range<usize>) -> &[f32] {
        &self.memory[range]
    }
}
