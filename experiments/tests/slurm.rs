//! A real Slurm on this machine (`scripts/slurm`): a run over three nodes whose daemons and workers are killed.
//!
//! `cargo test -p pressroom-experiments --test slurm -- --ignored`, as root, with Debian's packages slurmctld, slurmd,
//! slurm-client and munge.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::tiny::{Tiny, row};

/// The cluster; it ends with the test.
struct Slurm {
    folder: tempfile::TempDir,
}

impl Slurm {
    fn up() -> Self {
        let slurm = Self { folder: tempfile::tempdir().unwrap() };
        let output = slurm.script(&["up"], &[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        slurm
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn script(&self, before: &[&str], after: &[&str]) -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/slurm");
        Command::new(script).args(before).arg(self.path()).args(after).output().unwrap()
    }

    fn run(&self, program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> String {
        let output =
            Command::new(program).args(args).env("SLURM_CONF", self.path().join("slurm.conf")).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn jobs(&self) -> String {
        self.run("squeue", &["--noheader", "--format=%i %T %N"])
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        self.script(&["down"], &[]);
    }
}

/// Workers of the run in `output` that are alive, by their process numbers.
fn workers(output: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let is_worker = |path: &PathBuf| {
        let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
        let words: Vec<String> =
            line.split(|byte| *byte == 0).map(|w| String::from_utf8_lossy(w).into_owned()).collect();
        words.iter().any(|word| word == "--shard")
            && words.first().is_some_and(|word| word.ends_with("pressroom"))
            && words.iter().any(|word| word.contains(output))
    };
    processes.filter(is_worker).map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

fn kill(process: &str) {
    Command::new("kill").args(["-9", process]).status().unwrap();
}

/// Folders of all attempts.
fn attempts(tiny: &Tiny) -> Vec<PathBuf> {
    let inside = |folder: PathBuf| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let parts = inside(tiny.at("out")).filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("shard-"));
    parts.flat_map(inside).collect()
}

/// Answers that all attempts have written so far.
fn written(tiny: &Tiny) -> usize {
    let journals = attempts(tiny).into_iter().map(|attempt| std::fs::read_to_string(attempt.join("answers.jsonl")));
    journals.map(|journal| journal.unwrap_or_default().lines().count()).sum()
}

#[test]
#[ignore = "needs Slurm and root"]
fn two_hundred_cells_survive_five_kills() {
    let text = |index: usize| "WHO KEEPS THE LIGHTHOUSE AND THE HARBOUR ".repeat(8 + index % 7);
    let rows: Vec<Value> = (0..200).map(|index| row(&text(index), &format!("WHO {index}?"))).collect();
    let tiny = Tiny::new(&rows);
    let more = ["--set", "task.max_new_tokens=10", "--set", "run.threads=1", "--set", "run.memory='1B'"];
    let slurm = Slurm::up();
    let (file, output) = (tiny.at("run.toml").display().to_string(), tiny.at("out").display().to_string());
    let set = format!("run.output={output:?}");
    let mut args = vec!["submit", "slurm", &file, "--nodes", "3", "--set", &set];
    args.extend(more);
    let told = slurm.run(env!("CARGO_BIN_EXE_pressroom"), &args);
    assert!(told.contains("3 tasks of 200 samples on 3 nodes"), "{told}");

    let start = Instant::now();
    let until = |what: &str, done: &dyn Fn() -> bool| {
        while !done() {
            assert!(start.elapsed() < Duration::from_secs(900), "{what} did not come: {}", slurm.jobs());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    // Workers and daemons in turn, each when some more answers are there. A node whose daemon is killed keeps its worker,
    // which Slurm takes for dead and starts again elsewhere or, once the daemon is back, there.
    let mut daemons = Vec::new();
    for kills in 0..5 {
        let before = written(&tiny);
        until("the next answers", &|| written(&tiny) >= before + 150 && !workers(&output).is_empty());
        if kills % 2 == 0 {
            kill(&workers(&output)[0]);
        } else {
            let node = 1 + kills / 2;
            kill(std::fs::read_to_string(slurm.path().join(format!("n{node}.pid"))).unwrap().trim());
            daemons.push(node);
        }
    }
    println!("{:.0} s: five kills, {} answers so far", start.elapsed().as_secs_f64(), written(&tiny));
    std::thread::sleep(Duration::from_secs(12));
    for node in daemons {
        assert!(slurm.script(&["node"], &[&node.to_string()]).status.success());
    }
    until("the merged run", &|| slurm.jobs().is_empty());
    let attempts = attempts(&tiny).len();
    println!("{:.0} s: done by {attempts} workers", start.elapsed().as_secs_f64());
    let log = |name: &str| std::fs::read_to_string(tiny.at("out/slurm").join(name)).unwrap_or_default();
    println!("{}{}{}{}", log("task-0.log"), log("task-1.log"), log("task-2.log"), log("merge.log"));
    assert!(attempts >= 6, "{attempts} workers");
    assert!(tiny.at("out/metrics.json").exists());
    tiny.run("whole", &more);
    let answers = tiny.answers("out");
    assert_eq!(answers.len(), 200 * 19);
    assert_eq!(answers, tiny.answers("whole"));
}
