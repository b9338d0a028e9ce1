//! Typed reading of a TOML table that notes every mistake instead of stopping at the first.

use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};
use std::rc::Rc;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::Mistakes;
use crate::press::nearest;

/// A TOML value with its place.
pub(super) type Node<'a> = Spanned<DeValue<'a>>;

/// A key that a reader asks for, and what it takes as its value: the schema is made from these.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) required: bool,
    pub(super) takes: Takes,
}

/// What a reader takes as a key's value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Takes {
    /// The reader looks at the value itself, or only whether it is there.
    Node,
    /// Text that is not empty.
    Text,
    /// One of these texts, or one that matches the pattern.
    Choice(Vec<&'static str>, Option<&'static str>),
    /// A whole number.
    Whole(RangeInclusive<u32>),
    /// `true` or `false`.
    Flag,
    /// A table.
    Table,
}

/// Something that has a name in TOML.
pub(crate) trait Choice: FromStr<Err = crate::Error> {
    /// The names.
    fn names() -> Vec<&'static str>;
    /// Regular expression of the names that no list can hold.
    const PATTERN: Option<&'static str> = None;
}

/// A table that remembers which keys were asked for: whatever else it holds is unknown.
pub(super) struct Table<'a> {
    what: String,
    span: Range<usize>,
    entries: &'a DeTable<'a>,
    asked: Rc<RefCell<Vec<Key>>>,
    refused: Vec<&'a str>,
}

impl<'a> Table<'a> {
    /// The table at `span`; `what` names it in messages.
    pub(super) fn new(what: impl Into<String>, span: Range<usize>, entries: &'a DeTable<'a>) -> Self {
        Self { what: what.into(), span, entries, asked: Rc::default(), refused: Vec::new() }
    }

    /// `node` as a table.
    pub(super) fn of(what: impl Into<String>, node: &'a Node<'a>, mistakes: &mut Mistakes) -> Option<Self> {
        let what = what.into();
        match node.get_ref() {
            DeValue::Table(entries) => Some(Self::new(what, node.span(), entries)),
            other => {
                mistakes.add(node.span(), format!("{what} is a table, not {}", kind(other)));
                None
            }
        }
    }

    /// Where the table (of a `[section]`: its header) stands.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Where `key` stands, or the table if it has no such key.
    pub(super) fn key_span(&self, key: &str) -> Range<usize> {
        self.entries.get_key_value(key).map_or_else(|| self.span(), |(key, _)| key.span())
    }

    /// The keys that are asked for, also those that will be.
    pub(super) fn asked(&self) -> Rc<RefCell<Vec<Key>>> {
        self.asked.clone()
    }

    /// The value of `key`, which the reader takes as `takes`.
    fn ask(&mut self, key: &str, takes: Takes) -> Option<&'a Node<'a>> {
        let mut asked = self.asked.borrow_mut();
        match asked.iter_mut().find(|known| known.name == key) {
            Some(known) if takes != Takes::Node => known.takes = takes,
            Some(_) => {}
            None => asked.push(Key { name: key.to_owned(), required: false, takes }),
        }
        self.entries.get(key)
    }

    /// The value of `key`.
    pub(super) fn get(&mut self, key: &str) -> Option<&'a Node<'a>> {
        self.ask(key, Takes::Node)
    }

    /// The value of `key`, whose absence is a mistake that `help` mends.
    pub(super) fn require(&mut self, key: &str, help: &str, mistakes: &mut Mistakes) -> Option<&'a Node<'a>> {
        let node = self.get(key);
        self.asked.borrow_mut().iter_mut().filter(|known| known.name == key).for_each(|known| known.required = true);
        if node.is_none() {
            mistakes.add(self.span(), format!("{} has no `{key}`", self.what)).help(help);
        }
        node
    }

    /// The subtable `key`.
    pub(super) fn table(&mut self, key: &str, mistakes: &mut Mistakes) -> Option<Table<'a>> {
        Table::of(format!("`{key}`"), self.ask(key, Takes::Table)?, mistakes)
    }

    /// Whether the value of `key` is a table.
    pub(super) fn is_table(&self, key: &str) -> bool {
        self.entries.get(key).is_some_and(|node| matches!(node.get_ref(), DeValue::Table(_)))
    }

    /// The keys that there are.
    pub(super) fn keys(&self) -> Vec<String> {
        self.entries.iter().map(|(key, _)| key.get_ref().to_string()).collect()
    }

    /// Text that is not empty.
    pub(super) fn text(&mut self, key: &str, mistakes: &mut Mistakes) -> Option<(&'a str, Range<usize>)> {
        text(key, self.ask(key, Takes::Text)?, mistakes)
    }

    /// Text that is not empty, whose absence is a mistake that `help` mends.
    pub(super) fn required_text(
        &mut self,
        key: &str,
        help: &str,
        mistakes: &mut Mistakes,
    ) -> Option<(&'a str, Range<usize>)> {
        self.ask(key, Takes::Text);
        text(key, self.require(key, help, mistakes)?, mistakes)
    }

    /// Text that is one of `known`; `what` names the thing in messages.
    pub(super) fn one_of(
        &mut self,
        key: &str,
        what: &str,
        known: &[&'static str],
        mistakes: &mut Mistakes,
    ) -> Option<&'static str> {
        let (name, span) = text(key, self.ask(key, Takes::Choice(known.to_vec(), None))?, mistakes)?;
        let found = known.iter().find(|known| **known == name);
        if found.is_none() {
            unknown(span, &format!("{what} `{name}`"), name, known, mistakes);
        }
        found.copied()
    }

    /// Text that names one of a few things.
    pub(super) fn choice<T: Choice>(&mut self, key: &str, mistakes: &mut Mistakes) -> Option<T> {
        let (name, span) = text(key, self.ask(key, Takes::Choice(T::names(), T::PATTERN))?, mistakes)?;
        match name.parse() {
            Ok(choice) => Some(choice),
            Err(error) => {
                mistakes.add(span, error.to_string());
                None
            }
        }
    }

    /// A whole number in `range`.
    pub(super) fn whole(&mut self, key: &str, range: RangeInclusive<u32>, mistakes: &mut Mistakes) -> Option<u32> {
        let node = self.ask(key, Takes::Whole(range.clone()))?;
        let DeValue::Integer(_) = node.get_ref() else {
            mistakes.add(node.span(), format!("`{key}` is a whole number, not {}", kind(node.get_ref())));
            return None;
        };
        let value = integer(node).and_then(|value| u32::try_from(value).ok()).filter(|value| range.contains(value));
        if value.is_none() {
            mistakes.add(node.span(), format!("`{key}` is outside {} to {}", range.start(), range.end()));
        }
        value
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &str, mistakes: &mut Mistakes) -> Option<bool> {
        let node = self.ask(key, Takes::Flag)?;
        let flag = node.get_ref().as_bool();
        if flag.is_none() {
            mistakes.add(node.span(), format!("`{key}` is true or false, not {}", kind(node.get_ref())));
        }
        flag
    }

    /// Refuses `key`, which does not belong here because of `reason`.
    pub(super) fn refuse(&mut self, key: &str, reason: &str, mistakes: &mut Mistakes) {
        if let Some((key, _)) = self.entries.get_key_value(key) {
            mistakes.add(key.span(), format!("{} takes no `{}`", self.what, key.get_ref())).help(reason);
            self.refused.push(key.get_ref());
        }
    }

    /// Notes the keys that nobody asked for and nobody refused.
    pub(super) fn finish(self, mistakes: &mut Mistakes) {
        let known: Vec<String> = self.asked.borrow().iter().map(|key| key.name.clone()).collect();
        for (key, _) in self.entries {
            let name: &str = key.get_ref();
            if !known.iter().any(|known| known == name) && !self.refused.contains(&name) {
                unknown(key.span(), &format!("key `{name}` in {}", self.what), name, &known, mistakes);
            }
        }
    }
}

/// Notes an unknown name with the nearest known one and all the others.
pub(super) fn unknown<S: AsRef<str>>(span: Range<usize>, what: &str, name: &str, known: &[S], mistakes: &mut Mistakes) {
    let known: Vec<&str> = known.iter().map(AsRef::as_ref).collect();
    let mistake = mistakes.add(span, format!("unknown {what}"));
    if let Some(nearest) = nearest(name, known.iter().copied()) {
        mistake.mark(format!("did you mean `{nearest}`?"));
    }
    mistake.help(format!("known: {}", known.join(", ")));
}

/// Text that is not empty.
pub(super) fn text<'a>(key: &str, node: &'a Node<'a>, mistakes: &mut Mistakes) -> Option<(&'a str, Range<usize>)> {
    match node.get_ref() {
        DeValue::String(text) if text.is_empty() => {
            mistakes.add(node.span(), format!("`{key}` is empty"));
            None
        }
        DeValue::String(text) => Some((text, node.span())),
        other => {
            let mistake = mistakes.add(node.span(), format!("`{key}` is text, not {}", kind(other)));
            mistake.help("text stands in quotes");
            None
        }
    }
}

/// A list with something in it.
pub(super) fn list<'a>(key: &str, node: &'a Node<'a>, mistakes: &mut Mistakes) -> Option<&'a [Node<'a>]> {
    match node.get_ref() {
        DeValue::Array(items) if items.is_empty() => {
            mistakes.add(node.span(), format!("`{key}` is an empty list"));
            None
        }
        DeValue::Array(items) => Some(items),
        other => {
            mistakes
                .add(node.span(), format!("`{key}` is a list, not {}", kind(other)))
                .help("a list stands in square brackets");
            None
        }
    }
}

/// The whole number at `node`, if it is one that 64 bits hold.
pub(super) fn integer(node: &Node<'_>) -> Option<i64> {
    let integer = node.get_ref().as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// The number at `node`, if it is one.
pub(super) fn number(node: &Node<'_>) -> Option<f64> {
    match node.get_ref() {
        DeValue::Float(float) => float.as_str().parse().ok(),
        _ => integer(node).map(|whole| whole as f64),
    }
}

/// What a value is, in the words of messages.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a floating-point number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
