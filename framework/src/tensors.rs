//! Tensors to bytes and back: the dtypes that files share with libtorch.

use safetensors::Dtype;
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
        Kind::Uint8 => Ok(Dtype::U8),
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
