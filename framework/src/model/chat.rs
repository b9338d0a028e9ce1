//! Chat templates, rendered as Hugging Face renders them.

use std::path::Path;

use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::folder::read_optional;
use crate::error::{Error, Result};

/// Instructions that a template may execute: far above real templates, and a second at most.
const FUEL: u64 = 5_000_000;

/// One message of a conversation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

impl Message {
    /// A message of the user's.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: "user".into(), content: content.into() }
    }
}

/// A model's chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    special_tokens: Map<String, Value>,
    sha256: String,
}

impl ChatTemplate {
    /// Reads the template of a model folder: `chat_template.jinja`, else `chat_template` of
    /// `tokenizer_config.json`. `None` for a model without one.
    ///
    /// # Errors
    /// A file is there but broken.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let config_path = folder.join("tokenizer_config.json");
        let config: Map<String, Value> = match read_optional(&config_path)? {
            Some(text) => serde_json::from_str(&text).map_err(|error| Error::file(&config_path, error.to_string()))?,
            None => Map::new(),
        };
        let jinja_path = folder.join("chat_template.jinja");
        let (path, source) = match read_optional(&jinja_path)? {
            Some(source) => (jinja_path, source),
            None => match config.get("chat_template").and_then(default_template) {
                Some(source) => (config_path, source),
                None => return Ok(None),
            },
        };
        Self::new(source, special_tokens(&config)).map(Some).map_err(|problem| Error::file(path, problem))
    }

    /// Compiles a template. `special_tokens` are the variables such as `bos_token`.
    ///
    /// # Errors
    /// A sentence with the line of the template's mistake.
    pub fn new(source: String, special_tokens: Map<String, Value>) -> Result<Self, String> {
        let special = Value::Object(special_tokens.clone()).to_string();
        let sha256 = format!("{:x}", Sha256::new().chain_update(&source).chain_update(special).finalize());
        let mut environment = Environment::new();
        // What transformers sets: block lines leave no trace, and Python's string methods exist.
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_undefined_behavior(UndefinedBehavior::Chainable);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(100);
        environment.add_function("raise_exception", |message: String| -> Result<String, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment
            .add_template_owned("chat", source)
            .map_err(|error| format!("the chat template cannot be compiled: {error}"))?;
        Ok(Self { environment, special_tokens, sha256 })
    }

    /// SHA-256 of the template's source and its variables: equal ones render equally.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Renders a conversation.
    ///
    /// # Errors
    /// The template refuses the messages, is endless, or has a mistake.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let mut context = self.special_tokens.clone();
        let messages = serde_json::to_value(messages).map_err(|error| Error::input(error.to_string()))?;
        context.insert("messages".into(), messages);
        context.insert("add_generation_prompt".into(), add_generation_prompt.into());
        let template = self.environment.get_template("chat").map_err(|error| Error::input(error.to_string()))?;
        template.render(context).map_err(|error| {
            let problem = match error.kind() {
                ErrorKind::OutOfFuel => "it does not come to an end".to_owned(),
                _ => error.to_string(),
            };
            Error::input(format!("the chat template cannot be rendered: {problem}"))
        })
    }
}

/// `chat_template` as one string, or the `default` of a list of named templates.
fn default_template(value: &Value) -> Option<String> {
    match value {
        Value::String(source) => Some(source.clone()),
        Value::Array(named) => named
            .iter()
            .find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"))
            .and_then(|entry| entry.get("template")?.as_str().map(str::to_owned)),
        _ => None,
    }
}

/// Variables such as `bos_token`, each a string or an object with `content`.
fn special_tokens(config: &Map<String, Value>) -> Map<String, Value> {
    ["bos_token", "eos_token", "unk_token", "pad_token"]
        .into_iter()
        .filter_map(|name| {
            let value = config.get(name)?;
            let text = value.as_str().or_else(|| value.get("content")?.as_str())?;
            Some((name.to_owned(), Value::from(text)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str) -> Result<String> {
        ChatTemplate::new(source.into(), Map::new())
            .map_err(Error::Input)?
            .render(&[Message::user("hello"), Message::user(" twice ")], true)
    }

    #[test]
    fn python_string_methods_and_trimmed_blocks() {
        let text = render("{% for m in messages %}\n{{ m['content'].strip() }};{% endfor %}\n{{ bos_token }}").unwrap();
        assert_eq!(text, "hello;twice;");
    }

    #[test]
    fn endless_templates_end() {
        let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{{ a * b }}{% endfor %}{% endfor %}";
        assert!(render(endless).unwrap_err().to_string().contains("does not come to an end"));
    }

    #[test]
    fn cyclic_templates_end() {
        for cyclic in
            ["{% include 'chat' %}", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{% extends 'chat' %}"]
        {
            assert!(render(cyclic).is_err(), "{cyclic}");
        }
    }

    #[test]
    fn a_template_can_refuse() {
        let error = render("{{ raise_exception('roles must alternate') }}").unwrap_err().to_string();
        assert!(error.contains("roles must alternate"), "{error}");
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let error = ChatTemplate::new("a\n{% for %}".into(), Map::new()).unwrap_err();
        assert!(error.contains("chat:2"), "{error}");
    }
}
