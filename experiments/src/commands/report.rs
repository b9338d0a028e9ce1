//! `pressroom report`: what runs found, as a page, as figures and as Markdown.

use anyhow::Result;
use pressroom::Error;

use super::print;
use crate::cli::ReportArgs;
use crate::report::{Figure, Run, compare, figures, markdown, page, terminal};

/// Runs `report`.
///
/// # Errors
/// A folder is no run's, or a file cannot be written.
pub fn report(args: &ReportArgs) -> Result<()> {
    let runs = args.runs.iter().map(|path| Run::read(path)).collect::<Result<Vec<_>, _>>()?;
    let comparisons = compare(&runs);
    let drawn: Vec<Vec<Figure>> = comparisons.iter().map(figures).collect();
    std::fs::create_dir_all(&args.output).map_err(Error::io(&args.output))?;
    for figure in drawn.iter().flatten() {
        figure.write(&args.output)?;
    }
    let path = args.output.join("index.html");
    std::fs::write(&path, page(&runs, &comparisons, &drawn)?).map_err(Error::io(&path))?;
    if let Some(file) = &args.markdown {
        let text = markdown(&comparisons, &drawn, file, &args.output);
        std::fs::write(file, text).map_err(Error::io(file))?;
    }
    print(&terminal::text(&comparisons))?;
    eprintln!("{}", path.display());
    Ok(())
}
