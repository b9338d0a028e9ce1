//! The commands of `pressroom`.

mod ask;
pub(crate) mod bench;
mod bench_show;
mod calibrate;
mod diff;
mod doctor;
mod exchange;
mod merge;
mod model;
mod plugin;
mod press;
mod report;
mod run;
mod show;
mod slurm;

use std::io::Write;

use anyhow::Result;
use clap::CommandFactory;

use crate::cli::{Cli, Command, SubmitCommand};
use crate::plugins::registry_with;
use crate::task::tasks;

/// Runs a parsed command line.
///
/// # Errors
/// What the command could not do, with its causes.
pub fn dispatch(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Report(args) => report::report(&args),
        Command::Show(args) => show::show(&args),
        Command::Diff(args) => diff::diff(&args),
        Command::Merge(args) => merge::merge(&args),
        Command::Submit { command: SubmitCommand::Slurm(args) } => slurm::submit(&args),
        Command::Export(args) => exchange::export(&args),
        Command::Import(args) => exchange::import(&args),
        Command::Ask(args) => ask::ask(&args),
        Command::Calibrate(args) => calibrate::calibrate(&args),
        Command::Bench(args) => bench::bench(&args),
        Command::Press { command } => press::press(&command),
        Command::Plugin { command } => plugin::plugin(&command),
        Command::Model { command } => model::model(&command),
        Command::Schema { plugin } => {
            print(&format!("{:#}\n", pressroom::spec::schema(&registry_with(&plugin, &[])?, &tasks())))
        }
        Command::Doctor => doctor::doctor(),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "pressroom", &mut text);
            print(&String::from_utf8_lossy(&text))
        }
        Command::Man => {
            let mut text = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut text)?;
            print(&String::from_utf8_lossy(&text))
        }
        Command::PluginWorker { arguments } => Ok(pressroom_plugin_host::isolation::run_worker(&arguments)?),
    }
}

/// Writes to standard output; a reader that has gone away (a closed pipe) is no error.
fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
