//! `[[plugin]]`: libraries whose presses the file names.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use super::report::{Mistakes, Source};
use super::table::Table;
use super::{repeated, syntax};
use crate::error::{Error, Result};

/// A plugin that a file asks for.
#[derive(Clone, Debug)]
pub struct PluginSpec {
    /// The library.
    pub path: PathBuf,
    /// The SHA-256 that it has to have.
    pub sha256: Option<String>,
    /// Whether it runs in a process of its own.
    pub isolated: bool,
    /// Seconds that a call of an isolated plugin may take.
    pub time_limit_s: Option<u64>,
    /// MiB of memory that an isolated plugin may take.
    pub memory_limit_mib: Option<u64>,
    span: Range<usize>,
    source: Arc<Source>,
}

impl PluginSpec {
    /// Reads the plugins of a file. They come first: without them their presses are unknown names.
    ///
    /// # Errors
    /// [`Error::Spec`] with the mistakes of the file's syntax, or of its `[[plugin]]` tables.
    pub fn read_all(text: &str, file: &str) -> Result<Vec<Self>> {
        let source = Arc::new(Source { file: file.to_owned(), text: text.to_owned() });
        let root = syntax(&source)?;
        let mut mistakes = Mistakes::default();
        let plugins = plugins(&mut Table::new("a file", 0..0, &root), &source, &mut mistakes);
        mistakes.report(&source).map_err(Error::Spec)?;
        Ok(plugins)
    }

    /// What is wrong with the plugin, shown where the file names it.
    pub fn mistake(&self, problem: impl Into<String>) -> Error {
        let mut mistakes = Mistakes::default();
        mistakes.add(self.span.clone(), problem);
        match mistakes.report(&self.source) {
            Err(report) | Ok(report) => Error::Spec(report),
        }
    }
}

/// The `[[plugin]]` tables that can be read.
pub(super) fn plugins(root: &mut Table<'_>, source: &Arc<Source>, mistakes: &mut Mistakes) -> Vec<PluginSpec> {
    let nodes = repeated(root, "plugin", mistakes).unwrap_or_default();
    nodes.iter().filter_map(|node| plugin(Table::of("[[plugin]]", node, mistakes)?, source, mistakes)).collect()
}

pub(super) fn plugin(mut table: Table<'_>, source: &Arc<Source>, mistakes: &mut Mistakes) -> Option<PluginSpec> {
    let path = table.required_text("path", "path = \"...\" is the plugin's library", mistakes);
    let sha256 = table.text("sha256", mistakes);
    if let Some((sum, span)) = &sha256
        && (sum.len() != 64 || !sum.bytes().all(|byte| byte.is_ascii_hexdigit()))
    {
        mistakes.add(span.clone(), "`sha256` is 64 hexadecimal digits");
    }
    let isolated = table.flag("isolated", mistakes);
    // Limits beside an `isolated` that could not be read are not a second mistake.
    let limited = isolated != Some(false) && table.get("isolated").is_some();
    let (mut time_limit_s, mut memory_limit_mib) = (None, None);
    if limited {
        time_limit_s = table.whole("time_limit_s", 1..=86_400, mistakes).map(u64::from);
        memory_limit_mib = table.whole("memory_limit_mib", 16..=16_777_216, mistakes).map(u64::from);
    } else {
        for key in ["time_limit_s", "memory_limit_mib"] {
            table.refuse(key, "limits need a process of its own: isolated = true", mistakes);
        }
    }
    table.finish(mistakes);
    let (path, span) = path?;
    let sha256 = sha256.map(|(sum, _)| sum.to_owned());
    let isolated = isolated.unwrap_or(false);
    Some(PluginSpec {
        path: path.into(),
        sha256,
        isolated,
        time_limit_s,
        memory_limit_mib,
        span,
        source: source.clone(),
    })
}
