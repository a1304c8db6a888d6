//! Renames parameters so that each architecture has only one set of parameter names.

use crate::error::Result;
use crate::weights::StateDict;

/// Renames parameters of older checkpoints and of timm to the names that torchvision uses now, for the architectures
/// where they differ:
///
/// - VGG: timm writes the first two linear layers as convolutions (`pre_logits.fc1.weight`, shape
///   [4096, 512, 7, 7]) and the last as `head.fc`; torchvision has `classifier.0` (shape
///   [4096, 25088]), `classifier.3` and `classifier.6`. torchvision flattens its features in row-major order, so the
///   weights can be reshaped without reordering.
/// - DenseNet: `denselayer1.norm.1` until 2018, `denselayer1.norm1` since then.
///
/// Other architectures, and names that are already right, are not changed.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) when two parameters would get the same name.
pub fn canonical_names(architecture: &str, weights: StateDict) -> Result<StateDict> {
    if architecture.starts_with("vgg") {
        let renamed = weights.rename(|name| {
            [
                ("pre_logits.fc1.", "classifier.0."),
                ("pre_logits.fc2.", "classifier.3."),
                ("head.fc.", "classifier.6."),
            ]
            .iter()
            .find_map(|(timm, torchvision)| Some(format!("{torchvision}{}", name.strip_prefix(timm)?)))
            .unwrap_or_else(|| name.to_owned())
        })?;
        flatten_linear(renamed)
    } else if architecture.starts_with("densenet") {
        weights.rename(|name| {
            if !name.contains(".denselayer") {
                return name.to_owned();
            }
            ["norm", "conv"].iter().fold(name.to_owned(), |name, part| {
                name.replace(&format!(".{part}.1."), &format!(".{part}1."))
                    .replace(&format!(".{part}.2."), &format!(".{part}2."))
            })
        })
    } else {
        Ok(weights)
    }
}

/// Reshapes the weights of VGG's linear layers from convolution weights to matrices.
fn flatten_linear(mut weights: StateDict) -> Result<StateDict> {
    for name in ["classifier.0.weight", "classifier.3.weight", "classifier.6.weight"] {
        if let Ok(tensor) = weights.get(name)
            && tensor.rank() == 4
        {
            let flat = tensor.flatten_from(1)?;
            weights.insert(name, flat);
        }
    }
    Ok(weights)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor};

    fn zeros(shape: &[usize]) -> Tensor {
        Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu).unwrap()
    }

    #[test]
    fn vgg_of_timm() {
        let weights: StateDict = [
            ("features.0.weight", zeros(&[4, 3, 3, 3])),
            ("pre_logits.fc1.weight", zeros(&[5, 2, 7, 7])),
            ("pre_logits.fc2.bias", zeros(&[5])),
            ("head.fc.weight", zeros(&[9, 5])),
        ]
        .into_iter()
        .collect();
        let renamed = canonical_names("vgg16-bn", weights).unwrap();
        let expected = [
            ("features.0.weight", vec![4, 3, 3, 3]),
            ("classifier.0.weight", vec![5, 98]),
            ("classifier.3.bias", vec![5]),
            ("classifier.6.weight", vec![9, 5]),
        ];
        renamed.check(&expected).unwrap();
        assert!(canonical_names("vgg16", renamed).unwrap().check(&expected).is_ok());
    }

    #[test]
    fn old_densenet() {
        let weights: StateDict = [
            ("features.denseblock1.denselayer2.norm.1.running_mean", zeros(&[1])),
            ("features.denseblock1.denselayer2.conv.2.weight", zeros(&[1])),
            ("features.transition1.norm.weight", zeros(&[1])),
        ]
        .into_iter()
        .collect();
        let renamed = canonical_names("densenet121", weights).unwrap();
        assert_eq!(
            renamed.names().collect::<Vec<_>>(),
            [
                "features.denseblock1.denselayer2.norm1.running_mean",
                "features.denseblock1.denselayer2.conv2.weight",
                "features.transition1.norm.weight"
            ]
        );
    }
}
