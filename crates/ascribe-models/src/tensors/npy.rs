//! Reads and writes NumPy's `.npy` format.
//!
//! The header is a Python literal, but NumPy writes it in one form only, so a strict parser for that form is short. The
//! crate npyz is not used because it multiplies the dimensions of a malicious header without checking for overflow.

use std::io::Read;
use std::path::Path;

use candle_core::{DType, Tensor};

use crate::error::{Error, Result};
use crate::files::{self, write_atomically};
use crate::weights::element::{Element, bytes_of, checked_count};

const FORMAT: &str = "NumPy file";
const MAGIC: &[u8] = b"\x93NUMPY";

/// Reads an `.npy` file: booleans, integers and floats of 16 to 64 bits, either byte order, C or
/// Fortran order.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read; [`Error::Malformed`] when it is truncated or
/// corrupt, or holds strings, complex numbers, records or objects.
pub fn read_npy(path: impl AsRef<Path>) -> Result<Tensor> {
    let path = path.as_ref();
    let (mut file, length) = files::open(path)?;
    let bad = |problem: String| Error::malformed(path, FORMAT, problem);
    let mut start = Vec::new();
    file.by_ref().take(8).read_to_end(&mut start).map_err(Error::io("read", path))?;
    let version = match start.as_slice() {
        [magic @ .., version, _minor] if magic == MAGIC => *version,
        _ => return Err(bad("it does not start with the bytes '\\x93NUMPY'".into())),
    };
    let prefix = match version {
        1 => 2,
        2 | 3 => 4,
        _ => return Err(bad(format!("format version {version} is not known (1 to 3 are)"))),
    };
    let mut header_length = [0; 4];
    file.read_exact(&mut header_length[..prefix]).map_err(|_| bad("it ends within its header".into()))?;
    let header_length = u64::from(u32::from_le_bytes(header_length));
    let before = 8 + prefix as u64 + header_length;
    if before > length || header_length > 1 << 20 {
        return Err(bad(format!("its header should have {header_length} bytes, but the file has {length}")));
    }
    let mut header = vec![0; header_length as usize];
    file.read_exact(&mut header).map_err(Error::io("read", path))?;
    let header = std::str::from_utf8(&header).map_err(|_| bad("its header is not text".into()))?;
    let Header { element, big_endian, fortran, shape } = Header::parse(header).map_err(bad)?;

    let expected = checked_count(&shape).and_then(|n| n.checked_mul(element.size()));
    if expected.map(|n| n as u64) != Some(length - before) {
        return Err(bad(format!(
            "its header says shape {shape:?} with {} bytes per value, but {} bytes follow; it may be truncated",
            element.size(),
            length - before
        )));
    }
    let mut bytes = Vec::with_capacity((length - before) as usize);
    file.read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    if big_endian {
        bytes.chunks_exact_mut(element.size()).for_each(<[u8]>::reverse);
    }
    if fortran {
        let reversed: Vec<usize> = shape.iter().rev().copied().collect();
        let tensor = element.tensor(&bytes, &reversed).map_err(bad)?;
        let axes: Vec<usize> = (0..shape.len()).rev().collect();
        return Ok(tensor.permute(axes)?.contiguous()?);
    }
    element.tensor(&bytes, &shape).map_err(bad)
}

/// Writes an `.npy` file of format version 1.0, little-endian, in C order, atomically.
///
/// # Errors
/// [`Error::Io`] when the file cannot be written; [`Error::Invalid`] for bf16, which NumPy does not support.
pub fn write_npy(path: impl AsRef<Path>, tensor: &Tensor) -> Result<()> {
    let descr = match tensor.dtype() {
        DType::U8 => "|u1",
        DType::I16 => "<i2",
        DType::U32 => "<u4",
        DType::I32 => "<i4",
        DType::I64 => "<i8",
        DType::F16 => "<f2",
        DType::F32 => "<f4",
        DType::F64 => "<f8",
        other => {
            return Err(Error::invalid(
                "tensor",
                format!("has type {other:?}, which NumPy does not support"),
                "F32 or F64",
            ));
        }
    };
    let dims: Vec<String> = tensor.dims().iter().map(ToString::to_string).collect();
    let shape = if tensor.rank() == 1 { format!("{},", dims[0]) } else { dims.join(", ") };
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}");
    // The header is padded with spaces and ends in a line feed, so that the data starts at a multiple of 64 bytes.
    let length = (10 + header.len() + 1).next_multiple_of(64) - 10;
    header.extend(std::iter::repeat_n(' ', length - header.len() - 1));
    header.push('\n');
    let header_length = u16::try_from(length)
        .map_err(|_| Error::invalid("tensor", "has too many dimensions", "a header under 64 KiB"))?;
    let bytes = bytes_of(tensor)?;
    write_atomically(path.as_ref(), |out| {
        out.write_all(MAGIC)?;
        out.write_all(&[1, 0])?;
        out.write_all(&header_length.to_le_bytes())?;
        out.write_all(header.as_bytes())?;
        out.write_all(&bytes)
    })
}

/// The parsed header of a file.
#[derive(Debug, PartialEq)]
struct Header {
    element: Element,
    big_endian: bool,
    fortran: bool,
    shape: Vec<usize>,
}

impl Header {
    /// Parses `{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3), }`, keys in any order.
    fn parse(text: &str) -> Result<Self, String> {
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        let wrong = || format!("its header is not one that NumPy writes: {}", text.trim().escape_debug());
        let mut rest = text.trim().strip_prefix('{').ok_or_else(wrong)?.trim_start();
        while !rest.starts_with('}') {
            let (key, value) = rest.strip_prefix('\'').and_then(|r| r.split_once("':")).ok_or_else(wrong)?;
            let value = value.trim_start();
            rest = match key {
                "descr" => {
                    let (text, rest) =
                        value.strip_prefix('\'').and_then(|v| v.split_once('\'')).ok_or_else(|| {
                            "it contains records; save each field as a separate array".to_owned()
                        })?;
                    descr = Some(text);
                    rest
                }
                "fortran_order" => {
                    let (value, rest) = match value.strip_prefix("False") {
                        Some(rest) => (false, rest),
                        None => (true, value.strip_prefix("True").ok_or_else(wrong)?),
                    };
                    fortran = Some(value);
                    rest
                }
                "shape" => {
                    let (dims, rest) =
                        value.strip_prefix('(').and_then(|v| v.split_once(')')).ok_or_else(wrong)?;
                    let dims = dims.split(',').map(str::trim).filter(|d| !d.is_empty());
                    // Python 2 writes long integers with an L at the end.
                    let dims = dims.map(|d| d.trim_end_matches('L').parse::<usize>().map_err(|_| wrong()));
                    shape = Some(dims.collect::<Result<Vec<_>, _>>()?);
                    rest
                }
                _ => return Err(wrong()),
            };
            rest = rest.trim_start();
            rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
            if rest.is_empty() {
                return Err(wrong());
            }
        }
        let descr = descr.ok_or_else(wrong)?;
        let (order, kind) = descr.split_at_checked(1).ok_or_else(wrong)?;
        let element = match kind {
            "b1" => Element::Bool,
            "u1" => Element::U8,
            "i1" => Element::I8,
            "u2" => Element::U16,
            "i2" => Element::I16,
            "u4" => Element::U32,
            "i4" => Element::I32,
            "u8" => Element::U64,
            "i8" => Element::I64,
            "f2" => Element::F16,
            "f4" => Element::F32,
            "f8" => Element::F64,
            _ => {
                return Err(format!(
                    "its values have type '{descr}'; supported are booleans, integers and floats"
                ));
            }
        };
        if !matches!(order, "<" | ">" | "|" | "=") {
            return Err(wrong());
        }
        Ok(Self {
            element,
            big_endian: order == ">",
            fortran: fortran.ok_or_else(wrong)?,
            shape: shape.ok_or_else(wrong)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use proptest::prelude::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Tensor> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        read_npy(file.path())
    }

    #[test]
    fn byte_and_memory_order() {
        let header = "{'descr': '>i2', 'fortran_order': True, 'shape': (2, 3), }\n";
        let tensor = read(&file(header, &[0, 1, 0, 4, 0, 2, 0, 5, 0, 3, 0, 6])).unwrap();
        assert_eq!(tensor.to_vec2::<i16>().unwrap(), [[1, 2, 3], [4, 5, 6]]);
    }

    #[test]
    fn written_headers_are_those_of_numpy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        for (shape, text) in
            [(vec![], "()"), (vec![3], "(3,)"), (vec![1, 3], "(1, 3)"), (vec![0, 2], "(0, 2)")]
        {
            let tensor = Tensor::zeros(shape.clone(), DType::F32, &Device::Cpu).unwrap();
            write_npy(&path, &tensor).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {text}, }}");
            assert!(bytes[10..].starts_with(header.as_bytes()));
            assert_eq!((bytes.len() - 4 * tensor.elem_count()) % 64, 0);
            assert_eq!(read_npy(&path).unwrap().dims(), shape);
        }
    }

    #[test]
    fn malformed_files_are_errors() {
        let good = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }";
        assert!(read(&file(good, &[0; 8])).is_ok());
        for bytes in [
            vec![],
            b"\x93NUMPY".to_vec(),
            b"\x93NUMPY\x01\x00\xff\xff{}".to_vec(),
            b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(),
            b"\x93NUMPY\x09\x00\x00\x00".to_vec(),
            file(good, &[0; 7]),
            file(good, &[0; 9]),
            file(
                "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296, 4294967296), }",
                &[],
            ),
            file("{'descr': '<f4', 'fortran_order': False, 'shape': (18446744073709551615, 2), }", &[]),
            file("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", &[]),
            file("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", &[0; 8]),
            file("{'descr': '<U3', 'fortran_order': False, 'shape': (1,), }", &[0; 12]),
            file("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", &[0; 4]),
            file("{'descr': 'é', 'fortran_order': False, 'shape': (), }", &[0; 4]),
            file("{'shape': (1,), }", &[0; 4]),
            file("{'descr': '<f4'", &[]),
            file("((((((((((", &[]),
        ] {
            assert!(read(&bytes).is_err(), "{}", String::from_utf8_lossy(&bytes));
        }
    }

    proptest! {
        #![proptest_config(ascribe_proptest::config(64))]

        #[test]
        fn corrupt_files_never_panic(at in 0usize..80, value: u8, keep in 0usize..90) {
            let mut bytes = file("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", &[1; 8]);
            let length = bytes.len();
            bytes[at % length] = value;
            bytes.truncate(length.saturating_sub(keep.saturating_sub(20)));
            let _ = read(&bytes);
        }

        #[test]
        fn any_header_text_ends_without_a_panic(text in "\\PC{0,80}") {
            let _ = Header::parse(&text);
            let _ = Header::parse(&format!("{{'{text}"));
            let _ = Header::parse(&format!("{{'shape': ({text}"));
        }
    }
}
