//! The architecture `GoogLeNet`.

use ascribe_core::NodeId;
use ascribe_core::ops::Window;

use super::inception::conv_norm_relu;
use super::net::{ConvSpec, Net};
use crate::error::Result;

/// Output channels of the convolutions of an inception module.
struct Widths {
    /// 1×1 branch.
    one: usize,
    /// 3×3 branch: of the 1×1 convolution that reduces the channels, and of the 3×3 convolution.
    three: [usize; 2],
    /// "5×5" branch: of the 1×1 convolution, and of the second convolution.
    five: [usize; 2],
    /// Pooling branch.
    pool: usize,
}

impl Widths {
    const fn new(one: usize, three: [usize; 2], five: [usize; 2], pool: usize) -> Self {
        Self { one, three, five, pool }
    }

    /// Channels of the concatenated output.
    fn total(&self) -> usize {
        self.one + self.three[1] + self.five[1] + self.pool
    }
}

/// Szegedy et al. (2014), "Going deeper with convolutions", <https://arxiv.org/abs/1409.4842>, table 1.
///
/// As in torchvision: with batch norm and without local response normalisation, with 3×3 convolutions instead of 5×5
/// ones (a mistake with which the published weights were trained), and with pooling in ceil mode. The auxiliary
/// classifiers are left out.
pub(super) fn build(net: &mut Net<'_>, x: NodeId) -> Result<NodeId> {
    let pool = Window { ceil_mode: true, ..Window::new([3, 3]).stride([2, 2]) };
    let x = conv_norm_relu(net, "conv1", x, 3, 64, ConvSpec::square(7).stride(2).same())?;
    let x = net.max_pool("maxpool1", x, pool)?;
    let x = conv_norm_relu(net, "conv2", x, 64, 64, ConvSpec::square(1))?;
    let x = conv_norm_relu(net, "conv3", x, 64, 192, ConvSpec::square(3).same())?;
    let x = net.max_pool("maxpool2", x, pool)?;

    let x = modules(
        net,
        x,
        192,
        &[
            ("inception3a", Widths::new(64, [96, 128], [16, 32], 32)),
            ("inception3b", Widths::new(128, [128, 192], [32, 96], 64)),
        ],
    )?;
    let x = net.max_pool("maxpool3", x, pool)?;
    let x = modules(
        net,
        x,
        480,
        &[
            ("inception4a", Widths::new(192, [96, 208], [16, 48], 64)),
            ("inception4b", Widths::new(160, [112, 224], [24, 64], 64)),
            ("inception4c", Widths::new(128, [128, 256], [24, 64], 64)),
            ("inception4d", Widths::new(112, [144, 288], [32, 64], 64)),
            ("inception4e", Widths::new(256, [160, 320], [32, 128], 128)),
        ],
    )?;
    let x = net.max_pool("maxpool4", x, Window { kernel: [2, 2], ..pool })?;
    let x = modules(
        net,
        x,
        832,
        &[
            ("inception5a", Widths::new(256, [160, 320], [32, 128], 128)),
            ("inception5b", Widths::new(384, [192, 384], [48, 128], 128)),
        ],
    )?;

    let x = net.global_average("avgpool", x)?;
    let x = net.flatten("flatten", x)?;
    let classes = net.classes("fc");
    net.linear("fc", x, 1024, classes)
}

fn modules(net: &mut Net<'_>, x: NodeId, cin: usize, list: &[(&str, Widths)]) -> Result<NodeId> {
    let (mut x, mut cin) = (x, cin);
    for (name, widths) in list {
        x = module(net, name, x, cin, widths)?;
        cin = widths.total();
    }
    Ok(x)
}

fn module(net: &mut Net<'_>, name: &str, x: NodeId, cin: usize, widths: &Widths) -> Result<NodeId> {
    let at = |part: &str| format!("{name}.{part}");
    let (one, three) = (ConvSpec::square(1), ConvSpec::square(3).same());

    let direct = conv_norm_relu(net, &at("branch1"), x, cin, widths.one, one)?;

    let [reduced, out] = widths.three;
    let y = conv_norm_relu(net, &at("branch2.0"), x, cin, reduced, one)?;
    let middle = conv_norm_relu(net, &at("branch2.1"), y, reduced, out, three)?;

    let [reduced, out] = widths.five;
    let y = conv_norm_relu(net, &at("branch3.0"), x, cin, reduced, one)?;
    let wide = conv_norm_relu(net, &at("branch3.1"), y, reduced, out, three)?;

    let around = Window { ceil_mode: true, ..Window::new([3, 3]).padding([1, 1]) };
    let y = net.max_pool(&at("branch4.0"), x, around)?;
    let pooled = conv_norm_relu(net, &at("branch4.1"), y, cin, widths.pool, one)?;

    net.concat(name, &[direct, middle, wide, pooled])
}
