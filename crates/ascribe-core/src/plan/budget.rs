//! How many rows run together.

use gemm_common::cache::CACHE_INFO;

use super::program::{Instruction, Program};
use crate::graph::Graph;
use crate::inputs::Inputs;
use crate::rule::Composite;

/// Rows below which reading weights, once for all rows, costs more than images that leave the cache.
const FEWEST: usize = 4;
/// Rows beyond which nothing is gained.
const MOST: usize = 8;

/// Rows with which what the largest step reads and writes stays in half of the last cache.
fn rows(program: &Program, cache: usize) -> usize {
    let bytes = |step: &Instruction| -> usize {
        let uses = step.uses();
        let images = uses.reads.iter().chain(&uses.writes);
        images.map(|image| program.one(*image).len() * size_of::<f32>()).sum()
    };
    let largest = program.forward.iter().map(bytes).max().unwrap_or(0);
    (cache / 2).checked_div(largest).unwrap_or(MOST).clamp(FEWEST, MOST)
}

impl Graph {
    /// The batch with which a plan for inputs like these goes through its steps fastest; `None` where there is no
    /// plan.
    pub(crate) fn planned_batch(&self, x: &Inputs) -> Option<usize> {
        // Inputs that do not fit are reported by whoever runs the graph.
        let plan = self.plan(x, &[], &[], &Composite::gradient()).ok().flatten()?;
        let last = CACHE_INFO.iter().map(|level| level.cache_bytes).max().unwrap_or(0);
        Some(rows(&plan.program, last))
    }
}

#[cfg(test)]
mod tests {
    use super::super::program::{Image, ImageId, Tail};
    use super::*;

    #[test]
    fn large_images_run_in_smaller_batches() {
        let image = Image { channels: 16, size: [256, 256], pad: [0, 0] };
        let step = Instruction::Combine { src: ImageId(0), dst: ImageId(1), tail: Tail::default() };
        let program = Program { forward: vec![step], images: vec![image, image], ..Program::default() };
        let bytes = 2 * image.shape(1).len() * size_of::<f32>();
        assert_eq!(rows(&program, 100 * bytes), MOST);
        assert_eq!(rows(&program, 2 * 6 * bytes), 6);
        assert_eq!(rows(&program, 0), FEWEST);
        assert_eq!(rows(&Program::default(), 0), MOST);
    }
}
