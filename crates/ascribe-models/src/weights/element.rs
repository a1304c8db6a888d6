//! Element types in files, and their conversion to tensors.

use std::io::{self, Read};

use candle_core::{DType, Device, Tensor};

/// The type of the elements of a tensor in a file.
///
/// Types that candle does not support are widened to the next type that can represent every value: `bool` and
/// `u8` to `u8`, `i8` to `i16`, `u16` to `u32`, `u64` to `i64` (an error above 2⁶³ − 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Element {
    Bool,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F16,
    BF16,
    F32,
    F64,
}

impl Element {
    /// Bytes per element.
    pub(crate) const fn size(self) -> usize {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 | Self::F16 | Self::BF16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// The type for a safetensors type; `None` if it is not supported.
    pub(crate) fn of_safetensors(dtype: safetensors::Dtype) -> Option<Self> {
        use safetensors::Dtype as D;
        Some(match dtype {
            D::BOOL => Self::Bool,
            D::U8 => Self::U8,
            D::I8 => Self::I8,
            D::U16 => Self::U16,
            D::I16 => Self::I16,
            D::U32 => Self::U32,
            D::I32 => Self::I32,
            D::U64 => Self::U64,
            D::I64 => Self::I64,
            D::F16 => Self::F16,
            D::BF16 => Self::BF16,
            D::F32 => Self::F32,
            D::F64 => Self::F64,
            _ => return None,
        })
    }

    /// The types for a candle type, here and in safetensors; `None` if it is not supported.
    pub(crate) fn of_candle(dtype: DType) -> Option<(Self, safetensors::Dtype)> {
        use safetensors::Dtype as D;
        Some(match dtype {
            DType::U8 => (Self::U8, D::U8),
            DType::I16 => (Self::I16, D::I16),
            DType::U32 => (Self::U32, D::U32),
            DType::I32 => (Self::I32, D::I32),
            DType::I64 => (Self::I64, D::I64),
            DType::F16 => (Self::F16, D::F16),
            DType::BF16 => (Self::BF16, D::BF16),
            DType::F32 => (Self::F32, D::F32),
            DType::F64 => (Self::F64, D::F64),
            _ => return None,
        })
    }

    /// [`Element::tensor`] for the next `length` bytes of a reader. A tensor of f32 is read in pieces directly into its
    /// memory, so that there is no second copy of all bytes.
    ///
    /// # Errors
    /// The outer result is an error of the reader, the inner one an error of [`Element::tensor`].
    pub(crate) fn read(
        self,
        from: &mut impl Read,
        length: usize,
        shape: &[usize],
    ) -> io::Result<Result<Tensor, String>> {
        const PIECE: usize = 1 << 20;
        let mut piece = vec![0; if self == Self::F32 { length.min(PIECE) } else { length }];
        if self != Self::F32 || piece.len() == length {
            from.read_exact(&mut piece)?;
            return Ok(self.tensor(&piece, shape));
        }
        let mut values = Vec::with_capacity(length / 4);
        let mut rest = length;
        while rest > 0 {
            let part = &mut piece[..rest.min(PIECE)];
            from.read_exact(part)?;
            values.extend(chunks::<4>(part).map(f32::from_le_bytes));
            rest -= part.len();
        }
        Ok(tensor(values, shape))
    }

    /// A tensor on the CPU from little-endian bytes in row-major order.
    ///
    /// # Errors
    /// A message, when the number of bytes does not fit the shape, or an unsigned 64-bit value is too large.
    pub(crate) fn tensor(self, bytes: &[u8], shape: &[usize]) -> Result<Tensor, String> {
        let count = checked_count(shape).ok_or_else(|| format!("shape {shape:?} has too many elements"))?;
        if count.checked_mul(self.size()) != Some(bytes.len()) {
            return Err(format!(
                "shape {shape:?} needs {count} elements of {} bytes each, but there are {} bytes",
                self.size(),
                bytes.len()
            ));
        }
        let made = match self {
            Self::Bool => return tensor(bytes.iter().map(|b| u8::from(*b != 0)).collect::<Vec<_>>(), shape),
            Self::I8 => {
                return tensor(bytes.iter().map(|b| i16::from(b.cast_signed())).collect::<Vec<_>>(), shape);
            }
            Self::U16 => {
                let values = chunks::<2>(bytes).map(|b| u32::from(u16::from_le_bytes(b)));
                return tensor(values.collect::<Vec<_>>(), shape);
            }
            Self::U64 => {
                let values = chunks::<8>(bytes)
                    .map(|b| i64::try_from(u64::from_le_bytes(b)))
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(|_| "an unsigned 64-bit value exceeds 2^63 - 1".to_owned())?;
                return tensor(values, shape);
            }
            Self::U8 => DType::U8,
            Self::I16 => DType::I16,
            Self::U32 => DType::U32,
            Self::I32 => DType::I32,
            Self::I64 => DType::I64,
            Self::F16 => DType::F16,
            Self::BF16 => DType::BF16,
            Self::F32 => DType::F32,
            Self::F64 => DType::F64,
        };
        Tensor::from_raw_buffer(bytes, made, shape, &Device::Cpu).map_err(|e| e.to_string())
    }
}

fn tensor<T: candle_core::WithDType>(values: Vec<T>, shape: &[usize]) -> Result<Tensor, String> {
    Tensor::from_vec(values, shape, &Device::Cpu).map_err(|e| e.to_string())
}

fn chunks<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.as_chunks::<N>().0.iter().copied()
}

/// Number of elements of `shape`; `None` if it overflows.
pub(crate) fn checked_count(shape: &[usize]) -> Option<usize> {
    // A size of 0 must not hide an overflow of the other sizes, since strides would still overflow.
    let positive = shape.iter().filter(|d| **d != 0).try_fold(1usize, |n, d| n.checked_mul(*d))?;
    Some(if shape.contains(&0) { 0 } else { positive })
}

/// Little-endian bytes of a tensor, in row-major order.
pub(crate) fn bytes_of(tensor: &Tensor) -> candle_core::Result<Vec<u8>> {
    let flat = tensor.to_device(&Device::Cpu)?.flatten_all()?;
    macro_rules! bytes {
        ($type:ty) => {
            flat.to_vec1::<$type>()?.iter().flat_map(|v| v.to_le_bytes()).collect()
        };
    }
    Ok(match tensor.dtype() {
        DType::U8 => flat.to_vec1::<u8>()?,
        DType::I16 => bytes!(i16),
        DType::U32 => bytes!(u32),
        DType::I32 => bytes!(i32),
        DType::I64 => bytes!(i64),
        DType::F16 => bytes!(half::f16),
        DType::BF16 => bytes!(half::bf16),
        DType::F32 => bytes!(f32),
        DType::F64 => bytes!(f64),
        other => candle_core::bail!("tensors of type {other:?} cannot be written"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_candle_lacks_are_widened() {
        let t = Element::I8.tensor(&[0xff, 0x7f], &[2]).unwrap();
        assert_eq!(t.to_vec1::<i16>().unwrap(), [-1, 127]);
        let t = Element::U16.tensor(&[0xff, 0xff], &[1]).unwrap();
        assert_eq!(t.to_vec1::<u32>().unwrap(), [65535]);
        let t = Element::Bool.tensor(&[0, 1, 7], &[3]).unwrap();
        assert_eq!(t.to_vec1::<u8>().unwrap(), [0, 1, 1]);
        assert!(Element::U64.tensor(&[0xff; 8], &[1]).unwrap_err().contains("2^63"));
    }

    #[test]
    fn reading_piece_by_piece_gives_what_reading_at_once_gives() {
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
        let shape = [250, 3000];
        let all = Element::F32.tensor(&bytes, &shape).unwrap().to_vec2::<f32>().unwrap();
        let read = |length: usize, shape: &[usize]| Element::F32.read(&mut bytes.as_slice(), length, shape);
        let found = read(bytes.len(), &shape).unwrap().unwrap().to_vec2::<f32>().unwrap();
        let bits = |values: Vec<Vec<f32>>| values.concat().into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(found), bits(all));
        assert!(read(bytes.len() - 4, &shape).unwrap().is_err(), "the shape does not fit the length");
        assert!(read(bytes.len() - 1, &shape).unwrap().is_err(), "not a whole number of values");
        let shape = [250, 3001];
        assert!(read(bytes.len() + 1000, &shape).is_err(), "the data ends too early");
    }

    #[test]
    fn sizes_are_checked() {
        assert!(Element::F32.tensor(&[0; 8], &[3]).is_err());
        assert!(Element::F32.tensor(&[], &[usize::MAX, 2]).is_err());
        assert!(Element::F32.tensor(&[], &[usize::MAX, 2, 0]).is_err());
        assert_eq!(Element::F32.tensor(&[], &[3, 0]).unwrap().dims(), [3, 0]);
        assert_eq!(Element::F32.tensor(&1f32.to_le_bytes(), &[]).unwrap().to_scalar::<f32>().unwrap(), 1.0);
    }
}
