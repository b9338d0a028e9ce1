//! Tables as Markdown, with links to the figures.

use std::path::Path;

use super::terminal::rows;
use super::words::{LEGEND, sentences};
use super::{Comparison, Figure};

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
        page += &format!("\n{}\n", rows(table));
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
