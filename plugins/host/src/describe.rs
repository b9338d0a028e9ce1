//! What a press says about itself: read, checked, and as the framework's description of a press.

use pressroom::press::PressInfo;
use pressroom_plugin_abi::{PRESSROOM_SCORER, PRESSROOM_SELECTOR, PressroomPress};
use serde::{Deserialize, Serialize};

use crate::schema;

/// A press's description as it crosses the interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// `PRESSROOM_SCORER` or `PRESSROOM_SELECTOR`.
    pub kind: u32,
    /// Name in TOML.
    pub name: String,
    /// Documentation in Markdown.
    pub doc: String,
    /// Parameters as JSON Schema.
    pub params: String,
}

impl Description {
    /// Whether it ranks (and does not decide).
    pub fn is_scorer(&self) -> bool {
        self.kind == PRESSROOM_SCORER
    }

    /// Checks the description, and that the functions of its kind are there.
    ///
    /// # Errors
    /// A sentence without its subject: what is wrong.
    pub(crate) fn check(&self, table: &PressroomPress) -> Result<(), String> {
        let name = &self.name;
        let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(letters) {
            return Err(format!("is called {name:?}; a name is small letters, digits and underscores"));
        }
        if self.doc.trim().is_empty() {
            return Err(format!("`{name}` has no documentation"));
        }
        let function = match self.kind {
            PRESSROOM_SCORER => ("score", table.score.is_some()),
            PRESSROOM_SELECTOR => ("select", table.select.is_some()),
            other => return Err(format!("`{name}` is of kind {other}, which this host does not know")),
        };
        let life = [("create", table.create.is_some()), ("destroy", table.destroy.is_some())];
        let functions = life.into_iter().chain([("needs", table.needs.is_some()), function]);
        if let Some((missing, _)) = functions.into_iter().find(|(_, there)| !there) {
            return Err(format!("`{name}` has no `{missing}`"));
        }
        self.info().map(|_| ())
    }

    /// As the framework describes a press.
    ///
    /// # Errors
    /// The parameters are not described as the interface asks.
    pub fn info(&self) -> Result<PressInfo, String> {
        let params = schema::parameters(&self.params).map_err(|problem| format!("`{}`: {problem}", self.name))?;
        Ok(schema::info(self, params))
    }
}
