//! Generates tensors from the formula in `fixtures/golden/README.md`, instead of storing large files.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde::Deserialize;

/// The contents of a `*.fill.json` file.
#[derive(Debug, Deserialize)]
pub struct FillFile {
    /// Shape of the network's input.
    #[serde(default)]
    pub input: Vec<usize>,
    /// The tensors, in the order of the file.
    pub tensors: Vec<Fill>,
}

/// One tensor: `value[i] = shift + scale · u(name, i)`.
#[derive(Debug, Deserialize)]
pub struct Fill {
    /// Its name, which seeds the values.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Half the width of the interval of values.
    pub scale: f64,
    /// Middle of the interval of values.
    pub shift: f64,
}

impl FillFile {
    /// Reads `fixtures/golden/logits/FILE`.
    pub fn read(file: &str) -> Self {
        let path = golden(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }
}

impl Fill {
    /// The values, in row-major order.
    pub fn values(&self) -> Vec<f32> {
        values(&self.name, self.shape.iter().product(), self.scale, self.shift)
    }

    /// The tensor, in f32.
    pub fn tensor(&self) -> Tensor {
        Tensor::from_vec(self.values(), self.shape.as_slice(), &Device::Cpu).unwrap()
    }
}

/// The input of all golden networks, in f32.
pub fn input(shape: &[usize]) -> Tensor {
    Fill { name: "input".into(), shape: shape.to_vec(), scale: 1.0, shift: 0.0 }.tensor()
}

/// A file of the golden logits.
pub fn golden(file: &str) -> PathBuf {
    fixtures().join("golden/logits").join(file)
}

/// The folder of fixtures.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn values(name: &str, count: usize, scale: f64, shift: f64) -> Vec<f32> {
    let seed = fnv1a64(name.as_bytes());
    (0..count as u64)
        .map(|i| {
            let u = (splitmix64(seed.wrapping_add(i)) >> 40) as f64 / f64::from(1 << 23) - 1.0;
            (shift + scale * u) as f32
        })
        .collect()
}

fn fnv1a64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &byte| (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn splitmix64(x: u64) -> u64 {
    let z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Checks the three values that the README gives.
#[test]
fn known_values() {
    for (name, i, scale, shift, bits) in [
        ("input", 0, 1.0, 0.0, 0xbf4d_eac2_u32),
        ("conv1.weight", 7, 0.202_030_509_110_442_14, 0.0, 0xbd58_e5c3),
        ("layer1.0.bn1.running_var", 63, 0.5, 1.0, 0x3f47_10bf),
    ] {
        assert_eq!(values(name, i + 1, scale, shift)[i].to_bits(), bits, "{name}");
    }
}
