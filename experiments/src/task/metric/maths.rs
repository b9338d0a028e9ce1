//! Mathematical answers: where they stand in a prediction, and when two of them are equal.

use super::words::first_line;

/// The content of the last `\boxed{}`, braces balanced.
pub(super) fn boxed(text: &str) -> Option<&str> {
    let start = text.rfind("boxed{")? + "boxed{".len();
    Some(&text[start..start + closing(&text[start..])?])
}

/// Where the brace that was opened before `text` closes.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 1;
    for (at, letter) in text.char_indices() {
        depth += match letter {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// Whether the prediction's answer equals `answer`. Without a box, the answer is what follows the last `answer is` or
/// `=` of the last line.
pub(super) fn right(prediction: &str, answer: &str) -> bool {
    let last = prediction.trim().rsplit('\n').next().map(first_line).unwrap_or_default();
    let stated = ["answer is", "=", ":"].iter().find_map(|mark| Some(last.rsplit_once(mark)?.1)).unwrap_or(last);
    equal(boxed(prediction).unwrap_or(stated), answer)
}

/// Whether two answers in LaTeX are equal: written the same after normalisation, equal part by part, or of equal value.
fn equal(one: &str, other: &str) -> bool {
    let (one, other) = (normalised(one), normalised(other));
    if one == other {
        return !one.is_empty();
    }
    match (parts(&one), parts(&other)) {
        (Some((around, ours)), Some((same, theirs))) if around == same && ours.len() == theirs.len() => {
            let pairwise = ours.iter().zip(&theirs).all(|(ours, theirs)| equal(ours, theirs));
            let set = around.is_empty() || around == "{}";
            pairwise || (set && ours.iter().all(|ours| theirs.iter().any(|theirs| equal(ours, theirs))))
        }
        (None, None) => equal_values(&one, &other),
        _ => false,
    }
}

/// Equal in value, with any values in the place of letters.
fn equal_values(one: &str, other: &str) -> bool {
    [0, 1].iter().all(|round| match (value(one, *round), value(other, *round)) {
        (Some(one), Some(other)) => (one - other).abs() <= 1e-9 * other.abs().max(1.0),
        _ => false,
    })
}

/// A list at the top level: its brackets and its parts.
fn parts(text: &str) -> Option<(String, Vec<&str>)> {
    let pairs = [("\\{", "\\}", "{}"), ("(", ")", "()"), ("[", "]", "[]"), ("(", "]", "(]"), ("[", ")", "[)")];
    let wrapped =
        pairs.iter().find_map(|(open, close, name)| Some((text.strip_prefix(open)?.strip_suffix(close)?, *name)));
    let (inside, around) = wrapped.unwrap_or((text, ""));
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, letter) in inside.char_indices() {
        match letter {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inside[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inside[start..]);
    (parts.len() > 1).then(|| (around.to_owned(), parts))
}

/// One spelling for what LaTeX writes in several: no spaces, units or sizes, fractions with braces.
fn normalised(text: &str) -> String {
    let mut text = text.trim().trim_end_matches('.').to_owned();
    for (from, to) in [
        ("\\dfrac", "\\frac"),
        ("\\tfrac", "\\frac"),
        ("\\left", ""),
        ("\\right", ""),
        ("^{\\circ}", ""),
        ("^\\circ", ""),
        ("\\$", ""),
        ("\\%", ""),
        ("%", ""),
        ("\\!", ""),
        ("\\,", ""),
        ("\\;", ""),
        ("\\(", ""),
        ("\\)", ""),
        ("$", ""),
        ("\u{b0}", ""),
        ("\\cdot", "*"),
        ("\\times", "*"),
        ("\\leq", "\\le"),
        ("\\geq", "\\ge"),
    ] {
        text = text.replace(from, to);
    }
    // A unit follows the number in a text of its own; a text alone is the answer.
    if let Some(unit) = text.find("\\text{ ").filter(|at| *at > 0) {
        text.truncate(unit);
    }
    for wrapper in ["\\text{", "\\mbox{", "\\textbf{", "\\mathrm{", "\\mathbf{"] {
        while let Some(start) = text.find(wrapper) {
            let Some(length) = closing(&text[start + wrapper.len()..]) else { break };
            let inside = text[start + wrapper.len()..start + wrapper.len() + length].to_owned();
            text.replace_range(start..start + wrapper.len() + length + 1, &inside);
        }
    }
    text.retain(|letter| !letter.is_whitespace());
    if let Some((left, right)) = text.split_once('=')
        && left.chars().count() <= 2
    {
        text = right.to_owned();
    }
    if is_grouped(&text) {
        text = text.replace(',', "");
    }
    text
}

/// Is it a number with commas between thousands?
fn is_grouped(text: &str) -> bool {
    let whole = text.split('.').next().unwrap_or_default().trim_start_matches('-');
    let mut groups = whole.split(',');
    let first = groups.next().unwrap_or_default();
    let numeric = |group: &str| group.bytes().all(|byte| byte.is_ascii_digit());
    let rest: Vec<&str> = groups.collect();
    !rest.is_empty()
        && (1..=3).contains(&first.len())
        && numeric(first)
        && rest.iter().all(|group| group.len() == 3 && numeric(group))
}

/// The value of an expression, `round` choosing what letters stand for; `None` for what is no arithmetic.
fn value(text: &str, round: u32) -> Option<f64> {
    // Two letters together are a word, not a product.
    let command = text.replace("\\frac", "\\").replace("\\sqrt", "\\").replace("\\pi", "\\");
    let letters: Vec<char> = command.chars().collect();
    if letters.windows(2).any(|pair| pair.iter().all(|letter| letter.is_alphabetic())) {
        return None;
    }
    let mut reader = Reader { rest: text, round };
    let value = reader.sum()?;
    (reader.rest.is_empty() && value.is_finite()).then_some(value)
}

/// Reads arithmetic in LaTeX from the left.
struct Reader<'t> {
    rest: &'t str,
    round: u32,
}

impl Reader<'_> {
    fn eat(&mut self, token: &str) -> bool {
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn sum(&mut self) -> Option<f64> {
        let negative = self.eat("-");
        let first = self.product()?;
        let mut total = if negative { -first } else { first };
        loop {
            if self.eat("+") {
                total += self.product()?;
            } else if self.eat("-") {
                total -= self.product()?;
            } else {
                return Some(total);
            }
        }
    }

    fn product(&mut self) -> Option<f64> {
        let mut total = self.power()?;
        loop {
            if self.eat("*") {
                total *= self.power()?;
            } else if self.eat("/") {
                total /= self.power()?;
            } else if self.rest.is_empty() || self.rest.starts_with(['+', '-', ')', '}', ']', ',']) {
                return Some(total);
            } else {
                total *= self.power()?;
            }
        }
    }

    fn power(&mut self) -> Option<f64> {
        let base = self.atom()?;
        if !self.eat("^") {
            return Some(base);
        }
        Some(base.powf(self.argument()?))
    }

    /// In braces, or one digit or letter.
    fn argument(&mut self) -> Option<f64> {
        if self.rest.starts_with(['{', '(', '\\']) {
            return self.atom();
        }
        let first = self.rest.chars().next()?;
        let (one, rest) = self.rest.split_at(first.len_utf8());
        self.rest = one;
        let value = self.atom()?;
        self.rest = rest;
        Some(value)
    }

    fn atom(&mut self) -> Option<f64> {
        for (open, close) in [("(", ")"), ("{", "}"), ("[", "]")] {
            if self.eat(open) {
                let value = self.sum()?;
                return self.eat(close).then_some(value);
            }
        }
        if self.eat("\\frac") {
            return Some(self.argument()? / self.argument()?);
        }
        if self.eat("\\sqrt") {
            let degree = if self.rest.starts_with('[') { self.atom()? } else { 2.0 };
            return Some(self.argument()?.powf(1.0 / degree));
        }
        if self.eat("\\pi") {
            return Some(std::f64::consts::PI);
        }
        let length =
            self.rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(self.rest.len());
        if length > 0 {
            let (number, rest) = self.rest.split_at(length);
            self.rest = rest;
            return number.parse().ok();
        }
        let letter = self.rest.chars().next().filter(|letter| letter.is_alphabetic())?;
        self.rest = &self.rest[letter.len_utf8()..];
        // Any value that no short expression happens to equal, another one in each round.
        Some(1.0 + (f64::from(u32::from(letter)) * 0.618 + f64::from(self.round) * 0.377).fract())
    }
}
