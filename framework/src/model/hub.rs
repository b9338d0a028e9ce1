//! Fetches a model from the Hugging Face hub (or a mirror of it) into the hub's usual cache folder.
//!
//! The transfer, its resumption and the layout of the cache are `hf-hub`'s; which files a model needs, that they are
//! whole and what to do when they cannot be had is decided here.

use std::env;
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Component, Path, PathBuf};

use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

const ENDPOINT: &str = "https://huggingface.co";
const INDEX: &str = "model.safetensors.index.json";
const WEIGHTS: &str = "model.safetensors";
const REQUIRED: [&str; 2] = ["config.json", "tokenizer.json"];
const OPTIONAL: [&str; 3] = ["tokenizer_config.json", "chat_template.jinja", "generation_config.json"];
/// A transfer that breaks off is taken up again this many times.
const RETRIES: usize = 3;

/// Where to fetch from and to. What is `None` comes from the environment, as with Hugging Face's own tools.
#[derive(Debug, Clone, Default)]
pub struct FetchOptions {
    /// Branch, tag or commit; `main` if none.
    pub revision: Option<String>,
    /// Access token; else `HF_TOKEN`, else the token file of the cache.
    pub token: Option<String>,
    /// Address of the hub; else `HF_ENDPOINT`, else the public hub.
    pub endpoint: Option<String>,
    /// Cache folder; else `HF_HUB_CACHE`, else `HF_HOME`/hub, else ~/.cache/huggingface/hub.
    pub cache: Option<PathBuf>,
    /// Draw progress bars on standard error (only ever drawn on a terminal).
    pub progress: bool,
}

/// The hub's description of a model: its commit and files.
#[derive(Deserialize)]
struct Listing {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    #[serde(rename = "rfilename")]
    name: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
}

/// Fetches model `repo` (`ORG/NAME`) and returns its folder. What is already in the cache is checked, not fetched again.
///
/// Without a connection, a revision that was fetched completely before is used as it is, with a warning.
///
/// # Errors
/// When the name is malformed, the hub cannot be reached, refuses access or does not know the model, when a file a Llama
/// needs is absent, or when a file is not what the hub says it is. The message says what to do.
pub fn fetch(repo: &str, options: &FetchOptions) -> Result<PathBuf> {
    let hub = Hub::new(repo, options)?;
    let listing = match hub.listing() {
        Err(Refusal::Unreachable(problem)) => return hub.cached().ok_or_else(|| Error::input(problem)),
        Err(Refusal::Other(problem)) => return Err(Error::input(problem)),
        Ok(listing) => listing,
    };
    let remote = hub.api.repo(Repo::with_revision(repo.to_owned(), RepoType::Model, listing.sha.clone()));
    let find = |name: &str| listing.siblings.iter().find(|file| file.name == name);
    let need = |name: &str| find(name).ok_or_else(|| hub.bad(format!("has no `{name}`, which Pressroom needs")));
    let mut folder = None;
    for name in REQUIRED {
        let config = hub.file(&remote, &listing, need(name)?)?;
        folder = folder.or_else(|| config.parent().map(Path::to_owned));
    }
    for name in OPTIONAL {
        if let Some(file) = find(name) {
            hub.file(&remote, &listing, file)?;
        }
    }
    if let Some(file) = find(WEIGHTS) {
        hub.file(&remote, &listing, file)?;
    } else if let Some(file) = find(INDEX) {
        let index = hub.file(&remote, &listing, file)?;
        for name in shards(&index)? {
            hub.file(&remote, &listing, need(&name)?)?;
        }
    } else {
        return Err(hub.bad(format!("has neither `{WEIGHTS}` nor `{INDEX}`; only safetensors weights can be read")));
    }
    // Written last: the mark of a complete model, by which it is found without a connection.
    hub.cache_repo().create_ref(&listing.sha).map_err(Error::io(&hub.cache))?;
    folder.ok_or_else(|| hub.bad("was stored outside of any folder"))
}

/// Fetches those files of `repo` (`ORG/NAME`) whose names `wanted` accepts, and returns their folder. Where to fetch from
/// and to comes from the environment.
///
/// # Errors
/// As [`fetch`]; or the repository has no such file.
pub fn fetch_files(repo: &str, wanted: &dyn Fn(&str) -> bool) -> Result<PathBuf> {
    let hub = Hub::new(repo, &FetchOptions::default())?;
    let listing = match hub.listing() {
        Err(Refusal::Unreachable(problem)) => return hub.cached().ok_or_else(|| Error::input(problem)),
        Err(Refusal::Other(problem)) => return Err(Error::input(problem)),
        Ok(listing) => listing,
    };
    let remote = hub.api.repo(Repo::with_revision(repo.to_owned(), RepoType::Model, listing.sha.clone()));
    let mut folder = None;
    for file in listing.siblings.iter().filter(|file| is_plain(&file.name) && wanted(&file.name)) {
        folder = hub.file(&remote, &listing, file)?.parent().map(Path::to_owned);
    }
    hub.cache_repo().create_ref(&listing.sha).map_err(Error::io(&hub.cache))?;
    folder.ok_or_else(|| hub.bad("has none of the files that are read"))
}

/// The distinct weight files that an index names, each of them a plain name.
fn shards(index: &Path) -> Result<Vec<String>> {
    let text = fs::read(index).map_err(Error::io(index))?;
    let json: Value = serde_json::from_slice(&text).map_err(|error| Error::file(index, error.to_string()))?;
    let map = json.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| Error::file(index, "has no `weight_map` from tensors to files"))?;
    let mut names = Vec::new();
    for value in map.values() {
        match value.as_str() {
            Some(name) if is_plain(name) && name.ends_with(".safetensors") => names.push(name.to_owned()),
            _ => return Err(Error::file(index, format!("names {value}, which is no safetensors file of this folder"))),
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// A file name without any folder: it cannot lead out of the cache.
fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) && is_word(name)
}

/// Only letters, digits, `.`, `_` and `-`, and no dot in front.
fn is_word(name: &str) -> bool {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    !name.is_empty() && !name.starts_with('.') && name.chars().all(allowed)
}

/// Why the hub gave nothing.
enum Refusal {
    Unreachable(String),
    Other(String),
}

impl Refusal {
    fn into_error(self) -> Error {
        match self {
            Self::Unreachable(problem) | Self::Other(problem) => Error::input(problem),
        }
    }
}

struct Hub {
    api: Api,
    repo: Repo,
    name: String,
    endpoint: String,
    cache: PathBuf,
}

impl Hub {
    fn new(name: &str, options: &FetchOptions) -> Result<Self> {
        let parts: Vec<&str> = name.split('/').collect();
        if parts.len() != 2 || !parts.iter().all(|part| is_word(part)) {
            return Err(Error::input(format!("`{name}` is no name of a model on the hub; it should read ORG/NAME")));
        }
        let revision = options.revision.clone().unwrap_or_else(|| "main".into());
        if !revision.split('/').all(is_word) {
            return Err(Error::input(format!("`{revision}` is no revision (a branch, tag or commit)")));
        }
        let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let endpoint = options.endpoint.clone().or_else(|| set("HF_ENDPOINT")).unwrap_or_else(|| ENDPOINT.into());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let cache = options
            .cache
            .clone()
            .or_else(|| set("HF_HUB_CACHE").map(PathBuf::from))
            .or_else(|| set("HF_HOME").map(|home| Path::new(&home).join("hub")))
            .or_else(|| env::home_dir().map(|home| home.join(".cache/huggingface/hub")))
            .ok_or_else(|| Error::input("there is no home folder to cache models in; set HF_HUB_CACHE"))?;
        // The links in the cache are made between absolute paths.
        let cache = std::path::absolute(&cache).map_err(Error::io(&cache))?;
        let store = Cache::new(cache.clone());
        let token = options.token.clone().or_else(|| set("HF_TOKEN")).or_else(|| store.token());
        let api = ApiBuilder::from_cache(store)
            .with_endpoint(endpoint.clone())
            .with_token(token.map(|token| token.trim().to_owned()))
            .with_progress(options.progress)
            .with_retries(RETRIES)
            .build()
            .map_err(|error| Error::input(format!("no connection can be made: {error}")))?;
        let repo = Repo::with_revision(name.to_owned(), RepoType::Model, revision);
        Ok(Self { api, repo, name: name.to_owned(), endpoint, cache })
    }

    fn bad(&self, problem: impl AsRef<str>) -> Error {
        Error::input(format!("{} at {} {}", self.name, self.endpoint, problem.as_ref()))
    }

    fn cache_repo(&self) -> hf_hub::CacheRepo {
        Cache::new(self.cache.clone()).repo(self.repo.clone())
    }

    /// The folder of this revision, if it was fetched completely before.
    fn cached(&self) -> Option<PathBuf> {
        let folder = self.cache_repo().get("config.json")?.parent()?.to_owned();
        tracing::warn!("{} cannot be reached; using {} as fetched before", self.endpoint, folder.display());
        Some(folder)
    }

    fn listing(&self) -> Result<Listing, Refusal> {
        let request = self.api.repo(self.repo.clone()).info_request().query("blobs", "true");
        let answer = request.call().and_then(|mut answer| answer.body_mut().read_json::<Listing>());
        let listing = answer.map_err(|error| self.explain("the list of files", &error))?;
        if !is_word(&listing.sha) {
            return Err(Refusal::Other(format!("{} answers with the commit `{}`", self.endpoint, listing.sha)));
        }
        Ok(listing)
    }

    /// One file of the model, from the cache or the hub, checked against what the hub says of it.
    fn file(&self, remote: &ApiRepo, listing: &Listing, file: &Sibling) -> Result<PathBuf> {
        let folder = self.cache.join(self.repo.folder_name());
        let stored = folder.join("snapshots").join(&listing.sha).join(&file.name);
        if stored.exists() {
            match check(&stored, file, None) {
                Ok(()) => return Ok(stored),
                Err(problem) => {
                    tracing::warn!("{}: {problem}; fetching it again", stored.display());
                    forget(&stored)?;
                }
            }
        }
        let about = self.guarded(&file.name, || self.api.metadata(&remote.url(&file.name)))?;
        // Both become names in the cache.
        if !is_word(about.etag()) || about.commit_hash() != listing.sha {
            return Err(self.bad(format!("sends unusable marks with `{}`; try again, or without a mirror", file.name)));
        }
        // A transfer that was complete but not yet in its place would be asked for bytes beyond its end.
        let part = folder.join("blobs").join(about.etag()).with_extension("part");
        if fs::metadata(&part).is_ok_and(|part| part.len() >= about.size() as u64) {
            fs::remove_file(&part).map_err(Error::io(&part))?;
        }
        let path = self.guarded(&file.name, || remote.download(&file.name))?;
        check(&path, file, Some(&about)).map_err(|problem| {
            let removed = forget(&path).map_or_else(|error| error.to_string(), |()| "the file was removed".into());
            self.bad(format!("sent a wrong `{}`: {problem}; {removed}, fetch again", file.name))
        })?;
        Ok(path)
    }

    /// A call to the library, which panics on answers no hub should give (a redirection that leads nowhere).
    fn guarded<T>(&self, what: &str, call: impl FnOnce() -> Result<T, ApiError>) -> Result<T> {
        match catch_unwind(AssertUnwindSafe(call)) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.explain_api(what, &error).into_error()),
            Err(_) => Err(self.bad(format!("answers for `{what}` in a way that cannot be followed"))),
        }
    }

    fn explain_api(&self, what: &str, error: &ApiError) -> Refusal {
        match error {
            ApiError::RequestError(error) => self.explain(what, error),
            ApiError::TooManyRetries(error) => self.explain_api(what, error),
            other => Refusal::Other(format!("`{what}` of {} cannot be fetched: {other}; try again", self.name)),
        }
    }

    fn explain(&self, what: &str, error: &ureq::Error) -> Refusal {
        let (name, endpoint, revision) = (&self.name, &self.endpoint, self.repo.revision());
        Refusal::Other(match error {
            ureq::Error::StatusCode(status @ (401 | 403)) => format!(
                "{endpoint} refuses access to {name} ({status}, {what}): check the name; for a private or gated model, \
                 accept its terms on its page and set HF_TOKEN to a token of your account"
            ),
            ureq::Error::StatusCode(404) => format!(
                "{endpoint} has no {what} for {name} at revision {revision} (404): check the name (ORG/NAME) and the revision"
            ),
            ureq::Error::StatusCode(status) => {
                format!("{endpoint} answers {status} for {what} of {name}; try again later")
            }
            ureq::Error::Json(error) => format!("{endpoint} sends no list of files for {name}: {error}"),
            other => {
                return Refusal::Unreachable(format!(
                    "{endpoint} cannot be reached for {what} of {name}: {other}; check the network, set HF_ENDPOINT to a \
                     mirror, or give the folder of a model instead of its name"
                ));
            }
        })
    }
}

/// Removes a file of a snapshot and the blob it links to.
fn forget(path: &Path) -> Result<()> {
    if let Ok(blob) = path.canonicalize() {
        fs::remove_file(&blob).map_err(Error::io(&blob))?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io(path)(error)),
        _ => Ok(()),
    }
}

/// Is the file as long as the hub says, and has it the sha256 that the hub keeps for large files?
fn check(path: &Path, file: &Sibling, about: Option<&hf_hub::api::sync::Metadata>) -> Result<(), String> {
    let io = |error: io::Error| error.to_string();
    let size = fs::metadata(path).map_err(io)?.len();
    for expected in file.size.into_iter().chain(about.map(|about| about.size() as u64)) {
        if size != expected {
            return Err(format!("{size} bytes instead of {expected}"));
        }
    }
    // The mark of a large file is its sha256, also where a mirror's list leaves it out.
    let mark = about.map(|about| about.etag()).filter(|mark| mark.len() == 64);
    let Some(expected) = file.lfs.as_ref().map(|lfs| lfs.sha256.as_str()).or(mark) else { return Ok(()) };
    let mut hash = Sha256::new();
    io::copy(&mut File::open(path).map_err(io)?, &mut hash).map_err(io)?;
    let got = format!("{:x}", hash.finalize());
    if !got.eq_ignore_ascii_case(expected) {
        return Err(format!("sha256 {got} instead of {expected}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
