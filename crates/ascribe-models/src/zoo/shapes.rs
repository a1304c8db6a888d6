//! The small network that this project trains on images of generated shapes.

use ascribe_core::NodeId;
use ascribe_core::ops::Window;

use super::net::{ConvSpec, Net};
use crate::error::Result;

/// Four convolutions with ReLU, max-pooling after the first two, global average pooling and a linear layer. It can be
/// trained in a minute and has all kinds of layers between which attribution methods distinguish. For images of 32×32
/// pixels.
pub(super) fn build(net: &mut Net<'_>, x: NodeId) -> Result<NodeId> {
    let halve = Window::new([2, 2]).stride([2, 2]);
    let layer = ConvSpec::square(3).same().with_bias();
    let x = net.conv("conv1", x, 3, 16, layer)?;
    let x = net.relu("relu1", x)?;
    let x = net.max_pool("pool1", x, halve)?;
    let x = net.conv("conv2", x, 16, 32, layer)?;
    let x = net.relu("relu2", x)?;
    let x = net.max_pool("pool2", x, halve)?;
    let x = net.conv("conv3", x, 32, 32, layer)?;
    let x = net.relu("relu3", x)?;
    let x = net.conv("conv4", x, 32, 64, layer)?;
    let x = net.relu("relu4", x)?;
    let x = net.global_average("avgpool", x)?;
    let x = net.flatten("flatten", x)?;
    let classes = net.classes("fc");
    net.linear("fc", x, 64, classes)
}
