//! `pressroom submit slurm`: a job array whose tasks are shards, and a job that merges what they did.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use pressroom::Error;

use super::print;
use crate::cli::{ExperimentArgs, SlurmArgs};
use crate::job::Job;
use crate::results::finished_anywhere;
use crate::sweep::Shard;

/// What a task of the array does; `work` is its part of the run.
const TASK: &str = r#"# Slurm may take a task for dead that is not, and begin it elsewhere: the part is that one's from then on.
superseded() {
  task=$(scontrol -o show job "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID")
  begun=$(echo "$task" | sed -n 's/.* Restarts=\([0-9]*\) .*/\1/p')
  [ "${begun:-0}" -gt "${SLURM_RESTART_COUNT:-0}" ]
}
# A worker that a signal ended, which may happen without its node, begins again where its journal ends. One that ended
# by itself does not: it is done, cannot go on, or another one has its part.
for attempt in 1 2 3 4 5; do
  work
  status=$?
  if [ $status -le 128 ] || superseded; then break; fi
done
exit $status
"#;

/// Runs `submit slurm`.
///
/// # Errors
/// The experiment has mistakes, the scripts cannot be written, or Slurm does not take them.
pub fn submit(args: &SlurmArgs) -> Result<()> {
    let job = Job::new(&args.experiment, Shard::ALL)?;
    let (planned, told) = job.forecast(&finished_anywhere(job.output())?)?;
    eprintln!("{told}");
    let cells = planned.units.iter().map(|unit| unit.sample).collect::<BTreeSet<_>>().len();
    if cells == 0 {
        return print("nothing is left to do\n");
    }
    let tasks = tasks(told.forecast.seconds, args.minutes, args.nodes, cells as u64);
    let output = std::path::absolute(job.output()).map_err(Error::io(job.output()))?;
    let scripts = Scripts::new(&args.experiment, &output, tasks, args.nodes)?;
    if args.dry_run {
        return print(&scripts.told(&args.sbatch));
    }
    scripts.write()?;
    let array = sbatch(&args.sbatch, &[], &scripts.array_file)?;
    // Whatever became of the tasks: what they left undone the merging job does itself.
    let merge = sbatch(&args.sbatch, &[format!("--dependency=afterany:{array}")], &scripts.merge_file)?;
    print(&format!(
        "array {array}: {tasks} tasks of {cells} samples on {} nodes; job {merge} merges; {}\n",
        args.nodes,
        scripts.folder.display()
    ))
}

/// How many tasks take `minutes` each: all nodes get one, and none is empty if every sample falls to its own.
fn tasks(seconds: f64, minutes: u64, nodes: u64, cells: u64) -> u64 {
    let wanted = (seconds / (60.0 * minutes as f64)).ceil() as u64;
    wanted.max(nodes).min(cells)
}

/// The two scripts.
struct Scripts {
    folder: PathBuf,
    array_file: PathBuf,
    merge_file: PathBuf,
    array: String,
    merge: String,
}

impl Scripts {
    fn new(experiment: &ExperimentArgs, output: &Path, tasks: u64, nodes: u64) -> Result<Self> {
        let folder = output.join("slurm");
        let program = quoted(&std::env::current_exe().context("where this program is")?)?;
        let here = quoted(&std::env::current_dir().context("the current folder")?)?;
        let log = |name: &str| quoted(&folder.join(name));
        let arguments = arguments(experiment)?;
        let head = |name: &str, log: String| {
            format!("#!/bin/sh\n#SBATCH --job-name={name}\n#SBATCH --output={log}\n#SBATCH --open-mode=append\n")
        };
        let array = format!(
            "{}#SBATCH --array=0-{last}%{nodes}\n#SBATCH --nodes=1\n#SBATCH --requeue\ncd {here} || exit 1\n\
             work() {{ {program} run {arguments} --shard \"$SLURM_ARRAY_TASK_ID/{tasks}\"; }}\n{TASK}",
            head("pressroom", log("task-%a.log")?),
            last = tasks - 1,
        );
        let merge = format!(
            "{}#SBATCH --nodes=1\n#SBATCH --requeue\ncd {here} || exit 1\n\
             {program} merge {} && {program} run {arguments}\n",
            head("pressroom-merge", log("merge.log")?),
            quoted(output)?
        );
        Ok(Self { array_file: folder.join("array.sh"), merge_file: folder.join("merge.sh"), folder, array, merge })
    }

    /// What would be written and submitted.
    fn told(&self, sbatch: &[String]) -> String {
        let mut told = String::new();
        for (file, script) in [(&self.array_file, &self.array), (&self.merge_file, &self.merge)] {
            let _ = write!(told, "# {}\n{script}\n", file.display());
        }
        let more: String = sbatch.iter().map(|argument| format!(" {argument}")).collect();
        let _ = writeln!(told, "sbatch --parsable{more} {}", self.array_file.display());
        let _ = writeln!(told, "sbatch --parsable{more} --dependency=afterany:ARRAY {}", self.merge_file.display());
        told
    }

    fn write(&self) -> Result<()> {
        std::fs::create_dir_all(&self.folder).map_err(Error::io(&self.folder))?;
        for (file, script) in [(&self.array_file, &self.array), (&self.merge_file, &self.merge)] {
            std::fs::write(file, script).map_err(Error::io(file))?;
        }
        Ok(())
    }
}

/// The arguments of `run` as a shell takes them.
fn arguments(experiment: &ExperimentArgs) -> Result<String> {
    let mut all = vec![quoted(&experiment.file)?];
    for change in &experiment.set {
        all.extend(["--set".into(), quoted(Path::new(change))?]);
    }
    for plugin in &experiment.plugin {
        all.extend(["--plugin".into(), quoted(plugin)?]);
    }
    if experiment.keep_going {
        all.push("--keep-going".into());
    }
    Ok(all.join(" "))
}

/// A word of a shell script, whatever is in it but line feeds, which end a line for Slurm.
fn quoted(word: &Path) -> Result<String> {
    let Some(text) = word.to_str().filter(|text| !text.contains('\n')) else {
        bail!("{} cannot be written into a script of one line", word.display());
    };
    Ok(format!("'{}'", text.replace('\'', r"'\''")))
}

/// Submits a script and gives the job's number.
fn sbatch(more: &[String], own: &[String], script: &Path) -> Result<String> {
    let mut command = Command::new("sbatch");
    command.arg("--parsable").args(more).args(own).arg(script);
    let output = command.output().context("sbatch, which comes with Slurm, cannot be run here")?;
    if !output.status.success() {
        bail!("sbatch {}: {}", script.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    let told = String::from_utf8_lossy(&output.stdout);
    // `NUMBER` or `NUMBER;CLUSTER`.
    Ok(told.trim().split(';').next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_take_minutes_and_every_node_has_one() {
        assert_eq!(tasks(6000.0, 10, 4, 1000), 10);
        assert_eq!(tasks(6001.0, 10, 4, 1000), 11);
        assert_eq!(tasks(60.0, 10, 4, 1000), 4);
        assert_eq!(tasks(1e6, 10, 4, 7), 7);
        assert_eq!(tasks(0.0, 10, 4, 1), 1);
    }

    #[test]
    fn words_stay_words() {
        assert_eq!(quoted(Path::new("it's $HOME")).unwrap(), r"'it'\''s $HOME'");
        assert!(quoted(Path::new("two\nlines")).is_err());
    }
}
