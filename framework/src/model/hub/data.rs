//! Files of data sets on the hub.

use std::fs;
use std::path::{Path, PathBuf};

use hf_hub::RepoType;

use super::{FetchOptions, Hub, Refusal, is_word};
use crate::error::{Error, Result};

/// The files of data set `repo` (`ORG/NAME`) whose names (from the repository's root) are `wanted`, by these names and in
/// their order, fetched as [`super::fetch`] does. Without a connection, those that were fetched before.
///
/// # Errors
/// The hub cannot be reached, refuses access or does not know the data set; it has no such file; a file is not what the
/// hub says it is.
pub fn data_files(repo: &str, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<(String, PathBuf)>> {
    data_files_with(repo, wanted, &FetchOptions { progress: true, ..FetchOptions::default() })
}

pub(super) fn data_files_with(
    repo: &str,
    wanted: &dyn Fn(&str) -> bool,
    options: &FetchOptions,
) -> Result<Vec<(String, PathBuf)>> {
    let hub = Hub::new(repo, RepoType::Dataset, options)?;
    let listing = match hub.listing() {
        Err(Refusal::Unreachable(problem)) => return cached(&hub, wanted).ok_or_else(|| Error::input(problem)),
        Err(Refusal::Other(problem)) => return Err(Error::input(problem)),
        Ok(listing) => listing,
    };
    let mut files: Vec<_> = listing.siblings.iter().filter(|file| is_path(&file.name) && wanted(&file.name)).collect();
    if files.is_empty() {
        let names: Vec<&str> = listing.siblings.iter().map(|file| file.name.as_str()).take(20).collect();
        return Err(hub.bad(format!("has no file of this kind; it has {}", names.join(", "))));
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    let fetched = files.into_iter().map(|file| Ok((file.name.clone(), hub.file(&listing, file)?)));
    let fetched = fetched.collect::<Result<_>>()?;
    hub.cache_repo().create_ref(&listing.sha).map_err(Error::io(&hub.cache))?;
    Ok(fetched)
}

/// Is every part of `name` a plain name, so that it cannot lead out of the cache?
fn is_path(name: &str) -> bool {
    name.split('/').all(is_word)
}

/// Files of the revision that was fetched before, if there are any.
fn cached(hub: &Hub, wanted: &dyn Fn(&str) -> bool) -> Option<Vec<(String, PathBuf)>> {
    let folder = hub.cache.join(hub.repo.folder_name());
    let commit = fs::read_to_string(folder.join("refs").join(hub.repo.revision())).ok()?;
    let root = folder.join("snapshots").join(commit.trim());
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    let named = |path: PathBuf| Some((path.strip_prefix(&root).ok()?.to_str()?.to_owned(), path));
    let mut found: Vec<_> = paths.into_iter().filter_map(named).filter(|(name, _)| wanted(name)).collect();
    found.sort();
    if found.is_empty() {
        return None;
    }
    tracing::warn!("{} cannot be reached; using {} as fetched before", hub.endpoint, root.display());
    Some(found)
}

/// All files under `folder`; what cannot be read is left out.
fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { walk(&path, found) } else { found.push(path) }
    }
}
