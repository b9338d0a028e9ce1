//! Libtorch's flash attention (Dao, 2023, arXiv:2307.08691) on a GPU, for the last tokens of a context too: its public
//! operation takes as many queries as keys.
#![allow(unsafe_code, reason = "an operation that is called through libtorch's C interface")]

use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

use tch::{Kind, TchError, Tensor};

use crate::symbol;

/// `aoti_torch_cuda__flash_attention_forward` of libtorch 2.11's C interface, which gives 0 where it succeeded. Tensors
/// are `[batch, tokens, heads, head_dim]`; a causal mask lets the last query see all keys. Its results are the output,
/// the logarithms of the denominators, two states of a random generator, and a mask for debugging.
pub(super) type Forward = unsafe extern "C" fn(
    query: *mut c_void,
    key: *mut c_void,
    value: *mut c_void,
    first_queries: *const *mut c_void,
    first_keys: *const *mut c_void,
    queries: i64,
    keys: i64,
    dropout: f64,
    causal: i32,
    debugs: i32,
    scale: *const f64,
    window_left: *const i64,
    window_right: *const i64,
    keys_used: *const *mut c_void,
    slopes: *const *mut c_void,
    *mut *mut c_void,
    *mut *mut c_void,
    *mut *mut c_void,
    *mut *mut c_void,
    *mut *mut c_void,
) -> i32;

/// The operation, where the process has it.
pub(super) fn forward() -> Option<Forward> {
    static FORWARD: OnceLock<Option<Forward>> = OnceLock::new();
    // SAFETY: it is that function in the libtorch that this program is for.
    *FORWARD.get_or_init(|| unsafe { symbol::function(c"aoti_torch_cuda__flash_attention_forward") })
}

/// See [`super::attend_context`], which has checked the shapes. `None` where the operation is not for the dtype or
/// head_dim, or not there.
pub(super) fn attend(queries: &Tensor, keys: &Tensor, values: &Tensor) -> Result<Option<Tensor>, TchError> {
    attend_with(forward(), queries, keys, values)
}

pub(super) fn attend_with(
    forward: Option<Forward>,
    queries: &Tensor,
    keys: &Tensor,
    values: &Tensor,
) -> Result<Option<Tensor>, TchError> {
    let ((heads, own, head_dim), tokens) = (queries.size3()?, keys.size3()?.1);
    let known = matches!(queries.kind(), Kind::BFloat16 | Kind::Half) && head_dim % 8 == 0 && head_dim <= 256;
    let Some(forward) = forward.filter(|_| known && own > 0) else { return Ok(None) };
    // Rows of heads must lie whole; the rest may be strided.
    let sides = [queries, keys, values].map(|data| data.f_transpose(0, 1)?.f_unsqueeze(0));
    let [queries, keys, values] = sides;
    let (queries, keys, values) = (queries?, keys?, values?);
    let handle = |data: &Tensor| data.as_ptr().cast_mut().cast::<c_void>();
    let mut results = [null_mut(); 5];
    let [output, denominators, seed, offset, debug] = &mut results;
    // SAFETY: the arguments are those of the operation, optional ones absent; handles of libtorch's C interface are
    // pointers to tensors, as tch's are, and the tensors live on.
    let status = unsafe {
        forward(
            handle(&queries),
            handle(&keys),
            handle(&values),
            null(),
            null(),
            own,
            tokens,
            0.0,
            1,
            0,
            null(),
            null(),
            null(),
            null(),
            null(),
            output,
            denominators,
            seed,
            offset,
            debug,
        )
    };
    if status != 0 {
        return Err(TchError::Torch(format!(
            "flash attention of queries {:?} over keys {:?}: libtorch failed; is there enough memory on the GPU?",
            queries.size(),
            keys.size()
        )));
    }
    // SAFETY: the operation has made five tensors, which are now ours; each is taken once.
    let [output, ..] = results.map(|handle| unsafe { Tensor::from_ptr(handle.cast()) });
    output.f_reshape([own, heads * head_dim]).map(Some)
}
