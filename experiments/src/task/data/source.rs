//! Where the files of a published set are: in a folder, or in a repository on the hub.

use std::path::{Path, PathBuf};

use pressroom::model::hub;
use pressroom::{Error, Result};

use super::row::Row;
use super::rows;
use crate::task::{Metric, Sample, Samples};

/// Declares a task that reads a published set, by default from where it is published.
macro_rules! published {
    ($(#[doc = $doc:literal])+ $name:literal $type:ident $hub:literal) => {
        $crate::task::task! {
            $(#[doc = $doc])+
            $name $type {
                /// A folder with the set's files, one of them, or a repository of data sets on the hub (ORG/NAME).
                path: String = $hub.into(), pressroom::press::Range::ANY;
                /// Subsets; absent, all that are there.
                subset: Option<Vec<String>> = None, pressroom::press::Range::ANY;
                /// Most rows read of each subset; absent, all.
                limit: Option<usize> = None, pressroom::press::Range::closed(1.0, 1e8);
            }
        }

        impl $type {
            fn source(&self) -> $crate::task::data::source::Source<'_> {
                $crate::task::data::source::Source {
                    path: &self.path,
                    subsets: self.subset.as_deref(),
                    limit: self.limit,
                }
            }
        }
    };
}
pub(super) use published;

/// Files that a message names before it counts the others.
const NAMED: usize = 5;

/// What a task asks of a published set.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) path: &'a str,
    pub(super) subsets: Option<&'a [String]>,
    pub(super) limit: Option<usize>,
}

/// Subsets of a published set: its own description of one, by the names that files and folders have.
pub(super) trait Part {
    /// What `subset` calls it.
    fn name(&self) -> &str;

    /// Whether a file or folder of this name (without its ending) holds it.
    fn is_called(&self, name: &str) -> bool {
        self.name() == name
    }

    /// Whether a file of this name (without its ending) is of no use.
    fn leaves_out(&self, _name: &str) -> bool {
        false
    }
}

/// One of a set's tasks, as its authors ask it.
pub(super) struct Kind {
    pub(super) name: &'static str,
    /// See [`prompt`].
    pub(super) prompt: &'static str,
    pub(super) max_new_tokens: usize,
    pub(super) metric: Metric,
    /// The task that files and folders of some name hold.
    pub(super) held_by: fn(&str) -> &str,
}

impl Part for Kind {
    fn name(&self) -> &str {
        self.name
    }

    fn is_called(&self, name: &str) -> bool {
        (self.held_by)(name) == self.name
    }
}

impl Source<'_> {
    /// The samples of the subsets asked for, in the order of `parts`.
    ///
    /// # Errors
    /// There is no such subset; no file of it is there or can be fetched; a file as a whole is unreadable.
    pub(super) fn samples<P: Part>(self, parts: &[P], sample: impl Fn(&P, &Row) -> Result<Sample>) -> Result<Samples> {
        let wanted = self.wanted(parts)?;
        let files = self.files(&wanted)?;
        if let Some(unread) = self.unread(parts, &files) {
            tracing::warn!("{unread}");
        }
        let mut samples = Vec::new();
        for part in wanted {
            // A file that is named and one subset are meant for each other, whatever the file is called.
            let meant = Path::new(self.path).is_file() && self.subsets.is_some_and(|subsets| subsets.len() == 1);
            let own = files.iter().filter(|(name, _)| meant || holds(part, name));
            let mut own: Vec<&PathBuf> = own.map(|(_, file)| file).collect();
            // Where a set is there in two formats, one is read.
            let format = own.first().and_then(|file| file.extension());
            own.retain(|file| file.extension() == format);
            if own.is_empty() && self.subsets.is_some() {
                return Err(Error::file(self.path, format!("holds no file of the subset `{}`", part.name())));
            }
            let mut left = self.limit;
            for file in own {
                if left == Some(0) {
                    break;
                }
                // A file that is bad as a whole is one fault among others.
                let rows = rows(file, left).unwrap_or_else(|fault| vec![Err(fault)]);
                left = left.map(|left| left.saturating_sub(rows.len()));
                samples.extend(rows.into_iter().map(|row| sample(part, &row?)));
            }
        }
        if samples.is_empty() {
            let known: Vec<&str> = parts.iter().map(Part::name).collect();
            return Err(Error::file(
                self.path,
                format!("holds no file of a subset; they are called {}", known.join(", ")),
            ));
        }
        Ok(samples)
    }

    /// Where all subsets are asked for, which files belong to none.
    fn unread<P: Part>(&self, parts: &[P], files: &[(String, PathBuf)]) -> Option<String> {
        let unread = files.iter().filter(|(name, _)| !parts.iter().any(|part| holds(part, name)));
        let names: Vec<&str> = unread.map(|(name, _)| name.as_str()).collect();
        let more = if names.len() > NAMED { format!(" and {} more", names.len() - NAMED) } else { String::new() };
        let named = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
        (self.subsets.is_none() && !names.is_empty())
            .then(|| format!("{}: what is called after no subset is not read: {named}{more}", self.path))
    }

    fn wanted<'p, P: Part>(&self, parts: &'p [P]) -> Result<Vec<&'p P>> {
        let Some(subsets) = self.subsets else { return Ok(parts.iter().collect()) };
        let find = |name: &String| {
            parts.iter().find(|part| part.name() == name).ok_or_else(|| {
                let known: Vec<&str> = parts.iter().map(Part::name).collect();
                Error::input(format!("there is no subset `{name}`: known are {}", known.join(", ")))
            })
        };
        subsets.iter().map(find).collect()
    }

    /// Files that can be read, by their names within the place and in the order of these.
    fn files<P: Part>(&self, wanted: &[&P]) -> Result<Vec<(String, PathBuf)>> {
        let place = Path::new(self.path);
        let (root, mut files) = if place.is_file() {
            // Of one file, the folder's name counts too.
            (place.parent().and_then(Path::parent), vec![place.to_owned()])
        } else if place.is_dir() {
            let mut files = Vec::new();
            walk(place, &mut files)?;
            (Some(place), files)
        } else {
            let fits = |name: &str| readable(Path::new(name)) && wanted.iter().any(|part| holds(*part, name));
            return hub::data_files(self.path, &fits);
        };
        files.retain(|file| readable(file));
        files.sort();
        let name = |file: &Path| {
            file.strip_prefix(root.unwrap_or(Path::new(""))).unwrap_or(file).to_string_lossy().into_owned()
        };
        Ok(files.into_iter().map(|file| (name(&file), file)).collect())
    }
}

/// Whether the file, or a folder that it is in, is called as the subset is.
fn holds(part: &impl Part, name: &str) -> bool {
    let file = Path::new(name);
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let mut folders = file.parent().into_iter().flat_map(Path::iter).filter_map(|folder| folder.to_str());
    !part.leaves_out(stem) && (part.is_called(stem) || folders.any(|folder| part.is_called(folder)))
}

fn readable(file: &Path) -> bool {
    file.extension().is_some_and(|extension| ["jsonl", "json", "parquet"].iter().any(|known| extension == *known))
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        if path.is_dir() {
            walk(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// A published prompt: the text to compress, the question and how the answer begins, parted by `|`, with `{context}` and
/// `{input}` where the row's go.
pub(super) fn prompt(template: &str, context: &str, input: &str) -> (String, String, String) {
    let fill = |text: &str| {
        // What is filled in is not searched again: a context may hold anything.
        let input = |text: &str| text.split("{input}").collect::<Vec<_>>().join(input);
        text.split("{context}").map(input).collect::<Vec<_>>().join(context)
    };
    let mut parts = template.splitn(3, '|').map(fill);
    let mut next = || parts.next().unwrap_or_default();
    (next(), next(), next())
}
