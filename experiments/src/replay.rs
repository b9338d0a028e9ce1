//! A press on one sample of a run, once more: at a ratio that the run did not ask for, or where it stored no selections.
//!
//! Scores are not stored, which would take hundreds of times the room of selections, and would tell neither what a press
//! without scores keeps nor what the model then answers. The sample is prefilled again instead, for this press alone, into
//! a run folder of its own within the run's: what is read there is what any run at that ratio gives.

use std::path::PathBuf;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::job::Job;
use crate::live::Live;
use crate::report::Run;
use crate::results::{EXPERIMENT, RunFolder, differences, digest};

/// Folder of the replays within a run's.
const FOLDER: &str = "replays";

/// The run folder that holds the press's answers to the sample's questions at the ratio, with selections.
///
/// # Errors
/// The run does not say what it was made with, or something of that has changed (all of it is named); the press takes no
/// ratio, or fails; the folder cannot be written.
pub fn replay(run: &Run, plugins: &[PathBuf], press: &str, ratio: Option<f64>, sample: usize) -> Result<Run> {
    let file = run.path.join(EXPERIMENT);
    if !file.exists() {
        bail!(
            "{} cannot be replayed: it holds no {EXPERIMENT}; it was imported, or written by an earlier version",
            run.path.display()
        );
    }
    let job = Job::of_press(&file, plugins, press, ratio)?;
    let identity = job.identity()?;
    let now = serde_json::to_value(&identity)?;
    let changed = differences(&conditions(run.plan.clone()), &conditions(now));
    if !changed.is_empty() {
        bail!(
            "{} cannot be replayed: what it was made with has changed:\n  {}",
            run.path.display(),
            changed.join("\n  ")
        );
    }
    let name = digest(&identity)?;
    let mut folder = RunFolder::open(&run.path.join(FOLDER).join(&name[..16]), &identity)?;
    let job = job.only(sample);
    let planned = job.planned(&folder.finished_keys())?;
    if planned.answers() > 0 {
        eprintln!("sample {sample} is prefilled again for {press}; it is kept in {}", folder.path().display());
        job.run(&planned, &mut folder, &mut Live::hidden())?;
    }
    Ok(Run::read(folder.path())?)
}

/// What a plan says of all its sessions.
fn conditions(mut plan: Value) -> Value {
    if let Some(fields) = plan.as_object_mut() {
        fields.remove("sessions");
    }
    plan
}
