//! Borrowed tensors: DLPack's layout, and what DLPack does not say.

use core::ffi::c_void;

/// `PressroomDevice::device_type` of the processor (DLPack's kDLCPU).
pub const PRESSROOM_CPU: i32 = 1;
/// `PressroomDevice::device_type` of a CUDA device (DLPack's kDLCUDA).
pub const PRESSROOM_CUDA: i32 = 2;

/// `PressroomDtype::code` of signed integers (DLPack's kDLInt).
pub const PRESSROOM_INT: u8 = 0;
/// `PressroomDtype::code` of IEEE floating point (DLPack's kDLFloat).
pub const PRESSROOM_FLOAT: u8 = 2;
/// `PressroomDtype::code` of bfloat16 (DLPack's kDLBfloat).
pub const PRESSROOM_BFLOAT: u8 = 4;

/// `PressroomTensor::flags`: the plugin must not write.
pub const PRESSROOM_READ_ONLY: u32 = 1;

/// Where a tensor lies; the layout of DLPack's DLDevice.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PressroomDevice {
    /// `PRESSROOM_CPU` or `PRESSROOM_CUDA`.
    pub device_type: i32,
    /// Which one, from 0.
    pub device_id: i32,
}

/// Type of a tensor's elements; the layout of DLPack's DLDataType.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PressroomDtype {
    /// `PRESSROOM_INT`, `PRESSROOM_FLOAT` or `PRESSROOM_BFLOAT`.
    pub code: u8,
    /// Bits of an element: 64 of integers, 16 or 32 of numbers.
    pub bits: u8,
    /// 1.
    pub lanes: u16,
}

/// A strided array; the layout of DLPack's DLTensor, so that a pointer to one can be handed to whatever reads DLPack.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PressroomArray {
    /// Start of the memory.
    pub data: *mut c_void,
    /// Where the memory is.
    pub device: PressroomDevice,
    /// Number of axes.
    pub ndim: i32,
    /// Type of the elements.
    pub dtype: PressroomDtype,
    /// Length of each axis, `ndim` of them.
    pub shape: *const i64,
    /// Elements from one index of an axis to the next, `ndim` of them, never null; 0 where an axis is repeated, never
    /// negative.
    pub strides: *const i64,
    /// Bytes from `data` to the first element.
    pub byte_offset: u64,
}

/// A tensor that the host lends to the plugin for one call. On the processor nothing is copied for it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PressroomTensor {
    /// `sizeof(PressroomTensor)` of the host.
    pub size: u32,
    /// `PRESSROOM_READ_ONLY` or 0.
    pub flags: u32,
    /// Where and what.
    pub array: PressroomArray,
    /// Bytes from `data` to the end of the last element.
    pub byte_len: u64,
    /// Of a CUDA tensor: the stream (`cudaStream_t`) on which it was written, and on which results are awaited.
    pub stream: *mut c_void,
}
