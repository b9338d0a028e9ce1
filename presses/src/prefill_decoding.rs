//! `prefill_decoding`: one press for the context, another for the answer.

use pressroom::press::{Built, Method, Params};
use pressroom::{Error, Result};

pressroom::press! {
    /// Compresses the context with one press and goes on with another while an answer grows.
    ///
    /// # Idea
    /// What suits a context that is there as a whole need not suit an answer that grows token by token, so each phase
    /// has a press of its own. A chain that ends in a press of the decoding phase is the same.
    ///
    /// # Formula
    /// `kept = prefilling_press(context)`, then `decoding_press` over all that the cache holds
    ///
    /// # Paper
    /// None; kvpress's `PrefillDecodingPress`.
    "prefill_decoding" Decoding PrefillDecoding wraps(prefilling_press: Press, decoding_press: Decoding) {}
}

impl PrefillDecoding {
    /// The method of both phases; `inner` are the two presses.
    ///
    /// # Errors
    /// Parameters are given; one of the presses decides in both phases already.
    pub fn build(params: &Params, inner: Vec<Built>) -> Result<Built> {
        Self::from_params(params)?;
        let mut inner = inner.into_iter().map(Built::into_method);
        match (inner.next(), inner.next()) {
            (Some(Method::Layer(prefill)), Some(Method::Phases { prefill: None, decoding })) => {
                Ok(Built::Method(Method::Phases { prefill: Some(prefill), decoding }))
            }
            (_, Some(both)) => Err(Error::input(format!(
                "{} decides during the prefill too: name it alone, or in a chain",
                both.identity()
            ))),
            _ => Err(Error::input("`prefill_decoding` wraps two presses")),
        }
    }
}
