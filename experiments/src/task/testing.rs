//! What tests of tasks share.

use pressroom::model::TextTokenizer;

/// A tokenizer of one token a word or mark of punctuation.
pub(super) fn words() -> TextTokenizer {
    let folder = tempfile::tempdir().unwrap();
    let json = serde_json::json!({
        "version": "1.0",
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"},
    });
    std::fs::write(folder.path().join("tokenizer.json"), json.to_string()).unwrap();
    TextTokenizer::read(folder.path()).unwrap()
}
