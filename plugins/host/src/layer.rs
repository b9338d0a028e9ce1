//! A layer as it is lent to a plugin: sizes, and where the tensors lie.

use std::ffi::c_void;

use pressroom_plugin_abi::{
    PRESSROOM_BFLOAT, PRESSROOM_CPU, PRESSROOM_FLOAT, PRESSROOM_INT, PRESSROOM_READ_ONLY, PressroomArray,
    PressroomDevice, PressroomDtype, PressroomTensor, PressroomView,
};
use serde::{Deserialize, Serialize};

/// Type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dtype {
    /// 32-bit floating point.
    F32,
    /// IEEE 16-bit floating point.
    F16,
    /// bfloat16.
    Bf16,
    /// 64-bit whole numbers.
    I64,
}

impl Dtype {
    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::I64 => 8,
        }
    }

    fn raw(self) -> PressroomDtype {
        let code = match self {
            Self::F32 | Self::F16 => PRESSROOM_FLOAT,
            Self::Bf16 => PRESSROOM_BFLOAT,
            Self::I64 => PRESSROOM_INT,
        };
        PressroomDtype { code, bits: 8 * self.bytes() as u8, lanes: 1 }
    }
}

/// Shape, strides (in elements) and type of a tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Type of the elements.
    pub dtype: Dtype,
    /// Length of each axis.
    pub shape: Vec<i64>,
    /// Elements from one index of an axis to the next; 0 where the axis is repeated.
    pub strides: Vec<i64>,
}

impl Layout {
    /// Elements one after another.
    pub fn contiguous(dtype: Dtype, shape: &[i64]) -> Self {
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis] * shape[axis].max(1);
        }
        Self { dtype, shape: shape.to_vec(), strides }
    }

    /// Bytes from the first element to the end of the last.
    pub fn byte_len(&self) -> usize {
        if self.shape.contains(&0) {
            return 0;
        }
        let last: i64 = self.shape.iter().zip(&self.strides).map(|(length, stride)| (length - 1) * stride).sum();
        (last as usize + 1) * self.dtype.bytes()
    }
}

/// A tensor that is lent: whoever makes one sees to it that the memory outlives it.
#[derive(Clone, Debug)]
pub struct Lent {
    data: *mut c_void,
    layout: Layout,
    device: PressroomDevice,
    stream: *mut c_void,
    flags: u32,
}

impl Lent {
    /// Memory of the processor that the plugin only reads.
    pub fn read_only(data: *const c_void, layout: Layout) -> Self {
        let device = PressroomDevice { device_type: PRESSROOM_CPU, device_id: 0 };
        Self { data: data.cast_mut(), layout, device, stream: std::ptr::null_mut(), flags: PRESSROOM_READ_ONLY }
    }

    /// Memory of the processor for results.
    pub fn writable(data: *mut c_void, layout: Layout) -> Self {
        Self { flags: 0, ..Self::read_only(data, layout) }
    }

    /// The same tensor in the memory of a device, whose work on it runs on `stream`.
    pub fn on(self, device: PressroomDevice, stream: *mut c_void) -> Self {
        Self { device, stream, ..self }
    }

    /// Its first element.
    pub fn data(&self) -> *mut c_void {
        self.data
    }

    /// Shape, strides and type.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) fn raw(&self) -> PressroomTensor {
        PressroomTensor {
            size: size_of::<PressroomTensor>() as u32,
            flags: self.flags,
            array: PressroomArray {
                data: self.data,
                device: self.device,
                ndim: self.layout.shape.len() as i32,
                dtype: self.layout.dtype.raw(),
                shape: self.layout.shape.as_ptr(),
                strides: self.layout.strides.as_ptr(),
                byte_offset: 0,
            },
            byte_len: self.layout.byte_len() as u64,
            stream: self.stream,
        }
    }
}

/// The sizes of a layer; see `PressroomView`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is documented where it crosses the interface, in PressroomView")]
pub struct Frame {
    pub phase: u32,
    pub layer: u32,
    pub layers: u32,
    pub batch: i64,
    pub heads: i64,
    pub kv_heads: i64,
    pub head_dim: i64,
    pub tokens: i64,
    pub context_start: i64,
    pub context_end: i64,
    pub seed: u64,
}

/// A tensor of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is documented where it crosses the interface, in PressroomView")]
pub enum Part {
    Keys,
    Values,
    Positions,
    Queries,
    RotatedQueries,
    Attention,
    HiddenStates,
    AttentionSums,
    OutputProjection,
}

/// A layer as it is lent.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Its sizes.
    pub frame: Frame,
    /// Its tensors; those that were not declared are missing.
    pub parts: Vec<(Part, Lent)>,
}

impl Layer {
    /// Shows the layer as the interface has it.
    pub(crate) fn lend<T>(&self, show: impl FnOnce(*const PressroomView) -> T) -> T {
        let tensors: Vec<(Part, PressroomTensor)> = self.parts.iter().map(|(part, lent)| (*part, lent.raw())).collect();
        let find = |wanted: Part| {
            let found = tensors.iter().find(|(part, _)| *part == wanted);
            found.map_or(std::ptr::null(), |(_, tensor)| std::ptr::from_ref(tensor))
        };
        let frame = self.frame;
        let view = PressroomView {
            size: size_of::<PressroomView>() as u32,
            phase: frame.phase,
            layer: frame.layer,
            layers: frame.layers,
            batch: frame.batch,
            heads: frame.heads,
            kv_heads: frame.kv_heads,
            head_dim: frame.head_dim,
            tokens: frame.tokens,
            context_start: frame.context_start,
            context_end: frame.context_end,
            seed: frame.seed,
            keys: find(Part::Keys),
            values: find(Part::Values),
            positions: find(Part::Positions),
            queries: find(Part::Queries),
            rotated_queries: find(Part::RotatedQueries),
            attention: find(Part::Attention),
            hidden_states: find(Part::HiddenStates),
            attention_sums: find(Part::AttentionSums),
            output_projection: find(Part::OutputProjection),
        };
        show(&view)
    }
}
