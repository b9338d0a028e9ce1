//! Pressroom's presses: one press, one file. [`registry`] is the list.
#![forbid(unsafe_code)]

mod adakv;
mod expected_attention;
mod fastkvzip;
mod knorm;
mod kvcompose;
mod kvgrad;
mod kvzip;
mod kvzip_plus;
mod prepared;
mod random;
mod replay;
mod restorekv;
mod sharing;
mod snapkv;
mod streaming_llm;

pub use adakv::{AdaKv, AdaKvParams};
pub use expected_attention::ExpectedAttention;
pub use fastkvzip::{FastKvZip, FastKvZipParams};
pub use knorm::Knorm;
pub use kvcompose::{Aggregation, KvCompose};
pub use kvgrad::KvGrad;
pub use kvzip::KvZip;
pub use kvzip_plus::KvZipPlus;
pub use random::Random;
pub use restorekv::{RestoreKv, RestoreKvParams};
pub use snapkv::SnapKv;
pub use streaming_llm::StreamingLlm;

use pressroom::Error;
use pressroom::press::{Entry, Registry};
use pressroom::view::LayerView;

/// All built-in presses, by the names that TOML and the command line use.
///
/// # Errors
/// Two presses have one name.
pub fn registry() -> pressroom::Result<Registry> {
    let mut registry = Registry::default();
    registry.add(Entry::scorer(Random::info(), Random::from_params))?;
    registry.add(Entry::scorer(Knorm::info(), Knorm::from_params))?;
    registry.add(Entry::scorer(SnapKv::info(), SnapKv::from_params))?;
    registry.add(Entry::scorer(ExpectedAttention::info(), ExpectedAttention::from_params))?;
    registry.add(Entry::scorer(StreamingLlm::info(), StreamingLlm::from_params))?;
    registry.add(Entry::press_around(AdaKvParams::info(), AdaKv::new))?;
    registry.add(Entry::context(KvZip::info(), KvZip::from_params))?;
    registry.add(Entry::context(KvZipPlus::info(), KvZipPlus::from_params))?;
    registry.add(Entry::context(KvGrad::info(), KvGrad::from_params))?;
    registry.add(Entry::context(KvCompose::info(), KvCompose::from_params))?;
    registry.add(Entry::context(FastKvZipParams::info(), FastKvZip::new))?;
    registry.add(Entry::context(RestoreKvParams::info(), RestoreKv::new))?;
    Ok(registry)
}

/// Refuses a context in which nothing would be left to choose from.
fn too_short(param: &str, reserved: usize, view: &LayerView<'_>) -> pressroom::Result<()> {
    let tokens = view.context_tokens();
    if tokens > reserved as i64 {
        return Ok(());
    }
    Err(Error::input(format!(
        "the context has {tokens} tokens and {param} = {reserved} of them are always kept; \
         use a longer context or a smaller {param}"
    )))
}
