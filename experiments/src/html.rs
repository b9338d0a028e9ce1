//! Pages that need no network: templates that escape, and the hashes that a content security policy allows.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use minijinja::{AutoEscape, Environment, Value};
use pressroom::{Error, Result};
use sha2::{Digest, Sha256};

/// Fills a template; everything that goes in is escaped unless the template calls it safe.
///
/// # Errors
/// The template does not fit its context.
pub fn render(template: &str, context: Value) -> Result<String> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.render_str(template, context).map_err(|error| Error::input(format!("the page: {error:#}")))
}

/// As a content security policy names an inline style sheet or script.
pub fn hash(text: &str) -> String {
    format!("sha256-{}", BASE64_STANDARD.encode(Sha256::digest(text)))
}
