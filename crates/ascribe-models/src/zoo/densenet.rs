//! The architecture `DenseNet`.

use ascribe_core::NodeId;
use ascribe_core::ops::Window;

use super::net::{ConvSpec, Net};
use crate::error::Result;

const EPSILON: f64 = 1e-5;

/// Channels that each layer adds (k in the paper).
const GROWTH: usize = 32;

/// Output channels of the 1×1 convolution of a layer.
const BOTTLENECK: usize = 4 * GROWTH;

/// Huang, Liu, van der Maaten & Weinberger (2016), "Densely connected convolutional networks",
/// <https://arxiv.org/abs/1608.06993>, table 1: `depths` holds the number of layers of each dense block.
pub(super) fn build(net: &mut Net<'_>, x: NodeId, depths: [usize; 4]) -> Result<NodeId> {
    let mut channels = 2 * GROWTH;
    let x = net.conv("features.conv0", x, 3, channels, ConvSpec::square(7).stride(2).same())?;
    let x = net.batch_norm("features.norm0", x, channels, EPSILON)?;
    let x = net.relu("features.relu0", x)?;
    let pool = Window::new([3, 3]).stride([2, 2]).padding([1, 1]);
    let mut x = net.max_pool("features.pool0", x, pool)?;
    for (i, depth) in depths.into_iter().enumerate() {
        if i > 0 {
            x = transition(net, &format!("features.transition{i}"), x, channels)?;
            channels /= 2;
        }
        x = dense_block(net, &format!("features.denseblock{}", i + 1), x, channels, depth)?;
        channels += depth * GROWTH;
    }
    let x = net.batch_norm("features.norm5", x, channels, EPSILON)?;
    let x = net.output_of("features", x)?;

    let x = net.relu("relu", x)?;
    let x = net.global_average("avgpool", x)?;
    let x = net.flatten("flatten", x)?;
    let classes = net.classes("classifier");
    net.linear("classifier", x, channels, classes)
}

/// The input of each layer is the concatenation of the block's input and the outputs of all layers before it. The
/// concatenation after `denselayer4` is called `denselayer4.cat`; the last one has the name of the block.
fn dense_block(net: &mut Net<'_>, name: &str, x: NodeId, channels: usize, depth: usize) -> Result<NodeId> {
    let mut x = x;
    for i in 0..depth {
        let layer = format!("{name}.denselayer{}", i + 1);
        let added = dense_layer(net, &layer, x, channels + i * GROWTH)?;
        let joined = if i + 1 == depth { name.to_owned() } else { format!("{layer}.cat") };
        x = net.concat(&joined, &[x, added])?;
    }
    Ok(x)
}

fn dense_layer(net: &mut Net<'_>, name: &str, x: NodeId, cin: usize) -> Result<NodeId> {
    let at = |part: &str| format!("{name}.{part}");
    let x = net.batch_norm(&at("norm1"), x, cin, EPSILON)?;
    let x = net.relu(&at("relu1"), x)?;
    let x = net.conv(&at("conv1"), x, cin, BOTTLENECK, ConvSpec::square(1))?;
    let x = net.batch_norm(&at("norm2"), x, BOTTLENECK, EPSILON)?;
    let x = net.relu(&at("relu2"), x)?;
    let x = net.conv(&at("conv2"), x, BOTTLENECK, GROWTH, ConvSpec::square(3).same())?;
    net.output_of(name, x)
}

/// A transition layer, which halves the number of channels and the resolution.
fn transition(net: &mut Net<'_>, name: &str, x: NodeId, cin: usize) -> Result<NodeId> {
    let at = |part: &str| format!("{name}.{part}");
    let x = net.batch_norm(&at("norm"), x, cin, EPSILON)?;
    let x = net.relu(&at("relu"), x)?;
    let x = net.conv(&at("conv"), x, cin, cin / 2, ConvSpec::square(1))?;
    let x = net.average_pool(&at("pool"), x, Window::new([2, 2]).stride([2, 2]))?;
    net.output_of(name, x)
}
