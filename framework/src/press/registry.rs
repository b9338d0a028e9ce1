//! The list of presses that can be named.

use std::sync::Arc;

use super::{Kind, Params, Press, PressInfo, Scored, Scorer};
use crate::error::{Error, Result};

/// A configured press, and whether wrappers can use it.
#[derive(Clone)]
pub enum Built {
    /// Usable alone and inside wrappers.
    Scorer(Arc<dyn Scorer>),
    /// Usable alone.
    Press(Arc<dyn Press>),
}

impl Built {
    /// As a press that decides.
    pub fn into_press(self) -> Arc<dyn Press> {
        match self {
            Self::Scorer(scorer) => Arc::new(Scored(scorer)),
            Self::Press(press) => press,
        }
    }
}

type Build = Box<dyn Fn(&Params, Option<Arc<dyn Scorer>>) -> Result<Built> + Send + Sync>;

/// One press of the registry: its description and how to make it.
pub struct Entry {
    info: PressInfo,
    build: Build,
}

impl Entry {
    /// A scorer, made from its parameters.
    pub fn scorer<S: Scorer + 'static>(
        info: PressInfo,
        build: impl Fn(&Params) -> Result<S> + Send + Sync + 'static,
    ) -> Self {
        Self { info, build: Box::new(move |params, _| Ok(Built::Scorer(Arc::new(build(params)?)))) }
    }

    /// A press that wraps a scorer.
    pub fn wrapper<P: Press + 'static>(
        info: PressInfo,
        build: impl Fn(&Params, Arc<dyn Scorer>) -> Result<P> + Send + Sync + 'static,
    ) -> Self {
        let name = info.name.clone();
        Self {
            info,
            build: Box::new(move |params, inner| {
                let inner = inner.ok_or_else(|| Error::input(missing_inner(&name)))?;
                Ok(Built::Press(Arc::new(build(params, inner)?)))
            }),
        }
    }

    /// Its description.
    pub fn info(&self) -> &PressInfo {
        &self.info
    }

    /// Makes the press.
    ///
    /// # Errors
    /// Bad parameters; a wrapper without a scorer, or something to wrap where nothing is wrapped.
    pub fn build(&self, params: &Params, inner: Option<Arc<dyn Scorer>>) -> Result<Built> {
        if inner.is_some() && self.info.kind != Kind::Wrapper {
            return Err(Error::input(format!("`{}` is no wrapper: it takes no `press`", self.info.name)));
        }
        (self.build)(params, inner)
    }
}

/// What a wrapper says when it has nothing to wrap.
pub fn missing_inner(name: &str) -> String {
    format!("`{name}` wraps a scorer: add `press = {{ name = \"...\" }}`")
}

/// Presses by name.
#[derive(Default)]
pub struct Registry {
    entries: Vec<Entry>,
}

impl Registry {
    /// Adds a press.
    ///
    /// # Errors
    /// The name is taken.
    pub fn add(&mut self, entry: Entry) -> Result<()> {
        if self.find(&entry.info.name).is_some() {
            return Err(Error::input(format!("there are two presses called `{}`", entry.info.name)));
        }
        self.entries.push(entry);
        Ok(())
    }

    /// The press called `name`.
    pub fn find(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.info.name == name)
    }

    /// All presses, in the order they were added.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.info.name.as_str())
    }
}

/// The known name that a mistyped one most likely meant.
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&typed.to_lowercase(), name), name))
        .filter(|(distance, name)| *distance <= 1 + name.len().max(typed.len()) / 3)
        .min()
        .map(|(_, name)| name)
}
