//! The tokenizer of the metadata, as `tokenizer.json`, `tokenizer_config.json` and chat template.
//!
//! Follows what the GGUF says where transformers' own import departs from it: the pre-tokenizer named by
//! `tokenizer.ggml.pre`, and no begin-of-sequence token unless `tokenizer.ggml.add_bos_token` asks for one.

use serde_json::{Map, Value, json};

use super::config::SpecialIds;
use super::gguf::Gguf;
use super::spm;
use crate::error::Result;
use crate::model::TextTokenizer;

/// How Llama 3 cuts text before merging (the pattern published with its tokenizer).
const LLAMA3_SPLIT: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

/// What transformers writes where a tokenizer sets no limit of its own: int(1e30).
const NO_LENGTH_LIMIT: f64 = 1e30;

/// GGUF's kinds of tokens that are matched in the text before anything else.
const UNKNOWN: i128 = 2;
const CONTROL: i128 = 3;
const USER_DEFINED: i128 = 4;

/// The tokenizer's files.
pub(super) struct TokenizerFiles {
    pub tokenizer: Value,
    pub config: Value,
    pub chat_template: Option<String>,
}

/// Reads the tokenizer; `vocabulary` is the number of rows of the embedding.
pub(super) fn read(gguf: &Gguf, ids: &SpecialIds, vocabulary: usize) -> Result<TokenizerFiles> {
    let tokens = gguf.need("tokenizer.ggml.tokens", gguf.texts("tokenizer.ggml.tokens")?)?;
    if tokens.is_empty() || tokens.len() > vocabulary {
        return Err(gguf.bad(format!("{} tokens do not fit an embedding of {vocabulary} rows", tokens.len())));
    }
    let special = [ids.bos, ids.pad, ids.unknown].into_iter().flatten().chain(ids.eos.iter().copied());
    if let Some(id) = special.into_iter().find(|id| *id >= tokens.len()) {
        return Err(gguf.bad(format!("special token {id} is not among the {} tokens", tokens.len())));
    }
    let kind = gguf.need("tokenizer.ggml.model", gguf.text("tokenizer.ggml.model")?)?;
    let pieces = match kind {
        "gpt2" => byte_level(gguf, &tokens)?,
        "llama" => sentence_piece(gguf, &tokens, ids)?,
        other => {
            return Err(gguf.bad(format!("tokenizer kind `{other}` is not supported (gpt2 and llama are)")));
        }
    };
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens(gguf, &tokens)?,
        "normalizer": pieces.normalizer,
        "pre_tokenizer": pieces.pre_tokenizer,
        "post_processor": post_processor(gguf, &tokens, ids, pieces.adds_bos)?,
        "decoder": pieces.decoder,
        "model": pieces.model,
    });
    TextTokenizer::parse(tokenizer.to_string().as_bytes())
        .map_err(|error| gguf.bad(format!("the tokenizer's metadata contradicts itself: {error}")))?;
    let chat_template = gguf.text("tokenizer.chat_template")?.map(str::to_owned);
    let config = config(&tokens, ids, chat_template.as_deref());
    Ok(TokenizerFiles { tokenizer, config, chat_template })
}

/// The parts in which the two kinds differ.
struct Pieces {
    model: Value,
    normalizer: Value,
    pre_tokenizer: Value,
    decoder: Value,
    /// Is a begin-of-sequence token put in front where the metadata does not say?
    adds_bos: bool,
}

/// Byte-level BPE, as in GPT-2.
///
/// A byte without a token of its own is left out, as in the tokenizers these files were made from: llama.cpp's unknown
/// token is often the end-of-text token, which must not appear inside a text.
fn byte_level(gguf: &Gguf, tokens: &[&str]) -> Result<Pieces> {
    let mut merges = Vec::new();
    for merge in gguf.need("tokenizer.ggml.merges", gguf.texts("tokenizer.ggml.merges")?)? {
        let (left, right) =
            merge.split_once(' ').ok_or_else(|| gguf.bad(format!("merge `{merge}` does not name two tokens")))?;
        merges.push((left.to_owned(), right.to_owned()));
    }
    let bytes = |regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex });
    let sequence = |first: Value, regex| json!({ "type": "Sequence", "pretokenizers": [first, bytes(regex)] });
    let pre = gguf.text("tokenizer.ggml.pre")?.unwrap_or("default");
    let (pre_tokenizer, is_llama3) = match pre {
        "default" | "gpt-2" | "gpt2" => (bytes(true), false),
        "smollm" => (sequence(json!({ "type": "Digits", "individual_digits": true }), true), false),
        "llama-bpe" | "llama3" | "llama-v3" => {
            let split = json!({
                "type": "Split",
                "pattern": { "Regex": LLAMA3_SPLIT },
                "behavior": "Isolated",
                "invert": false,
            });
            (sequence(split, false), true)
        }
        other => {
            return Err(gguf.bad(format!(
                "pre-tokenizer `{other}` is not supported (default, gpt-2, smollm and llama-bpe are); \
                 take the model in Hugging Face layout instead"
            )));
        }
    };
    Ok(Pieces {
        model: bpe(tokens, merges, json!({ "byte_fallback": false, "ignore_merges": is_llama3 })),
        normalizer: Value::Null,
        pre_tokenizer,
        decoder: bytes(true),
        adds_bos: is_llama3,
    })
}

/// SentencePiece BPE with byte fallback, as in Llama 1 and 2.
fn sentence_piece(gguf: &Gguf, tokens: &[&str], ids: &SpecialIds) -> Result<Pieces> {
    let scores = gguf.need("tokenizer.ggml.scores", gguf.numbers("tokenizer.ggml.scores")?)?;
    if scores.len() != tokens.len() {
        return Err(gguf.bad(format!("{} scores for {} tokens", scores.len(), tokens.len())));
    }
    let prefix = gguf.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let space = json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" });
    let normalizers = match prefix {
        true => vec![json!({ "type": "Prepend", "prepend": "▁" }), space],
        false => vec![space],
    };
    let mut decoders = vec![
        json!({ "type": "Replace", "pattern": { "String": "▁" }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    if prefix {
        decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    let unknown = ids.unknown.map(|id| tokens[id]);
    let extra = json!({ "byte_fallback": true, "ignore_merges": false, "unk_token": unknown, "fuse_unk": true });
    Ok(Pieces {
        model: bpe(tokens, spm::merges(tokens, &scores), extra),
        normalizer: json!({ "type": "Sequence", "normalizers": normalizers }),
        pre_tokenizer: Value::Null,
        decoder: json!({ "type": "Sequence", "decoders": decoders }),
        adds_bos: true,
    })
}

fn bpe(tokens: &[&str], merges: Vec<(String, String)>, extra: Value) -> Value {
    let vocabulary: Map<String, Value> =
        tokens.iter().enumerate().map(|(id, token)| ((*token).to_owned(), id.into())).collect();
    let mut model = json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": null,
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": false,
        "vocab": vocabulary,
        "merges": merges,
    });
    if let (Value::Object(model), Value::Object(extra)) = (&mut model, extra) {
        model.extend(extra);
    }
    model
}

/// Tokens that are matched as a whole: control tokens (special, left out of decoded text) and those a user added.
fn added_tokens(gguf: &Gguf, tokens: &[&str]) -> Result<Vec<Value>> {
    let kinds = gguf.integers("tokenizer.ggml.token_type")?.unwrap_or_default();
    if !kinds.is_empty() && kinds.len() != tokens.len() {
        return Err(gguf.bad(format!("{} token types for {} tokens", kinds.len(), tokens.len())));
    }
    let matched = tokens.iter().zip(kinds).enumerate();
    let matched = matched.filter(|(_, (token, kind))| !token.is_empty() && (UNKNOWN..=USER_DEFINED).contains(kind));
    Ok(matched
        .map(|(id, (token, kind))| {
            json!({
                "id": id,
                "content": token,
                "single_word": false,
                "lstrip": false,
                "rstrip": false,
                "normalized": false,
                "special": matches!(kind, UNKNOWN | CONTROL),
            })
        })
        .collect())
}

/// Puts the begin and end tokens around a text, where the model wants them.
fn post_processor(gguf: &Gguf, tokens: &[&str], ids: &SpecialIds, adds_bos: bool) -> Result<Value> {
    let token = |key: &str, default: bool, id: Option<usize>| -> Result<Option<usize>> {
        let wanted = gguf.flag(key)?.unwrap_or(default);
        Ok(id.filter(|_| wanted))
    };
    let bos = token("tokenizer.ggml.add_bos_token", adds_bos, ids.bos)?;
    let eos = token("tokenizer.ggml.add_eos_token", false, ids.eos.first().copied())?;
    if bos.is_none() && eos.is_none() {
        return Ok(Value::Null);
    }
    let special = |id: usize, part: usize| json!({ "SpecialToken": { "id": tokens[id], "type_id": part } });
    let around = |name: &str, part: usize| {
        let text = json!({ "Sequence": { "id": name, "type_id": part } });
        let start = bos.map(|id| special(id, part));
        let end = eos.map(|id| special(id, part));
        start.into_iter().chain([text]).chain(end).collect::<Vec<_>>()
    };
    let used: Map<String, Value> = [bos, eos]
        .into_iter()
        .flatten()
        .map(|id| (tokens[id].to_owned(), json!({ "id": tokens[id], "ids": [id], "tokens": [tokens[id]] })))
        .collect();
    let pair = [around("A", 0), around("B", 1)].concat();
    Ok(json!({
        "type": "TemplateProcessing",
        "single": around("A", 0),
        "pair": pair,
        "special_tokens": used,
    }))
}

fn config(tokens: &[&str], ids: &SpecialIds, chat_template: Option<&str>) -> Value {
    let mut config = Map::new();
    let named = [("bos_token", ids.bos), ("eos_token", ids.eos.first().copied()), ("pad_token", ids.pad)];
    for (name, id) in named.into_iter().chain([("unk_token", ids.unknown)]) {
        config.insert(name.into(), id.map(|id| tokens[id]).into());
    }
    config.insert("clean_up_tokenization_spaces".into(), false.into());
    config.insert("model_max_length".into(), NO_LENGTH_LIMIT.into());
    config.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
    config.extend(chat_template.map(|template| ("chat_template".into(), template.into())));
    Value::Object(config)
}
