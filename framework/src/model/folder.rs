//! A model folder in Hugging Face layout, and the names that lead to one.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::config::{LlamaConfig, OneOrMany};
use super::hub;
use crate::error::{Error, Result};
use crate::press::ModelFacts;

/// A folder whose `config.json` was read and checked.
#[derive(Clone, Debug)]
pub struct ModelFolder {
    path: PathBuf,
    /// What it is called where that is not its path: the `ORG/NAME` of a model of the hub.
    called: Option<String>,
    config: LlamaConfig,
}

/// What `generation_config.json` says, as far as greedy decoding needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GenerationConfig {
    /// Tokens that end an answer.
    pub eos_token_ids: Vec<i64>,
}

#[derive(Deserialize)]
struct RawGeneration {
    eos_token_id: Option<OneOrMany>,
}

impl ModelFolder {
    /// Opens the model called `name`: a path to a folder, the name of one under [`models_home`], or the `ORG/NAME` of a
    /// model of the hub that was fetched before.
    ///
    /// # Errors
    /// There is no such model (the message says how to get it), or its `config.json` is unusable.
    pub fn open(name: &str) -> Result<Self> {
        let home = models_home();
        let candidates = [PathBuf::from(name), home.join(name)];
        let named = !name.is_empty() && !name.contains('\0');
        if let Some(path) = candidates.iter().find(|path| named && path.join("config.json").is_file()) {
            return Self::read(path);
        }
        if Path::new(name).is_dir() {
            return Err(Error::file(name, "holds no config.json; a model folder in Hugging Face layout is due"));
        }
        match hub::find(name)? {
            Some(path) => Ok(Self { called: Some(name.to_owned()), ..Self::read(&path)? }),
            None => Err(Error::input(unknown_model(name, &home))),
        }
    }

    /// Reads the folder at `path`.
    ///
    /// # Errors
    /// `config.json` is missing or unusable.
    pub fn read(path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_owned(), called: None, config: LlamaConfig::read(&path.join("config.json"))? })
    }

    /// What presses may know of the model before they see a context.
    pub fn facts(&self) -> ModelFacts {
        ModelFacts::new(self.name(), self.config.geometry(), self.config.hidden_size)
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The model's name in reports: its name on the hub, or the last component of the path.
    pub fn name(&self) -> String {
        if let Some(name) = &self.called {
            return name.clone();
        }
        let resolved = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        resolved.file_name().map_or_else(|| resolved.display().to_string(), |name| name.to_string_lossy().into_owned())
    }

    /// The checked configuration.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// SHA-256 of everything that decides what the model answers to a prompt: weights, configuration and tokenizer, each
    /// with its name.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn sha256(&self) -> Result<String> {
        let entries = std::fs::read_dir(&self.path).map_err(Error::io(&self.path))?;
        let mut names: Vec<String> =
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        let decides = ["config.json", "generation_config.json", "tokenizer.json"];
        names.retain(|name| decides.contains(&name.as_str()) || name.ends_with(".safetensors"));
        names.sort();
        let mut hash = Sha256::new();
        for name in names {
            let path = self.path.join(&name);
            let mut file = File::open(&path).map_err(Error::io(&path))?;
            hash.update(format!("{name}\0{}\0", file.metadata().map_err(Error::io(&path))?.len()));
            std::io::copy(&mut file, &mut hash).map_err(Error::io(&path))?;
        }
        Ok(format!("{:x}", hash.finalize()))
    }

    /// Reads `generation_config.json`; without one, the tokens that `config.json` names end an answer.
    ///
    /// # Errors
    /// The file is there but no JSON.
    pub fn generation(&self) -> Result<GenerationConfig> {
        let path = self.path.join("generation_config.json");
        let fallback = || GenerationConfig { eos_token_ids: self.config.eos_token_ids.clone() };
        let Some(text) = read_optional(&path)? else { return Ok(fallback()) };
        let raw: RawGeneration = serde_json::from_str(&text).map_err(|error| Error::file(&path, error.to_string()))?;
        Ok(raw.eos_token_id.map_or_else(fallback, |ids| GenerationConfig { eos_token_ids: ids.0 }))
    }
}

/// Content of a file that may be absent.
pub(super) fn read_optional(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(path)(error)),
    }
}

/// Where imported and fetched models are kept: `models/` under `PRESSROOM_HOME`, or under the `.deps` folder of
/// the checkout that the executable was built in, or under the user's data folder.
pub fn models_home() -> PathBuf {
    let home = std::env::var_os("PRESSROOM_HOME").map(PathBuf::from);
    home.or_else(checkout_home).or_else(user_home).unwrap_or_default().join("models")
}

/// The `.deps` folder of the checkout that the executable was built in.
pub(crate) fn checkout_home() -> Option<PathBuf> {
    let executable = std::env::current_exe().ok()?;
    executable.ancestors().map(|folder| folder.join(".deps")).find(|deps| deps.is_dir())
}

fn user_home() -> Option<PathBuf> {
    let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    Some(data.or_else(home)?.join("pressroom"))
}

/// Names of the models under `home`, sorted.
pub fn known_models(home: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(home) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().join("config.json").is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        // An interrupted import leaves a hidden folder.
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}

fn unknown_model(name: &str, home: &Path) -> String {
    if hub::is_hub_name(name) {
        return format!(
            "there is no model `{name}`, neither as a folder nor in the hub's cache; `pressroom model fetch {name}` \
             brings it from the hub"
        );
    }
    let known = known_models(home);
    let nearest = crate::press::nearest(name, known.iter().map(String::as_str));
    let hint = match (nearest, known.is_empty()) {
        (Some(nearest), _) => format!("did you mean `{nearest}`?"),
        (None, false) => format!("known models: {}", known.join(", ")),
        (None, true) => "`pressroom model import FILE.gguf` and `pressroom model fetch ORG/NAME` bring one".into(),
    };
    format!("there is no model `{name}`, neither as a folder nor in {}; {hint}", home.display())
}
