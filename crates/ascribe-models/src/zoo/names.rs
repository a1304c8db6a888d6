//! Converts parameter names of other projects to those of the architectures here.

use super::{efficientnet_lite, mobilenet_v2};
use crate::error::Result;
use crate::registry::canonical_names;
use crate::weights::StateDict;

/// Renames parameters with timm's names, or those of old checkpoints, to the names that the architecture uses. Which
/// names they have is detected from the names themselves.
pub(super) fn canonical(architecture: Family, weights: &StateDict) -> Result<StateDict> {
    let weights = weights.clone();
    match architecture {
        Family::Other(name) => canonical_names(name, weights),
        Family::EfficientNetLite(scale) => from_timm(weights, &efficientnet_lite::repeats(scale), lite_name),
        Family::MobileNetV2 => from_timm(weights, &mobilenet_v2::repeats(), mobilenet_name),
    }
}

/// Which renaming applies.
#[derive(Clone, Copy, Debug)]
pub(super) enum Family {
    /// That of the registry, by the name of the architecture.
    Other(&'static str),
    /// EfficientNet-Lite of this size.
    EfficientNetLite(efficientnet_lite::Scale),
    /// MobileNet-V2.
    MobileNetV2,
}

/// A module of a network of inverted residual blocks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Module {
    /// The first convolution or its norm.
    Stem(Layer),
    /// A convolution of a block, or its norm; blocks are numbered through all stages.
    Block(usize, Place, Layer),
    /// The last convolution or its norm.
    Head(Layer),
    /// The linear layer at the end.
    Classifier,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Layer {
    Conv,
    Norm,
}

/// Which of the convolutions of a block.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Expand,
    Depthwise,
    Project,
}

use Layer::{Conv, Norm};
use Place::{Depthwise, Expand, Project};

/// The layers of a block, in order.
const LAYERS: [(Place, Layer); 6] =
    [(Expand, Conv), (Expand, Norm), (Depthwise, Conv), (Depthwise, Norm), (Project, Conv), (Project, Norm)];

/// timm's names for these layers.
const STAGE: [&str; 6] = ["conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3"];

/// timm's names in the first stage, whose blocks have no expansion.
const FIRST_STAGE: [&str; 4] = ["conv_dw", "bn1", "conv_pw", "bn2"];

/// If the parameters have timm's names, renames them with `name`. Other names are kept and are later reported as
/// unknown.
fn from_timm(weights: StateDict, repeats: &[usize], name: fn(Module) -> String) -> Result<StateDict> {
    if !weights.names().any(|n| n.starts_with("conv_stem.") || n.starts_with("blocks.")) {
        return Ok(weights);
    }
    weights.rename(|parameter| {
        let renamed = parameter.rsplit_once('.').and_then(|(module, part)| {
            let module = parse_timm(module, repeats)?;
            Some(format!("{}.{part}", name(module)))
        });
        renamed.unwrap_or_else(|| parameter.to_owned())
    })
}

/// Parses a name of timm, which numbers blocks within each stage: `blocks.2.0.conv_pwl`.
fn parse_timm(module: &str, repeats: &[usize]) -> Option<Module> {
    match module {
        "conv_stem" => return Some(Module::Stem(Conv)),
        "bn1" => return Some(Module::Stem(Norm)),
        "conv_head" => return Some(Module::Head(Conv)),
        "bn2" => return Some(Module::Head(Norm)),
        "classifier" => return Some(Module::Classifier),
        _ => {}
    }
    let mut parts = module.strip_prefix("blocks.")?.split('.');
    let (stage, block): (usize, usize) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let layer = parts.next()?;
    if parts.next().is_some() || block >= *repeats.get(stage)? {
        return None;
    }
    let (names, layers) =
        if stage == 0 { (&FIRST_STAGE[..], &LAYERS[2..]) } else { (&STAGE[..], &LAYERS[..]) };
    let (place, kind) = *layers.get(names.iter().position(|name| *name == layer)?)?;
    let before: usize = repeats.iter().take(stage).sum();
    Some(Module::Block(before + block, place, kind))
}

/// The name in the published PyTorch conversions of EfficientNet-Lite.
fn lite_name(module: Module) -> String {
    match module {
        Module::Stem(Conv) => "_conv_stem".into(),
        Module::Stem(Norm) => "_bn0".into(),
        Module::Block(number, place, layer) => {
            let layer = match (place, layer) {
                (Expand, Conv) => "_expand_conv",
                (Expand, Norm) => "_bn0",
                (Depthwise, Conv) => "_depthwise_conv",
                (Depthwise, Norm) => "_bn1",
                (Project, Conv) => "_project_conv",
                (Project, Norm) => "_bn2",
            };
            format!("_blocks.{number}.{layer}")
        }
        Module::Head(Conv) => "_conv_head".into(),
        Module::Head(Norm) => "_bn1".into(),
        Module::Classifier => "_fc".into(),
    }
}

/// The name in torchvision's MobileNet-V2: `features.0` is the stem, `features.1` the first block, which has no
/// expansion.
fn mobilenet_name(module: Module) -> String {
    let last = mobilenet_v2::repeats().iter().sum::<usize>() + 1;
    match module {
        Module::Stem(Conv) => "features.0.0".into(),
        Module::Stem(Norm) => "features.0.1".into(),
        Module::Block(number, place, layer) => {
            let first = usize::from(number > 0);
            let layer = match (place, layer) {
                (Expand, Conv) => "0.0".to_owned(),
                (Expand, Norm) => "0.1".to_owned(),
                (Depthwise, Conv) => format!("{first}.0"),
                (Depthwise, Norm) => format!("{first}.1"),
                (Project, Conv) => format!("{}", first + 1),
                (Project, Norm) => format!("{}", first + 2),
            };
            format!("features.{}.conv.{layer}", number + 1)
        }
        Module::Head(Conv) => format!("features.{last}.0"),
        Module::Head(Norm) => format!("features.{last}.1"),
        Module::Classifier => "classifier.1".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timm_names_are_read() {
        let repeats = [1, 2, 2];
        assert_eq!(parse_timm("blocks.0.0.bn2", &repeats), Some(Module::Block(0, Project, Norm)));
        assert_eq!(parse_timm("blocks.2.1.conv_pwl", &repeats), Some(Module::Block(4, Project, Conv)));
        assert_eq!(parse_timm("bn2", &repeats), Some(Module::Head(Norm)));
        for unknown in
            ["blocks.2.2.bn1", "blocks.3.0.bn1", "blocks.0.0.conv_pwl", "blocks.1.0.se.fc1", "blocks.x"]
        {
            assert_eq!(parse_timm(unknown, &repeats), None, "{unknown}");
        }
    }

    #[test]
    fn names_of_both_networks() {
        assert_eq!(lite_name(Module::Block(3, Expand, Norm)), "_blocks.3._bn0");
        assert_eq!(mobilenet_name(Module::Block(0, Depthwise, Norm)), "features.1.conv.0.1");
        assert_eq!(mobilenet_name(Module::Block(16, Project, Norm)), "features.17.conv.3");
        assert_eq!(mobilenet_name(Module::Head(Conv)), "features.18.0");
    }
}
