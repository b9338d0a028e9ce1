//! What a press sees of one layer.

use crate::PressroomTensor;

/// The context is being read; the press sees all of it.
pub const PRESSROOM_PREFILL: u32 = 1;
/// Tokens are being generated; the press sees what the cache holds by now.
pub const PRESSROOM_DECODING: u32 = 2;

/// One layer's keys and values, and what the press declared to read beside them. Lent for one call: neither the view
/// nor its tensors may be used after the call has returned. Tensors that were not declared are null.
///
/// Keys, values, positions and attention columns are those still in question: all of the context at first; after a
/// stage of a chain, what that stage left.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PressroomView {
    /// `sizeof(PressroomView)` of the host.
    pub size: u32,
    /// `PRESSROOM_PREFILL` or `PRESSROOM_DECODING`.
    pub phase: u32,
    /// Layer, from 0.
    pub layer: u32,
    /// Decoder layers of the model.
    pub layers: u32,
    /// Sequences.
    pub batch: i64,
    /// Query heads.
    pub heads: i64,
    /// KV heads; `heads / kv_heads` consecutive query heads form the query group of one.
    pub kv_heads: i64,
    /// Channels of a head.
    pub head_dim: i64,
    /// Entries per KV head in question.
    pub tokens: i64,
    /// Position of the first token of the uncompressed context, or of the slice of it that is in view.
    pub context_start: i64,
    /// Position of the token that follows it.
    pub context_end: i64,
    /// Seed for random numbers, derived from the run's, the sample and the layer.
    pub seed: u64,
    /// Keys after rotary embedding, `[batch, kv_heads, tokens, head_dim]`: float32, float16 or bfloat16. Null
    /// if declared as not read, like values.
    pub keys: *const PressroomTensor,
    /// Values, as `keys`.
    pub values: *const PressroomTensor,
    /// Position of each entry in the uncompressed context, int64 `[batch, kv_heads, tokens]`.
    pub positions: *const PressroomTensor,
    /// The last queries before rotary embedding, `[batch, heads, n, head_dim]`, as declared: float32, float16 or
    /// bfloat16. Fewer where the context is shorter, and while decoding where fewer are remembered.
    pub queries: *const PressroomTensor,
    /// The last queries after rotary embedding, float32, as declared.
    pub rotated_queries: *const PressroomTensor,
    /// Attention weights of the last queries over the entries, float32 `[batch, heads, n, tokens]`, as declared.
    pub attention: *const PressroomTensor,
    /// What enters the attention block, `[batch, n, hidden]`: float32, float16 or bfloat16. Of all tokens of the context;
    /// while decoding, of the last ones, as far as they are remembered.
    pub hidden_states: *const PressroomTensor,
    /// Attention that each entry received from all queries of the context, float32 `[batch, heads, tokens]`. Since
    /// version 2.
    pub attention_sums: *const PressroomTensor,
    /// Weight of the attention block's output projection, `[hidden, heads * head_dim]`: float32, float16 or bfloat16.
    /// Since version 2.
    pub output_projection: *const PressroomTensor,
}
