//! Reading structs that another version of this interface may have written.

use core::mem::{MaybeUninit, size_of};

use crate::*;

/// A struct that starts with its size (or, the entry, holds it in a place that never moves) and grows at its end.
///
/// # Safety
/// All bytes zero is a valid value, and `written` gives the size as the writer stated it, from the oldest version on.
pub unsafe trait Growing: Copy {
    /// Bytes that every version has.
    const SMALLEST: usize;

    /// The size that the struct at `from` states.
    ///
    /// # Safety
    /// `from` points to at least [`Self::SMALLEST`] readable, aligned bytes.
    unsafe fn written(from: *const Self) -> usize;
}

/// Copies the struct at `from` as far as its writer knew it; the rest is zero.
///
/// Gives `None` for a null pointer and for a size below the smallest that there ever was.
///
/// # Safety
/// `from` is null, or points to an aligned struct of the size that it states.
pub unsafe fn read<T: Growing>(from: *const T) -> Option<T> {
    if from.is_null() {
        return None;
    }
    // SAFETY: not null, hence a struct of some version, which has the smallest part.
    let written = unsafe { T::written(from) };
    if written < T::SMALLEST {
        return None;
    }
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: `from` has `written` bytes, `value` has `size_of::<T>()`, and the two do not overlap; what is not
    // copied is zero, which `Growing` promises to be valid.
    unsafe {
        core::ptr::copy_nonoverlapping(from.cast::<u8>(), value.as_mut_ptr().cast::<u8>(), written.min(size_of::<T>()));
        Some(value.assume_init())
    }
}

/// Writes `value` over the struct at `to`, as far as whoever owns that knew it when it stated its size.
///
/// # Safety
/// `to` is null, or points to an aligned, writable struct of the size that it states.
pub unsafe fn write<T: Growing>(to: *mut T, value: &T) {
    if to.is_null() {
        return;
    }
    // SAFETY: not null, hence a struct of some version; no more is written than it has, and none of it overlaps.
    unsafe {
        let bytes = T::written(to).min(size_of::<T>());
        core::ptr::copy_nonoverlapping(core::ptr::from_ref(value).cast::<u8>(), to.cast::<u8>(), bytes);
    }
}

macro_rules! growing {
    ($($type:ident: $smallest:expr),* $(,)?) => {$(
        // SAFETY: integers, nullable pointers and optional function pointers only, all valid as zero; `size` is a
        // field of the smallest version.
        unsafe impl Growing for $type {
            const SMALLEST: usize = $smallest;

            unsafe fn written(from: *const Self) -> usize {
                // SAFETY: the caller lends the smallest version, which has the field.
                unsafe { (&raw const (*from).size).read() as usize }
            }
        }
    )*};
}

// The sizes that each struct had at first, which no later version changes.
growing! {
    PressroomEntry: 144,
    PressroomHost: 16,
    PressroomLog: 16,
    PressroomCall: 24,
    PressroomPress: 104,
    PressroomNeeds: 40,
    PressroomBudget: 24,
    PressroomSelection: 24,
    PressroomTensor: 72,
    PressroomView: 136,
    PressroomPrepare: 16,
    PressroomModel: 56,
}
