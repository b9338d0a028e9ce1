//! Figures of a comparison: as data first, then drawn as SVG or PNG.

mod curves;
mod draw;
mod heatmap;

use pressroom::{Error, Result};

use super::words::ratio;
use super::{Comparison, Row};
use curves::{Axis, Curves};
use heatmap::Heatmap;

/// Most presses in one figure; more make more figures.
const TOGETHER: usize = 6;

/// A figure.
pub struct Figure {
    /// Its file's name, without extension.
    pub name: String,
    /// Its heading, which it shares with its neighbours.
    pub title: &'static str,
    /// What of it is shown.
    pub part: String,
    drawing: Drawing,
}

enum Drawing {
    Curves(Curves),
    Heatmap(Heatmap),
}

impl Figure {
    /// Heading and part.
    pub fn caption(&self) -> String {
        format!("{}: {}", self.title, self.part)
    }

    /// The figure as SVG text, without a background.
    ///
    /// # Errors
    /// It cannot be drawn.
    pub fn svg(&self) -> Result<String> {
        draw::svg(self, false)
    }

    /// Writes `NAME.svg` and `NAME.png` into `folder`, on white.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, folder: &std::path::Path) -> Result<()> {
        let path = folder.join(format!("{}.svg", self.name));
        std::fs::write(&path, draw::svg(self, true)?).map_err(Error::io(&path))?;
        draw::png(self, &folder.join(format!("{}.png", self.name)))
    }
}

/// All figures of a comparison.
pub fn figures(table: &Comparison) -> Vec<Figure> {
    let slug = &table.slug;
    let mut all = Vec::new();
    let presses = table.presses();
    // As few figures as hold them all, as even as possible.
    let together = presses.len().div_ceil(presses.len().div_ceil(TOGETHER).max(1)).max(1);
    let groups: Vec<&[&str]> = presses.chunks(together).collect();
    for (axis, name, title) in [
        (Axis::Ratio, "accuracy-by-ratio", "Accuracy by the fraction removed"),
        (Axis::Bytes, "accuracy-by-bytes", "Accuracy by measured cache bytes"),
        (Axis::Seconds, "time-by-ratio", "Seconds of an answer by the fraction removed"),
    ] {
        for (number, group) in groups.iter().enumerate() {
            all.push(Figure {
                name: format!(
                    "{slug}-{name}{}",
                    if groups.len() > 1 { format!("-{}", number + 1) } else { String::new() }
                ),
                title,
                part: place(number, &groups, presses.len()),
                drawing: Drawing::Curves(Curves::of(table, axis, group)),
            });
        }
    }
    for (asked, rows) in table.by_ratio() {
        let rows: Vec<&Row> = table.baseline().into_iter().chain(rows).collect();
        if let Some(heatmap) = Heatmap::of(&rows) {
            let number = asked.map_or("own".into(), |ratio| format!("{:.0}", 100.0 * ratio));
            all.push(Figure {
                name: format!("{slug}-depth-by-length-{number}"),
                title: "Accuracy by length of the context and depth of the answer in it",
                part: ratio(asked),
                drawing: Drawing::Heatmap(heatmap),
            });
        }
    }
    all
}

/// Which presses a figure of several shows.
fn place(number: usize, groups: &[&[&str]], all: usize) -> String {
    if groups.len() < 2 {
        return "all presses".into();
    }
    let first = number * groups[0].len() + 1;
    format!("presses {first} to {} of {all} by accuracy", first + groups[number].len() - 1)
}
