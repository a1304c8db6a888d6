//! The list of architectures.

use ascribe_core::NodeId;

use super::efficientnet_lite::Scale;
use super::names::Family;
use super::net::Net;
use super::resnet::Block;
use super::{
    alexnet, densenet, efficientnet_lite, googlenet, inception_v3, mobilenet_v2, resnet, shapes, squeezenet,
    vgg,
};
use crate::error::{Error, Result, nearest};

/// One network architecture of the zoo.
#[derive(Clone, Copy, Debug)]
pub struct Architecture {
    /// The name, in lower case with hyphens: `resnet50`, `vgg16-bn`, `inception-v3`.
    pub name: &'static str,
    /// Height and width of the input, in pixels, that the architecture was published for.
    pub side: usize,
    /// The paper to cite.
    pub paper: &'static str,
    kind: Kind,
}

/// The function that builds an architecture, and its arguments.
#[derive(Clone, Copy, Debug)]
enum Kind {
    AlexNet,
    Vgg([usize; 5], bool),
    ResNet(Block, [usize; 4]),
    GoogLeNet,
    InceptionV3,
    DenseNet([usize; 4]),
    SqueezeNet10,
    SqueezeNet11,
    MobileNetV2,
    EfficientNetLite(Scale),
    Shapes,
}

const ALEXNET: &str = "Krizhevsky 2014, One weird trick for parallelizing convolutional neural networks";
const VGG: &str =
    "Simonyan & Zisserman 2014, Very deep convolutional networks for large-scale image recognition";
const RESNET: &str = "He, Zhang, Ren & Sun 2015, Deep residual learning for image recognition";
const GOOGLENET: &str = "Szegedy et al. 2014, Going deeper with convolutions";
const INCEPTION: &str = "Szegedy, Vanhoucke, Ioffe, Shlens & Wojna 2015, Rethinking the Inception architecture for \
                         computer vision";
const DENSENET: &str =
    "Huang, Liu, van der Maaten & Weinberger 2016, Densely connected convolutional networks";
const SQUEEZENET: &str = "Iandola et al. 2016, SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB \
                          model size";
const MOBILENET: &str =
    "Sandler, Howard, Zhu, Zhmoginov & Chen 2018, MobileNetV2: inverted residuals and linear bottlenecks";
const EFFICIENTNET: &str = "Tan & Le 2019, EfficientNet: rethinking model scaling for convolutional neural networks; \
                            the Lite variant by Google, 2020";

const SHAPES: &str = "trained by `cargo xtask train-shapes`";

const fn entry(name: &'static str, side: usize, paper: &'static str, kind: Kind) -> Architecture {
    Architecture { name, side, paper, kind }
}

const fn vgg_entry(name: &'static str, depths: [usize; 5], batch_norm: bool) -> Architecture {
    entry(name, 224, VGG, Kind::Vgg(depths, batch_norm))
}

const fn resnet_entry(name: &'static str, block: Block, depths: [usize; 4]) -> Architecture {
    entry(name, 224, RESNET, Kind::ResNet(block, depths))
}

const fn lite_entry(name: &'static str, side: usize, width: f64, depth: f64) -> Architecture {
    entry(name, side, EFFICIENTNET, Kind::EfficientNetLite(Scale { width, depth }))
}

static ARCHITECTURES: [Architecture; 26] = [
    entry("alexnet", 224, ALEXNET, Kind::AlexNet),
    vgg_entry("vgg11", [1, 1, 2, 2, 2], false),
    vgg_entry("vgg13", [2, 2, 2, 2, 2], false),
    vgg_entry("vgg16", [2, 2, 3, 3, 3], false),
    vgg_entry("vgg19", [2, 2, 4, 4, 4], false),
    vgg_entry("vgg11-bn", [1, 1, 2, 2, 2], true),
    vgg_entry("vgg13-bn", [2, 2, 2, 2, 2], true),
    vgg_entry("vgg16-bn", [2, 2, 3, 3, 3], true),
    vgg_entry("vgg19-bn", [2, 2, 4, 4, 4], true),
    resnet_entry("resnet18", Block::Basic, [2, 2, 2, 2]),
    resnet_entry("resnet34", Block::Basic, [3, 4, 6, 3]),
    resnet_entry("resnet50", Block::Bottleneck, [3, 4, 6, 3]),
    resnet_entry("resnet101", Block::Bottleneck, [3, 4, 23, 3]),
    resnet_entry("resnet152", Block::Bottleneck, [3, 8, 36, 3]),
    entry("googlenet", 224, GOOGLENET, Kind::GoogLeNet),
    entry("inception-v3", 299, INCEPTION, Kind::InceptionV3),
    entry("densenet121", 224, DENSENET, Kind::DenseNet([6, 12, 24, 16])),
    entry("squeezenet1-0", 224, SQUEEZENET, Kind::SqueezeNet10),
    entry("squeezenet1-1", 224, SQUEEZENET, Kind::SqueezeNet11),
    entry("mobilenet-v2", 224, MOBILENET, Kind::MobileNetV2),
    lite_entry("efficientnet-lite0", 224, 1.0, 1.0),
    lite_entry("efficientnet-lite1", 240, 1.0, 1.1),
    lite_entry("efficientnet-lite2", 260, 1.1, 1.2),
    lite_entry("efficientnet-lite3", 280, 1.2, 1.4),
    lite_entry("efficientnet-lite4", 300, 1.4, 1.8),
    entry("shapes-cnn", 32, SHAPES, Kind::Shapes),
];

/// All architectures that [`build`](super::build) knows.
///
/// ```
/// let resnet = ascribe_models::zoo::architectures().iter().find(|a| a.name == "resnet50").unwrap();
/// assert_eq!(resnet.side, 224);
/// assert!(resnet.paper.starts_with("He"));
/// ```
pub fn architectures() -> &'static [Architecture] {
    &ARCHITECTURES
}

/// The architecture with this name. Case and the characters `-`, `_` and `.` are ignored.
///
/// ```
/// assert_eq!(ascribe_models::zoo::architecture("SqueezeNet1_0")?.name, "squeezenet1-0");
/// # Ok::<(), ascribe_models::Error>(())
/// ```
///
/// # Errors
/// [`Error::UnknownArchitecture`] with similar names.
pub fn architecture(name: &str) -> Result<&'static Architecture> {
    let bare = |name: &str| -> String {
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
    };
    let wanted = bare(name);
    ARCHITECTURES.iter().find(|a| bare(a.name) == wanted).ok_or_else(|| Error::UnknownArchitecture {
        name: name.to_owned(),
        near: nearest(name, ARCHITECTURES.iter().map(|a| a.name), 3),
    })
}

impl Architecture {
    /// Whether the architecture has the option `transform_input`.
    pub(super) fn has_input_transform(&self) -> bool {
        matches!(self.kind, Kind::GoogLeNet | Kind::InceptionV3)
    }

    /// Whether the layers of the network depend on the height and width of the input.
    pub(super) fn needs_sides(&self) -> bool {
        matches!(self.kind, Kind::EfficientNetLite(_))
    }

    /// Which naming conventions its parameters can have.
    pub(super) fn family(&self) -> Family {
        match self.kind {
            Kind::EfficientNetLite(scale) => Family::EfficientNetLite(scale),
            Kind::MobileNetV2 => Family::MobileNetV2,
            _ => Family::Other(self.name),
        }
    }

    /// Adds the layers from the (transformed) input `x` to the logits. `sides` are the height and width of the input;
    /// they are only used if [`needs_sides`](Self::needs_sides).
    pub(super) fn layers(&self, net: &mut Net<'_>, x: NodeId, sides: [usize; 2]) -> Result<NodeId> {
        match self.kind {
            Kind::AlexNet => alexnet::build(net, x),
            Kind::Vgg(depths, batch_norm) => vgg::build(net, x, depths, batch_norm),
            Kind::ResNet(block, depths) => resnet::build(net, x, block, depths),
            Kind::GoogLeNet => googlenet::build(net, x),
            Kind::InceptionV3 => inception_v3::build(net, x),
            Kind::DenseNet(depths) => densenet::build(net, x, depths),
            Kind::SqueezeNet10 => squeezenet::build_1_0(net, x),
            Kind::SqueezeNet11 => squeezenet::build_1_1(net, x),
            Kind::MobileNetV2 => mobilenet_v2::build(net, x),
            Kind::EfficientNetLite(scale) => efficientnet_lite::build(net, x, scale, sides),
            Kind::Shapes => shapes::build(net, x),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    #[test]
    fn every_registered_model_has_an_architecture() {
        for model in Registry::builtin().models() {
            assert!(architecture(&model.architecture).is_ok(), "{}", model.name);
        }
    }

    #[test]
    fn unknown_names_get_suggestions() {
        let message = architecture("resnet5").unwrap_err().to_string();
        assert!(message.contains("'resnet5'") && message.contains("resnet50"), "{message}");
        assert!(architecture("").is_err());
    }
}
