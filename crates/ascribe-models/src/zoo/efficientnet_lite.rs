//! The architecture EfficientNet-Lite.

use ascribe_core::NodeId;

use super::net::{ConvSpec, Net};
use crate::error::Result;

const EPSILON: f64 = 1e-3;
const STEM: usize = 32;
const HEAD: usize = 1280;

/// One stage before scaling.
struct Stage {
    /// Number of blocks.
    repeats: usize,
    kernel: usize,
    /// Stride of the first block.
    stride: usize,
    /// Factor by which blocks expand the channels.
    expansion: usize,
    /// Output channels.
    channels: usize,
}

impl Stage {
    const fn new(repeats: usize, kernel: usize, stride: usize, expansion: usize, channels: usize) -> Self {
        Self { repeats, kernel, stride, expansion, channels }
    }
}

const STAGES: [Stage; 7] = [
    Stage::new(1, 3, 1, 1, 16),
    Stage::new(2, 3, 2, 6, 24),
    Stage::new(2, 5, 2, 6, 40),
    Stage::new(3, 3, 2, 6, 80),
    Stage::new(3, 5, 1, 6, 112),
    Stage::new(4, 5, 2, 6, 192),
    Stage::new(1, 3, 1, 6, 320),
];

/// How much wider and deeper than Lite0 a variant is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    /// Factor of the channels.
    pub(super) width: f64,
    /// Factor of the number of blocks per stage.
    pub(super) depth: f64,
}

impl Scale {
    /// Number of blocks of stage `i`, rounded up. The first and the last stage are not scaled.
    fn repeats(self, i: usize) -> usize {
        let repeats = STAGES[i].repeats;
        let scaled = i > 0 && i + 1 < STAGES.len();
        if scaled { (self.depth * repeats as f64).ceil() as usize } else { repeats }
    }

    /// Output channels of stage `i`: the nearest multiple of 8 that is at least nine tenths of the exact number.
    fn channels(self, i: usize) -> usize {
        let exact = STAGES[i].channels as f64 * self.width;
        let rounded = ((exact + 4.0) as usize / 8 * 8).max(8);
        if (rounded as f64) < 0.9 * exact { rounded + 8 } else { rounded }
    }
}

/// Number of blocks of each stage.
pub(super) fn repeats(scale: Scale) -> Vec<usize> {
    (0..STAGES.len()).map(|i| scale.repeats(i)).collect()
}

/// The Lite variant, published by Google in 2020, of Tan & Le (2019), "EfficientNet: rethinking model scaling
/// for convolutional neural networks", <https://arxiv.org/abs/1905.11946>: no squeeze-and-excitation,
/// `ReLU6` instead of swish, and stem and head are not scaled.
///
/// Padding is TensorFlow's SAME, which for stride 2 depends on the resolution. So the network is built for inputs of
/// exactly the height and width `sides`. Names are those of the published PyTorch conversions
/// (`_blocks.3._expand_conv`).
pub(super) fn build(net: &mut Net<'_>, x: NodeId, scale: Scale, sides: [usize; 2]) -> Result<NodeId> {
    let mut same = Same { sides };
    let x = net.conv("_conv_stem", x, 3, STEM, same.conv(3, 2))?;
    let x = net.batch_norm("_bn0", x, STEM, EPSILON)?;
    let mut x = net.relu6("_relu", x)?;
    let (mut cin, mut number) = (STEM, 0);
    for (i, stage) in STAGES.iter().enumerate() {
        let cout = scale.channels(i);
        for repeat in 0..scale.repeats(i) {
            let stride = if repeat == 0 { stage.stride } else { 1 };
            let widths = [cin, cin * stage.expansion, cout];
            x = block(net, &format!("_blocks.{number}"), x, widths, same.conv(stage.kernel, stride))?;
            (cin, number) = (cout, number + 1);
        }
    }
    let x = net.conv("_conv_head", x, cin, HEAD, ConvSpec::square(1))?;
    let x = net.batch_norm("_bn1", x, HEAD, EPSILON)?;
    let x = net.relu6("_relu", x)?;

    let x = net.global_average("_avg_pooling", x)?;
    let x = net.flatten("flatten", x)?;
    let classes = net.classes("_fc");
    net.linear("_fc", x, HEAD, classes)
}

/// Inverted residual block: a 1×1 convolution that expands the channels, a depthwise convolution, and a 1×1 convolution
/// without activation that projects back to few channels.
fn block(
    net: &mut Net<'_>,
    name: &str,
    x: NodeId,
    [cin, inner, cout]: [usize; 3],
    filter: ConvSpec,
) -> Result<NodeId> {
    let at = |part: &str| format!("{name}.{part}");
    let mut y = x;
    if inner != cin {
        y = net.conv(&at("_expand_conv"), y, cin, inner, ConvSpec::square(1))?;
        y = net.batch_norm(&at("_bn0"), y, inner, EPSILON)?;
        y = net.relu6(&at("_relu"), y)?;
    }
    y = net.conv(&at("_depthwise_conv"), y, inner, inner, filter.groups(inner))?;
    y = net.batch_norm(&at("_bn1"), y, inner, EPSILON)?;
    y = net.relu6(&at("_relu"), y)?;
    y = net.conv(&at("_project_conv"), y, inner, cout, ConvSpec::square(1))?;
    y = net.batch_norm(&at("_bn2"), y, cout, EPSILON)?;
    if filter.window.stride == [1, 1] && cin == cout { net.add(name, y, x) } else { net.output_of(name, y) }
}

/// Computes TensorFlow's SAME padding, layer by layer, as the resolution decreases.
struct Same {
    /// Height and width at the current layer.
    sides: [usize; 2],
}

impl Same {
    /// The next convolution. It has ⌈side / stride⌉ windows per axis and a padding of max((⌈side / stride⌉ − 1) ·
    /// stride + kernel − side, 0), of which half (rounded down) is at the start and the rest at the end.
    fn conv(&mut self, kernel: usize, stride: usize) -> ConvSpec {
        let [(top, bottom), (left, right)] = self.sides.map(|side| {
            // The last window starts at the last multiple of the stride inside the input.
            let covered = match side % stride {
                0 => stride,
                rest => rest,
            };
            let total = kernel.saturating_sub(covered);
            (total / 2, total - total / 2)
        });
        self.sides = self.sides.map(|side| side.div_ceil(stride));
        let mut spec = ConvSpec::square(kernel).stride(stride);
        spec.window.padding = [top, left, bottom, right];
        spec
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_padding_is_tensorflows() {
        for side in 1..40_usize {
            for (kernel, stride) in [(3, 1), (3, 2), (5, 1), (5, 2), (1, 1), (1, 2)] {
                let out = side.div_ceil(stride);
                let total = ((out - 1) * stride + kernel).saturating_sub(side);
                let mut same = Same { sides: [side, 2 * side] };
                let window = same.conv(kernel, stride).window;
                let [top, _, bottom, _] = window.padding;
                assert_eq!((top, bottom), (total / 2, total - total / 2), "{side} {kernel} {stride}");
                assert_eq!(window.output([side, 2 * side]).unwrap(), same.sides);
            }
        }
    }

    #[test]
    fn scaled_stages() {
        let lite4 = Scale { width: 1.4, depth: 1.8 };
        assert_eq!(repeats(lite4), [1, 4, 4, 6, 6, 8, 1]);
        let channels: Vec<usize> = (0..7).map(|i| lite4.channels(i)).collect();
        assert_eq!(channels, [24, 32, 56, 112, 160, 272, 448]);
    }
}
