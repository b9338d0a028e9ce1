//! Model folders, whole, broken and of the hub.

use std::path::{Path, PathBuf};

use pressroom::model::models_home;

use crate::support::{golden, letters, pressroom, pressroom_with, refused, refused_with, stdout};
use crate::{NEEDLE, context};

#[test]
fn model_info_predicts_sizes() {
    let folder = tempfile::tempdir().unwrap();
    let config = r#"{"model_type": "llama", "vocab_size": 128256, "hidden_size": 8192, "intermediate_size": 28672,
        "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8, "rope_theta": 500000.0,
        "max_position_embeddings": 8192}"#;
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    let info = stdout(&pressroom(&["model", "info", &folder.path().display().to_string(), "--context", "1000000"]));
    assert!(info.contains("KV cache 327.7 GB") && info.contains("70553"), "{info}");
    // 141.1 of weights, 16.9 of hidden states and tables, 4.5 of one layer, 327.7 of the cache.
    assert!(info.contains("peak 490.2 GB") && info.contains("hidden states 16.9 GB"), "{info}");
}

/// A copy of a tiny model folder with a tokenizer from the real one.
fn tiny(folder: &Path) -> PathBuf {
    let at = folder.join("tiny");
    std::fs::create_dir_all(&at).unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(golden("tiny/gqa").join(name), at.join(name)).unwrap();
    }
    let config = std::fs::read_to_string(at.join("config.json")).unwrap();
    std::fs::write(
        at.join("config.json"),
        config.replace("\"max_position_embeddings\": 32", "\"max_position_embeddings\": 4096"),
    )
    .unwrap();
    let real = models_home().join("smollm2-135m-instruct");
    for name in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
        std::fs::copy(real.join(name), at.join(name)).unwrap();
    }
    at
}

#[test]
fn broken_model_folders_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let text = context(folder.path(), NEEDLE);
    let broken = |change: &dyn Fn(&Path), expected: &[&str]| {
        let model = tiny(folder.path());
        change(&model);
        refused(&["ask", "--context", &text, "--question", "q?", "--model", &model.display().to_string()], expected);
        std::fs::remove_dir_all(model).unwrap();
    };
    let write = |name: &'static str, content: &'static str| {
        move |model: &Path| std::fs::write(model.join(name), content).unwrap()
    };
    let remove = |name: &'static str| move |model: &Path| std::fs::remove_file(model.join(name)).unwrap();
    broken(&remove("config.json"), &["holds no config.json"]);
    broken(&remove("model.safetensors"), &["model.safetensors", "No such file"]);
    broken(&remove("tokenizer.json"), &["tokenizer.json", "No such file"]);
    broken(&|_| (), &["vocabulary of 64"]);
    let untemplated = |model: &Path| {
        std::fs::remove_file(model.join("chat_template.jinja")).unwrap();
        std::fs::write(model.join("tokenizer_config.json"), "{}").unwrap();
    };
    broken(&untemplated, &["no chat template", "raw"]);
    broken(&write("config.json", "{"), &["config.json"]);
    broken(&write("config.json", r#"{"model_type": "gpt2"}"#), &["config.json"]);
    broken(&write("tokenizer.json", "{\"version\": 1}"), &["tokenizer.json", "no usable tokenizer"]);
    broken(&write("chat_template.jinja", "{% for m in messages %}"), &["chat_template.jinja", "cannot be compiled"]);
    broken(
        &write("chat_template.jinja", "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}"),
        &["does not come to an end"],
    );
    broken(&write("chat_template.jinja", "{% include 'chat' %}"), &["cannot be rendered"]);
    broken(&write("chat_template.jinja", "nothing"), &["does not show the user's message"]);
    broken(&write("model.safetensors", ""), &["model.safetensors", "no intact safetensors file"]);
    broken(
        &write("model.safetensors.index.json", r#"{"weight_map": {"a": "../../etc/passwd"}}"#),
        &["only files beside the index"],
    );
    broken(&write("model.safetensors.index.json", r#"{"weight_map": {}}"#), &["weight_map names no file"]);
    // The sizes of config.json against the weights: all differences at once.
    let config = std::fs::read_to_string(golden("tiny/gqa/config.json")).unwrap();
    let other = config
        .replace("\"vocab_size\": 64", "\"vocab_size\": 63")
        .replace("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4");
    broken(
        &|model| std::fs::write(model.join("config.json"), &other).unwrap(),
        &[
            "do not fit config.json",
            "model.embed_tokens.weight has shape [64, ",
            "model.layers.3.mlp.down_proj.weight is missing",
        ],
    );
    for (from, to) in [
        ("\"num_attention_heads\": 4", "\"num_attention_heads\": 0"),
        ("\"vocab_size\": 64", "\"vocab_size\": 9223372036854775807"),
        ("\"num_hidden_layers\": 3", "\"num_hidden_layers\": -1"),
    ] {
        let config = config.replace(from, to);
        broken(
            &|model| std::fs::write(model.join("config.json"), &config).unwrap(),
            &["config.json", "allowed is 1 to"],
        );
    }
}

#[test]
fn weight_files_cut_anywhere_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let text = context(folder.path(), NEEDLE);
    let model = tiny(folder.path());
    let whole = std::fs::read(model.join("model.safetensors")).unwrap();
    for cut in [1, 7, 8, 9, 100, 1000, whole.len() / 2, whole.len() - 1] {
        std::fs::write(model.join("model.safetensors"), &whole[..cut]).unwrap();
        refused(
            &["ask", "--context", &text, "--question", "q?", "--model", &model.display().to_string()],
            &["no intact safetensors file"],
        );
    }
    for length in [0u64, 1, u64::MAX, 1 << 40] {
        let mut bytes = whole.clone();
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        std::fs::write(model.join("model.safetensors"), bytes).unwrap();
        refused(
            &["ask", "--context", &text, "--question", "q?", "--model", &model.display().to_string()],
            &["no intact safetensors file"],
        );
    }
}

#[test]
fn a_model_of_the_hub_goes_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("hub");
    let variables = [("HF_HUB_CACHE", cache.as_path())];
    let text = context(folder.path(), "WHO KEEPS THE LIGHTHOUSE");
    let ask =
        ["ask", "--context", &text, "--question", "WHO?", "--max-new-tokens", "3", "--model", "org/name", "--json"];
    refused_with(&variables, &ask, &["no model `org/name`", "`pressroom model fetch org/name` brings it"]);
    let snapshot = cache.join("models--org--name/snapshots/0123abc");
    letters(&snapshot);
    std::fs::create_dir_all(cache.join("models--org--name/refs")).unwrap();
    std::fs::write(cache.join("models--org--name/refs/main"), "0123abc").unwrap();
    let output = pressroom_with(&variables, &ask);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["model"], &report["context_tokens"]), (&"org/name".into(), &25.into()));
    let info = stdout(&pressroom_with(&variables, &["model", "info", "org/name"]));
    assert!(info.starts_with("org/name (") && info.contains("3 layers"), "{info}");
    // A hub where nobody answers: what is there is used.
    let offline = [variables[0], ("HF_ENDPOINT", Path::new("http://127.0.0.1:1"))];
    let fetched = pressroom_with(&offline, &["model", "fetch", "org/name"]);
    assert!(stdout(&fetched).contains(&snapshot.display().to_string()), "{}", stdout(&fetched));
    refused_with(&offline, &["model", "fetch", "org/other"], &["127.0.0.1:1 cannot be reached", "check the network"]);
    std::fs::remove_file(snapshot.join("model.safetensors")).unwrap();
    refused_with(&variables, &ask, &["no model.safetensors", "`pressroom model fetch org/name` completes it"]);
}
