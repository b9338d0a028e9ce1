//! Tensors that the host lends, as tch tensors over the same memory: the feature `tch`.
//!
//! A plugin with this feature links libtorch, of the host's version: it finds the one that the host has loaded.

use std::marker::PhantomData;
use std::ops::Deref;

use ndarray::Dimension;
use tch::{Device, Kind};

use crate::{Dtype, Result, Scores, Tensor};

/// A tensor as libtorch sees it, in the host's memory: to be read, until the call ends.
///
/// What operations compute is the author's. A narrowed or transposed tensor, or a shallow clone, is still the host's
/// memory: it must not be written to, nor kept beyond the call. `pressroom plugin check` finds both.
#[derive(Debug)]
pub struct Borrowed<'a> {
    tensor: tch::Tensor,
    lent: PhantomData<&'a ()>,
}

impl Deref for Borrowed<'_> {
    type Target = tch::Tensor;

    fn deref(&self) -> &tch::Tensor {
        &self.tensor
    }
}

impl<'a, D: Dimension> Tensor<'a, D> {
    /// The same memory as a tch tensor.
    ///
    /// # Errors
    /// libtorch refuses.
    pub fn tch(&self) -> Result<Borrowed<'a>> {
        let kind = match self.dtype() {
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::Bf16 => Kind::BFloat16,
            Dtype::I64 => Kind::Int64,
        };
        let device = self.cuda_device().map_or(Device::Cpu, Device::Cuda);
        let (shape, strides) = self.layout();
        let numbers = |numbers: Vec<usize>| -> Vec<i64> { numbers.into_iter().map(|n| n as i64).collect() };
        // SAFETY: memory of the device that the host lends for `'a`, which holds every element of this type, shape and
        // these strides; the tensor does not own it, and is only shown by reference.
        let tensor =
            unsafe { tch::Tensor::f_from_blob(self.first(), &numbers(shape), &numbers(strides), kind, device) }?;
        Ok(Borrowed { tensor, lent: PhantomData })
    }
}

/// Writes scores that libtorch has computed, `[batch, kv_heads, tokens]`, wherever they are due.
///
/// # Errors
/// They have another shape.
pub fn write(scores: &mut Scores<'_>, computed: &tch::Tensor) -> Result {
    let there = scores.on_device().map(Tensor::tch).transpose()?;
    let due = match &there {
        Some(there) => there.size(),
        None => scores.shape().iter().map(|length| *length as i64).collect(),
    };
    if computed.size() != due {
        return Err(format!("scores of {:?} were computed, {due:?} are due", computed.size()).into());
    }
    if let Some(mut there) = there {
        // The device's memory is lent for writing; the copy comes after what computed the scores.
        there.tensor.f_copy_(computed)?;
        return Ok(());
    }
    let data = scores.as_slice_mut().ok_or("scores are not contiguous")?;
    let computed = computed.f_to_kind(Kind::Float)?.f_to_device(Device::Cpu)?.f_contiguous()?;
    computed.f_copy_data(data, computed.numel())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Layer;
    use ndarray::Array3;

    #[test]
    fn scores_of_another_shape_are_refused() {
        let mut array = Array3::zeros((1, 2, 3));
        let mut scores = Scores::from(array.view_mut());
        let computed = tch::Tensor::arange(6, (Kind::Int64, Device::Cpu));
        let error = write(&mut scores, &computed).unwrap_err().to_string();
        assert_eq!(error, "scores of [6] were computed, [1, 2, 3] are due");
        write(&mut scores, &computed.view([1, 2, 3])).unwrap();
        assert_eq!(scores.as_slice().unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    }

    #[test]
    fn numbers_are_those_that_ndarray_shows() {
        let layer = Layer::random(9, 4);
        layer
            .view(|view| {
                let (keys, shown) = (view.keys().tch()?, view.keys().f32());
                let transposed = Vec::<f32>::try_from(keys.transpose(2, 3).contiguous().flatten(0, -1))?;
                let expected: Vec<f32> = shown.view().permuted_axes([0, 1, 3, 2]).iter().copied().collect();
                assert_eq!(transposed, expected);
                Ok(())
            })
            .unwrap();
    }
}
