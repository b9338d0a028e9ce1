//! `compression_ratio_decoding`: the cache grows more slowly than an answer.

use std::sync::Arc;

use pressroom::Result;
use pressroom::press::{Budget, DecodingPress, ModelFacts, Needs, Origin, Params, Press, Range, StepHook};

use crate::interval::{Interval, Periodic, check_base};

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
    "compression_ratio_decoding" Decoding CompressionRatioDecodingParams wraps(base_press: Press) budget(Own) {
        /// Fraction of all tokens seen that is removed.
        target_compression_ratio: f64 = 0.5, Range::closed(0.0, 0.999_999);
        /// Passes through the model between two compressions.
        compression_interval: usize = 512, Range::closed(1.0, 1e9);
        /// Earlier tokens whose hidden states and queries the base press sees, beside those of the last pass.
        hidden_states_buffer_size: usize = 256, Range::closed(0.0, 1e9);
    }
}

/// The press: parameters and the press that decides.
pub struct CompressionRatioDecoding {
    params: CompressionRatioDecodingParams,
    target: Budget,
    base: Arc<dyn Press>,
}

impl CompressionRatioDecoding {
    /// Wraps `base`.
    ///
    /// # Errors
    /// Bad parameters; `base` cannot decide on a cache that grows.
    pub fn new(params: &Params, base: Arc<dyn Press>) -> Result<Self> {
        let params = CompressionRatioDecodingParams::from_params(params)?;
        check_base("compression_ratio_decoding", base.as_ref())?;
        Ok(Self { target: Budget::from_ratio(params.target_compression_ratio)?, params, base })
    }
}

impl DecodingPress for CompressionRatioDecoding {
    fn identity(&self) -> String {
        self.params.identity_around(&[self.base.identity()])
    }

    fn needs(&self) -> Needs {
        self.base.needs()
    }

    fn prepare(&self, model: &ModelFacts) -> Result<()> {
        self.base.prepare(model)
    }

    fn start(&self, origin: Origin<'_>) -> Box<dyn StepHook + Send> {
        let interval = Interval {
            passes: self.params.compression_interval,
            target: self.target,
            buffer: self.params.hidden_states_buffer_size,
        };
        Box::new(Periodic::new(self.base.clone(), interval, origin))
    }
}
