//! Rotary scaling: from GGUF's metadata and `rope_freqs` tensor to the `rope_scaling` of a `config.json`.

use std::f64::consts::TAU;

use serde_json::{Value, json};

use super::gguf::Gguf;
use super::tensors;
use crate::error::Result;

/// Llama 3.1 to 3.3 differ in the factor alone; these three are the same in all of them.
const LLAMA3_LOW: f64 = 1.0;
const LLAMA3_HIGH: f64 = 4.0;
const LLAMA3_CONTEXT: f64 = 8192.0;

/// The `rope_scaling` object, or null where positions are rotated as they are.
pub(super) fn scaling(gguf: &Gguf, theta: f64, head_dim: usize) -> Result<Value> {
    if gguf.content.tensor_infos.contains_key("rope_freqs.weight") {
        return llama3(gguf, theta, head_dim);
    }
    let factor = match gguf.number("llama.rope.scaling.factor")? {
        Some(factor) => Some(factor),
        // The key of files before GGUF named the types.
        None => gguf.number("llama.rope.scale_linear")?,
    };
    let kind = gguf.text("llama.rope.scaling.type")?.unwrap_or(if factor.is_some() { "linear" } else { "none" });
    if kind == "none" {
        return Ok(Value::Null);
    }
    let factor = gguf.need("llama.rope.scaling.factor", factor)?;
    if factor < 1.0 {
        return Err(gguf.bad(format!("`llama.rope.scaling.factor` is {factor}; it must be 1 or more")));
    }
    match kind {
        "linear" => Ok(json!({ "rope_type": "linear", "factor": factor })),
        "yarn" => yarn(gguf, factor),
        other => {
            Err(gguf.bad(format!("rotary scaling `{other}` is not supported (none, linear, yarn and llama3 are)")))
        }
    }
}

/// YaRN; GGUF's `attn_factor` multiplies the factor that Hugging Face's `attention_factor` replaces.
fn yarn(gguf: &Gguf, factor: f64) -> Result<Value> {
    let key = "llama.rope.scaling.original_context_length";
    let original = gguf.need(key, gguf.count(key)?)?;
    let mut config = json!({ "rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original });
    if let Some(attention) = gguf.number("llama.rope.scaling.attn_factor")? {
        config["attention_factor"] = json!(attention * (0.1 * factor.ln() + 1.0));
    }
    Ok(config)
}

/// Llama 3.1 stores the divisor of each frequency; its largest is the scaling factor, and the others must follow from it.
fn llama3(gguf: &Gguf, theta: f64, head_dim: usize) -> Result<Value> {
    let stored = tensors::small_vector(gguf, "rope_freqs.weight", head_dim / 2)?;
    if stored.iter().all(|divisor| *divisor == 1.0) {
        return Ok(Value::Null);
    }
    let factor = stored.iter().copied().fold(1.0, f64::max);
    let follows = stored.iter().enumerate().all(|(pair, divisor)| {
        let wavelength = TAU * theta.powf(2.0 * pair as f64 / head_dim as f64);
        let smooth = (LLAMA3_CONTEXT / wavelength - LLAMA3_LOW) / (LLAMA3_HIGH - LLAMA3_LOW);
        let smooth = smooth.clamp(0.0, 1.0);
        let expected = 1.0 / ((1.0 - smooth) / factor + smooth);
        (divisor - expected).abs() <= 1e-3 * expected
    });
    if !follows || !factor.is_finite() {
        return Err(gguf.bad(
            "the rotary divisors in `rope_freqs.weight` are not those of Llama 3 (low factor 1, high factor 4, \
             original context 8192); this scaling is not supported",
        ));
    }
    Ok(json!({
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": LLAMA3_LOW,
        "high_freq_factor": LLAMA3_HIGH,
        "original_max_position_embeddings": LLAMA3_CONTEXT as usize,
    }))
}
