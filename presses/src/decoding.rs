//! `decoding`: the cache stays small while an answer grows.

use std::sync::Arc;

use pressroom::Result;
use pressroom::press::{Budget, DecodingPress, ModelFacts, Needs, Origin, Params, Press, Range, StepHook};

use crate::interval::{Interval, Periodic, check_base};

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
    "decoding" Decoding DecodingParams wraps(base_press: Press) budget(Own) {
        /// Passes through the model between two compressions.
        compression_interval: usize = 512, Range::closed(1.0, 1e9);
        /// KV pairs per KV head that a compression leaves.
        target_size: usize = 2048, Range::closed(1.0, 1e9);
        /// Earlier tokens whose hidden states and queries the base press sees, beside those of the last pass.
        hidden_states_buffer_size: usize = 256, Range::closed(0.0, 1e9);
    }
}

/// The press: parameters and the press that decides.
pub struct Decoding {
    params: DecodingParams,
    base: Arc<dyn Press>,
}

impl Decoding {
    /// Wraps `base`.
    ///
    /// # Errors
    /// Bad parameters; `base` cannot decide on a cache that grows.
    pub fn new(params: &Params, base: Arc<dyn Press>) -> Result<Self> {
        let params = DecodingParams::from_params(params)?;
        check_base("decoding", base.as_ref())?;
        Ok(Self { params, base })
    }
}

impl DecodingPress for Decoding {
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
            target: Budget::Tokens(self.params.target_size),
            buffer: self.params.hidden_states_buffer_size,
        };
        Box::new(Periodic::new(self.base.clone(), interval, origin))
    }
}
