//! Weight files: the input's first line is the index (none if empty), the rest the safetensors file; any bytes are
//! weights or an error.
#![no_main]

use std::fs;
use std::sync::LazyLock;

use indicatif::ProgressBar;
use libfuzzer_sys::fuzz_target;
use pressroom::model::{Llama, LoadOptions, ModelFolder};
use tempfile::TempDir;

const CONFIG: &str = r#"{"model_type": "llama", "vocab_size": 4, "hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1,
    "num_attention_heads": 1, "tie_word_embeddings": true}"#;

static ROOM: LazyLock<TempDir> = LazyLock::new(|| {
    let room = tempfile::tempdir().expect("a temporary folder");
    fs::write(room.path().join("config.json"), CONFIG).expect("the configuration can be written");
    room
});

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(2, |&byte| byte == b'\n');
    let (line, weights) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let index = ROOM.path().join("model.safetensors.index.json");
    let _ = fs::remove_file(&index);
    if !line.is_empty() {
        fs::write(&index, line).expect("the index can be written");
    }
    fs::write(ROOM.path().join("model.safetensors"), weights).expect("the weights can be written");
    let folder = ModelFolder::read(ROOM.path()).expect("the configuration is sound");
    let options = LoadOptions { device: tch::Device::Cpu, kind: tch::Kind::Float, progress: ProgressBar::hidden() };
    let _ = Llama::load(&folder, &options);
});
