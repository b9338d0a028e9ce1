//! The list of presses that can be named.

use std::sync::Arc;

use super::{Around, ContextPress, DecodingPress, Method, Params, Press, PressInfo, Scored, Scorer, Wrapper, Wraps};
use crate::error::{Error, Result};

/// A configured press.
#[derive(Clone)]
pub enum Built {
    /// Ranks; usable alone and inside wrappers.
    Scorer(Arc<dyn Scorer>),
    /// Decides in any other way.
    Method(Method),
}

impl Built {
    /// As something that decides.
    pub fn into_method(self) -> Method {
        match self {
            Self::Scorer(scorer) => Method::Layer(Arc::new(Scored(scorer))),
            Self::Method(method) => method,
        }
    }

    /// As a press that decides layer by layer.
    ///
    /// # Errors
    /// It decides over all layers at once, or while decoding.
    pub fn into_press(self) -> Result<Arc<dyn Press>> {
        match self.into_method() {
            Method::Layer(press) => Ok(press),
            other => Err(Error::input(format!("{} does not decide layer by layer", other.identity()))),
        }
    }

    /// As a scorer.
    ///
    /// # Errors
    /// It is none.
    pub fn into_scorer(self) -> Result<Arc<dyn Scorer>> {
        match self {
            Self::Scorer(scorer) => Ok(scorer),
            Self::Method(method) => Err(Error::input(format!("{} is no scorer", method.identity()))),
        }
    }
}

type Build = Box<dyn Fn(&Params, Vec<Built>) -> Result<Built> + Send + Sync>;

/// One press of the registry: its description and how to make it.
pub struct Entry {
    info: PressInfo,
    build: Build,
}

impl Entry {
    /// A press made from its parameters and the presses that it wraps, in the order of its description.
    pub fn new(info: PressInfo, build: impl Fn(&Params, Vec<Built>) -> Result<Built> + Send + Sync + 'static) -> Self {
        Self { info, build: Box::new(build) }
    }

    /// A scorer, made from its parameters.
    pub fn scorer<S: Scorer + 'static>(
        info: PressInfo,
        build: impl Fn(&Params) -> Result<S> + Send + Sync + 'static,
    ) -> Self {
        Self::new(info, move |params, _| Ok(Built::Scorer(Arc::new(build(params)?))))
    }

    /// A press that decides layer by layer, made from its parameters.
    pub fn press<P: Press + 'static>(
        info: PressInfo,
        build: impl Fn(&Params) -> Result<P> + Send + Sync + 'static,
    ) -> Self {
        Self::new(info, move |params, _| Ok(Built::Method(Method::Layer(Arc::new(build(params)?)))))
    }

    /// A scorer that wraps a scorer.
    pub fn scorer_around<S: Scorer + 'static>(
        info: PressInfo,
        build: impl Fn(&Params, Arc<dyn Scorer>) -> Result<S> + Send + Sync + 'static,
    ) -> Self {
        Self::new(info, move |params, mut inner| {
            Ok(Built::Scorer(Arc::new(build(params, inner.remove(0).into_scorer()?)?)))
        })
    }

    /// A wrapper of a scorer, made from its parameters.
    pub fn wrapper<W: Wrapper + 'static>(
        info: PressInfo,
        build: impl Fn(&Params) -> Result<W> + Send + Sync + 'static,
    ) -> Self {
        Self::press_around(info, move |params, scorer| Around::new(build(params)?, scorer))
    }

    /// A press that wraps a scorer.
    pub fn press_around<P: Press + 'static>(
        info: PressInfo,
        build: impl Fn(&Params, Arc<dyn Scorer>) -> Result<P> + Send + Sync + 'static,
    ) -> Self {
        Self::new(info, move |params, mut inner| {
            Ok(Built::Method(Method::Layer(Arc::new(build(params, inner.remove(0).into_scorer()?)?))))
        })
    }

    /// A press that decides over all layers at once, made from its parameters.
    pub fn context<P: ContextPress + 'static>(
        info: PressInfo,
        build: impl Fn(&Params) -> Result<P> + Send + Sync + 'static,
    ) -> Self {
        Self::new(info, move |params, _| Ok(Built::Method(Method::Context(Arc::new(build(params)?)))))
    }

    /// A press of the decoding phase around one that decides layer by layer.
    pub fn decoding_around<P: DecodingPress + 'static>(
        info: PressInfo,
        build: impl Fn(&Params, Arc<dyn Press>) -> Result<P> + Send + Sync + 'static,
    ) -> Self {
        Self::new(info, move |params, mut inner| {
            let decoding = Arc::new(build(params, inner.remove(0).into_press()?)?);
            Ok(Built::Method(Method::Phases { prefill: None, decoding }))
        })
    }

    /// Its description.
    pub fn info(&self) -> &PressInfo {
        &self.info
    }

    /// Makes the press around `inner`, one for each that its description names.
    ///
    /// # Errors
    /// Bad parameters; a press to wrap is missing, of the wrong kind, or one too many.
    pub fn build(&self, params: &Params, inner: Vec<Built>) -> Result<Built> {
        let name = &self.info.name;
        if inner.len() > self.info.wraps.len() {
            return Err(Error::input(format!("`{name}` is no wrapper of so many presses")));
        }
        if let Some(missing) = self.info.wraps.get(inner.len()) {
            return Err(Error::input(missing_inner(name, *missing)));
        }
        for (wraps, built) in self.info.wraps.iter().zip(&inner) {
            if !wraps.accepts(built) {
                return Err(Error::input(format!("`{name}` wraps a {} as its `{}`", wraps.kind, wraps.key)));
            }
        }
        (self.build)(params, inner)
    }
}

/// What a wrapper says when it has nothing to wrap.
pub fn missing_inner(name: &str, wraps: Wraps) -> String {
    format!("`{name}` wraps a {}: add `{} = {{ name = \"...\" }}`", wraps.kind, wraps.key)
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
