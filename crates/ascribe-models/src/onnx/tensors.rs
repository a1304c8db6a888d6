//! Reads stored tensors (initialisers and constants), from the model file or from external data.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use ascribe_core::{DType, Device, Tensor};
use half::{bf16, f16};

use super::array::count;
use super::proto::{self, data_type};
use super::value::{Elem, Known, Res, Value};

/// Reads stored tensors.
#[derive(Debug)]
pub(super) struct Store {
    /// The folder of the model, in which external data must be, and the folder that symbolic links in it may point to.
    folders: Vec<PathBuf>,
    /// Open files with their sizes.
    files: HashMap<PathBuf, (File, u64)>,
    dtype: DType,
}

impl Store {
    /// A reader that finds external data in the folder of the file `model`, or in the folder `model`. With `None`,
    /// external data is an error.
    pub fn new(model: Option<&Path>, dtype: DType) -> Self {
        let mut folders = Vec::new();
        if let Some(path) = model {
            let folder = if path.is_dir() { Some(path) } else { path.parent() };
            let folder = folder.filter(|p| *p != Path::new("")).unwrap_or(Path::new("."));
            folders.push(folder.to_owned());
            // In download caches (Hugging Face), the model and its data are symbolic links into another folder.
            let target = path.canonicalize().ok();
            if let Some(target) = target.as_deref().and_then(Path::parent)
                && !path.is_dir()
            {
                folders.push(target.to_owned());
            }
        }
        Self { folders, files: HashMap::new(), dtype }
    }

    /// The value of a stored tensor.
    pub fn read(&mut self, tensor: &proto::Tensor, name: &str) -> Res<Value> {
        let shape = tensor
            .dims
            .iter()
            .map(|&d| usize::try_from(d).map_err(|_| format!("has an axis of negative size {d}").into()))
            .collect::<Res<Vec<usize>>>()?;
        let total = count(&shape)?;
        let code = tensor.data_type.unwrap_or(0);
        let size = element_size(code)?;
        let raw = if tensor.data_location == Some(1) {
            Some(self.external(&tensor.external_data, total, size)?.into())
        } else {
            tensor.raw_data.clone()
        };
        let (tensor, elem) = match raw {
            Some(bytes) => self.raw(&bytes, code, total, size, shape)?,
            None => self.fields(tensor, code, total, shape)?,
        };
        Ok(Known::stored(tensor, elem, code, name))
    }

    /// The numbers of a stored tensor, exactly: doubles are not rounded to the type of the graph.
    pub fn numbers(&mut self, tensor: &proto::Tensor, name: &str) -> Res<Vec<f64>> {
        let own = std::mem::replace(&mut self.dtype, DType::F64);
        let value = self.read(tensor, name);
        self.dtype = own;
        Ok(value?.array(name)?.to_floats())
    }

    /// Converts a floating-point tensor to the type of the graph.
    fn float(&self, tensor: &Tensor) -> Res<(Tensor, Elem)> {
        Ok((tensor.to_dtype(self.dtype)?, Elem::Float))
    }

    /// A tensor from raw little-endian bytes.
    fn raw(
        &self,
        raw: &[u8],
        code: i32,
        total: usize,
        size: usize,
        shape: Vec<usize>,
    ) -> Res<(Tensor, Elem)> {
        use data_type as t;
        if Some(raw.len()) != total.checked_mul(size) {
            return Err(format!(
                "has {} bytes of data, but {total} values of type {} take {} bytes each",
                raw.len(),
                t::name(code),
                size
            )
            .into());
        }
        let device = &Device::Cpu;
        match code {
            t::FLOAT => self.float(&Tensor::from_vec(le::<4, f32>(raw, f32::from_le_bytes), shape, device)?),
            t::DOUBLE => self.float(&Tensor::from_vec(le::<8, f64>(raw, f64::from_le_bytes), shape, device)?),
            t::FLOAT16 => {
                self.float(&Tensor::from_vec(le::<2, f16>(raw, f16::from_le_bytes), shape, device)?)
            }
            t::BFLOAT16 => {
                self.float(&Tensor::from_vec(le::<2, bf16>(raw, bf16::from_le_bytes), shape, device)?)
            }
            t::BOOL => {
                let bytes: Vec<u8> = raw.iter().map(|&b| u8::from(b != 0)).collect();
                Ok((Tensor::from_vec(bytes, shape, device)?, Elem::Bool))
            }
            _ => {
                let values = match code {
                    t::INT64 | t::UINT64 => le::<8, i64>(raw, i64::from_le_bytes),
                    t::INT32 => le::<4, i64>(raw, |b| i32::from_le_bytes(b).into()),
                    t::UINT32 => le::<4, i64>(raw, |b| u32::from_le_bytes(b).into()),
                    t::INT16 => le::<2, i64>(raw, |b| i16::from_le_bytes(b).into()),
                    t::UINT16 => le::<2, i64>(raw, |b| u16::from_le_bytes(b).into()),
                    t::INT8 => le::<1, i64>(raw, |b| i8::from_le_bytes(b).into()),
                    _ => le::<1, i64>(raw, |b| u8::from_le_bytes(b).into()),
                };
                Ok((Tensor::from_vec(values, shape, device)?, Elem::Int))
            }
        }
    }

    /// A tensor from the typed data fields of the protobuf message.
    fn fields(&self, t: &proto::Tensor, code: i32, total: usize, shape: Vec<usize>) -> Res<(Tensor, Elem)> {
        use data_type as d;
        let device = &Device::Cpu;
        let check = |len: usize| {
            if len == total {
                return Ok(());
            }
            Err(format!("has {len} values, but its shape {shape:?} needs {total}"))
        };
        match code {
            d::FLOAT => {
                check(t.float_data.len())?;
                self.float(&Tensor::from_slice(&t.float_data, shape, device)?)
            }
            d::DOUBLE => {
                check(t.double_data.len())?;
                self.float(&Tensor::from_slice(&t.double_data, shape, device)?)
            }
            d::FLOAT16 | d::BFLOAT16 => {
                check(t.int32_data.len())?;
                let widen = |&bits: &i32| {
                    let bits = bits as u16;
                    if code == d::FLOAT16 {
                        f16::from_bits(bits).to_f32()
                    } else {
                        bf16::from_bits(bits).to_f32()
                    }
                };
                let values: Vec<f32> = t.int32_data.iter().map(widen).collect();
                self.float(&Tensor::from_vec(values, shape, device)?)
            }
            d::BOOL => {
                check(t.int32_data.len())?;
                let bytes: Vec<u8> = t.int32_data.iter().map(|&i| u8::from(i != 0)).collect();
                Ok((Tensor::from_vec(bytes, shape, device)?, Elem::Bool))
            }
            d::INT64 => {
                check(t.int64_data.len())?;
                Ok((Tensor::from_slice(&t.int64_data, shape, device)?, Elem::Int))
            }
            d::UINT32 | d::UINT64 => {
                check(t.uint64_data.len())?;
                let values: Vec<i64> = t.uint64_data.iter().map(|&u| u as i64).collect();
                Ok((Tensor::from_vec(values, shape, device)?, Elem::Int))
            }
            _ => {
                check(t.int32_data.len())?;
                let values: Vec<i64> = t.int32_data.iter().map(|&i| i.into()).collect();
                Ok((Tensor::from_vec(values, shape, device)?, Elem::Int))
            }
        }
    }

    /// The bytes of a tensor that is stored in another file (external data).
    fn external(&mut self, entries: &[proto::Entry], total: usize, size: usize) -> Res<Vec<u8>> {
        let find = |key: &str| entries.iter().find(|e| e.key.as_deref() == Some(key))?.value.as_deref();
        let number = |key: &str| -> Res<Option<u64>> {
            find(key)
                .map(|text| {
                    text.parse().map_err(|_| format!("external data: {key} '{text}' is not a number").into())
                })
                .transpose()
        };
        let location = find("location").ok_or("its external data has no location")?;
        let need = total.checked_mul(size).ok_or("is too large")? as u64;
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?.unwrap_or(need));
        if length != need {
            return Err(
                format!("its external data has {length} bytes, but its shape and type need {need}").into()
            );
        }
        let path = self.resolve(location)?;
        let (file, size) = match self.files.entry(path.clone()) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let opened = crate::files::open(&path).map_err(|e| format!("external data: {e}"))?;
                entry.insert(opened)
            }
        };
        if offset.checked_add(length).is_none_or(|end| end > *size) {
            return Err(format!(
                "external data '{location}' has {size} bytes; {length} bytes from position {offset} are not there"
            )
            .into());
        }
        // The length has been checked against the size of the file, so the buffer is no larger than the file.
        let mut bytes = vec![0; length as usize];
        file.seek(SeekFrom::Start(offset))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|e| format!("external data '{location}': {e}"))?;
        Ok(bytes)
    }

    /// The path of external data; an error if it is not in the folder of the model.
    fn resolve(&self, location: &str) -> Res<PathBuf> {
        let relative = Path::new(location);
        let plain = relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if !plain || location.is_empty() || location.contains('\\') {
            return Err(format!("external data '{location}' is outside the model's folder").into());
        }
        let folder =
            self.folders.first().ok_or("has external data, but the model was not read from a file")?;
        let path = folder.join(relative);
        let real = path.canonicalize().map_err(|e| format!("external data '{}': {e}", path.display()))?;
        let inside = self.folders.iter().any(|f| f.canonicalize().is_ok_and(|f| real.starts_with(f)));
        if inside {
            return Ok(real);
        }
        Err(format!("external data '{location}' is a link to a file outside the model's folder").into())
    }
}

/// Reads little-endian values of `N` bytes.
fn le<const N: usize, T>(raw: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    raw.chunks_exact(N)
        .map(|chunk| {
            let mut bytes = [0; N];
            bytes.copy_from_slice(chunk);
            read(bytes)
        })
        .collect()
}

/// Bytes per element of a data type; an error if it is not supported.
fn element_size(code: i32) -> Res<usize> {
    use data_type as t;
    match code {
        t::INT8 | t::UINT8 | t::BOOL => Ok(1),
        t::FLOAT16 | t::BFLOAT16 | t::INT16 | t::UINT16 => Ok(2),
        t::FLOAT | t::INT32 | t::UINT32 => Ok(4),
        t::DOUBLE | t::INT64 | t::UINT64 => Ok(8),
        _ => Err(format!("tensors of type {} are not supported", t::name(code)).into()),
    }
}

/// The kind of elements of a data type.
pub(super) fn elem_of(code: i32) -> Res<Elem> {
    use data_type as t;
    if code == t::STRING {
        return Ok(Elem::Text);
    }
    element_size(code)?;
    Ok(match code {
        t::FLOAT | t::DOUBLE | t::FLOAT16 | t::BFLOAT16 => Elem::Float,
        t::BOOL => Elem::Bool,
        _ => Elem::Int,
    })
}
