//! Model folders damaged in every file: an error that names the file, or a model that works; never a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use pressroom::Result;
use pressroom::model::{ChatTemplate, Llama, LoadOptions, Message, ModelFolder, TextTokenizer};
use serde_json::{Value, json};
use tch::{Device, Kind};

/// What is put in the place of a number, a name or a list.
fn odd_values() -> Vec<Value> {
    let numbers =
        [json!(0), json!(1), json!(-1), json!(i64::MAX), json!(i64::MIN), json!(u64::MAX), json!(1e308), json!(0.5)];
    let others = [json!(null), json!(true), json!(""), json!("x"), json!("../x"), json!([]), json!({}), json!([[0]])];
    numbers.into_iter().chain(others).collect()
}

/// A folder with every file that a model can have, its tokenizer of one kind of each part.
fn folder(at: &Path) {
    let gqa = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/tiny/gqa");
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(gqa.join(name), at.join(name)).unwrap();
    }
    let bytes = std::fs::read(at.join("model.safetensors")).unwrap();
    let names: Vec<String> = header(&bytes).as_object().unwrap().keys().cloned().collect();
    let map: serde_json::Map<String, Value> = names
        .into_iter()
        .filter(|name| name != "__metadata__")
        .map(|name| (name, "model.safetensors".into()))
        .collect();
    let mut vocab: serde_json::Map<String, Value> =
        ["<unk>", "<s>", "</s>"].into_iter().enumerate().map(|(id, token)| (token.to_owned(), id.into())).collect();
    for (id, letter) in ('a'..='z').chain(['Ġ', 'Ċ']).enumerate() {
        vocab.insert(letter.to_string(), (id + 3).into());
    }
    vocab.insert("ab".into(), 31.into());
    let special = json!({"id": 1, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [special],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true},
            {"type": "Split", "pattern": {"Regex": " ?[a-z]+"}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": [["a", "b"]]},
    });
    let config = json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}, "chat_template": [
        {"name": "default", "template": "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"}]});
    for (name, content) in [
        ("model.safetensors.index.json", json!({"metadata": {"total_size": 1}, "weight_map": map})),
        ("tokenizer.json", tokenizer),
        ("tokenizer_config.json", config),
        ("generation_config.json", json!({"eos_token_id": [2], "bos_token_id": 1})),
    ] {
        std::fs::write(at.join(name), content.to_string()).unwrap();
    }
}

/// The header of a safetensors file.
fn header(bytes: &[u8]) -> Value {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    serde_json::from_slice(&bytes[8..8 + length]).unwrap()
}

/// All that is read of a folder before an answer, and a short use of each.
fn read(folder: &Path) -> Result<()> {
    let model = ModelFolder::read(folder)?;
    model.generation()?;
    let tokenizer = TextTokenizer::read(folder)?;
    let mut ids = tokenizer.encode("<s>ab 12 Über\nz</s>")?;
    tokenizer.decode(&ids)?;
    tokenizer.decode(&[0, -1, 31, 63, i64::from(u32::MAX)])?;
    if let Some(template) = ChatTemplate::read(folder)? {
        template.render(&[Message::user("hello")], true)?;
    }
    let options = LoadOptions { placement: Device::Cpu.into(), kind: Kind::Float, progress: ProgressBar::hidden() };
    let model = Llama::load(&model, &options)?;
    ids.extend([1, 2, 3]);
    model.prefill(&ids, 0, &mut []).map(|_| ())
}

/// Reads a damaged folder. What is refused is told with the damaged file's name, unless the damage is only found where
/// the file's content is put to use.
fn check(folder: &Path, file: &str, what: &str) -> bool {
    let outcome = catch_unwind(AssertUnwindSafe(|| read(folder)));
    match outcome.unwrap_or_else(|_| panic!("a panic: {file}, {what}")) {
        Ok(()) => true,
        Err(error) => {
            let text = error.to_string();
            let in_use =
                ["token id", "tokenizing", "decoding", "chat template", "the weights do not fit", "No such file"];
            assert!(text.contains(file) || in_use.iter().any(|part| text.contains(part)), "{file}, {what}: {text}");
            false
        }
    }
}

/// Every place of a JSON value, as the path to it.
fn places(value: &Value, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    found.push(path.clone());
    let children: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(key, child)| (key.clone(), child)).collect(),
        Value::Array(list) => list.iter().enumerate().map(|(at, child)| (at.to_string(), child)).collect(),
        _ => Vec::new(),
    };
    // A vocabulary or a list of tensors is as good as its first entries.
    for (key, child) in children.into_iter().take(14) {
        path.push(key);
        places(child, path, found);
        path.pop();
    }
}

fn at<'a>(value: &'a mut Value, path: &[String]) -> &'a mut Value {
    path.iter().fold(value, |value, key| match value {
        Value::Array(list) => &mut list[key.parse::<usize>().unwrap()],
        other => &mut other[key.as_str()],
    })
}

/// `value` with one place taken out or replaced, for every place and every odd value.
fn damaged(value: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    places(value, &mut Vec::new(), &mut found);
    let mut all = Vec::new();
    for path in found {
        for odd in odd_values() {
            let mut changed = value.clone();
            *at(&mut changed, &path) = odd.clone();
            all.push((format!("{} is {odd}", path.join(".")), changed));
        }
        if let Some((key, parent)) = path.split_last() {
            let mut changed = value.clone();
            if let Value::Object(map) = at(&mut changed, parent) {
                map.remove(key);
                all.push((format!("{} is gone", path.join(".")), changed));
            }
        }
    }
    all
}

const JSON: [&str; 5] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "model.safetensors.index.json",
];

fn prepared() -> (tempfile::TempDir, PathBuf) {
    let room = tempfile::tempdir().unwrap();
    folder(room.path());
    let path = room.path().to_owned();
    assert!(check(&path, "", "nothing is damaged"));
    (room, path)
}

#[test]
fn json_with_any_value_out_of_place_never_panics() {
    let (_room, path) = prepared();
    for file in JSON {
        let whole = std::fs::read(path.join(file)).unwrap();
        let cases = damaged(&serde_json::from_slice(&whole).unwrap());
        assert!(cases.len() > 60, "{file}: {}", cases.len());
        let refused = cases.iter().filter(|(what, changed)| {
            std::fs::write(path.join(file), changed.to_string()).unwrap();
            !check(&path, file, what)
        });
        assert!(refused.count() > 10, "{file}");
        std::fs::write(path.join(file), whole).unwrap();
    }
}

#[test]
fn weight_headers_with_any_value_out_of_place_are_refused() {
    let (_room, path) = prepared();
    let file = path.join("model.safetensors");
    let whole = std::fs::read(&file).unwrap();
    let length = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let mut accepted = Vec::new();
    for (what, changed) in damaged(&header(&whole)) {
        let text = changed.to_string();
        let bytes = [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), &whole[8 + length..]].concat();
        std::fs::write(&file, bytes).unwrap();
        if check(&path, "model.safetensors", &what) {
            accepted.push(what);
        }
    }
    // Only what says nothing about a tensor, or what it says already, may be changed.
    accepted.retain(|what| !what.starts_with("__metadata__") && !what.contains(".data_offsets.0 is 0"));
    assert!(accepted.is_empty(), "{accepted:?}");
}

#[test]
fn files_cut_at_any_place_never_panic() {
    let (_room, path) = prepared();
    for (file, step) in JSON.iter().map(|file| (*file, 7)).chain([("model.safetensors", 997)]) {
        let whole = std::fs::read(path.join(file)).unwrap();
        // The line feed at the end of a JSON file is not missed.
        let end = whole.trim_ascii_end().len() - 1;
        for length in (0..end).step_by(step).chain([end]) {
            std::fs::write(path.join(file), &whole[..length]).unwrap();
            assert!(!check(&path, file, &format!("cut to {length} bytes")), "{file} of {length} bytes was accepted");
        }
        std::fs::write(path.join(file), whole).unwrap();
    }
}
