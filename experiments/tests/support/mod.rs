//! The real binary, and models and disks that are small.

#![allow(clippy::unwrap_used, dead_code, reason = "a test may panic, and not every test needs everything")]

pub mod tiny;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub fn pressroom(args: &[&str]) -> Output {
    pressroom_with(&[], args)
}

/// With environment variables.
pub fn pressroom_with(variables: &[(&str, &Path)], args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pressroom"));
    command.envs(variables.iter().copied()).args(args).stdin(Stdio::null()).output().unwrap()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Fails with a message that holds `expected`, without a panic.
pub fn refused(args: &[&str], expected: &[&str]) {
    refused_with(&[], args, expected);
}

pub fn refused_with(variables: &[(&str, &Path)], args: &[&str], expected: &[&str]) {
    let output = pressroom_with(variables, args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{args:?} succeeded");
    assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
    for part in expected {
        assert!(stderr.contains(part), "{args:?}: {part:?} is not in {stderr}");
    }
}

pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name)
}

/// A tiny model whose tokenizer knows letters and little else: fast, and its answers mean nothing.
pub fn letters(at: &Path) {
    std::fs::create_dir_all(at).unwrap();
    std::fs::copy(golden("tiny/gqa/model.safetensors"), at.join("model.safetensors")).unwrap();
    let config = std::fs::read_to_string(golden("tiny/gqa/config.json")).unwrap();
    let config = config.replace("\"max_position_embeddings\": 32", "\"max_position_embeddings\": 4096");
    std::fs::write(at.join("config.json"), config).unwrap();
    let vocab: serde_json::Map<String, serde_json::Value> = ["<unk>", "<s>", "</s>"]
        .map(str::to_owned)
        .into_iter()
        .chain((' '..='Z').map(|letter| letter.to_string()))
        .enumerate()
        .map(|(id, token)| (token, id.into()))
        .collect();
    assert!(vocab.len() <= 64);
    let tokenizer = serde_json::json!({
        "version": "1.0", "decoder": {"type": "Fuse"},
        "model": {"type": "BPE", "unk_token": "<unk>", "vocab": vocab, "merges": []},
    });
    std::fs::write(at.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    std::fs::write(at.join("chat_template.jinja"), "<{{ messages[0]['content'] }}>").unwrap();
}

/// A shell script in a mount namespace of its own, if this system lets one be made.
pub fn with_small_disk(script: &str) -> Option<Output> {
    let unshare = |script: &str| {
        Command::new("unshare").args(["--map-root-user", "--mount", "sh", "-euc", script]).stdin(Stdio::null()).output()
    };
    let probe = tempfile::tempdir().unwrap();
    let mount = format!("mount -t tmpfs -o size=64k tmpfs '{}'", probe.path().display());
    match unshare(&mount) {
        Ok(output) if output.status.success() => Some(unshare(script).unwrap()),
        Ok(output) => {
            eprintln!("skipped, no file system can be mounted: {}", String::from_utf8_lossy(&output.stderr));
            None
        }
        Err(error) => {
            eprintln!("skipped, no file system can be mounted: unshare: {error}");
            None
        }
    }
}
