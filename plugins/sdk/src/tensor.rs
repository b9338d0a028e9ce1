//! Tensors that the host lends, as ndarray views over the same memory.

use std::fmt;
use std::marker::PhantomData;

use crate::axis::BATCH;
use half::{bf16, f16};
use ndarray::{ArrayView, CowArray, Dimension, Ix2, Ix4, IxDyn, ShapeBuilder};
use pressroom_plugin_abi::{
    PRESSROOM_BFLOAT, PRESSROOM_CPU, PRESSROOM_CUDA, PRESSROOM_FLOAT, PRESSROOM_INT, PressroomTensor,
};

/// Type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// A Rust type that tensors hold.
///
/// Sealed: the types of the interface are these.
pub trait Element: Copy + private::Sealed + 'static {
    /// The type in the interface.
    const DTYPE: Dtype;
}

mod private {
    pub trait Sealed {}
}

macro_rules! elements {
    ($($type:ty: $dtype:ident),*) => {$(
        impl private::Sealed for $type {}
        impl Element for $type {
            const DTYPE: Dtype = Dtype::$dtype;
        }
    )*};
}
elements!(f32: F32, f16: F16, bf16: Bf16, i64: I64);

/// A borrowed tensor with `D` axes ([`ndarray::Ix4`] for keys).
#[derive(Clone, Copy)]
pub struct Tensor<'a, D> {
    raw: &'a PressroomTensor,
    dtype: Dtype,
    axes: PhantomData<D>,
}

impl<'a, D: Dimension> Tensor<'a, D> {
    /// The tensor at `raw`, if it is one of `D` axes on the processor or a CUDA device.
    ///
    /// # Safety
    /// `raw` is null or lent for `'a` as the interface promises.
    pub(crate) unsafe fn new(raw: *const PressroomTensor) -> Option<Self> {
        // SAFETY: null, or a tensor that lives for `'a`; the struct has its full first version by the promise.
        let raw = unsafe { raw.as_ref() }?;
        let dtype = match (raw.array.dtype.code, raw.array.dtype.bits) {
            (PRESSROOM_FLOAT, 32) => Dtype::F32,
            (PRESSROOM_FLOAT, 16) => Dtype::F16,
            (PRESSROOM_BFLOAT, 16) => Dtype::Bf16,
            (PRESSROOM_INT, 64) => Dtype::I64,
            _ => return None,
        };
        let known = matches!(raw.array.device.device_type, PRESSROOM_CPU | PRESSROOM_CUDA);
        let readable = known && raw.array.dtype.lanes == 1;
        let ranked = usize::try_from(raw.array.ndim).ok() == D::NDIM;
        (readable && ranked).then_some(Self { raw, dtype, axes: PhantomData })
    }

    /// Type of the elements.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The CUDA device that it lies on, counted from 0; `None` on the processor.
    pub fn cuda_device(&self) -> Option<usize> {
        let device = self.raw.array.device;
        usize::try_from(device.device_id).ok().filter(|_| device.device_type == PRESSROOM_CUDA)
    }

    /// Length of each axis.
    pub fn shape(&self) -> Vec<usize> {
        let (shape, _) = self.layout();
        shape
    }

    /// Panics where no array can be of this memory.
    pub(crate) fn check_place(&self) {
        assert!(self.cuda_device().is_none(), "{self:?} lies on a CUDA device: read it with `tch()`");
    }

    /// Shape and strides.
    pub(crate) fn layout(&self) -> (Vec<usize>, Vec<usize>) {
        let axes = D::NDIM.unwrap_or(0);
        // SAFETY: `ndim` is the number of axes of `D` (checked in `new`), and shape and strides have as many.
        let (shape, strides) = unsafe {
            (
                std::slice::from_raw_parts(self.raw.array.shape, axes),
                std::slice::from_raw_parts(self.raw.array.strides, axes),
            )
        };
        let whole = |numbers: &[i64]| numbers.iter().map(|n| usize::try_from(*n).unwrap_or(0)).collect();
        (whole(shape), whole(strides))
    }

    /// Where the first element lies.
    pub(crate) fn first(&self) -> *const u8 {
        // SAFETY: the host lends `byte_len` bytes from `data` on, and the offset is within them.
        unsafe { self.raw.array.data.cast::<u8>().add(self.raw.array.byte_offset as usize) }
    }

    /// The same memory as an array of `T`; `None` if the elements are of another type.
    ///
    /// # Panics
    /// The memory is a CUDA device's, which no array can be of: only presses that declare
    /// [`crate::Needs::on_device`] are shown any.
    pub fn typed<T: Element>(&self) -> Option<ArrayView<'a, T, D>> {
        self.check_place();
        if T::DTYPE != self.dtype {
            return None;
        }
        let (shape, strides) = self.layout();
        // SAFETY: the host lends the memory of the processor for `'a`, read-only, aligned for the type; it holds every element of this
        // shape and these strides.
        let view =
            unsafe { ArrayView::from_shape_ptr(IxDyn(&shape).strides(IxDyn(&strides)), self.first().cast::<T>()) };
        view.into_dimensionality().ok()
    }

    /// The elements as float32: borrowed where they are, converted otherwise.
    ///
    /// # Panics
    /// As [`Self::typed`].
    pub fn f32(&self) -> CowArray<'a, f32, D> {
        widened(self.typed(), self.typed(), self.typed())
    }
}

impl<'a> Tensor<'a, Ix4> {
    /// One head of one sequence as float32 `[tokens, channels]`: borrowed where it is, converted otherwise.
    ///
    /// # Panics
    /// There is no such sequence or head; as [`Self::typed`].
    pub fn head(&self, sequence: usize, head: usize) -> CowArray<'a, f32, Ix2> {
        widened(self.typed_head(sequence, head), self.typed_head(sequence, head), self.typed_head(sequence, head))
    }

    fn typed_head<T: Element>(&self, sequence: usize, head: usize) -> Option<ArrayView<'a, T, Ix2>> {
        let all = self.typed::<T>()?;
        Some(all.index_axis_move(BATCH, sequence).index_axis_move(BATCH, head))
    }
}

/// The one that is there, as float32; an empty array if none is.
fn widened<'a, D: Dimension>(
    full: Option<ArrayView<'a, f32, D>>,
    half: Option<ArrayView<'a, f16, D>>,
    brain: Option<ArrayView<'a, bf16, D>>,
) -> CowArray<'a, f32, D> {
    if let Some(view) = full {
        return view.into();
    }
    let converted = half.map(|view| view.mapv(f32::from)).or_else(|| brain.map(|view| view.mapv(f32::from)));
    converted.unwrap_or_default().into()
}

impl<D: Dimension> fmt::Debug for Tensor<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.dtype, self.layout().0)
    }
}
