//! The architecture MobileNet-V2.

use ascribe_core::NodeId;

use super::net::{ConvSpec, Net};
use crate::error::Result;

const EPSILON: f64 = 1e-5;

/// Expansion, output channels, repeats and stride of the first block of each stage (table 2).
const STAGES: [(usize, usize, usize, usize); 7] = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
];

/// Number of blocks of each stage.
pub(super) fn repeats() -> Vec<usize> {
    STAGES.iter().map(|&(_, _, repeats, _)| repeats).collect()
}

/// Sandler, Howard, Zhu, Zhmoginov & Chen (2018), "`MobileNetV2`: inverted residuals and linear bottlenecks",
/// <https://arxiv.org/abs/1801.04381>. As in torchvision.
pub(super) fn build(net: &mut Net<'_>, x: NodeId) -> Result<NodeId> {
    let mut x = conv_norm_relu6(net, "features.0", x, 3, 32, ConvSpec::square(3).stride(2).same())?;
    x = net.output_of("features.0", x)?;
    let (mut cin, mut number) = (32, 1);
    for (expansion, cout, repeats, stride) in STAGES {
        for i in 0..repeats {
            let stride = if i == 0 { stride } else { 1 };
            x = block(net, &format!("features.{number}"), x, [cin, cin * expansion, cout], stride)?;
            (cin, number) = (cout, number + 1);
        }
    }
    let last = format!("features.{number}");
    let x = conv_norm_relu6(net, &last, x, cin, 1280, ConvSpec::square(1))?;
    let x = net.output_of(&last, x)?;
    let x = net.output_of("features", x)?;

    let x = net.global_average("avgpool", x)?;
    let x = net.flatten("flatten", x)?;
    let classes = net.classes("classifier.1");
    net.linear("classifier.1", x, 1280, classes)
}

/// Convolution, batch norm, `ReLU6`.
fn conv_norm_relu6(
    net: &mut Net<'_>,
    name: &str,
    x: NodeId,
    cin: usize,
    cout: usize,
    spec: ConvSpec,
) -> Result<NodeId> {
    let x = net.conv(&format!("{name}.0"), x, cin, cout, spec)?;
    let x = net.batch_norm(&format!("{name}.1"), x, cout, EPSILON)?;
    net.relu6(&format!("{name}.2"), x)
}

/// Inverted residual block: a 1×1 convolution that expands the channels, a depthwise convolution, and a 1×1 convolution
/// without activation that projects back to few channels.
fn block(
    net: &mut Net<'_>,
    name: &str,
    x: NodeId,
    [cin, inner, cout]: [usize; 3],
    stride: usize,
) -> Result<NodeId> {
    let (mut y, mut i) = (x, 0);
    let mut next = || {
        i += 1;
        format!("{name}.conv.{}", i - 1)
    };
    if inner != cin {
        y = conv_norm_relu6(net, &next(), y, cin, inner, ConvSpec::square(1))?;
    }
    let depthwise = ConvSpec::square(3).stride(stride).same().groups(inner);
    y = conv_norm_relu6(net, &next(), y, inner, inner, depthwise)?;
    y = net.conv(&next(), y, inner, cout, ConvSpec::square(1))?;
    y = net.batch_norm(&next(), y, cout, EPSILON)?;
    if stride == 1 && cin == cout { net.add(name, x, y) } else { net.output_of(name, y) }
}
