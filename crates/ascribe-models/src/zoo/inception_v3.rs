//! The architecture Inception-v3.

use ascribe_core::NodeId;
use ascribe_core::ops::Window;

use super::inception::conv_norm_relu;
use super::net::{ConvSpec, Net};
use crate::error::Result;

/// Szegedy, Vanhoucke, Ioffe, Shlens & Wojna (2015), "Rethinking the Inception architecture for computer
/// vision", <https://arxiv.org/abs/1512.00567>. As in torchvision, without the auxiliary classifier.
/// Inputs must be at least 75×75 pixels.
pub(super) fn build(net: &mut Net<'_>, x: NodeId) -> Result<NodeId> {
    let (one, three) = (ConvSpec::square(1), ConvSpec::square(3));
    let pool = Window::new([3, 3]).stride([2, 2]);
    let x = conv_norm_relu(net, "Conv2d_1a_3x3", x, 3, 32, three.stride(2))?;
    let x = conv_norm_relu(net, "Conv2d_2a_3x3", x, 32, 32, three)?;
    let x = conv_norm_relu(net, "Conv2d_2b_3x3", x, 32, 64, three.same())?;
    let x = net.max_pool("maxpool1", x, pool)?;
    let x = conv_norm_relu(net, "Conv2d_3b_1x1", x, 64, 80, one)?;
    let x = conv_norm_relu(net, "Conv2d_4a_3x3", x, 80, 192, three)?;
    let x = net.max_pool("maxpool2", x, pool)?;

    let x = module_a(net, "Mixed_5b", x, 192, 32)?;
    let x = module_a(net, "Mixed_5c", x, 256, 64)?;
    let x = module_a(net, "Mixed_5d", x, 288, 64)?;
    let x = module_b(net, "Mixed_6a", x, 288)?;
    let x = module_c(net, "Mixed_6b", x, 128)?;
    let x = module_c(net, "Mixed_6c", x, 160)?;
    let x = module_c(net, "Mixed_6d", x, 160)?;
    let x = module_c(net, "Mixed_6e", x, 192)?;
    let x = module_d(net, "Mixed_7a", x)?;
    let x = module_e(net, "Mixed_7b", x, 1280)?;
    let x = module_e(net, "Mixed_7c", x, 2048)?;

    let x = net.global_average("avgpool", x)?;
    let x = net.flatten("flatten", x)?;
    let classes = net.classes("fc");
    net.linear("fc", x, 2048, classes)
}

/// A sequence of layers `module.name`, each with its output channels and kernel.
fn chain(
    net: &mut Net<'_>,
    module: &str,
    x: NodeId,
    cin: usize,
    layers: &[(&str, usize, ConvSpec)],
) -> Result<NodeId> {
    let (mut x, mut cin) = (x, cin);
    for &(name, cout, spec) in layers {
        x = conv_norm_relu(net, &format!("{module}.{name}"), x, cin, cout, spec)?;
        cin = cout;
    }
    Ok(x)
}

/// Average over the 3×3 neighbourhood, where padding counts as zeros, then a 1×1 convolution.
fn pool_branch(net: &mut Net<'_>, module: &str, x: NodeId, cin: usize, cout: usize) -> Result<NodeId> {
    let around = Window::new([3, 3]).padding([1, 1]);
    let pooled = net.average_pool(&format!("{module}.avg_pool2d"), x, around)?;
    chain(net, module, pooled, cin, &[("branch_pool", cout, ConvSpec::square(1))])
}

/// 3×3 max-pooling with stride 2.
fn max_branch(net: &mut Net<'_>, module: &str, x: NodeId) -> Result<NodeId> {
    net.max_pool(&format!("{module}.max_pool2d"), x, Window::new([3, 3]).stride([2, 2]))
}

/// Figure 5 of the paper: a 5×5 branch and a branch with two 3×3 convolutions.
fn module_a(net: &mut Net<'_>, name: &str, x: NodeId, cin: usize, pool: usize) -> Result<NodeId> {
    let (one, three) = (ConvSpec::square(1), ConvSpec::square(3).same());
    let five = ConvSpec::square(5).same();
    let direct = chain(net, name, x, cin, &[("branch1x1", 64, one)])?;
    let wide = chain(net, name, x, cin, &[("branch5x5_1", 48, one), ("branch5x5_2", 64, five)])?;
    let double = [("branch3x3dbl_1", 64, one), ("branch3x3dbl_2", 96, three), ("branch3x3dbl_3", 96, three)];
    let double = chain(net, name, x, cin, &double)?;
    let pooled = pool_branch(net, name, x, cin, pool)?;
    net.concat(name, &[direct, wide, double, pooled])
}

/// Figure 10: halves the resolution.
fn module_b(net: &mut Net<'_>, name: &str, x: NodeId, cin: usize) -> Result<NodeId> {
    let (one, three) = (ConvSpec::square(1), ConvSpec::square(3));
    let single = chain(net, name, x, cin, &[("branch3x3", 384, three.stride(2))])?;
    let double = [
        ("branch3x3dbl_1", 64, one),
        ("branch3x3dbl_2", 96, three.same()),
        ("branch3x3dbl_3", 96, three.stride(2)),
    ];
    let double = chain(net, name, x, cin, &double)?;
    let pooled = max_branch(net, name, x)?;
    net.concat(name, &[single, double, pooled])
}

/// Figure 6: a 7×7 convolution as 1×7 and 7×1, once in one branch and twice in another, with `width` channels.
fn module_c(net: &mut Net<'_>, name: &str, x: NodeId, width: usize) -> Result<NodeId> {
    let cin = 768;
    let one = ConvSpec::square(1);
    let (row, column) = (ConvSpec::new([1, 7]).same(), ConvSpec::new([7, 1]).same());
    let direct = chain(net, name, x, cin, &[("branch1x1", 192, one)])?;
    let single = [("branch7x7_1", width, one), ("branch7x7_2", width, row), ("branch7x7_3", 192, column)];
    let single = chain(net, name, x, cin, &single)?;
    let double = [
        ("branch7x7dbl_1", width, one),
        ("branch7x7dbl_2", width, column),
        ("branch7x7dbl_3", width, row),
        ("branch7x7dbl_4", width, column),
        ("branch7x7dbl_5", 192, row),
    ];
    let double = chain(net, name, x, cin, &double)?;
    let pooled = pool_branch(net, name, x, cin, 192)?;
    net.concat(name, &[direct, single, double, pooled])
}

/// Halves the resolution, from 768 to 1280 channels.
fn module_d(net: &mut Net<'_>, name: &str, x: NodeId) -> Result<NodeId> {
    let cin = 768;
    let (one, halve) = (ConvSpec::square(1), ConvSpec::square(3).stride(2));
    let (row, column) = (ConvSpec::new([1, 7]).same(), ConvSpec::new([7, 1]).same());
    let single = chain(net, name, x, cin, &[("branch3x3_1", 192, one), ("branch3x3_2", 320, halve)])?;
    let seven = [
        ("branch7x7x3_1", 192, one),
        ("branch7x7x3_2", 192, row),
        ("branch7x7x3_3", 192, column),
        ("branch7x7x3_4", 192, halve),
    ];
    let seven = chain(net, name, x, cin, &seven)?;
    let pooled = max_branch(net, name, x)?;
    net.concat(name, &[single, seven, pooled])
}

/// Figure 7: 1×3 and 3×1 convolutions side by side.
fn module_e(net: &mut Net<'_>, name: &str, x: NodeId, cin: usize) -> Result<NodeId> {
    let (one, three) = (ConvSpec::square(1), ConvSpec::square(3).same());
    let direct = chain(net, name, x, cin, &[("branch1x1", 320, one)])?;
    let single = chain(net, name, x, cin, &[("branch3x3_1", 384, one)])?;
    let single = side_by_side(net, name, single, "branch3x3", ["branch3x3_2a", "branch3x3_2b"])?;
    let double = chain(net, name, x, cin, &[("branch3x3dbl_1", 448, one), ("branch3x3dbl_2", 384, three)])?;
    let double = side_by_side(net, name, double, "branch3x3dbl", ["branch3x3dbl_3a", "branch3x3dbl_3b"])?;
    let pooled = pool_branch(net, name, x, cin, 192)?;
    net.concat(name, &[direct, single, double, pooled])
}

/// A 1×3 and a 3×1 convolution of the same input, concatenated.
fn side_by_side(
    net: &mut Net<'_>,
    module: &str,
    x: NodeId,
    joined: &str,
    [row, column]: [&str; 2],
) -> Result<NodeId> {
    let row = chain(net, module, x, 384, &[(row, 384, ConvSpec::new([1, 3]).same())])?;
    let column = chain(net, module, x, 384, &[(column, 384, ConvSpec::new([3, 1]).same())])?;
    net.concat(&format!("{module}.{joined}"), &[row, column])
}
