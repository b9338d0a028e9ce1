//! Pressroom's presses: one press, one file. [`registry`] is the list.
#![forbid(unsafe_code)]

mod adakv;
mod block;
mod chunk;
mod chunkkv;
mod critical_adakv;
mod criticalkv;
mod entropy_gated_chunkkv;
mod expected_attention;
mod finch;
mod key_rerotation;
mod knorm;
mod merging;
mod random;
mod simlayerkv;
mod snapkv;
mod streaming_llm;
#[cfg(test)]
mod testing;
mod think;
mod token_scores;

pub use adakv::{AdaKv, AdaKvParams};
pub use block::{Block, BlockParams};
pub use chunk::{Chunk, ChunkParams};
pub use chunkkv::{ChunkKv, ChunkKvParams};
pub use critical_adakv::{CriticalAdaKv, CriticalAdaKvParams};
pub use criticalkv::{CriticalKv, CriticalKvParams};
pub use entropy_gated_chunkkv::{EntropyGatedChunkKv, EntropyGatedChunkKvParams};
pub use expected_attention::ExpectedAttention;
pub use finch::Finch;
pub use key_rerotation::{KeyRerotation, KeyRerotationParams};
pub use knorm::Knorm;
pub use merging::{Merging, MergingParams};
pub use random::Random;
pub use simlayerkv::SimLayerKv;
pub use snapkv::SnapKv;
pub use streaming_llm::StreamingLlm;
pub use think::Think;

use pressroom::Error;
use pressroom::press::{Entry, Registry};
use pressroom::view::LayerView;

/// All built-in presses, by the names that TOML and the command line use.
///
/// # Errors
/// Two presses have one name.
pub fn registry() -> pressroom::Result<Registry> {
    let mut registry = Registry::default();
    // Scorers.
    registry.add(Entry::scorer(Random::info(), Random::from_params))?;
    registry.add(Entry::scorer(Knorm::info(), Knorm::from_params))?;
    registry.add(Entry::scorer(SnapKv::info(), SnapKv::from_params))?;
    registry.add(Entry::scorer(ExpectedAttention::info(), ExpectedAttention::from_params))?;
    registry.add(Entry::scorer(StreamingLlm::info(), StreamingLlm::from_params))?;
    // Presses that decide by themselves.
    registry.add(Entry::press(Think::info(), Think::from_params))?;
    registry.add(Entry::press(SimLayerKv::info(), SimLayerKv::new))?;
    registry.add(Entry::press(Finch::info(), Finch::from_params))?;
    // Wrappers.
    registry.add(Entry::press_around(AdaKvParams::info(), AdaKv::new))?;
    registry.add(Entry::scorer_around(CriticalKvParams::info(), CriticalKv::new))?;
    registry.add(Entry::press_around(CriticalAdaKvParams::info(), CriticalAdaKv::new))?;
    registry.add(Entry::press_around(KeyRerotationParams::info(), KeyRerotation::new))?;
    registry.add(Entry::press_around(ChunkParams::info(), Chunk::new))?;
    registry.add(Entry::press_around(ChunkKvParams::info(), ChunkKv::new))?;
    registry.add(Entry::press_around(EntropyGatedChunkKvParams::info(), EntropyGatedChunkKv::new))?;
    registry.add(Entry::press_around(BlockParams::info(), Block::new))?;
    registry.add(Entry::press_around(MergingParams::info(), Merging::new))?;
    Ok(registry)
}

/// Refuses a context in which nothing would be left to choose from.
fn too_short(param: &'static str, reserved: usize, view: &LayerView<'_>) -> pressroom::Result<()> {
    let tokens = view.context_tokens();
    if tokens > reserved as i64 { Ok(()) } else { Err(Error::TooShort { tokens, param, reserved }) }
}
