//! A view for the terminal, in colours or in letters.

use super::{Mark, View};

/// The view as text. Without colours, what no head keeps is dotted out, what one press alone keeps stands in `{+ +}` and
/// what the other alone keeps in `[- -]`.
pub fn text(view: &View<'_>, colors: bool) -> String {
    let record = view.record;
    let heads = view.kept.layers * view.kept.kv_heads;
    let mut out = format!(
        "sample {}, {}, question {}: {}\n{}: {:?}; right: {}\n",
        record.index,
        record.task,
        record.question,
        safe(view.stored.question.trim()),
        record.named(),
        record.prediction.trim(),
        safe(&record.answers.join(" | "))
    );
    out += &format!("{}\n", view.told());
    out += &view.overlap().map(|overlap| format!("{overlap}\n")).unwrap_or_default();
    for (token, layers) in view.carriers() {
        let kept: usize = layers.iter().sum();
        let row: String = layers.iter().map(|heads| char::from_digit(*heads as u32, 36).unwrap_or('+')).collect();
        out += &format!(
            "  {:>12} kept by {kept:>4} of {heads} heads; by layer {row}\n",
            format!("{:?}", view.stored.token(token))
        );
    }
    let what = view.layer.map_or("all layers".to_owned(), |layer| format!("layer {layer}"));
    out += &format!("\n{} ({what}):\n", if colors { legend(view) } else { plain_legend(view) });
    for token in 0..view.stored.ends.len() {
        let piece = safe(view.stored.token(token));
        out += &if colors { colored(&piece, view.mark(token)) } else { plain(&piece, view.mark(token)) };
    }
    out + "\n"
}

/// Without control characters, which could take over a terminal.
fn safe(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() && letter != '\n' && letter != '\t' { '\u{FFFD}' } else { letter })
        .collect()
}

fn style(mark: Mark) -> &'static str {
    match mark {
        Mark::Tenths(0) => "2;9",
        Mark::Tenths(1..=2) => "38;5;16;48;5;230",
        Mark::Tenths(3..=5) => "38;5;16;48;5;193",
        Mark::Tenths(6..=8) => "38;5;16;48;5;156",
        Mark::Tenths(_) => "38;5;16;48;5;77",
        Mark::Mine => "38;5;16;48;5;117",
        Mark::Theirs => "38;5;16;48;5;215",
    }
}

fn colored(piece: &str, mark: Mark) -> String {
    // Line ends stay outside, so that no colour runs to the edge of the window.
    let painted =
        |line: &str| if line.is_empty() { String::new() } else { format!("\x1b[{}m{line}\x1b[0m", style(mark)) };
    piece.split('\n').map(painted).collect::<Vec<_>>().join("\n")
}

fn plain(piece: &str, mark: Mark) -> String {
    match mark {
        Mark::Tenths(0) => piece.chars().map(|letter| if letter.is_whitespace() { letter } else { '·' }).collect(),
        Mark::Tenths(_) => piece.to_owned(),
        Mark::Mine => format!("{{+{piece}+}}"),
        Mark::Theirs => format!("[-{piece}-]"),
    }
}

fn legend(view: &View<'_>) -> String {
    let shade = |text: &str, mark| colored(text, mark);
    let mut parts = vec![
        shade("evicted in every head", Mark::Tenths(0)),
        shade("kept by few", Mark::Tenths(1)),
        shade("some", Mark::Tenths(4)),
        shade("most", Mark::Tenths(7)),
        shade("all or nearly all", Mark::Tenths(10)),
    ];
    if let Some((other, _)) = view.against {
        parts.push(shade(&format!("more by {}", view.record.named()), Mark::Mine));
        parts.push(shade(&format!("more by {}", other.named()), Mark::Theirs));
    }
    parts.join(" ")
}

fn plain_legend(view: &View<'_>) -> String {
    let against = view
        .against
        .map(|(other, _)| format!(", {{+kept more by {}+}}, [-kept more by {}-]", view.record.named(), other.named()));
    format!("dotted out: evicted in every head{}", against.unwrap_or_default())
}
