//! Presses of plugins beside the built-in ones.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pressroom::press::{Entry, ParamInfo, Params, PressInfo, Registry, Value};
use pressroom::{Error, Result};
use serde_json::{Map, Value as Json};

use crate::adapter::{Backend, Plugged};
use crate::describe::Description;
use crate::file::LibraryFile;
use crate::instance::Instance;
use crate::isolation::{self, Isolated, Isolation};
use crate::library::{Library, LoadedPress};
use crate::refusal::{Reason, Refusal};

/// A library whose presses are known, and how they will run.
#[derive(Debug)]
pub struct Opened {
    /// SHA-256 of the library.
    pub sha256: String,
    /// What built it.
    pub build: String,
    /// The presses.
    pub presses: Vec<Description>,
    runs: Runs,
}

#[derive(Debug)]
enum Runs {
    Here(Vec<LoadedPress>),
    Apart(Isolation, PathBuf),
}

/// Opens the library at `path`, whose hash is `sha256` if one is given: in this process, or apart from it, in which case
/// none of its code runs here.
///
/// # Errors
/// The library cannot be used.
pub fn open(path: &Path, sha256: Option<&str>, isolation: Option<&Isolation>) -> Result<Opened, Refusal> {
    let file = LibraryFile::open(path, sha256)?;
    let (sha256, build) = (file.sha256.clone(), file.header.build.clone());
    match isolation {
        None => {
            let presses = Library::load(file)?.presses().to_vec();
            let descriptions = presses.iter().map(|press| press.description.clone()).collect();
            Ok(Opened { sha256, build, presses: descriptions, runs: Runs::Here(presses) })
        }
        Some(isolation) => {
            let presses = isolation::describe(isolation, path, &sha256);
            let refused = |failure: crate::Failure| Reason::Isolation(failure.text);
            let presses = presses.map_err(|failure| Refusal { path: path.to_owned(), reason: refused(failure) })?;
            Ok(Opened { sha256, build, presses, runs: Runs::Apart(isolation.clone(), path.to_owned()) })
        }
    }
}

/// Adds the presses of a library to `registry`.
///
/// # Errors
/// A name is taken, or a description is not what the interface asks for.
pub fn register(registry: &mut Registry, opened: Opened) -> Result<()> {
    let Opened { sha256, presses, runs, .. } = opened;
    let runs = Arc::new(runs);
    for (index, description) in presses.into_iter().enumerate() {
        let info = description.info().map_err(Error::Input)?;
        let (known, sha256, runs) = (info.clone(), sha256.clone(), runs.clone());
        let build = move |params: &Params| {
            known.check(params)?;
            let values = values(&known, params);
            let identity = identity(&known, &sha256, &values);
            Plugged::new(identity, runs.backend(index, &known.name, &sha256, &json(values).to_string())?)
        };
        registry.add(if description.is_scorer() { Entry::scorer(info, build) } else { Entry::press(info, build) })?;
    }
    Ok(())
}

impl Runs {
    /// The press at `index`, with its parameters in JSON.
    fn backend(&self, index: usize, name: &str, sha256: &str, params: &str) -> Result<Backend> {
        match self {
            Self::Here(presses) => {
                let instance = Instance::create(&presses[index], params);
                instance.map(Backend::Here).map_err(|failure| Error::Input(failure.text))
            }
            Self::Apart(isolation, path) => Ok(Backend::Apart(Isolated::new(isolation, path, sha256, name, params))),
        }
    }
}

/// Every parameter that has a value, in the order of the description.
fn values(info: &PressInfo, params: &Params) -> Vec<(String, Value)> {
    let value = |param: &ParamInfo| {
        let given = params.get(&param.name).and_then(|value| param.accept(value.clone()).ok());
        given.or_else(|| param.default.clone()).map(|value| (param.name.clone(), value))
    };
    info.params.iter().filter_map(value).collect()
}

fn json(values: Vec<(String, Value)>) -> Json {
    fn value(given: Value) -> Json {
        match given {
            Value::Integer(whole) => whole.into(),
            Value::Number(number) => number.into(),
            Value::Flag(flag) => flag.into(),
            Value::Text(text) => text.into(),
            Value::List(values) => values.into_iter().map(value).collect(),
        }
    }
    values.into_iter().map(|(name, given)| (name, value(given))).collect::<Map<_, _>>().into()
}

/// As in `rkv@3fa9c1d2(window_size=8)`: another build of a plugin is another press to results and to shared scores.
fn identity(info: &PressInfo, sha256: &str, values: &[(String, Value)]) -> String {
    let values: Vec<String> = values.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let build: String = sha256.chars().take(8).collect();
    let name = &info.name;
    if values.is_empty() { format!("{name}@{build}") } else { format!("{name}@{build}({})", values.join(", ")) }
}
