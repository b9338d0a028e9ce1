//! Tensors to bytes and back: the dtypes that files share with libtorch.

use std::collections::HashMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};

/// The floating-point kind of a file's dtype, if libtorch computes with it here.
pub fn kind_of(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F32 => Some(Kind::Float),
        Dtype::BF16 => Some(Kind::BFloat16),
        Dtype::F16 => Some(Kind::Half),
        _ => None,
    }
}

/// The file dtype of a kind.
///
/// # Errors
/// Files hold no such kind.
pub fn dtype_of(kind: Kind) -> Result<Dtype> {
    match kind {
        Kind::Float => Ok(Dtype::F32),
        Kind::BFloat16 => Ok(Dtype::BF16),
        Kind::Half => Ok(Dtype::F16),
        Kind::Int64 => Ok(Dtype::I64),
        other => Err(Error::input(format!("tensors of kind {other:?} are not stored in files"))),
    }
}

/// A tensor of its own from little-endian bytes.
///
/// # Errors
/// The bytes are too few for the shape, or `device` cannot hold them.
pub fn from_bytes(bytes: &[u8], shape: &[usize], kind: Kind, device: Device) -> Result<Tensor> {
    let size: Vec<i64> = shape.iter().map(|&extent| extent as i64).collect();
    let needed = shape.iter().try_fold(kind.elt_size_in_bytes(), |total, &extent| total.checked_mul(extent));
    if needed.is_none_or(|needed| needed > bytes.len()) {
        return Err(Error::input(format!("{} bytes are too few for a {kind:?} tensor of shape {size:?}", bytes.len())));
    }
    Ok(Tensor::f_from_data_size(bytes, &size, kind)?.f_to_device(device)?)
}

/// The tensor called `name` of the safetensors file at `path`, on the CPU.
///
/// # Errors
/// The file is missing or damaged, or holds no such tensor of a floating-point dtype.
pub fn read_one(path: &Path, name: &str) -> Result<Tensor> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let bad = |problem: String| Error::file(path, problem);
    let file = SafeTensors::deserialize(&bytes).map_err(|error| bad(error.to_string()))?;
    let view = file.tensor(name).map_err(|_| bad(format!("holds no tensor {name}")))?;
    let kind = kind_of(view.dtype()).ok_or_else(|| bad(format!("{name} has dtype {:?}", view.dtype())))?;
    from_bytes(view.data(), view.shape(), kind, Device::Cpu)
}

/// A tensor's elements as little-endian bytes, in row-major order.
///
/// # Errors
/// libtorch cannot copy the tensor to the host.
pub fn to_bytes(tensor: &Tensor) -> Result<Vec<u8>> {
    let tensor = tensor.f_to_device(Device::Cpu)?.f_contiguous()?;
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
    Ok(bytes)
}

/// Writes named tensors to a safetensors file.
///
/// # Errors
/// The file cannot be written, or a tensor is of a kind that files do not hold.
pub fn save(path: &Path, named: &[(String, Tensor)], metadata: Option<HashMap<String, String>>) -> Result<()> {
    let bad = |error: safetensors::SafeTensorError| Error::file(path, error.to_string());
    let bytes = named.iter().map(|(_, tensor)| to_bytes(tensor)).collect::<Result<Vec<_>>>()?;
    let mut views = Vec::with_capacity(named.len());
    for ((name, tensor), bytes) in named.iter().zip(&bytes) {
        let shape = tensor.size().iter().map(|&extent| extent as usize).collect();
        views.push((name.as_str(), TensorView::new(dtype_of(tensor.kind())?, shape, bytes).map_err(bad)?));
    }
    safetensors::serialize_to_file(views, metadata, path).map_err(bad)
}
