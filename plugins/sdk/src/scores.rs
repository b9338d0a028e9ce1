//! Where a scorer writes.

use std::ops::{Deref, DerefMut};

use ndarray::{ArrayViewMut3, Ix3};
use pressroom_plugin_abi::PressroomTensor;

use crate::glue::lent_mut;
use crate::{Result, Tensor};

/// Where scores are written, float32 `[batch, kv_heads, tokens]`: an `ndarray` that starts as zeros.
///
/// The scores of a press that declares [`crate::Needs::on_device`] may lie on a CUDA device. There they are written with
/// `torch::write`, and there is no array: to ask for it is a panic, which ends the session with a text.
#[derive(Debug)]
pub struct Scores<'a> {
    array: ArrayViewMut3<'a, f32>,
    on_device: Option<Tensor<'a, Ix3>>,
}

impl<'a> Scores<'a> {
    /// The scores at `raw`.
    ///
    /// # Safety
    /// `raw` is lent for `'a`, and nobody else reads or writes its memory meanwhile.
    pub(crate) unsafe fn new(raw: *const PressroomTensor) -> Result<Self> {
        // SAFETY: lent by the host.
        let on_device = unsafe { Tensor::<Ix3>::new(raw) }.filter(|scores| scores.cuda_device().is_some());
        if on_device.is_some() {
            return Ok(Self { array: ArrayViewMut3::from_shape((0, 0, 0), &mut [])?, on_device });
        }
        // SAFETY: passed on to the caller.
        let mut array: ArrayViewMut3<'a, f32> = unsafe { lent_mut(raw) }?;
        array.fill(0.0);
        Ok(array.into())
    }

    /// Where they lie on a CUDA device, if they do.
    #[cfg(feature = "tch")]
    pub(crate) fn on_device(&self) -> Option<&Tensor<'a, Ix3>> {
        self.on_device.as_ref()
    }

    fn check_place(&self) {
        assert!(self.on_device.is_none(), "the scores lie on a CUDA device: write them with `torch::write`");
    }
}

impl<'a> From<ArrayViewMut3<'a, f32>> for Scores<'a> {
    fn from(array: ArrayViewMut3<'a, f32>) -> Self {
        Self { array, on_device: None }
    }
}

impl<'a> Deref for Scores<'a> {
    type Target = ArrayViewMut3<'a, f32>;

    fn deref(&self) -> &Self::Target {
        self.check_place();
        &self.array
    }
}

impl DerefMut for Scores<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.check_place();
        &mut self.array
    }
}

#[cfg(test)]
mod tests {
    use pressroom_plugin_abi::*;

    use super::*;
    use crate::panics::caught;

    /// Memory of the processor that is told to be the second CUDA device's.
    fn on_a_device(shape: &[i64; 3], strides: &[i64; 3], data: &mut [f32]) -> PressroomTensor {
        PressroomTensor {
            size: size_of::<PressroomTensor>() as u32,
            flags: 0,
            array: PressroomArray {
                data: data.as_mut_ptr().cast(),
                device: PressroomDevice { device_type: PRESSROOM_CUDA, device_id: 1 },
                ndim: 3,
                dtype: PressroomDtype { code: PRESSROOM_FLOAT, bits: 32, lanes: 1 },
                shape: shape.as_ptr(),
                strides: strides.as_ptr(),
                byte_offset: 0,
            },
            byte_len: size_of_val(data) as u64,
            stream: std::ptr::null_mut(),
        }
    }

    #[test]
    fn what_lies_on_a_device_is_no_array() {
        let (shape, strides, mut data) = ([1, 2, 3], [6, 3, 1], [7.0; 6]);
        let raw = on_a_device(&shape, &strides, &mut data);
        // SAFETY: a tensor of the shape, whose memory lives until the end.
        let (tensor, mut scores) = unsafe { (Tensor::<Ix3>::new(&raw).unwrap(), Scores::new(&raw).unwrap()) };
        assert_eq!((tensor.cuda_device(), tensor.shape()), (Some(1), vec![1, 2, 3]));
        let problem = caught(|| tensor.f32().len()).unwrap_err();
        assert!(problem.contains("lies on a CUDA device: read it with `tch()`"), "{problem}");
        let problem = caught(|| scores.fill(0.0)).unwrap_err();
        assert!(problem.contains("lie on a CUDA device: write them with `torch::write`"), "{problem}");
        assert_eq!(data, [7.0; 6]);
    }

    #[test]
    fn scores_of_the_processor_start_as_zeros() {
        let (shape, strides, mut data) = ([1, 2, 3], [6, 3, 1], [f32::NAN; 6]);
        let mut raw = on_a_device(&shape, &strides, &mut data);
        raw.array.device = PressroomDevice { device_type: PRESSROOM_CPU, device_id: 0 };
        // SAFETY: as above.
        let mut scores = unsafe { Scores::new(&raw) }.unwrap();
        scores[[0, 1, 2]] = 1.0;
        assert_eq!(data, [0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    }
}
