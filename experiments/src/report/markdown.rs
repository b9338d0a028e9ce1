//! Tables as Markdown, with links to the figures.

use std::path::Path;

use super::terminal::{at_a_glance, glance, rows};
use super::words::{LEGEND, ratio, sentences};
use super::{Comparison, Figure, Row};

/// A page of tables: `file` links to figures in `folder`.
pub fn markdown(comparisons: &[Comparison], figures: &[Vec<Figure>], file: &Path, folder: &Path) -> String {
    let base = file.parent().unwrap_or(Path::new(""));
    let link =
        |name: &str| folder.strip_prefix(base).unwrap_or(folder).join(format!("{name}.svg")).display().to_string();
    let title = file.file_stem().map(|stem| stem.to_string_lossy().replace(['-', '_'], " ")).unwrap_or_default();
    let mut page =
        format!("# {}\n\nWritten by `pressroom report`; nothing here is edited by hand.\n", capitalised(&title));
    for (table, figures) in comparisons.iter().zip(figures) {
        page += &format!("\n## {}, {}\n\n", table.conditions.model, table.conditions.regime());
        page += &sentences(table).iter().map(|sentence| format!("- {sentence}\n")).collect::<String>();
        let by_ratio = table.by_ratio();
        let header: Vec<String> = by_ratio.iter().map(|(asked, _)| ratio(*asked)).collect();
        let header: Vec<&str> = std::iter::once("press").chain(header.iter().map(String::as_str)).collect();
        let shown = |(press, rows): (String, Vec<Option<&Row>>)| {
            std::iter::once(press).chain(rows.into_iter().map(at_a_glance)).collect()
        };
        let together: Vec<Vec<String>> = glance(table).into_iter().map(shown).collect();
        if !together.is_empty() {
            page += &format!("\n{}", crate::table::table(&header, together));
        }
        for (asked, pressed) in by_ratio {
            // The uncompressed run on top of each, to compare with.
            let all: Vec<&Row> = table.baseline().into_iter().chain(pressed).collect();
            page += &format!("\n### {}\n\n{}", capitalised(&ratio(asked)), rows(table, &all));
        }
        page += "\n";
        page += &table.notes().iter().map(|(name, note)| format!("- {name}: {note}\n")).collect::<String>();
        for figure in figures {
            page += &format!("\n![{}]({})\n", figure.caption(), link(&figure.name));
        }
    }
    page += "\n## How to read it\n\n";
    page += &LEGEND.map(|(name, meaning)| format!("- {name}: {meaning}\n")).concat();
    page
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
