//! `decoding`: the cache stays small while an answer grows.

use std::sync::Arc;

use pressroom::Result;
use pressroom::press::{Budget, Params, Press, Range};

use crate::interval::{AtIntervals, Interval};

pressroom::press! {
    /// Compresses the growing cache of an answer to a fixed size.
    ///
    /// # Idea
    /// The context's cache stays as the prefill left it. While an answer grows, another press compresses everything
    /// that the cache holds, at intervals, to a number of KV pairs per head, so that the cache never holds more than
    /// that number and an interval's worth. It scores with the hidden states and queries of the last tokens only. The
    /// question is one pass, like each token of the answer.
    ///
    /// # Formula
    /// every `compression_interval` passes, and at once after a question of `target_size` tokens or more:
    /// `kept = base_press at target_size pairs per KV head`
    ///
    /// # Paper
    /// None; kvpress's `DecodingPress`.
    "decoding" Decoding Decoding wraps(base_press: Press) budget(Own) {
        /// Passes through the model between two compressions.
        compression_interval: usize = 512, Range::closed(1.0, 1e9);
        /// KV pairs per KV head that a compression leaves.
        target_size: usize = 2048, Range::closed(1.0, 1e9);
        /// Earlier tokens whose hidden states and queries the base press sees, beside those of the last pass.
        hidden_states_buffer_size: usize = 256, Range::closed(0.0, 1e9);
    }
}

impl Decoding {
    /// Lets `base` decide.
    ///
    /// # Errors
    /// Bad parameters; `base` cannot decide on a cache that grows.
    pub fn around(params: &Params, base: Arc<dyn Press>) -> Result<AtIntervals> {
        let params = Self::from_params(params)?;
        let interval = Interval {
            passes: params.compression_interval,
            target: Budget::Tokens(params.target_size),
            buffer: params.hidden_states_buffer_size,
        };
        AtIntervals::new("decoding", params.identity_around(&[base.identity()]), interval, base)
    }
}
