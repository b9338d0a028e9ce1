//! Writes inputs that a target accepts, for it to start from: `seeds gguf|weights FOLDER`.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;

use candle_core::quantized::gguf_file::{Value, write};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Result, Tensor};
// Built with the flags of the targets, so it needs what their coverage counters are linked to.
use libfuzzer_sys as _;

const WIDTH: usize = 32;
const TOKENS: [&str; 6] = ["<unk>", "<s>", "a", "b", "ab", "<0x41>"];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [target, folder] = arguments.as_slice() else { candle_core::bail!("usage: seeds gguf|weights FOLDER") };
    let folder = Path::new(folder);
    fs::create_dir_all(folder)?;
    match target.as_str() {
        "gguf" => {
            seed(&folder.join("byte-level.gguf"), "gpt2", GgmlDType::Q8_0)?;
            seed(&folder.join("sentence-piece.gguf"), "llama", GgmlDType::Q4_1)
        }
        "weights" => weights(folder),
        other => candle_core::bail!("no seeds for {other}"),
    }
}

/// The weights of the model that the target loads, without and with an index.
fn weights(folder: &Path) -> Result<()> {
    let mut tensors = HashMap::new();
    let mut add = |name: &str, shape: &[usize]| -> Result<()> {
        tensors.insert(name.to_owned(), Tensor::ones(shape, DType::F32, &Device::Cpu)?);
        Ok(())
    };
    add("model.embed_tokens.weight", &[4, 4])?;
    add("model.norm.weight", &[4])?;
    for part in ["input_layernorm", "post_attention_layernorm"] {
        add(&format!("model.layers.0.{part}.weight"), &[4])?;
    }
    for part in ["self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o", "mlp.gate", "mlp.up", "mlp.down"] {
        add(&format!("model.layers.0.{part}_proj.weight"), &[4, 4])?;
    }
    let file = folder.join("alone");
    candle_core::safetensors::save(&tensors, &file)?;
    let bytes = fs::read(&file)?;
    fs::write(&file, [b"\n", &bytes[..]].concat())?;
    let index = br#"{"weight_map": {"model.norm.weight": "model.safetensors"}}"#;
    fs::write(folder.join("indexed"), [index, &b"\n"[..], &bytes].concat())?;
    Ok(())
}

/// The smallest Llama that imports, with this kind of tokenizer.
fn seed(path: &Path, tokenizer: &str, dtype: GgmlDType) -> Result<()> {
    let number = |value: usize| Value::U32(value as u32);
    let text = |value: &str| Value::String(value.into());
    let list = |items: Vec<Value>| Value::Array(items);
    let metadata = [
        ("general.architecture", text("llama")),
        ("general.alignment", number(32)),
        ("llama.block_count", number(1)),
        ("llama.context_length", number(64)),
        ("llama.embedding_length", number(WIDTH)),
        ("llama.feed_forward_length", number(WIDTH)),
        ("llama.attention.head_count", number(4)),
        ("llama.attention.head_count_kv", number(2)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("llama.rope.freq_base", Value::F32(1e4)),
        ("llama.rope.scaling.type", text("yarn")),
        ("llama.rope.scaling.factor", Value::F32(2.0)),
        ("llama.rope.scaling.original_context_length", number(32)),
        ("tokenizer.ggml.model", text(tokenizer)),
        ("tokenizer.ggml.pre", text("llama-bpe")),
        ("tokenizer.ggml.tokens", list(TOKENS.map(text).to_vec())),
        ("tokenizer.ggml.scores", list((0..TOKENS.len()).map(|id| Value::F32(-(id as f32))).collect())),
        ("tokenizer.ggml.token_type", list([2, 3, 1, 1, 1, 6].map(Value::I32).to_vec())),
        ("tokenizer.ggml.merges", list(vec![text("a b")])),
        ("tokenizer.ggml.bos_token_id", number(1)),
        ("tokenizer.ggml.eos_token_id", number(1)),
        ("tokenizer.ggml.unknown_token_id", number(0)),
        ("tokenizer.ggml.add_bos_token", Value::Bool(true)),
        ("tokenizer.chat_template", text("{{ messages }}")),
    ];
    let matrices = [
        ("token_embd.weight", TOKENS.len()),
        ("blk.0.attn_q.weight", WIDTH),
        ("blk.0.attn_k.weight", WIDTH / 2),
        ("blk.0.attn_v.weight", WIDTH / 2),
        ("blk.0.attn_output.weight", WIDTH),
        ("blk.0.ffn_gate.weight", WIDTH),
        ("blk.0.ffn_up.weight", WIDTH),
        ("blk.0.ffn_down.weight", WIDTH),
    ];
    let mut tensors = Vec::new();
    for (name, rows) in matrices {
        tensors.push((name, QTensor::quantize(&Tensor::ones((rows, WIDTH), DType::F32, &Device::Cpu)?, dtype)?));
    }
    for name in ["blk.0.attn_norm.weight", "blk.0.ffn_norm.weight", "output_norm.weight"] {
        tensors.push((name, QTensor::quantize(&Tensor::ones(WIDTH, DType::F32, &Device::Cpu)?, GgmlDType::F32)?));
    }
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (*name, tensor)).collect();
    write(&mut File::create(path)?, &metadata, &tensors)
}
