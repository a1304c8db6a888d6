//! How many rows run in one batch.

use gemm_common::cache::CACHE_INFO;

use super::program::{Instruction, Program};
use crate::graph::{Graph, NodeId};
use crate::inputs::Inputs;

/// Below this number of rows, reading the weights once per batch costs more than images that do not fit the cache.
const FEWEST: usize = 4;
/// More rows than this do not make a run faster.
const MOST: usize = 8;

/// The number of rows with which the data that the largest step reads and writes fits half of the last-level cache.
fn rows(program: &Program, cache: usize) -> usize {
    let bytes = |step: &Instruction| -> usize {
        let uses = step.uses();
        let images = uses.reads.iter().chain(&uses.writes);
        images.map(|image| program.one(*image).len() * size_of::<f32>()).sum()
    };
    let largest = program.forward.iter().map(bytes).max().unwrap_or(0);
    (cache / 2).checked_div(largest).unwrap_or(MOST).clamp(FEWEST, MOST)
}

/// Memory for values, in bytes, up to which node-by-node execution uses larger batches: it keeps all values, and
/// larger batches are not faster.
const KEPT: usize = 512 << 20;

/// The smallest number of rows that fills [`KEPT`] if each row takes `of_row` bytes.
fn walked(of_row: usize) -> usize {
    KEPT.div_ceil(of_row.max(1)).min(MOST)
}

impl Graph {
    /// The preferred batch size for inputs like these: that of the plan, or else one whose values fit the memory for
    /// node-by-node execution.
    pub(crate) fn suitable_batch(&self, x: &Inputs) -> Option<usize> {
        if let Some(rows) = self.fixed_batch() {
            return Some(rows);
        }
        self.planned_batch(x).or_else(|| {
            let shapes = self.shapes(x).ok()?;
            let values = shapes.iter().enumerate().filter(|(at, _)| self.is_dynamic(NodeId(*at)));
            let values: usize = values.map(|(_, shape)| shape.iter().product::<usize>()).sum();
            Some(walked(values * self.dtype().size_in_bytes() / x.batch().ok()?.max(1)))
        })
    }

    /// The batch size with which a plan for inputs like these runs fastest; `None` if there is no plan.
    fn planned_batch(&self, x: &Inputs) -> Option<usize> {
        // Errors about inputs that do not fit are reported when the graph runs.
        let plan = self.plan(x, &[]).ok().flatten()?;
        let last = CACHE_INFO.iter().map(|level| level.cache_bytes).max().unwrap_or(0);
        Some(rows(&plan.program, last))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::super::program::{Image, ImageId, Tail};
    use super::*;
    use crate::graph::GraphBuilder;
    use crate::ops::{Backend, Pointwise};

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

    #[test]
    fn walks_that_keep_much_take_fewer_rows() {
        assert_eq!([1 << 20, 200 << 20, 300 << 20, 4 << 30].map(walked), [MOST, 3, 2, 1]);
        let mut builder = GraphBuilder::new();
        let x = builder.input("x", &[Some(1 << 20)]);
        let mut y = x;
        for at in 0..63 {
            y = builder.op(&format!("y{at}"), Pointwise::Tanh, &[y]).unwrap();
        }
        // 64 values of 4 MiB per row, whatever the batch size is.
        let graph = builder.finish(&[y]).unwrap().with_backend(Backend::Portable);
        for batch in [1, 2] {
            let x = Tensor::zeros((batch, 1 << 20), DType::F32, &Device::Cpu).unwrap();
            assert_eq!(graph.suitable_batch(&Inputs::single(x).unwrap()), Some(2));
        }
    }
}
