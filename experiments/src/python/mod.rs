//! What Python prints of its values: kvpress's tables and some published sets hold such text.

mod cell;
mod value;

pub use cell::{cell, texts};
pub use value::parse;

/// A text up to its closing `quote`, and what follows.
fn text(body: &str, quote: char) -> Option<(String, &str)> {
    let mut text = String::new();
    let mut chars = body.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => {
                let (at, escape) = chars.next()?;
                let digits = match escape {
                    'x' => 2,
                    'u' => 4,
                    'U' => 8,
                    _ => 0,
                };
                if digits > 0 {
                    let code = u32::from_str_radix(body.get(at + 1..at + 1 + digits)?, 16).ok()?;
                    text.push(char::from_u32(code)?);
                    chars.nth(digits - 1);
                } else {
                    text.push(match escape {
                        'n' => '\n',
                        'r' => '\r',
                        't' => '\t',
                        other => other,
                    });
                }
            }
            _ if c == quote => return Some((text, &body[at + 1..])),
            _ => text.push(c),
        }
    }
    None
}
