//! What a press sees of one layer.

use ndarray::{ArrayView3, Dimension, Ix2, Ix3, Ix4};
use pressroom_plugin_abi::{PRESSROOM_DECODING, PressroomTensor, PressroomView, read};

use crate::{Result, Tensor};

/// When a press is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The context is being read; the view holds all of it.
    Prefill,
    /// Tokens are being generated; the view holds what the cache holds by now.
    Decoding,
}

/// One layer as far as the press declared to read it.
///
/// Keys, values, positions and attention columns are those still in question: all of the context at first; after a
/// stage of a chain, what that stage left.
pub struct View<'a> {
    raw: PressroomView,
    keys: Option<Tensor<'a, Ix4>>,
    values: Option<Tensor<'a, Ix4>>,
    positions: Tensor<'a, Ix3>,
    /// The same as an array; empty where they lie on a device.
    listed: ArrayView3<'a, i64>,
}

impl<'a> View<'a> {
    /// The view at `raw`.
    ///
    /// # Safety
    /// `raw` is lent for `'a` as the interface promises.
    pub(crate) unsafe fn new(raw: *const PressroomView) -> Result<Self> {
        // SAFETY: lent by the host, and its tensors with it.
        unsafe {
            let raw = read(raw).ok_or("the host gave no view")?;
            let readable = |raw: *const PressroomTensor, what| {
                let tensor = Tensor::new(raw);
                if tensor.is_none() && !raw.is_null() {
                    return Err(format!("the host gave {what} that cannot be read here"));
                }
                Ok(tensor)
            };
            let (keys, values) = (readable(raw.keys, "keys")?, readable(raw.values, "values")?);
            let positions = Tensor::<Ix3>::new(raw.positions).ok_or("the host gave no positions")?;
            let listed = match positions.cuda_device() {
                None => positions.typed().ok_or("the host gave positions that are not int64")?,
                Some(_) => ArrayView3::from_shape((0, 0, 0), &[])?,
            };
            Ok(Self { raw, keys, values, positions, listed })
        }
    }

    /// When the press is asked.
    pub fn phase(&self) -> Phase {
        if self.raw.phase == PRESSROOM_DECODING { Phase::Decoding } else { Phase::Prefill }
    }

    /// Layer, from 0.
    pub fn layer(&self) -> usize {
        self.raw.layer as usize
    }

    /// Decoder layers of the model.
    pub fn layers(&self) -> usize {
        self.raw.layers as usize
    }

    /// Sequences.
    pub fn batch(&self) -> usize {
        self.raw.batch as usize
    }

    /// Query heads.
    pub fn heads(&self) -> usize {
        self.raw.heads as usize
    }

    /// KV heads.
    pub fn kv_heads(&self) -> usize {
        self.raw.kv_heads as usize
    }

    /// Query heads that share a KV head: those of KV head `h` are `h * group()` and the following.
    pub fn group(&self) -> usize {
        self.heads() / self.kv_heads()
    }

    /// Channels of a head.
    pub fn head_dim(&self) -> usize {
        self.raw.head_dim as usize
    }

    /// Entries per KV head in question.
    pub fn tokens(&self) -> usize {
        self.raw.tokens as usize
    }

    /// Tokens of the uncompressed context, or of the slice of it that is in view.
    pub fn context_tokens(&self) -> usize {
        (self.raw.context_end - self.raw.context_start) as usize
    }

    /// Position of the first of them.
    pub fn context_start(&self) -> i64 {
        self.raw.context_start
    }

    /// Position of the token that follows them.
    pub fn context_end(&self) -> i64 {
        self.raw.context_end
    }

    /// Seed for random numbers, derived from the run's, the sample and the layer.
    pub fn seed(&self) -> u64 {
        self.raw.seed
    }

    /// Keys after rotary embedding, `[batch, kv_heads, tokens, head_dim]`.
    ///
    /// # Panics
    /// The press declared that it does without.
    #[track_caller]
    pub fn keys(&self) -> Tensor<'a, Ix4> {
        match self.keys {
            Some(keys) => keys,
            None => done_without("keys"),
        }
    }

    /// Values, `[batch, kv_heads, tokens, head_dim]`.
    ///
    /// # Panics
    /// As [`Self::keys`].
    #[track_caller]
    pub fn values(&self) -> Tensor<'a, Ix4> {
        match self.values {
            Some(values) => values,
            None => done_without("values"),
        }
    }

    /// Position of each entry in the uncompressed context, `[batch, kv_heads, tokens]`.
    ///
    /// # Panics
    /// As [`Tensor::typed`].
    pub fn positions(&self) -> ArrayView3<'a, i64> {
        self.positions.check_place();
        self.listed
    }

    /// [`Self::positions`] where they lie.
    pub fn position_tensor(&self) -> Tensor<'a, Ix3> {
        self.positions
    }

    /// The last queries before rotary embedding, `[batch, heads, n, head_dim]`, as many as declared: fewer where the
    /// context is shorter, and while decoding where fewer are remembered.
    ///
    /// # Errors
    /// The press did not declare any.
    pub fn queries(&self) -> Result<Tensor<'a, Ix4>> {
        self.declared(self.raw.queries, "queries")
    }

    /// The last queries after rotary embedding, float32 `[batch, heads, n, head_dim]`, as many as [`Self::queries`].
    ///
    /// # Errors
    /// The press did not declare any.
    pub fn rotated_queries(&self) -> Result<Tensor<'a, Ix4>> {
        self.declared(self.raw.rotated_queries, "rotated queries")
    }

    /// Attention weights of the last queries over the entries, float32 `[batch, heads, n, tokens]`.
    ///
    /// # Errors
    /// The press did not declare any.
    pub fn attention(&self) -> Result<Tensor<'a, Ix4>> {
        self.declared(self.raw.attention, "attention weights")
    }

    /// What enters the attention block, `[batch, n, hidden]`: of all tokens of the context; while decoding, of the last
    /// ones, as far as they are remembered.
    ///
    /// # Errors
    /// The press did not declare it.
    pub fn hidden_states(&self) -> Result<Tensor<'a, Ix3>> {
        self.declared(self.raw.hidden_states, "hidden states")
    }

    /// Attention that each entry received from all queries of the context, float32 `[batch, heads, tokens]`.
    ///
    /// # Errors
    /// The press did not declare it, or the host is of version 1.
    pub fn attention_sums(&self) -> Result<Tensor<'a, Ix3>> {
        self.declared(self.raw.attention_sums, "attention sums")
    }

    /// Weight of the attention block's output projection, `[hidden, heads * head_dim]`.
    ///
    /// # Errors
    /// The press did not declare it, or the host is of version 1.
    pub fn output_projection(&self) -> Result<Tensor<'a, Ix2>> {
        self.declared(self.raw.output_projection, "the output projection")
    }

    fn declared<D: Dimension>(&self, raw: *const PressroomTensor, what: &str) -> Result<Tensor<'a, D>> {
        // SAFETY: null, or lent together with the view.
        unsafe { Tensor::new(raw) }.ok_or_else(|| format!("reads {what} that its needs do not declare").into())
    }
}

/// Ends a call that reads what is there for every press but one that said otherwise.
#[track_caller]
#[allow(
    clippy::panic,
    reason = "an author's mistake; the panic is caught on the way out and told as the press's error"
)]
fn done_without(what: &str) -> ! {
    std::panic::panic_any(format!("reads {what} that its needs do without"))
}
