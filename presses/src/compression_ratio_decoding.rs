//! `compression_ratio_decoding`: the cache grows more slowly than an answer.

use std::sync::Arc;

use pressroom::Result;
use pressroom::press::{Budget, Params, Press, Range};

use crate::interval::{AtIntervals, Interval};

pressroom::press! {
    /// Compresses the growing cache of an answer to a fraction of all tokens seen.
    ///
    /// # Idea
    /// Like `decoding`, but the size that is left follows the sequence: a fixed fraction of all tokens seen so far,
    /// context, question and answer.
    ///
    /// # Formula
    /// every `compression_interval` passes: `kept = base_press at floor(tokens seen * (1 - target_compression_ratio))`
    /// pairs per KV head, at least one
    ///
    /// # Paper
    /// None; kvpress's `CompressionRatioDecodingPress`.
    "compression_ratio_decoding" Decoding CompressionRatioDecoding wraps(base_press: Press) budget(Own) {
        /// Fraction of all tokens seen that is removed.
        target_compression_ratio: f64 = 0.5, Range::closed(0.0, 0.999_999);
        /// Passes through the model between two compressions.
        compression_interval: usize = 512, Range::closed(1.0, 1e9);
        /// Earlier tokens whose hidden states and queries the base press sees, beside those of the last pass.
        hidden_states_buffer_size: usize = 256, Range::closed(0.0, 1e9);
    }
}

impl CompressionRatioDecoding {
    /// Lets `base` decide.
    ///
    /// # Errors
    /// Bad parameters; `base` cannot decide on a cache that grows.
    pub fn around(params: &Params, base: Arc<dyn Press>) -> Result<AtIntervals> {
        let params = Self::from_params(params)?;
        let interval = Interval {
            passes: params.compression_interval,
            target: Budget::from_ratio(params.target_compression_ratio)?,
            buffer: params.hidden_states_buffer_size,
        };
        AtIntervals::new("compression_ratio_decoding", params.identity_around(&[base.identity()]), interval, base)
    }
}
