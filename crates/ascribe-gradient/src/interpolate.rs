//! Resizing maps to the input's resolution.

use ascribe_core::ops::{
    Backend, Coordinates, Operator, Resize, ResizeEdges, ResizeMode, ResizeSize, Rounding,
};
use ascribe_core::{Error, Result, Tensor};
use serde::{Deserialize, Serialize};

/// How a map is resized, without antialiasing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interpolation {
    /// Bilinear interpolation with pixel centres at half-integers (PyTorch's `align_corners=false`); linear in one
    /// dimension.
    #[default]
    Bilinear,
    /// The value at ⌊i · old / new⌋ (PyTorch's `nearest`).
    Nearest,
}

impl Interpolation {
    /// Resizes `[N, C, …]` to these sizes of the axes after the channels.
    pub(crate) fn resize(self, map: &Tensor, sides: &[usize], backend: Backend) -> Result<Tensor> {
        if map.rank() != sides.len() + 2 {
            return Err(Error::invalid(
                "map",
                format!("has shape {:?}", map.dims()),
                format!("{} axes to resize to {sides:?}", sides.len() + 2),
            ));
        }
        let (mode, coordinates) = match self {
            Self::Bilinear => (ResizeMode::Linear, Coordinates::HalfPixel),
            Self::Nearest => (ResizeMode::Nearest { rounding: Rounding::Floor }, Coordinates::Asymmetric),
        };
        Resize { size: ResizeSize::Sides(sides.to_vec()), mode, coordinates, edges: ResizeEdges::default() }
            .forward(&[map], backend)
    }
}

#[cfg(test)]
mod tests {
    use ascribe_core::Device;

    use super::*;

    #[test]
    fn one_axis_by_hand() -> Result<()> {
        let map = Tensor::new(&[[[[0_f64, 4.0]]]], &Device::Cpu)?;
        let row = |t: Tensor| t.flatten_all()?.to_vec1::<f64>();
        assert_eq!(row(Interpolation::Bilinear.resize(&map, &[1, 4], Backend::Auto)?)?, [0.0, 1.0, 3.0, 4.0]);
        assert_eq!(row(Interpolation::Nearest.resize(&map, &[1, 4], Backend::Auto)?)?, [0.0, 0.0, 4.0, 4.0]);
        let down = Tensor::new(&[[[[0_f64, 1.0, 2.0, 3.0]]]], &Device::Cpu)?;
        assert_eq!(row(Interpolation::Bilinear.resize(&down, &[1, 2], Backend::Auto)?)?, [0.5, 2.5]);
        let tall = Interpolation::Bilinear.resize(&map, &[3, 2], Backend::Auto)?;
        assert_eq!(tall.dims(), [1, 1, 3, 2]);
        assert!(Interpolation::Bilinear.resize(&map, &[3], Backend::Auto).is_err());
        Ok(())
    }
}
