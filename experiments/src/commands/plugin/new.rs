//! `pressroom plugin new`: a crate with a press that builds and passes its tests at once.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use pressroom::Error;

/// The SDK beside which this program was built.
const OWN_SDK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins/sdk");

/// The files, with their places.
const FILES: [(&str, &str); 4] = [
    ("Cargo.toml", include_str!("template/Cargo.toml.txt")),
    ("src/lib.rs", include_str!("template/lib.rs.txt")),
    ("compare.toml", include_str!("template/compare.toml.txt")),
    (".gitignore", "target/\nruns/\n"),
];

/// Names that cargo refuses for this crate: words of the language, and what it depends on.
const TAKEN: [&str; 52] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn", "else",
    "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod",
    "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static", "struct", "super", "trait", "true",
    "try", "type", "typeof", "unsafe", "use", "where", "while", "test", "core", "serde", "schemars",
];

/// Writes the crate `folder`, which depends on the SDK in the folder `sdk`, and tells what to do next.
///
/// # Errors
/// The name is no crate's, the folder is there already, the SDK is not.
pub(super) fn new(folder: &Path, sdk: Option<&Path>) -> Result<String> {
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(letters) {
        bail!("`{name}` is no name for a plugin: use small letters, digits, '-' and '_'");
    }
    let press = name.replace('-', "_");
    if TAKEN.contains(&press.as_str()) || press == "pressroom_plugin" {
        bail!("`{name}` is no name for a plugin: Rust, or what the plugin is built on, has it already");
    }
    if pressroom_presses::registry()?.find(&press).is_some() {
        bail!("`{press}` is a built-in press; choose another name");
    }
    if folder.exists() {
        bail!("{} is there already; choose another name", folder.display());
    }
    let sdk = sdk.unwrap_or(Path::new(OWN_SDK));
    if !sdk.join("Cargo.toml").is_file() {
        bail!("there is no SDK at {}; name the folder plugins/sdk of Pressroom with --sdk", sdk.display());
    }
    let sdk = std::fs::canonicalize(sdk).map_err(Error::io(sdk))?;
    let library = format!("target/release/lib{press}.so");
    for (file, text) in FILES {
        let path: PathBuf = folder.join(file);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).map_err(Error::io(parent))?;
        let text = text.replace("{name}", &name).replace("{press}", &press).replace("{library}", &library);
        std::fs::write(&path, text.replace("{sdk}", &sdk.display().to_string())).map_err(Error::io(&path))?;
    }
    Ok(format!(
        "{name} is a plugin with the press `{press}`. Next, in {}:\n  cargo test\n  cargo build --release\n  \
         pressroom plugin check {library}\n  pressroom run compare.toml\n",
        folder.display()
    ))
}
