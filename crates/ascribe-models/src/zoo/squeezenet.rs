//! The architecture `SqueezeNet`.

use ascribe_core::NodeId;
use ascribe_core::ops::Window;

use super::net::{ConvSpec, Net};
use crate::error::Result;

/// A layer of the feature extractor after the stem.
#[derive(Clone, Copy)]
enum Layer {
    /// 3×3 max-pooling that halves the resolution.
    Pool,
    /// A fire module: a 1×1 convolution with this many output channels, then 1×1 and 3×3 convolutions side by side with
    /// that many output channels each.
    Fire(usize, usize),
}

use Layer::{Fire, Pool};

/// Iandola et al. (2016), "`SqueezeNet`: `AlexNet`-level accuracy with 50x fewer parameters and <0.5MB model
/// size", <https://arxiv.org/abs/1602.07360>, table 1.
pub(super) fn build_1_0(net: &mut Net<'_>, x: NodeId) -> Result<NodeId> {
    let layers = [
        Pool,
        Fire(16, 64),
        Fire(16, 64),
        Fire(32, 128),
        Pool,
        Fire(32, 128),
        Fire(48, 192),
        Fire(48, 192),
        Fire(64, 256),
        Pool,
        Fire(64, 256),
    ];
    build(net, x, 96, ConvSpec::square(7), &layers)
}

/// The authors' version 1.1, with a smaller stem and earlier pooling, which needs 2.4 times less computation.
pub(super) fn build_1_1(net: &mut Net<'_>, x: NodeId) -> Result<NodeId> {
    let layers = [
        Pool,
        Fire(16, 64),
        Fire(16, 64),
        Pool,
        Fire(32, 128),
        Fire(32, 128),
        Pool,
        Fire(48, 192),
        Fire(48, 192),
        Fire(64, 256),
        Fire(64, 256),
    ];
    build(net, x, 64, ConvSpec::square(3), &layers)
}

/// As in torchvision, with pooling in ceil mode.
fn build(net: &mut Net<'_>, x: NodeId, stem: usize, kernel: ConvSpec, layers: &[Layer]) -> Result<NodeId> {
    let x = net.conv("features.0", x, 3, stem, kernel.stride(2).with_bias())?;
    let mut x = net.relu("features.1", x)?;
    let mut channels = stem;
    for (i, &layer) in layers.iter().enumerate() {
        let name = format!("features.{}", i + 2);
        match layer {
            Pool => {
                let window = Window { ceil_mode: true, ..Window::new([3, 3]).stride([2, 2]) };
                x = net.max_pool(&name, x, window)?;
            }
            Fire(squeeze, expand) => {
                x = fire(net, &name, x, channels, squeeze, expand)?;
                channels = 2 * expand;
            }
        }
    }
    let x = net.output_of("features", x)?;

    let classes = net.classes("classifier.1");
    let x = net.conv("classifier.1", x, channels, classes, ConvSpec::square(1).with_bias())?;
    let x = net.relu("classifier.2", x)?;
    let x = net.global_average("classifier.3", x)?;
    net.flatten("flatten", x)
}

fn fire(
    net: &mut Net<'_>,
    name: &str,
    x: NodeId,
    cin: usize,
    squeeze: usize,
    expand: usize,
) -> Result<NodeId> {
    let at = |part: &str| format!("{name}.{part}");
    let (one, three) = (ConvSpec::square(1).with_bias(), ConvSpec::square(3).same().with_bias());
    let x = net.conv(&at("squeeze"), x, cin, squeeze, one)?;
    let x = net.relu(&at("squeeze_activation"), x)?;
    let narrow = net.conv(&at("expand1x1"), x, squeeze, expand, one)?;
    let narrow = net.relu(&at("expand1x1_activation"), narrow)?;
    let wide = net.conv(&at("expand3x3"), x, squeeze, expand, three)?;
    let wide = net.relu(&at("expand3x3_activation"), wide)?;
    net.concat(name, &[narrow, wide])
}
