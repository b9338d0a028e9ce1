//! Pressroom's presses: one press, one file. [`registry`] is the list.
#![forbid(unsafe_code)]

mod adakv;
mod algebra;
mod cap;
mod compactor;
mod cur;
mod expected_attention;
mod h2o;
mod headkv;
mod keydiff;
mod knorm;
mod lagkv;
mod leverage_score;
mod nacl;
mod non_causal_attention;
mod observed_attention;
mod pyramidkv;
mod random;
mod scissorhands;
mod shared;
mod snapkv;
mod streaming_llm;
mod tova;

pub use adakv::{AdaKv, AdaKvParams};
pub use cap::Cap;
pub use compactor::Compactor;
pub use cur::{Cur, LeverageType};
pub use expected_attention::ExpectedAttention;
pub use h2o::H2o;
pub use headkv::{HeadKv, HeadKvParams};
pub use keydiff::KeyDiff;
pub use knorm::Knorm;
pub use lagkv::LagKv;
pub use leverage_score::LeverageScore;
pub use nacl::Nacl;
pub use non_causal_attention::NonCausalAttention;
pub use observed_attention::ObservedAttention;
pub use pyramidkv::PyramidKv;
pub use random::Random;
pub use scissorhands::Scissorhands;
pub use snapkv::SnapKv;
pub use streaming_llm::StreamingLlm;
pub use tova::Tova;

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
    registry.add(Entry::scorer(Tova::info(), Tova::from_params))?;
    registry.add(Entry::scorer(ObservedAttention::info(), ObservedAttention::from_params))?;
    registry.add(Entry::scorer(KeyDiff::info(), KeyDiff::from_params))?;
    registry.add(Entry::scorer(LagKv::info(), LagKv::from_params))?;
    registry.add(Entry::scorer(PyramidKv::info(), PyramidKv::from_params))?;
    registry.add(Entry::scorer(NonCausalAttention::info(), NonCausalAttention::from_params))?;
    registry.add(Entry::scorer(LeverageScore::info(), LeverageScore::from_params))?;
    registry.add(Entry::scorer(Compactor::info(), Compactor::from_params))?;
    registry.add(Entry::scorer(Cur::info(), Cur::from_params))?;
    registry.add(Entry::scorer(Cap::info(), Cap::from_params))?;
    registry.add(Entry::scorer(H2o::info(), H2o::from_params))?;
    registry.add(Entry::scorer(Scissorhands::info(), Scissorhands::from_params))?;
    registry.add(Entry::scorer(Nacl::info(), Nacl::from_params))?;
    registry.add(Entry::press_around(AdaKvParams::info(), AdaKv::new))?;
    registry.add(Entry::press_around(HeadKvParams::info(), HeadKv::new))?;
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
