//! What runs a kernel, and how its arguments are passed.
#![allow(unsafe_code, reason = "a kernel is trusted with addresses")]

use std::ffi::c_void;

use tch::{Device, Kind, TchError, Tensor};

use super::{HEADS, Program, Rows};

/// An argument of a kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Argument {
    /// An address in the machine's memory.
    Address(u64),
    /// A count or an index.
    Count(u32),
    /// A number.
    Number(f32),
    /// A position in a context.
    Position(i64),
    /// Where rows of heads lie.
    Rows(Rows),
}

impl Argument {
    /// Where a tensor's elements start.
    pub(crate) fn of(tensor: &Tensor) -> Self {
        Self::Address(tensor.data_ptr() as u64)
    }

    /// Where the argument's value lies, as launches want it.
    pub(super) fn place(&self) -> *mut c_void {
        match self {
            Self::Address(value) => std::ptr::from_ref(value).cast_mut().cast(),
            Self::Count(value) => std::ptr::from_ref(value).cast_mut().cast(),
            Self::Number(value) => std::ptr::from_ref(value).cast_mut().cast(),
            Self::Position(value) => std::ptr::from_ref(value).cast_mut().cast(),
            Self::Rows(value) => std::ptr::from_ref(value).cast_mut().cast(),
        }
    }
}

/// Checks that a grid is one that GPUs launch.
///
/// # Errors
/// It has more blocks.
pub(super) fn check_grid(program: &Program, grid: [u32; 3]) -> Result<(), TchError> {
    if grid[0] <= i32::MAX as u32 && grid[1..].iter().all(|extent| *extent <= HEADS) {
        return Ok(());
    }
    Err(TchError::Shape(format!(
        "{}: {grid:?} blocks are beyond one launch; take fewer sequences at a time",
        program.path()
    )))
}

/// A GPU, or what stands for one.
pub(crate) trait Machine {
    /// Where its tensors are.
    fn device(&self) -> Device;

    /// Runs a kernel over `grid` blocks, after what was launched before and perhaps after this returns.
    ///
    /// # Safety
    /// The arguments are those of the kernel, and the addresses among them cover what it reads and writes, as does
    /// what lies there.
    unsafe fn launch(&self, program: &Program, grid: [u32; 3], arguments: &[Argument]) -> Result<(), TchError>;

    /// Writes bytes to a tensor of bytes of the machine, in the same order as launches.
    fn write(&self, bytes: &[u8], tensor: &Tensor) -> Result<(), TchError>;
}

/// A struct that host and kernel lay out alike.
///
/// # Safety
/// It is `repr(C)`, made of integers alone, and has no padding.
pub(crate) unsafe trait Record: Copy {}

/// Records as a tensor of bytes in the machine's memory.
pub(crate) fn upload<R: Record>(machine: &dyn Machine, records: &[R]) -> Result<Tensor, TchError> {
    let size = size_of_val(records);
    // SAFETY: a record is integers without padding, so all its bytes are there to be read.
    let bytes = unsafe { std::slice::from_raw_parts(records.as_ptr().cast::<u8>(), size) };
    let tensor = Tensor::f_empty([size as i64], (Kind::Uint8, machine.device()))?;
    machine.write(bytes, &tensor)?;
    Ok(tensor)
}
