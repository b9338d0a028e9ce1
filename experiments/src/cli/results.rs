//! Commands about the results of runs.

use std::path::PathBuf;

use clap::Args;
use pressroom::pipeline::Regime;

/// Arguments of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Folders of runs; what was asked under the same conditions stands in one table
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<PathBuf>,
    /// Folder for index.html and the figures, SVG and PNG
    #[arg(long, value_name = "FOLDER", default_value = "report")]
    pub output: PathBuf,
    /// Write the tables as Markdown too, with links to the figures
    #[arg(long, value_name = "FILE.md")]
    pub markdown: Option<PathBuf>,
}

/// Arguments of `show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Folder of a run
    pub run: PathBuf,
    /// Index of the sample
    pub sample: usize,
    /// Label of the press [default: a line for each press]
    #[arg(long, value_name = "LABEL")]
    pub press: Option<String>,
    /// Ratio of the press; the sample is prefilled again where the run did not ask for it [default: the lowest at which it lost the answer]
    #[arg(long, value_name = "R", requires = "press")]
    pub ratio: Option<f64>,
    /// Label of a press to compare with
    #[arg(long, value_name = "PRESS", requires = "press")]
    pub against: Option<String>,
    /// One layer alone, from 0 on [default: all together]
    #[arg(long, value_name = "N", requires = "press")]
    pub layer: Option<usize>,
    /// Which of the sample's questions, from 0 on
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub turn: usize,
    /// Write a page instead
    #[arg(long, value_name = "FILE.html", requires = "press")]
    pub html: Option<PathBuf>,
    /// A plugin's library that the run was given the same way; repeat it for several
    #[arg(long, value_name = "LIB")]
    pub plugin: Vec<PathBuf>,
}

/// Arguments of `diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// Folder of a run
    pub before: PathBuf,
    /// Folder of another
    pub now: PathBuf,
}

/// Arguments of `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The run folder
    pub run: PathBuf,
    /// The folder that gets a results folder for each press and ratio
    pub folder: PathBuf,
    /// As kvpress's leaderboard takes them: predictions.csv, metrics.json, config.yaml
    #[arg(long, required = true)]
    pub kvpress: bool,
    /// Name of the data set [default: the file's or the task's]
    #[arg(long, value_name = "NAME")]
    pub dataset: Option<String>,
    /// Name of the data set's part, such as 4096
    #[arg(long, value_name = "NAME")]
    pub data_dir: Option<String>,
}

/// Arguments of `import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// A results folder of kvpress, or one that holds several
    pub folder: PathBuf,
    /// The run folder to make
    pub run: PathBuf,
    /// Which results: presses saw the question (visible), or not
    #[arg(long, value_name = "hidden|visible", default_value = "hidden", value_parser = regime)]
    pub question: Regime,
}

fn regime(name: &str) -> Result<Regime, String> {
    match name {
        "hidden" => Ok(Regime::Hidden),
        "visible" => Ok(Regime::Visible),
        _ => Err("hidden or visible".into()),
    }
}
