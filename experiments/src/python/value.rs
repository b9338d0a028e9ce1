//! Lists, dictionaries and texts in one another.

use serde_json::{Map, Number, Value};

use super::text;

/// The value that `text` prints, if it is one of these.
pub fn parse(text: &str) -> Option<Value> {
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
        for (token, quote) in [("'", '\''), ("\"", '"')] {
            if self.eat(token) {
                let (text, rest) = text(self.rest, quote)?;
                self.rest = rest;
                return Some(Value::String(text));
            }
        }
        let length = self.rest.find(|letter: char| !(letter.is_ascii_digit() || "+-.e".contains(letter)))?;
        let (number, rest) = self.rest.split_at(length);
        self.rest = rest;
        number.parse::<Number>().ok().map(Value::Number)
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
