//! `pressroom run`: an experiment from a TOML file.

use anyhow::Result;

use super::print;
use crate::cli::RunArgs;
use crate::job::Job;
use crate::live::Live;
use crate::report::{Run, compare, terminal};
use crate::results::{Record, RunFolder, finished_anywhere, finished_in, open_attempt};
use crate::sweep::Shard;

/// Runs `run`.
///
/// # Errors
/// Mistakes in the file, a model that cannot be loaded, samples that cannot be read, results that cannot be written.
pub fn run(args: &RunArgs) -> Result<()> {
    let job = Job::new(&args.experiment, args.shard.unwrap_or(Shard::ALL))?;
    if args.dry_run {
        let finished = match args.shard {
            Some(_) => finished_anywhere(job.output())?,
            None => finished_in(job.output())?,
        };
        eprintln!("{}", job.forecast(&finished)?.1);
        return Ok(());
    }
    let identity = job.identity()?;
    let mut folder = match args.shard {
        Some(shard) => open_attempt(job.output(), &shard.to_string(), &identity)?,
        None => RunFolder::open(job.output(), &identity)?,
    };
    // A part goes on where any worker of any part of this run is.
    let finished = match args.shard {
        Some(_) => finished_anywhere(job.output())?,
        None => folder.finished_keys(),
    };
    let (planned, told) = job.forecast(&finished)?;
    eprintln!("{told}");
    let (samples, regime) = (job.samples(), job.regime());
    let mut live = if args.quiet { Live::hidden() } else { Live::on_terminal() };
    let meter = job.memory_meter();
    let records = job.run(&planned, &mut folder, &mut live)?;
    let peak = meter.beside(told.forecast.peak_bytes);
    folder.write_json("memory.json", &peak)?;
    print(&terminal::text(&compare(&[Run::read(folder.path())?])))?;
    report_errors(&records);
    eprintln!(
        "{samples} samples, {peak}, question {regime}, positions count from the uncompressed context unless a press moves keys; {}",
        folder.path().join("answers.jsonl").display()
    );
    if !records.is_empty() && records.iter().all(|record| record.error.is_some()) {
        anyhow::bail!("no press could answer any sample");
    }
    Ok(())
}

fn report_errors(records: &[Record]) {
    let mut seen = std::collections::BTreeSet::new();
    for record in records {
        if let Some(error) = &record.error
            && seen.insert(error)
        {
            eprintln!("error: sample {}, {}: {error}", record.index, record.named());
        }
    }
}
