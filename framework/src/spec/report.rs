//! Mistakes in a TOML file, shown together with the lines they are on.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet, normalize_untrusted_str};

/// Most mistakes shown of one file; the others are counted.
const MOST_SHOWN: usize = 100;

/// A TOML text and the name it goes by in messages.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// File name, as the user gave it.
    pub file: String,
    /// The text.
    pub text: String,
}

/// One mistake or warning: what, where, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    span: Range<usize>,
    message: String,
    mark: String,
    other: Option<(Range<usize>, String)>,
    help: Option<String>,
    warning: bool,
}

impl Mistake {
    /// Text for the place the carets point at.
    pub(crate) fn mark(&mut self, text: impl Into<String>) -> &mut Self {
        self.mark = text.into();
        self
    }

    /// A second place that belongs to the mistake, and what is there.
    pub(crate) fn other(&mut self, span: Range<usize>, text: impl Into<String>) -> &mut Self {
        self.other = Some((span, text.into()));
        self
    }

    /// How to mend it.
    pub(crate) fn help(&mut self, text: impl Into<String>) -> &mut Self {
        self.help = Some(text.into());
        self
    }
}

/// Collects mistakes, so that all of them are told at once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// Adds an error at `span`, to be completed by the caller.
    pub(crate) fn add(&mut self, span: Range<usize>, message: impl Into<String>) -> &mut Mistake {
        self.push(span, message.into(), false)
    }

    /// Adds a warning.
    pub(crate) fn warn(&mut self, span: Range<usize>, message: impl Into<String>) -> &mut Mistake {
        self.push(span, message.into(), true)
    }

    fn push(&mut self, span: Range<usize>, message: String, warning: bool) -> &mut Mistake {
        let index = self.0.len();
        self.0.push(Mistake { span, message, mark: String::new(), other: None, help: None, warning });
        &mut self.0[index]
    }

    /// Number of mistakes so far.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The report of the warnings; if there are errors, the report of everything is the error.
    pub(crate) fn report(self, source: &Arc<Source>) -> Result<Report, Report> {
        let failed = self.0.iter().any(|mistake| !mistake.warning);
        let mut mistakes = self.0;
        mistakes.sort_by_key(|mistake| mistake.span.start);
        let report = Report { source: source.clone(), mistakes };
        if failed { Err(report) } else { Ok(report) }
    }
}

/// All mistakes of one file in the order of its lines. Displays as plain text; see [`Report::render`] for colours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    source: Arc<Source>,
    mistakes: Vec<Mistake>,
}

impl Report {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.mistakes.is_empty()
    }

    /// Number of mistakes and warnings.
    pub fn len(&self) -> usize {
        self.mistakes.len()
    }

    /// The text: for each mistake the place as `file:line:column`, the line with carets, and how to mend it.
    /// `colour` adds a terminal's colour codes.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let mut parts: Vec<String> =
            self.mistakes.iter().take(MOST_SHOWN).map(|mistake| self.render_one(mistake, &renderer)).collect();
        let errors = self.mistakes.iter().filter(|mistake| !mistake.warning).count();
        let file = normalize_untrusted_str(&self.source.file);
        if let Some(hidden) = self.mistakes.len().checked_sub(MOST_SHOWN).filter(|&hidden| hidden > 0) {
            parts.push(format!("and {hidden} more; {errors} mistakes in {file}"));
        } else if errors > 1 {
            parts.push(format!("{errors} mistakes in {file}"));
        }
        parts.join("\n\n")
    }

    fn render_one(&self, mistake: &Mistake, renderer: &Renderer) -> String {
        let text = self.source.text.as_str();
        let level = if mistake.warning { Level::WARNING } else { Level::ERROR };
        let mark = Some(normalize_untrusted_str(&mistake.mark)).filter(|mark| !mark.is_empty());
        let mut snippet = Snippet::source(text)
            .path(self.source.file.as_str())
            .annotation(AnnotationKind::Primary.span(within(text, &mistake.span)).label(mark));
        if let Some((span, label)) = &mistake.other {
            let label = normalize_untrusted_str(label);
            snippet = snippet.annotation(AnnotationKind::Context.span(within(text, span)).label(label));
        }
        let mut group = level.primary_title(mistake.message.as_str()).element(snippet);
        if let Some(help) = &mistake.help {
            group = group.element(Level::HELP.message(normalize_untrusted_str(help)));
        }
        renderer.render(&[group])
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

/// `span` moved onto character boundaries of `text`.
fn within(text: &str, span: &Range<usize>) -> Range<usize> {
    let floor = |index: usize| (0..=index.min(text.len())).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
    let start = floor(span.start);
    start..floor(span.end).max(start)
}
