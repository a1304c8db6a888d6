//! The architecture VGG.

use ascribe_core::NodeId;
use ascribe_core::ops::Window;

use super::net::{ConvSpec, Net};
use crate::error::Result;

const EPSILON: f64 = 1e-5;

/// Output channels of the five stages; each stage ends with max-pooling.
const CHANNELS: [usize; 5] = [64, 128, 256, 512, 512];

/// Simonyan & Zisserman (2014), "Very deep convolutional networks for large-scale image recognition",
/// <https://arxiv.org/abs/1409.1556>, table 1: `depths` holds the number of convolutions per stage.
///
/// As in torchvision: optionally with a batch norm after each convolution. Inputs can have any size from 32×32; the
/// classifier's input is pooled to 7×7. Layers are numbered consecutively within `features`.
pub(super) fn build(net: &mut Net<'_>, x: NodeId, depths: [usize; 5], batch_norm: bool) -> Result<NodeId> {
    let mut numbers = 0..;
    let mut next = || format!("features.{}", numbers.next().unwrap_or_default());
    let (mut x, mut cin) = (x, 3);
    for (cout, depth) in CHANNELS.into_iter().zip(depths) {
        for _ in 0..depth {
            x = net.conv(&next(), x, cin, cout, ConvSpec::square(3).same().with_bias())?;
            if batch_norm {
                x = net.batch_norm(&next(), x, cout, EPSILON)?;
            }
            x = net.relu(&next(), x)?;
            cin = cout;
        }
        x = net.max_pool(&next(), x, Window::new([2, 2]).stride([2, 2]))?;
    }
    let x = net.output_of("features", x)?;

    let x = net.adaptive_average("avgpool", x, [7, 7])?;
    let x = net.flatten("flatten", x)?;
    let x = net.linear("classifier.0", x, 512 * 7 * 7, 4096)?;
    let x = net.relu("classifier.1", x)?;
    let x = net.linear("classifier.3", x, 4096, 4096)?;
    let x = net.relu("classifier.4", x)?;
    let classes = net.classes("classifier.6");
    net.linear("classifier.6", x, 4096, classes)
}
