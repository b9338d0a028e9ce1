//! GGUF import: any bytes are a model folder or an error that names the file, and nothing is left behind after an error.
#![no_main]

use std::fs;
use std::sync::LazyLock;

use libfuzzer_sys::{Corpus, fuzz_target};
use pressroom::model::import::{ImportOptions, import_gguf};
use tempfile::TempDir;

static ROOM: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a temporary folder"));

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let file = ROOM.path().join("input.gguf");
    let folder = ROOM.path().join("model");
    fs::write(&file, bytes).expect("the input can be written");
    match import_gguf(&file, &folder, &ImportOptions::default()) {
        Ok(_) => fs::remove_dir_all(&folder).expect("the folder is there"),
        Err(error) => {
            assert!(error.to_string().contains("input.gguf"), "{error}");
            let left = fs::read_dir(ROOM.path()).expect("the room is there").count();
            assert_eq!(left, 1, "left behind after: {error}");
        }
    }
    Corpus::Keep
});
