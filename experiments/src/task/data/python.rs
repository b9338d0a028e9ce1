//! Lists, dictionaries and texts as Python prints them.

use serde_json::{Map, Number, Value};

/// The value that `text` prints, if it is one of these.
pub(super) fn parse(text: &str) -> Option<Value> {
    let mut reader = Reader { rest: text.trim() };
    let value = reader.value(0)?;
    reader.rest.trim().is_empty().then_some(value)
}

/// Deepest nesting that is followed.
const DEPTH: usize = 64;

struct Reader<'t> {
    rest: &'t str,
}

impl Reader<'_> {
    fn eat(&mut self, token: &str) -> bool {
        self.rest = self.rest.trim_start();
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > DEPTH {
            return None;
        }
        if self.eat("[") {
            let mut items = Vec::new();
            while !self.eat("]") {
                items.push(self.value(depth + 1)?);
                if !self.eat(",") && !self.rest.trim_start().starts_with(']') {
                    return None;
                }
            }
            return Some(Value::Array(items));
        }
        if self.eat("{") {
            let mut entries = Map::new();
            while !self.eat("}") {
                let Value::String(key) = self.value(depth + 1)? else { return None };
                if !self.eat(":") {
                    return None;
                }
                entries.insert(key, self.value(depth + 1)?);
                if !self.eat(",") && !self.rest.trim_start().starts_with('}') {
                    return None;
                }
            }
            return Some(Value::Object(entries));
        }
        for (word, value) in [("None", Value::Null), ("True", true.into()), ("False", false.into())] {
            if self.eat(word) {
                return Some(value);
            }
        }
        for quote in ["'", "\""] {
            if self.eat(quote) {
                return self.text(quote.chars().next()?).map(Value::String);
            }
        }
        let length = self.rest.find(|letter: char| !(letter.is_ascii_digit() || "+-.e".contains(letter)))?;
        let (number, rest) = self.rest.split_at(length);
        self.rest = rest;
        number.parse::<Number>().ok().map(Value::Number)
    }

    /// The rest of a text up to its closing quote.
    fn text(&mut self, quote: char) -> Option<String> {
        let mut text = String::new();
        let mut letters = self.rest.char_indices();
        while let Some((_, letter)) = letters.next() {
            match letter {
                '\\' => {
                    let (_, escaped) = letters.next()?;
                    let length = match escaped {
                        'x' => 2,
                        'u' => 4,
                        'U' => 8,
                        _ => 0,
                    };
                    text.push(match escaped {
                        'n' => '\n',
                        't' => '\t',
                        'r' => '\r',
                        other if length == 0 => other,
                        _ => {
                            let digits: String = letters.by_ref().take(length).map(|(_, digit)| digit).collect();
                            char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?
                        }
                    });
                }
                end if end == quote => {
                    self.rest = letters.as_str();
                    return Some(text);
                }
                other => text.push(other),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_python_prints_is_read() {
        let text =
            r#"[{'Q': "What's it?", 'A': 'a \'b\' \\ \x41\u00e9\n', 'S': ['one', "two"], 'n': -1.5, 'x': None}, {}]"#;
        let expected = serde_json::json!([
            {"Q": "What's it?", "A": "a 'b' \\ A\u{e9}\n", "S": ["one", "two"], "n": -1.5, "x": null}, {}
        ]);
        assert_eq!(parse(text), Some(expected));
        let deep = "[".repeat(100);
        for broken in ["[", "['a'", "{'a'}", "['a' 'b']", "'a", "['\\", "[1, 2] 3", "open()", &deep] {
            assert_eq!(parse(broken), None, "{broken}");
        }
    }
}
