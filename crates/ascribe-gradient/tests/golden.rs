//! Checks of the golden networks that are not golden cases.

use ascribe_core::DType;
use ascribe_testing::golden::{Failure, Network};

/// The layer that Grad-CAM selects by default is the activation before the last pooling.
#[test]
fn grad_cam_finds_the_layer() -> Result<(), Failure> {
    for (name, node) in [
        ("plain", "/act3/Relu"),
        ("residual", "/block2/act_1/Relu"),
        ("functional", "node_relu_4"),
        ("depthwise", "n4_6"),
    ] {
        let network = Network::load(name, DType::F32)?;
        let found = ascribe_gradient::last_spatial_layer(&network.graph, &network.inputs()?)?;
        assert_eq!(network.graph.node(found).name(), node, "{name}");
    }
    Ok(())
}
