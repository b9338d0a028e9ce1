//! Models (and data sets) of the Hugging Face hub (or a mirror of it): fetched into the hub's usual cache folder, and found there.
//!
//! The transfer, its resumption and the layout of the cache are `hf-hub`'s; which files a model needs, that they are
//! whole and what to do when they cannot be had is decided here.

use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};
use indicatif::ProgressBar;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use self::watch::{Pulse, watch};
use crate::error::{Error, Result};
use crate::panics::caught;

mod data;
mod watch;

pub use data::data_files;

const ENDPOINT: &str = "https://huggingface.co";
const INDEX: &str = "model.safetensors.index.json";
const WEIGHTS: &str = "model.safetensors";
const REQUIRED: [&str; 2] = ["config.json", "tokenizer.json"];
const OPTIONAL: [&str; 3] = ["tokenizer_config.json", "chat_template.jinja", "generation_config.json"];
/// A transfer that breaks off is taken up again this many times.
const RETRIES: usize = 3;
/// A hub that sends nothing for this long has stalled.
const PATIENCE: Duration = Duration::from_secs(60);

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
    /// Longest silence of the hub before a transfer is given up; a minute if none.
    pub patience: Option<Duration>,
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
/// When the name is malformed, the hub cannot be reached, falls silent, refuses access or does not know the model, when a file a Llama
/// needs is absent, or when a file is not what the hub says it is. The message says what to do.
pub fn fetch(repo: &str, options: &FetchOptions) -> Result<PathBuf> {
    let hub = Hub::new(repo, RepoType::Model, options)?;
    let listing = match hub.listing() {
        Err(Refusal::Unreachable(problem)) => return hub.cached().ok_or_else(|| Error::input(problem)),
        Err(Refusal::Other(problem)) => return Err(Error::input(problem)),
        Ok(listing) => listing,
    };
    let find = |name: &str| listing.siblings.iter().find(|file| file.name == name);
    let need = |name: &str| find(name).ok_or_else(|| hub.bad(format!("has no `{name}`, which Pressroom needs")));
    let mut folder = None;
    for name in REQUIRED {
        let config = hub.file(&listing, need(name)?)?;
        folder = folder.or_else(|| config.parent().map(Path::to_owned));
    }
    for name in OPTIONAL {
        if let Some(file) = find(name) {
            hub.file(&listing, file)?;
        }
    }
    if let Some(file) = find(WEIGHTS) {
        hub.file(&listing, file)?;
    } else if let Some(file) = find(INDEX) {
        let index = hub.file(&listing, file)?;
        for name in shards(&index)? {
            hub.file(&listing, need(&name)?)?;
        }
    } else {
        return Err(hub.bad(format!("has neither `{WEIGHTS}` nor `{INDEX}`; only safetensors weights can be read")));
    }
    // Written last: by it the model is found without a connection.
    hub.cache_repo().create_ref(&listing.sha).map_err(Error::io(&hub.cache))?;
    folder.ok_or_else(|| hub.bad("was stored outside of any folder"))
}

/// The folder of model `repo` (`ORG/NAME`, revision `main`) in the hub's cache; `None` if it was never fetched, or if
/// that is no name of a model on the hub.
///
/// # Errors
/// A file of the model is missing in the cache.
pub fn find(repo: &str) -> Result<Option<PathBuf>> {
    if is_hub_name(repo) { find_in(cache_folder(None)?, repo) } else { Ok(None) }
}

fn find_in(cache: PathBuf, repo: &str) -> Result<Option<PathBuf>> {
    let Some(folder) = snapshot(&Cache::new(cache).repo(Repo::model(repo.to_owned()))) else { return Ok(None) };
    match missing(&folder)? {
        Some(name) => {
            Err(Error::file(&folder, format!("holds no {name}; `pressroom model fetch {repo}` completes it")))
        }
        None => Ok(Some(folder)),
    }
}

/// The folder of a revision of which at least the configuration was fetched.
fn snapshot(repo: &CacheRepo) -> Option<PathBuf> {
    Some(repo.get("config.json")?.parent()?.to_owned())
}

/// A file that a model needs and `folder` does not hold.
fn missing(folder: &Path) -> Result<Option<String>> {
    let mut due: Vec<String> = REQUIRED.map(str::to_owned).into();
    match folder.join(INDEX) {
        index if index.is_file() && !folder.join(WEIGHTS).is_file() => due.extend(shards(&index)?),
        _ => due.push(WEIGHTS.into()),
    }
    Ok(due.into_iter().find(|name| !folder.join(name).is_file()))
}

/// Is `name` an `ORG/NAME`?
pub(super) fn is_hub_name(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    parts.len() == 2 && parts.iter().all(|part| is_word(part))
}

/// The cache folder of the hub, absolute because the links in it are made between absolute paths.
fn cache_folder(given: Option<&Path>) -> Result<PathBuf> {
    let folder = given
        .map(Path::to_owned)
        .or_else(|| set("HF_HUB_CACHE").map(PathBuf::from))
        .or_else(|| set("HF_HOME").map(|home| Path::new(&home).join("hub")))
        .or_else(|| env::home_dir().map(|home| home.join(".cache/huggingface/hub")))
        .ok_or_else(|| Error::input("there is no home folder to cache models in; set HF_HUB_CACHE"))?;
    std::path::absolute(&folder).map_err(Error::io(&folder))
}

/// The value of an environment variable that is not empty.
fn set(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// The file called `name` of what `place` is: a folder, or a repository on the hub (`ORG/NAME`), from which it is fetched
/// as [`fetch`] does.
///
/// # Errors
/// The folder or the repository has no such file; the hub cannot be reached or refuses access.
pub fn locate(place: &str, name: &str) -> Result<PathBuf> {
    let folder = Path::new(place);
    if folder.is_dir() {
        let path = folder.join(name);
        return if path.is_file() { Ok(path) } else { Err(Error::file(folder, format!("holds no `{name}`"))) };
    }
    let hub = Hub::new(place, RepoType::Model, &FetchOptions { progress: true, ..FetchOptions::default() })?;
    let listing = match hub.listing() {
        Err(Refusal::Unreachable(problem)) => return hub.cache_repo().get(name).ok_or_else(|| Error::input(problem)),
        Err(Refusal::Other(problem)) => return Err(Error::input(problem)),
        Ok(listing) => listing,
    };
    let file = listing.siblings.iter().find(|file| file.name == name);
    let path = hub.file(&listing, file.ok_or_else(|| hub.bad(format!("has no `{name}`")))?)?;
    hub.cache_repo().create_ref(&listing.sha).map_err(Error::io(&hub.cache))?;
    Ok(path)
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
    kind: RepoType,
    repo: Repo,
    name: String,
    endpoint: String,
    cache: PathBuf,
    patience: Duration,
    progress: bool,
}

impl Hub {
    fn new(name: &str, kind: RepoType, options: &FetchOptions) -> Result<Self> {
        if !is_hub_name(name) {
            let what = if matches!(kind, RepoType::Dataset) { "data set" } else { "model" };
            return Err(Error::input(format!("`{name}` is no name of a {what} on the hub; it should read ORG/NAME")));
        }
        let revision = options.revision.clone().unwrap_or_else(|| "main".into());
        if !revision.split('/').all(is_word) {
            return Err(Error::input(format!("`{revision}` is no revision (a branch, tag or commit)")));
        }
        let endpoint = options.endpoint.clone().or_else(|| set("HF_ENDPOINT")).unwrap_or_else(|| ENDPOINT.into());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let cache = cache_folder(options.cache.as_deref())?;
        let store = Cache::new(cache.clone());
        let token = options.token.clone().or_else(|| set("HF_TOKEN")).or_else(|| store.token());
        let api = ApiBuilder::from_cache(store)
            .with_endpoint(endpoint.clone())
            .with_token(token.map(|token| token.trim().to_owned()))
            .with_retries(RETRIES)
            .build()
            .map_err(|error| Error::input(format!("no connection can be made: {error}")))?;
        let repo = Repo::with_revision(name.to_owned(), kind, revision);
        let patience = options.patience.unwrap_or(PATIENCE);
        Ok(Self { api, kind, repo, name: name.to_owned(), endpoint, cache, patience, progress: options.progress })
    }

    fn bad(&self, problem: impl AsRef<str>) -> Error {
        Error::input(format!("{} at {} {}", self.name, self.endpoint, problem.as_ref()))
    }

    fn cache_repo(&self) -> CacheRepo {
        Cache::new(self.cache.clone()).repo(self.repo.clone())
    }

    /// The folder of this revision, if it was fetched completely before.
    fn cached(&self) -> Option<PathBuf> {
        let folder = snapshot(&self.cache_repo()).filter(|folder| matches!(missing(folder), Ok(None)))?;
        tracing::warn!("{} cannot be reached; using {} as fetched before", self.endpoint, folder.display());
        Some(folder)
    }

    fn listing(&self) -> Result<Listing, Refusal> {
        let request = self.api.repo(self.repo.clone()).info_request().query("blobs", "true");
        let listing = self.call("the list of files", move |_| {
            let answer = request.call().and_then(|mut answer| answer.body_mut().read_json::<Listing>());
            answer.map_err(|error| ApiError::RequestError(Box::new(error)))
        })?;
        if !is_word(&listing.sha) {
            return Err(Refusal::Other(format!("{} answers with the commit `{}`", self.endpoint, listing.sha)));
        }
        Ok(listing)
    }

    /// One file of the model, from the cache or the hub, checked against what the hub says of it.
    fn file(&self, listing: &Listing, file: &Sibling) -> Result<PathBuf> {
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
        let (api, name) = (self.api.clone(), file.name.clone());
        let remote = api.repo(Repo::with_revision(self.name.clone(), self.kind, listing.sha.clone()));
        let url = remote.url(&name);
        let about = self.call(&file.name, move |_| api.metadata(&url)).map_err(Refusal::into_error)?;
        // Both become names in the cache.
        if !is_word(about.etag()) || about.commit_hash() != listing.sha {
            return Err(self.bad(format!("sends unusable marks with `{}`; try again, or without a mirror", file.name)));
        }
        // A transfer that was complete but not yet in its place would be asked for bytes beyond its end.
        let part = folder.join("blobs").join(about.etag()).with_extension("part");
        if fs::metadata(&part).is_ok_and(|part| part.len() >= about.size() as u64) {
            fs::remove_file(&part).map_err(Error::io(&part))?;
        }
        let path = self.call(&file.name, move |pulse| remote.download_with_progress(&name, pulse));
        let path = path.map_err(Refusal::into_error)?;
        check(&path, file, Some(&about)).map_err(|problem| {
            let removed = forget(&path).map_or_else(|error| error.to_string(), |()| "the file was removed".into());
            self.bad(format!("sent a wrong `{}`: {problem}; {removed}, fetch again", file.name))
        })?;
        Ok(path)
    }

    /// A call to the library, which waits for ever for a silent hub, and panics on answers that no hub should give (a
    /// redirection that leads nowhere).
    fn call<T: Send + 'static>(
        &self,
        what: &str,
        call: impl FnOnce(Pulse) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let bar = self.progress.then(|| ProgressBar::new(0));
        match watch(self.patience, bar, move |pulse| caught(|| call(pulse))) {
            Some(Ok(Ok(value))) => Ok(value),
            Some(Ok(Err(error))) => Err(self.explain_api(what, &error)),
            Some(Err(_)) => Err(Refusal::Other(format!(
                "{} answers for {what} of {} in a way that cannot be followed",
                self.endpoint, self.name
            ))),
            None => Err(Refusal::Unreachable(format!(
                "{} has sent nothing for {} s while {what} of {} was fetched; what has arrived is kept, check the network \
                 and run the same command again",
                self.endpoint,
                self.patience.as_secs_f64(),
                self.name
            ))),
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
