//! Pressroom's presses: one press, one file. [`registry`] is the list.
#![forbid(unsafe_code)]

mod adakv;
mod algebra;
mod block;
pub mod calibrate;
mod cam;
mod cap;
mod chunk;
mod chunkkv;
mod compactor;
mod compression_ratio_decoding;
mod critical_adakv;
mod criticalkv;
mod cur;
mod decoding;
mod dms;
mod duo_attention;
mod entropy_gated_chunkkv;
mod expected_attention;
mod expected_attention_stats;
mod fastkvzip;
mod finch;
mod h2o;
mod headkv;
mod interval;
mod key_rerotation;
mod keydiff;
mod knorm;
mod kvcompose;
mod kvgrad;
mod kvzap;
mod kvzip;
mod kvzip_plus;
mod lagkv;
mod leverage_score;
mod lukv;
mod merging;
mod nacl;
mod non_causal_attention;
mod observed_attention;
mod prefill_decoding;
mod prepared;
mod pyramidkv;
mod qfilter;
mod random;
mod replay;
mod restorekv;
mod running;
mod scissorhands;
mod sharing;
mod simlayerkv;
mod snapkv;
mod streaming_llm;
#[cfg(test)]
mod testing;
mod think;
mod token_scores;
mod tova;

pub use adakv::AdaKv;
pub use block::Block;
pub use cam::{Cam, CamParams};
pub use cap::Cap;
pub use chunk::Chunk;
pub use chunkkv::ChunkKv;
pub use compactor::Compactor;
pub use compression_ratio_decoding::CompressionRatioDecoding;
pub use critical_adakv::CriticalAdaKv;
pub use criticalkv::{CriticalKv, CriticalKvParams};
pub use cur::{Cur, LeverageType};
pub use decoding::Decoding;
pub use dms::{Dms, DmsParams};
pub use duo_attention::{DuoAttention, DuoAttentionParams};
pub use entropy_gated_chunkkv::EntropyGatedChunkKv;
pub use expected_attention::ExpectedAttention;
pub use expected_attention_stats::{ExpectedAttentionStats, ExpectedAttentionStatsParams};
pub use fastkvzip::{FastKvZip, FastKvZipParams};
pub use finch::Finch;
pub use h2o::H2o;
pub use headkv::{HeadKv, HeadKvParams};
pub use interval::AtIntervals;
pub use key_rerotation::KeyRerotation;
pub use keydiff::KeyDiff;
pub use knorm::Knorm;
pub use kvcompose::{Aggregation, KvCompose};
pub use kvgrad::KvGrad;
pub use kvzap::{KvZap, KvZapParams, Surrogate};
pub use kvzip::KvZip;
pub use kvzip_plus::KvZipPlus;
pub use lagkv::LagKv;
pub use leverage_score::LeverageScore;
pub use lukv::{LuKv, LuKvParams};
pub use merging::Merging;
pub use nacl::Nacl;
pub use non_causal_attention::NonCausalAttention;
pub use observed_attention::ObservedAttention;
pub use prefill_decoding::PrefillDecoding;
pub use pyramidkv::PyramidKv;
pub use qfilter::{QFilter, QFilterParams};
pub use random::Random;
pub use restorekv::{RestoreKv, RestoreKvParams};
pub use scissorhands::Scissorhands;
pub use simlayerkv::SimLayerKv;
pub use snapkv::SnapKv;
pub use streaming_llm::StreamingLlm;
pub use think::Think;
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
    // Scorers.
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
    registry.add(Entry::scorer(QFilterParams::info(), QFilter::new))?;
    registry.add(Entry::scorer(ExpectedAttentionStatsParams::info(), ExpectedAttentionStats::new))?;
    registry.add(Entry::scorer(KvZapParams::info(), KvZap::new))?;
    // Presses that decide by themselves.
    registry.add(Entry::press(Think::info(), Think::from_params))?;
    registry.add(Entry::press(SimLayerKv::info(), SimLayerKv::new))?;
    registry.add(Entry::press(DuoAttentionParams::info(), DuoAttention::new))?;
    registry.add(Entry::press(Finch::info(), Finch::from_params))?;
    // Wrappers.
    registry.add(Entry::wrapper(AdaKv::info(), AdaKv::from_params))?;
    registry.add(Entry::press_around(HeadKvParams::info(), HeadKv::new))?;
    registry.add(Entry::press_around(LuKvParams::info(), LuKv::new))?;
    registry.add(Entry::scorer_around(CriticalKvParams::info(), CriticalKv::new))?;
    registry.add(Entry::wrapper(CriticalAdaKv::info(), CriticalAdaKv::from_params))?;
    registry.add(Entry::wrapper(KeyRerotation::info(), KeyRerotation::from_params))?;
    registry.add(Entry::wrapper(Chunk::info(), Chunk::from_params))?;
    registry.add(Entry::wrapper(ChunkKv::info(), ChunkKv::from_params))?;
    registry.add(Entry::wrapper(EntropyGatedChunkKv::info(), EntropyGatedChunkKv::new))?;
    registry.add(Entry::wrapper(Block::info(), Block::from_params))?;
    registry.add(Entry::wrapper(Merging::info(), Merging::from_params))?;
    // Presses of whole contexts.
    registry.add(Entry::context(KvZip::info(), KvZip::from_params))?;
    registry.add(Entry::context(KvZipPlus::info(), KvZipPlus::from_params))?;
    registry.add(Entry::context(KvGrad::info(), KvGrad::from_params))?;
    registry.add(Entry::context(KvCompose::info(), KvCompose::from_params))?;
    registry.add(Entry::context(FastKvZipParams::info(), FastKvZip::new))?;
    registry.add(Entry::context(RestoreKvParams::info(), RestoreKv::new))?;
    // Presses of the decoding phase.
    registry.add(Entry::decoding_around(Decoding::info(), Decoding::around))?;
    registry.add(Entry::decoding_around(CompressionRatioDecoding::info(), CompressionRatioDecoding::around))?;
    registry.add(Entry::new(PrefillDecoding::info(), PrefillDecoding::build))?;
    registry.add(Entry::new(DmsParams::info(), Dms::build))?;
    registry.add(Entry::new(CamParams::info(), Cam::build))?;
    Ok(registry)
}

/// Refuses a context in which nothing would be left to choose from.
fn too_short(param: &'static str, reserved: usize, view: &LayerView<'_>) -> pressroom::Result<()> {
    let tokens = view.context_tokens();
    if tokens > reserved as i64 { Ok(()) } else { Err(Error::TooShort { tokens, param, reserved }) }
}

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
#[doc = include_str!("../../docs/write-a-press.md")]
struct WhatIsWrittenCompiles;
