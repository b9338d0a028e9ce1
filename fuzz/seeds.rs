//! Writes the smallest Llamas that import, one per kind of tokenizer, as seeds: `seeds FOLDER`.

use std::fs::{self, File};
use std::path::Path;

use candle_core::quantized::gguf_file::{Value, write};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Result, Tensor};

const WIDTH: usize = 32;
const TOKENS: [&str; 6] = ["<unk>", "<s>", "a", "b", "ab", "<0x41>"];

fn main() -> Result<()> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "fuzz/corpus/gguf".into());
    fs::create_dir_all(&folder)?;
    seed(&Path::new(&folder).join("byte-level.gguf"), "gpt2", GgmlDType::Q8_0)?;
    seed(&Path::new(&folder).join("sentence-piece.gguf"), "llama", GgmlDType::Q4_1)
}

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
