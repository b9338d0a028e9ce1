//! Lists of texts in a cell: `['a', 'b']`, or `['a' 'b']` of a numpy array.

use super::text;

/// The texts of a cell; a cell that is no list is one text.
pub fn texts(cell: &str) -> Vec<String> {
    list(cell.trim()).unwrap_or_else(|| vec![cell.to_owned()])
}

/// The cell of a list of texts.
pub fn cell(texts: &[String]) -> String {
    let items: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", items.join(", "))
}

fn list(cell: &str) -> Option<Vec<String>> {
    let mut rest = cell.strip_prefix('[')?.strip_suffix(']')?;
    let mut items = Vec::new();
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        let Some(first) = rest.chars().next() else { return Some(items) };
        let (item, after) = match first {
            '\'' | '"' => text(&rest[1..], first)?,
            _ => bare(rest)?,
        };
        items.push(item);
        rest = after;
    }
}

/// A number, a truth or nothing, as it is written.
fn bare(rest: &str) -> Option<(String, &str)> {
    let end = rest.find(|c: char| c.is_whitespace() || c == ',').unwrap_or(rest.len());
    let (word, after) = rest.split_at(end);
    let known = word.parse::<f64>().is_ok() || ["True", "False", "None"].contains(&word);
    known.then(|| (word.to_owned(), after))
}

fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut quoted = String::from(quote);
    for c in text.chars() {
        match c {
            '\n' => quoted += "\\n",
            '\r' => quoted += "\\r",
            '\t' => quoted += "\\t",
            '\\' => quoted += "\\\\",
            _ if c == quote => quoted.extend(['\\', c]),
            _ if u32::from(c) < 0x100 && c.is_control() => quoted += &format!("\\x{:02x}", u32::from(c)),
            _ => quoted.push(c),
        }
    }
    quoted.push(quote);
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_python_prints_is_read() {
        let cases: [(&str, &[&str]); 9] = [
            ("['40713']", &["40713"]),
            ("['Monday' 'Friday']", &["Monday", "Friday"]),
            ("['a'\n 'b']", &["a", "b"]),
            ("[\"O'Hara\", 'say \"so\"', 'it\\'s \"both\"']", &["O'Hara", "say \"so\"", "it's \"both\""]),
            ("['\\x00\\u0101\\U0001f600\\n\\\\']", &["\0ā😀\n\\"]),
            ("[7, 1.5, None]", &["7", "1.5", "None"]),
            ("[]", &[]),
            ("a plain answer", &["a plain answer"]),
            ("[not a list]", &["[not a list]"]),
        ];
        for (cell, expected) in cases {
            assert_eq!(texts(cell), expected, "{cell}");
        }
    }

    proptest! {
        #[test]
        fn lists_come_back(list in prop::collection::vec(".*|['\"\\\\\n\t\u{0}]{0,5}", 0..5)) {
            prop_assert_eq!(texts(&cell(&list)), list);
        }

        #[test]
        fn any_cell_is_read(cell in ".*|\\[['\"\\\\xuU0-9a ,]*\\]?") {
            prop_assert!(!texts(&cell).is_empty() || cell.trim().starts_with('['));
        }
    }
}
