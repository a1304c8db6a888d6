//! The architecture `ResNet`.

use ascribe_core::NodeId;
use ascribe_core::ops::Window;

use super::net::{ConvSpec, Net};
use crate::error::Result;

const EPSILON: f64 = 1e-5;

/// The kinds of residual block.
#[derive(Clone, Copy, Debug)]
pub(super) enum Block {
    /// Two 3×3 convolutions (figure 5, left).
    Basic,
    /// 1×1, 3×3 and 1×1 convolutions, the last with four times as many channels (figure 5, right).
    Bottleneck,
}

impl Block {
    /// Output channels of a block, for the width of its 3×3 convolutions.
    fn channels(self, width: usize) -> usize {
        match self {
            Self::Basic => width,
            Self::Bottleneck => 4 * width,
        }
    }
}

/// He, Zhang, Ren & Sun (2015), "Deep residual learning for image recognition",
/// <https://arxiv.org/abs/1512.03385>, table 1: `depths` holds the number of blocks of each stage.
///
/// As in torchvision, the stride of a bottleneck block is in its 3×3 convolution ("v1.5"), not in the first 1×1
/// convolution.
pub(super) fn build(net: &mut Net<'_>, x: NodeId, block: Block, depths: [usize; 4]) -> Result<NodeId> {
    let x = net.conv("conv1", x, 3, 64, ConvSpec::square(7).stride(2).same())?;
    let x = net.batch_norm("bn1", x, 64, EPSILON)?;
    let x = net.relu("relu", x)?;
    let mut x = net.max_pool("maxpool", x, Window::new([3, 3]).stride([2, 2]).padding([1, 1]))?;

    let mut cin = 64;
    for (stage, (width, depth)) in [64, 128, 256, 512].into_iter().zip(depths).enumerate() {
        let layer = format!("layer{}", stage + 1);
        for i in 0..depth {
            let stride = if i == 0 && stage > 0 { 2 } else { 1 };
            x = residual(net, &format!("{layer}.{i}"), x, cin, width, stride, block)?;
            cin = block.channels(width);
        }
        x = net.output_of(&layer, x)?;
    }

    let x = net.global_average("avgpool", x)?;
    let x = net.flatten("flatten", x)?;
    let classes = net.classes("fc");
    net.linear("fc", x, cin, classes)
}

/// A residual block: convolutions, shortcut, sum and ReLU.
fn residual(
    net: &mut Net<'_>,
    name: &str,
    x: NodeId,
    cin: usize,
    width: usize,
    stride: usize,
    block: Block,
) -> Result<NodeId> {
    let at = |part: &str| format!("{name}.{part}");
    let cout = block.channels(width);
    let (one, three) = (ConvSpec::square(1), ConvSpec::square(3).same());
    let convolutions = match block {
        Block::Basic => vec![(width, three.stride(stride)), (cout, three)],
        Block::Bottleneck => vec![(width, one), (width, three.stride(stride)), (cout, one)],
    };
    let (mut y, mut channels) = (x, cin);
    for (i, &(out, spec)) in convolutions.iter().enumerate() {
        if i > 0 {
            y = net.relu(&at("relu"), y)?;
        }
        y = net.conv(&at(&format!("conv{}", i + 1)), y, channels, out, spec)?;
        y = net.batch_norm(&at(&format!("bn{}", i + 1)), y, out, EPSILON)?;
        channels = out;
    }
    let shortcut = if stride != 1 || cin != cout {
        let shortcut = net.conv(&at("downsample.0"), x, cin, cout, one.stride(stride))?;
        net.batch_norm(&at("downsample.1"), shortcut, cout, EPSILON)?
    } else {
        x
    };
    let sum = net.add(&at("add"), y, shortcut)?;
    let y = net.relu(&at("relu"), sum)?;
    net.output_of(name, y)
}
