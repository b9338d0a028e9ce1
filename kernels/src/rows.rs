//! Tensors as rows of elements: the one place where a tensor's storage becomes slices.

use std::marker::PhantomData;

use tch::{Device, Kind, TchError, Tensor};

use crate::element::Element;

/// Up to three dimensions of a tensor: `[outer, inner, width]`, with the strides of the first two.
#[derive(Clone, Copy)]
struct Shape {
    extents: [usize; 2],
    strides: [usize; 2],
    width: usize,
}

impl Shape {
    /// `None` where rows are not contiguous.
    fn of(tensor: &Tensor) -> Result<Option<Self>, TchError> {
        let (sizes, strides) = (tensor.size(), tensor.stride());
        let (leading, width) = match sizes.split_last() {
            Some((&width, leading)) if leading.len() <= 2 => (leading, width as usize),
            _ => return Err(TchError::Shape(format!("one to three dimensions are due, not {sizes:?}"))),
        };
        let mut shape = Self { extents: [1; 2], strides: [0; 2], width };
        for (index, &extent) in leading.iter().rev().enumerate() {
            shape.extents[1 - index] = extent as usize;
            shape.strides[1 - index] = strides[leading.len() - 1 - index] as usize;
        }
        Ok((width <= 1 || strides[leading.len()] == 1).then_some(shape))
    }

    /// Offset of a row's first element; panics where there is no such row.
    fn offset(&self, outer: usize, inner: usize) -> usize {
        assert!(outer < self.extents[0] && inner < self.extents[1], "row {outer}, {inner} of {:?}", self.extents);
        outer * self.strides[0] + inner * self.strides[1]
    }
}

fn check<E: Element>(tensor: &Tensor) -> Result<(), TchError> {
    check_kind(tensor, E::KIND)
}

fn check_kind(tensor: &Tensor, kind: Kind) -> Result<(), TchError> {
    if tensor.device() != Device::Cpu || tensor.kind() != kind {
        return Err(TchError::Kind(format!(
            "a tensor of {:?} on the processor is due, not {:?} on {:?}",
            kind,
            tensor.kind(),
            tensor.device()
        )));
    }
    Ok(())
}

/// A tensor's last dimension as slices, for reading.
pub(crate) struct Rows<'a, E> {
    base: *const E,
    shape: Shape,
    /// A contiguous copy, where the tensor's rows were not.
    _copy: Option<Tensor>,
    tensor: PhantomData<&'a Tensor>,
}

// SAFETY: it gives out shared slices only, and elements are plain numbers.
unsafe impl<E: Element> Sync for Rows<'_, E> {}

impl<'a, E: Element> Rows<'a, E> {
    /// Rows of a tensor on the processor, of one to three dimensions.
    pub(crate) fn of(tensor: &'a Tensor) -> Result<Self, TchError> {
        check::<E>(tensor)?;
        let (shape, copy) = match Shape::of(tensor)? {
            Some(shape) => (shape, None),
            None => {
                let copy = tensor.f_contiguous()?;
                let shape = Shape::of(&copy)?.ok_or_else(|| TchError::Shape("rows with gaps".into()))?;
                (shape, Some(copy))
            }
        };
        let base = copy.as_ref().unwrap_or(tensor).data_ptr().cast_const().cast();
        Ok(Self { base, shape, _copy: copy, tensor: PhantomData })
    }

    /// Extents of the two leading dimensions, 1 where the tensor has fewer.
    pub(crate) fn extents(&self) -> [usize; 2] {
        self.shape.extents
    }

    /// Elements of a row.
    pub(crate) fn width(&self) -> usize {
        self.shape.width
    }

    /// Row `inner` of plane `outer`; panics where there is none.
    pub(crate) fn row(&self, outer: usize, inner: usize) -> &[E] {
        let offset = self.shape.offset(outer, inner);
        // SAFETY: libtorch vouches that the storage covers every index within the extents, at these strides; `offset`
        // has checked the index, and the tensor or its copy is borrowed as long as the slice.
        unsafe { std::slice::from_raw_parts(self.base.add(offset), self.shape.width) }
    }

    /// Copies rows `inner` of plane `outer` to `to`, one after another; panics where there are none, or no room.
    pub(crate) fn copy(&self, outer: usize, inner: std::ops::Range<usize>, to: &mut [E]) {
        let (width, rows) = (self.shape.width, inner.len());
        if rows > 1 && self.shape.strides[1] == width {
            let offset = self.shape.offset(outer, inner.start);
            assert!(inner.end <= self.shape.extents[1] && to.len() == rows * width, "rows {inner:?}");
            // SAFETY: as in `row`: rows without gaps between them are one slice.
            to.copy_from_slice(unsafe { std::slice::from_raw_parts(self.base.add(offset), rows * width) });
            return;
        }
        for (index, inner) in inner.enumerate() {
            to[index * width..(index + 1) * width].copy_from_slice(self.row(outer, inner));
        }
    }
}

/// All elements of a contiguous tensor on the processor.
pub(crate) fn elements<E: Element>(tensor: &Tensor) -> Result<&[E], TchError> {
    check::<E>(tensor)?;
    // SAFETY: the dtype is `E`'s.
    unsafe { whole(tensor) }
}

/// All elements of a contiguous int64 tensor on the processor.
pub(crate) fn integers(tensor: &Tensor) -> Result<&[i64], TchError> {
    check_kind(tensor, Kind::Int64)?;
    // SAFETY: the dtype is that of `i64`.
    unsafe { whole(tensor) }
}

/// All bytes of a contiguous tensor of bytes on the processor.
pub(crate) fn bytes(tensor: &Tensor) -> Result<&[u8], TchError> {
    check_kind(tensor, Kind::Uint8)?;
    // SAFETY: the dtype is that of bytes.
    unsafe { whole(tensor) }
}

/// # Safety
/// The tensor is on the processor, and its dtype is `T`'s.
unsafe fn whole<T>(tensor: &Tensor) -> Result<&[T], TchError> {
    if !tensor.is_contiguous() {
        return Err(TchError::Shape(format!("{:?} is not contiguous", tensor.size())));
    }
    if tensor.numel() == 0 {
        return Ok(&[]);
    }
    // SAFETY: libtorch's storage of a contiguous tensor holds its elements one after another, and lives as long as
    // the tensor; the caller vouches for the dtype.
    Ok(unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast_const().cast(), tensor.numel()) })
}

/// A tensor's last dimension as slices, for writing from many threads.
pub(crate) struct RowsMut<'a, E> {
    base: *mut E,
    shape: Shape,
    tensor: PhantomData<&'a Tensor>,
}

// SAFETY: `row` is the only way in, and its callers promise that no two threads hold the same elements.
unsafe impl<E: Element> Sync for RowsMut<'_, E> {}

impl<'a, E: Element> RowsMut<'a, E> {
    /// Rows of a tensor that is written in place, as libtorch's own in-place operations do.
    pub(crate) fn of(tensor: &'a Tensor) -> Result<Self, TchError> {
        check::<E>(tensor)?;
        let shape = Shape::of(tensor)?.ok_or_else(|| TchError::Shape("rows to write must be contiguous".into()))?;
        Ok(Self { base: tensor.data_ptr().cast(), shape, tensor: PhantomData })
    }

    /// Elements `range` of row `inner` of plane `outer`; panics where there are none.
    ///
    /// # Safety
    /// While the slice lives, nobody else holds a slice with the same elements.
    #[allow(clippy::mut_from_ref, reason = "the caller promises that slices are disjoint")]
    pub(crate) unsafe fn row(&self, outer: usize, inner: usize, range: std::ops::Range<usize>) -> &mut [E] {
        assert!(range.start <= range.end && range.end <= self.shape.width, "{range:?} of {}", self.shape.width);
        let offset = self.shape.offset(outer, inner) + range.start;
        // SAFETY: as in `Rows::row`; the caller vouches for exclusiveness.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(offset), range.len()) }
    }
}

/// Float scratch memory that threads write disjoint parts of.
pub(crate) struct Scratch<'a, T> {
    base: *mut T,
    length: usize,
    memory: PhantomData<&'a mut [T]>,
}

// SAFETY: `part` is the only way in, and its callers promise that no two threads hold the same elements.
unsafe impl<T: Send> Sync for Scratch<'_, T> {}

impl<'a, T> Scratch<'a, T> {
    pub(crate) fn of(memory: &'a mut [T]) -> Self {
        Self { base: memory.as_mut_ptr(), length: memory.len(), memory: PhantomData }
    }

    /// A part of the memory; panics where it is outside.
    ///
    /// # Safety
    /// While the slice lives, nobody else holds a slice with the same elements.
    #[allow(clippy::mut_from_ref, reason = "the caller promises that slices are disjoint")]
    pub(crate) unsafe fn part(&self, range: std::ops::Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.length, "{range:?} of {}", self.length);
        // SAFETY: within the memory, which is borrowed mutably for as long as this lives.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(range.start), range.len()) }
    }
}
