//! Tests on a tiny Llama that is written as GGUF here: what comes out, and what corrupt files come to.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
use candle_core::{Device, Tensor};
use proptest::prelude::*;
use safetensors::SafeTensors;
use serde_json::Value as Json;
use tempfile::TempDir;
use tokenizers::Tokenizer;

use super::*;
use candle_core::quantized::gguf_file::Value;

const HIDDEN: usize = 256;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD_DIM: usize = HIDDEN / HEADS;
const MLP: usize = 512;

/// What the tiny file is made of; tests change it before writing.
struct Tiny {
    metadata: BTreeMap<&'static str, Value>,
    tensors: BTreeMap<String, QTensor>,
}

fn texts(items: &[&str]) -> Value {
    Value::Array(items.iter().map(|item| Value::String((*item).into())).collect())
}

fn kinds(items: &[i32]) -> Value {
    Value::Array(items.iter().map(|item| Value::I32(*item)).collect())
}

fn ramp(shape: &[usize], dtype: GgmlDType) -> QTensor {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|at| ((at * 37 % 101) as f32 - 50.0) / 50.0).collect();
    let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
    QTensor::quantize(&tensor, dtype).unwrap()
}

impl Tiny {
    fn new(dtype: GgmlDType) -> Self {
        let tokens = ["<|end|>", "a", "b", "ab", "1", "2", "12", "Ġ", "Ġa", "<|turn|>"];
        let metadata = BTreeMap::from([
            ("general.architecture", Value::String("llama".into())),
            ("llama.block_count", Value::U32(1)),
            ("llama.context_length", Value::U32(64)),
            ("llama.embedding_length", Value::U32(HIDDEN as u32)),
            ("llama.feed_forward_length", Value::U32(MLP as u32)),
            ("llama.attention.head_count", Value::U32(HEADS as u32)),
            ("llama.attention.head_count_kv", Value::U32(KV_HEADS as u32)),
            ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
            ("llama.rope.dimension_count", Value::U32(HEAD_DIM as u32)),
            ("tokenizer.ggml.model", Value::String("gpt2".into())),
            ("tokenizer.ggml.pre", Value::String("smollm".into())),
            ("tokenizer.ggml.tokens", texts(&tokens)),
            ("tokenizer.ggml.token_type", kinds(&[3, 1, 1, 1, 1, 1, 1, 1, 1, 3])),
            ("tokenizer.ggml.merges", texts(&["a b", "1 2", "Ġ a"])),
            ("tokenizer.ggml.eos_token_id", Value::U32(0)),
            ("tokenizer.ggml.eot_token_id", Value::U32(9)),
            ("tokenizer.chat_template", Value::String("{{ messages }}".into())),
        ]);
        let mut tensors = BTreeMap::new();
        let keys = KV_HEADS * HEAD_DIM;
        for (name, rows, columns) in [
            ("token_embd", tokens.len(), HIDDEN),
            ("blk.0.attn_q", HIDDEN, HIDDEN),
            ("blk.0.attn_k", keys, HIDDEN),
            ("blk.0.attn_v", keys, HIDDEN),
            ("blk.0.attn_output", HIDDEN, HIDDEN),
            ("blk.0.ffn_gate", MLP, HIDDEN),
            ("blk.0.ffn_up", MLP, HIDDEN),
            ("blk.0.ffn_down", HIDDEN, MLP),
        ] {
            tensors.insert(format!("{name}.weight"), ramp(&[rows, columns], dtype));
        }
        for name in ["blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"] {
            tensors.insert(format!("{name}.weight"), ramp(&[HIDDEN], GgmlDType::F32));
        }
        Self { metadata, tensors }
    }

    fn bytes(&self) -> Vec<u8> {
        let metadata: Vec<_> = self.metadata.iter().map(|(key, value)| (*key, value)).collect();
        let tensors: Vec<_> = self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let mut out = std::io::Cursor::new(Vec::new());
        gguf_file::write(&mut out, &metadata, &tensors).unwrap();
        out.into_inner()
    }

    fn import(&self, options: &ImportOptions) -> (TempDir, Result<ImportReport>) {
        import_bytes(&self.bytes(), options)
    }

    /// The folder of an import that must succeed.
    fn imported(&self, dtype: ImportDtype) -> (TempDir, PathBuf) {
        let (guard, report) = self.import(&ImportOptions { dtype, progress: false });
        let folder = report.unwrap().folder;
        (guard, folder)
    }

    /// The message of an import that must fail and leave nothing behind but the file.
    fn refusal(&self) -> String {
        let (guard, report) = self.import(&ImportOptions::default());
        let message = report.unwrap_err().to_string();
        assert!(message.contains("tiny.gguf"), "{message}");
        assert_eq!(fs::read_dir(guard.path()).unwrap().count(), 1, "left behind after: {message}");
        message
    }
}

fn import_bytes(bytes: &[u8], options: &ImportOptions) -> (TempDir, Result<ImportReport>) {
    let guard = tempfile::tempdir().unwrap();
    let file = guard.path().join("tiny.gguf");
    fs::write(&file, bytes).unwrap();
    let report = import_gguf(&file, &guard.path().join("model"), options);
    (guard, report)
}

fn json(folder: &Path, name: &str) -> Json {
    serde_json::from_slice(&fs::read(folder.join(name)).unwrap()).unwrap()
}

fn encode(folder: &Path, text: &str, special: bool) -> Vec<u32> {
    Tokenizer::from_file(folder.join("tokenizer.json")).unwrap().encode(text, special).unwrap().get_ids().to_vec()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
}

#[test]
fn a_tiny_llama_becomes_a_folder() {
    let (guard, folder) = Tiny::new(GgmlDType::F32).imported(ImportDtype::F32);
    assert_eq!(fs::read_dir(guard.path()).unwrap().count(), 2, "only the file and the folder");
    let config = json(&folder, "config.json");
    for (key, value) in [("hidden_size", HIDDEN), ("head_dim", HEAD_DIM), ("num_key_value_heads", KV_HEADS)] {
        assert_eq!(config[key], value, "{key}");
    }
    assert_eq!(config["tie_word_embeddings"], true);
    assert_eq!(config["rope_scaling"], Json::Null);
    assert_eq!(config["rope_theta"], 10_000.0);
    assert_eq!(config["torch_dtype"], "float32");
    assert_eq!(config["rms_norm_eps"].as_f64(), Some(f64::from(1e-5f32)));
    assert_eq!(json(&folder, "generation_config.json")["eos_token_id"], serde_json::json!([0, 9]));
    assert_eq!(fs::read_to_string(folder.join("chat_template.jinja")).unwrap(), "{{ messages }}");
    let tokenizer = json(&folder, "tokenizer_config.json");
    assert_eq!(tokenizer["eos_token"], "<|end|>");
    assert_eq!(tokenizer["bos_token"], Json::Null);
}

#[test]
fn rotary_rows_are_put_back_in_halves() {
    let tiny = Tiny::new(GgmlDType::F32);
    let (_guard, folder) = tiny.imported(ImportDtype::F32);
    let bytes = fs::read(folder.join("model.safetensors")).unwrap();
    let weights = SafeTensors::deserialize(&bytes).unwrap();
    for (name, source, rotary) in [("q_proj", "attn_q", true), ("k_proj", "attn_k", true), ("v_proj", "attn_v", false)]
    {
        let got = weights.tensor(&format!("model.layers.0.self_attn.{name}.weight")).unwrap();
        let got = floats(got.data());
        let from = tiny.tensors[&format!("blk.0.{source}.weight")].dequantize(&Device::Cpu).unwrap();
        let from: Vec<f32> = from.flatten_all().unwrap().to_vec1().unwrap();
        for row in 0..got.len() / HIDDEN {
            let (head, channel) = (row / HEAD_DIM, row % HEAD_DIM);
            let (half, pair) = (channel / (HEAD_DIM / 2), channel % (HEAD_DIM / 2));
            let stored = if rotary { head * HEAD_DIM + 2 * pair + half } else { row };
            assert_eq!(got[row * HIDDEN..][..HIDDEN], from[stored * HIDDEN..][..HIDDEN], "{name} row {row}");
        }
    }
}

#[test]
fn every_tensor_type_is_dequantized() {
    use GgmlDType::*;
    for dtype in [F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2K, Q3K, Q4K, Q5K, Q6K] {
        let tiny = Tiny::new(dtype);
        let (_guard, folder) = tiny.imported(ImportDtype::F32);
        let bytes = fs::read(folder.join("model.safetensors")).unwrap();
        let weights = SafeTensors::deserialize(&bytes).unwrap();
        let got = floats(weights.tensor("model.layers.0.mlp.up_proj.weight").unwrap().data());
        let exact = ramp(&[MLP, HIDDEN], F32).dequantize(&Device::Cpu).unwrap();
        let exact: Vec<f32> = exact.flatten_all().unwrap().to_vec1().unwrap();
        let worst = got.iter().zip(&exact).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 0.4, "{dtype:?} is off by {worst}");
    }
}

#[test]
fn half_types_halve_the_file() {
    for (dtype, name) in [(ImportDtype::Bf16, "bfloat16"), (ImportDtype::F16, "float16")] {
        let (_guard, folder) = Tiny::new(GgmlDType::Q8_0).imported(dtype);
        assert_eq!(json(&folder, "config.json")["torch_dtype"], name);
        let size = fs::metadata(folder.join("model.safetensors")).unwrap().len() as usize;
        let elements = HIDDEN * (10 + 2 * HIDDEN + 2 * KV_HEADS * HEAD_DIM + 3 * MLP + 3);
        assert!((2 * elements..2 * elements + 4096).contains(&size), "{size}");
    }
}

#[test]
fn digits_are_cut_apart_for_smollm_only() {
    let mut tiny = Tiny::new(GgmlDType::F32);
    let (_guard, folder) = tiny.imported(ImportDtype::F32);
    assert_eq!(encode(&folder, "ab12 a<|turn|>", true), [3, 4, 5, 8, 9]);
    tiny.metadata.insert("tokenizer.ggml.pre", Value::String("gpt-2".into()));
    let (_guard, folder) = tiny.imported(ImportDtype::F32);
    assert_eq!(encode(&folder, "ab12", true), [3, 6]);
}

#[test]
fn llama3_puts_its_begin_token_in_front() {
    let mut tiny = Tiny::new(GgmlDType::F32);
    tiny.metadata.insert("tokenizer.ggml.pre", Value::String("llama-bpe".into()));
    tiny.metadata.insert("tokenizer.ggml.bos_token_id", Value::U32(9));
    let (_guard, folder) = tiny.imported(ImportDtype::F32);
    assert_eq!(encode(&folder, "ab a12", true), [9, 3, 8, 6]);
    assert_eq!(encode(&folder, "ab a12", false), [3, 8, 6]);
}

#[test]
fn sentence_piece_merges_by_score_and_falls_back_to_bytes() {
    let mut tiny = Tiny::new(GgmlDType::F32);
    let tokens = ["<unk>", "<s>", "a", "b", "▁", "ab", "▁a", "<0xC3>", "<0xA9>", "ba"];
    tiny.metadata.insert("tokenizer.ggml.model", Value::String("llama".into()));
    tiny.metadata.insert("tokenizer.ggml.tokens", texts(&tokens));
    tiny.metadata.insert("tokenizer.ggml.token_type", kinds(&[2, 3, 1, 1, 1, 1, 1, 6, 6, 1]));
    let scores = [0.0, 0.0, -5.0, -6.0, -4.0, -1.0, -2.0, 0.0, 0.0, -3.0];
    tiny.metadata.insert("tokenizer.ggml.scores", Value::Array(scores.map(Value::F32).to_vec()));
    tiny.metadata.insert("tokenizer.ggml.bos_token_id", Value::U32(1));
    tiny.metadata.insert("tokenizer.ggml.unknown_token_id", Value::U32(0));
    let (_guard, folder) = tiny.imported(ImportDtype::F32);
    // "ab" (-1) beats "▁a" (-2), and a letter outside the vocabulary becomes its bytes.
    assert_eq!(encode(&folder, "ab aé", true), [1, 4, 5, 6, 7, 8]);
    let tokenizer = Tokenizer::from_file(folder.join("tokenizer.json")).unwrap();
    assert_eq!(tokenizer.decode(&[1, 4, 5, 6, 7, 8], true).unwrap(), "ab aé");
}

#[test]
fn rotary_scaling_is_carried_over() {
    let mut tiny = Tiny::new(GgmlDType::F32);
    tiny.metadata.insert("llama.rope.scaling.type", Value::String("linear".into()));
    tiny.metadata.insert("llama.rope.scaling.factor", Value::F32(2.0));
    let (_guard, folder) = tiny.imported(ImportDtype::F32);
    assert_eq!(json(&folder, "config.json")["rope_scaling"], serde_json::json!({"rope_type": "linear", "factor": 2.0}));

    let theta = 500_000f64;
    let divisor = |pair: usize| {
        let wavelength = std::f64::consts::TAU * theta.powf(2.0 * pair as f64 / HEAD_DIM as f64);
        match wavelength {
            short if short < 8192.0 / 4.0 => 1.0,
            long if long > 8192.0 => 32.0,
            between => {
                let smooth = (8192.0 / between - 1.0) / 3.0;
                1.0 / ((1.0 - smooth) / 32.0 + smooth)
            }
        }
    };
    let divisors: Vec<f32> = (0..HEAD_DIM / 2).map(|pair| divisor(pair) as f32).collect();
    let tensor = Tensor::from_vec(divisors, HEAD_DIM / 2, &Device::Cpu).unwrap();
    let mut tiny = Tiny::new(GgmlDType::F32);
    tiny.metadata.insert("llama.rope.freq_base", Value::F32(theta as f32));
    tiny.tensors.insert("rope_freqs.weight".into(), QTensor::quantize(&tensor, GgmlDType::F32).unwrap());
    let (_guard, folder) = tiny.imported(ImportDtype::F32);
    let scaling = &json(&folder, "config.json")["rope_scaling"];
    assert_eq!((scaling["rope_type"].as_str(), scaling["factor"].as_f64()), (Some("llama3"), Some(32.0)));

    tiny.metadata.insert("llama.rope.freq_base", Value::F32(10_000.0));
    assert!(tiny.refusal().contains("rope_freqs"));
}

#[test]
fn what_is_no_plain_llama_is_refused_by_name() {
    type Change = fn(&mut Tiny);
    let cases: [(&str, Change); 12] = [
        ("only `llama`", |tiny| drop(tiny.metadata.insert("general.architecture", Value::String("qwen2".into())))),
        ("`llama.context_length` is missing", |tiny| drop(tiny.metadata.remove("llama.context_length"))),
        ("should be a number", |tiny| drop(tiny.metadata.insert("llama.block_count", Value::F32(1.0)))),
        ("must not be 0", |tiny| drop(tiny.metadata.insert("llama.attention.head_count", Value::U32(0)))),
        ("layers are claimed", |tiny| drop(tiny.metadata.insert("llama.block_count", Value::U64(u64::MAX)))),
        ("mixture of experts", |tiny| drop(tiny.metadata.insert("llama.expert_count", Value::U32(8)))),
        ("pre-tokenizer `tekken`", |tiny| {
            drop(tiny.metadata.insert("tokenizer.ggml.pre", Value::String("tekken".into())))
        }),
        ("tokenizer kind `t5`", |tiny| drop(tiny.metadata.insert("tokenizer.ggml.model", Value::String("t5".into())))),
        ("outside the vocabulary", |tiny| drop(tiny.metadata.insert("tokenizer.ggml.eos_token_id", Value::U32(10)))),
        ("contradicts itself", |tiny| drop(tiny.metadata.insert("tokenizer.ggml.merges", texts(&["a x"])))),
        ("`blk.0.attn_q.weight` is missing", |tiny| drop(tiny.tensors.remove("blk.0.attn_q.weight"))),
        ("`extra` does not belong", |tiny| drop(tiny.tensors.insert("extra".into(), ramp(&[1], GgmlDType::F32)))),
    ];
    for (expected, change) in cases {
        let mut tiny = Tiny::new(GgmlDType::F32);
        change(&mut tiny);
        let message = tiny.refusal();
        assert!(message.contains(expected), "wanted {expected:?} in {message:?}");
    }
}

#[test]
fn an_existing_folder_is_left_alone() {
    let guard = tempfile::tempdir().unwrap();
    let error = import_gguf(Path::new("absent.gguf"), guard.path(), &ImportOptions::default()).unwrap_err();
    assert!(error.to_string().contains("already exists"), "{error}");
    let error =
        import_gguf(Path::new("absent.gguf"), &guard.path().join("new"), &ImportOptions::default()).unwrap_err();
    assert!(error.to_string().contains("absent.gguf"), "{error}");
}

/// Offset of the first tensor's data; everything before it is header.
fn header_length(bytes: &[u8]) -> usize {
    gguf_file::Content::read(&mut std::io::Cursor::new(bytes)).unwrap().tensor_data_offset as usize
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let bytes = Tiny::new(GgmlDType::Q8_0).bytes();
    let header = header_length(&bytes);
    for length in (0..header).chain((header..bytes.len()).step_by(9973)) {
        let (_guard, report) = import_bytes(&bytes[..length], &ImportOptions::default());
        assert!(report.is_err(), "cut at {length}");
    }
}

#[test]
fn sizes_at_their_limits_never_panic() {
    let bytes = Tiny::new(GgmlDType::Q8_0).bytes();
    for at in 0..header_length(&bytes) - 8 {
        for value in [0, 1, i64::MAX as u64, u64::MAX] {
            let mut broken = bytes.clone();
            broken[at..at + 8].copy_from_slice(&value.to_le_bytes());
            let file = std::io::Cursor::new(&broken);
            // Most of these stop at the header; those that pass it go through the whole import.
            if check::check_header(file, broken.len() as u64).is_ok() {
                let (_guard, report) = import_bytes(&broken, &ImportOptions::default());
                drop(report);
            }
        }
    }
}

#[test]
fn a_zero_alignment_is_refused_however_it_is_spelt() {
    for key in ["general.alignment", "general.alignment\0"] {
        let mut tiny = Tiny::new(GgmlDType::F32);
        tiny.metadata.insert(key, Value::U32(0));
        assert!(tiny.refusal().contains("power of two"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn flipped_bytes_never_panic(flips in prop::collection::vec((0usize..1400, any::<u8>()), 1..6), cut in any::<Option<u16>>()) {
        let mut bytes = Tiny::new(GgmlDType::Q8_0).bytes();
        let header = header_length(&bytes);
        for (at, value) in flips {
            bytes[at % header] = value;
        }
        bytes.truncate(cut.map_or(bytes.len(), usize::from));
        let (guard, report) = import_bytes(&bytes, &ImportOptions::default());
        if let Err(error) = report {
            prop_assert!(error.to_string().contains("tiny.gguf"), "{error}");
            prop_assert_eq!(fs::read_dir(guard.path()).unwrap().count(), 1);
        }
    }
}
