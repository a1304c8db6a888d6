//! The architecture AlexNet.

use ascribe_core::NodeId;
use ascribe_core::ops::Window;

use super::net::{ConvSpec, Net};
use crate::error::Result;

/// The one-column variant of Krizhevsky (2014), "One weird trick for parallelizing convolutional neural
/// networks", <https://arxiv.org/abs/1404.5997>, as in torchvision. Inputs must be at least 63×63 pixels; the
/// classifier's input is pooled to 6×6.
pub(super) fn build(net: &mut Net<'_>, x: NodeId) -> Result<NodeId> {
    let overlapping = Window::new([3, 3]).stride([2, 2]);
    let x = net.conv("features.0", x, 3, 64, ConvSpec::square(11).stride(4).padding([2, 2]).with_bias())?;
    let x = net.relu("features.1", x)?;
    let x = net.max_pool("features.2", x, overlapping)?;
    let x = net.conv("features.3", x, 64, 192, ConvSpec::square(5).same().with_bias())?;
    let x = net.relu("features.4", x)?;
    let x = net.max_pool("features.5", x, overlapping)?;
    let x = net.conv("features.6", x, 192, 384, ConvSpec::square(3).same().with_bias())?;
    let x = net.relu("features.7", x)?;
    let x = net.conv("features.8", x, 384, 256, ConvSpec::square(3).same().with_bias())?;
    let x = net.relu("features.9", x)?;
    let x = net.conv("features.10", x, 256, 256, ConvSpec::square(3).same().with_bias())?;
    let x = net.relu("features.11", x)?;
    let x = net.max_pool("features.12", x, overlapping)?;
    let x = net.output_of("features", x)?;

    let x = net.adaptive_average("avgpool", x, [6, 6])?;
    let x = net.flatten("flatten", x)?;
    let x = net.linear("classifier.1", x, 256 * 6 * 6, 4096)?;
    let x = net.relu("classifier.2", x)?;
    let x = net.linear("classifier.4", x, 4096, 4096)?;
    let x = net.relu("classifier.5", x)?;
    let classes = net.classes("classifier.6");
    net.linear("classifier.6", x, 4096, classes)
}
