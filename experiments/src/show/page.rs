//! A view as a page of its own.

use minijinja::context;
use pressroom::Result;
use serde::Serialize;

use super::{Mark, View, tenths};
use crate::html::{hash, render};

const STYLE: &str = include_str!("style.css");
const TEMPLATE: &str = include_str!("page.html");

/// Columns of the map of all layers.
const COLUMNS: usize = 160;

/// Neighbouring tokens that are drawn alike.
#[derive(Serialize)]
struct Run {
    class: String,
    text: String,
    answer: bool,
}

/// A part of a layer's row that is kept alike.
#[derive(Serialize)]
struct Bar {
    class: String,
    x: usize,
    y: usize,
    width: usize,
}

/// A token of the answer by layer.
#[derive(Serialize)]
struct Carrier {
    text: String,
    kept: usize,
    layers: Vec<(usize, String)>,
}

/// The page.
///
/// # Errors
/// The template does not fit.
pub fn page(view: &View<'_>) -> Result<String> {
    let record = view.record;
    let carriers: Vec<Carrier> =
        view.carriers().into_iter().map(|(token, layers)| carrier(view, token, &layers)).collect();
    render(
        TEMPLATE,
        context! {
            style => STYLE,
            style_hash => hash(STYLE),
            sample => record.index,
            task => record.task,
            regime => record.question.to_string(),
            question => view.stored.question.trim(),
            press => record.named(),
            prediction => record.prediction.trim(),
            right => record.answers,
            uncompressed => view.uncompressed.map(|full| full.prediction.trim()),
            told => view.told(),
            overlap => view.overlap(),
            other => view.against.map(|(other, _)| (other.named(), other.prediction.trim().to_owned())),
            layer => view.layer,
            layers => view.kept.layers,
            heads => view.kept.layers * view.kept.kv_heads,
            carriers => carriers,
            runs => runs(view),
            bars => bars(view),
            columns => COLUMNS,
        },
    )
}

fn carrier(view: &View<'_>, token: usize, layers: &[usize]) -> Carrier {
    let share = |heads: &usize| (*heads, class(Mark::Tenths(tenths(*heads as f64 / view.kept.kv_heads as f64))));
    Carrier {
        text: view.stored.token(token).to_owned(),
        kept: layers.iter().sum(),
        layers: layers.iter().map(share).collect(),
    }
}

fn class(mark: Mark) -> String {
    match mark {
        Mark::Tenths(tenths) => format!("k{tenths}"),
        Mark::Mine => "mine".into(),
        Mark::Theirs => "theirs".into(),
    }
}

fn runs(view: &View<'_>) -> Vec<Run> {
    let answer: Vec<usize> = view.carriers().into_iter().map(|(token, _)| token).collect();
    let mut runs: Vec<Run> = Vec::new();
    for token in 0..view.stored.ends.len() {
        let (class, answer) = (class(view.mark(token)), answer.contains(&token));
        let piece = view.stored.token(token);
        match runs.last_mut().filter(|last| last.class == class && last.answer == answer) {
            Some(last) => last.text += piece,
            None => runs.push(Run { class, text: piece.to_owned(), answer }),
        }
    }
    runs
}

/// Every layer's row, from the context's start to its end.
fn bars(view: &View<'_>) -> Vec<Bar> {
    let tokens = view.kept.tokens;
    let columns = COLUMNS.min(tokens.max(1));
    let mut bars: Vec<Bar> = Vec::new();
    for y in 0..view.kept.layers {
        for column in 0..columns {
            let (start, end) = (column * tokens / columns, (column + 1) * tokens / columns);
            let kept: f64 = (start..end).map(|token| view.kept.fraction(token, Some(y))).sum();
            let class = class(Mark::Tenths(tenths(kept / (end - start).max(1) as f64)));
            let (x, next) = (column * COLUMNS / columns, (column + 1) * COLUMNS / columns);
            match bars.last_mut().filter(|last| last.y == y && last.class == class) {
                Some(last) => last.width += next - x,
                None => bars.push(Bar { class, x, y, width: next - x }),
            }
        }
    }
    bars
}
