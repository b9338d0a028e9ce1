//! A run on many machines: shards, workers that die or are taken for dead, and the merge.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::{Duration, Instant};

use support::tiny::{Tiny, lighthouses};
use support::{pressroom, refused, stdout};

fn merge(tiny: &Tiny, folders: &[&str]) -> (bool, String) {
    let folders: Vec<String> = folders.iter().map(|name| tiny.at(name).display().to_string()).collect();
    let mut args = vec!["merge"];
    args.extend(folders.iter().map(String::as_str));
    let output = pressroom(&args);
    (output.status.success(), stdout(&output) + &String::from_utf8_lossy(&output.stderr))
}

#[test]
fn what_any_worker_answered_is_not_asked_again() {
    let tiny = Tiny::new(&lighthouses(12));
    tiny.run("whole", &[]);
    let selections = "run.selections=true";
    for shard in ["0/3", "1/3"] {
        tiny.run("out", &["--set", selections, "--shard", shard]);
    }
    assert!(tiny.answers("out").is_empty());
    // Another division of the work: the workers find what is left between them.
    let said = ["0/2", "1/2"].map(|shard| tiny.run("out", &["--set", selections, "--shard", shard]));
    let answered = |path: &str| tiny.answers(path).len();
    let parts: Vec<usize> =
        ["0-of-3", "1-of-3", "0-of-2", "1-of-2"].map(|part| answered(&format!("out/shard-{part}/1"))).to_vec();
    assert_eq!(parts.iter().sum::<usize>(), 228, "{parts:?} {said:?}");
    let (merged, told) = merge(&tiny, &["out"]);
    assert!(merged, "{told}");
    assert_eq!(tiny.answers("out"), tiny.answers("whole"));
    // What stands beside the answers came along: every sample can be looked at.
    let at = |name: &str| tiny.at("out").join(name).exists();
    assert!(at("questions.json") && at("experiment.toml"));
    let out = tiny.at("out").display().to_string();
    for sample in 0..12 {
        let shown = pressroom(&["show", &out, &sample.to_string(), "--press", "knorm", "--ratio", "0.5"]);
        let said = String::from_utf8_lossy(&shown.stderr);
        assert!(stdout(&shown).contains("knorm at 0.50") && !said.contains("prefilled again"), "{said}");
    }
    assert!(tiny.run("out", &[]).contains("228 answers are there already; 0 prefills"));
}

#[test]
fn a_worker_begins_where_the_one_before_it_was_killed() {
    let tiny = Tiny::new(&lighthouses(16));
    tiny.run("whole", &[]);
    let mut attempts = 0;
    loop {
        attempts += 1;
        let mut worker = tiny.command("out", &["--shard", "0/1"]).spawn().unwrap();
        let journal = tiny.at(&format!("out/shard-0-of-1/{attempts}/answers.jsonl"));
        let start = Instant::now();
        // Killed once it has written something, the first four times.
        while attempts <= 4 && start.elapsed() < Duration::from_secs(60) && worker.try_wait().unwrap().is_none() {
            if std::fs::metadata(&journal).is_ok_and(|journal| journal.len() > 20_000) {
                worker.kill().unwrap();
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        if worker.wait().unwrap().success() {
            break;
        }
    }
    assert!(attempts > 2, "nothing was interrupted");
    let (merged, told) = merge(&tiny, &["out"]);
    assert!(merged, "{told}");
    assert_eq!(tiny.answers("out"), tiny.answers("whole"));
}

#[test]
fn a_worker_that_was_taken_for_dead_stops_and_does_no_harm() {
    let tiny = Tiny::new(&lighthouses(24));
    tiny.run("whole", &[]);
    // So little memory that it takes its time.
    let first = tiny.command("out", &["--shard", "0/1", "--set", "run.memory='1B'"]).spawn().unwrap();
    let journal = tiny.at("out/shard-0-of-1/1/answers.jsonl");
    let start = Instant::now();
    while !std::fs::metadata(&journal).is_ok_and(|journal| journal.len() > 0) {
        assert!(start.elapsed() < Duration::from_secs(60), "nothing was written");
        std::thread::sleep(Duration::from_millis(1));
    }
    tiny.run("out", &["--shard", "0/1"]);
    let first = first.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&first.stderr);
    assert!(!first.status.success() && told.contains("another worker has taken over this part of the run"), "{told}");
    let (merged, told) = merge(&tiny, &["out"]);
    assert!(merged, "{told}");
    assert_eq!(tiny.answers("out"), tiny.answers("whole"));
}

#[test]
fn parts_of_another_run_are_refused() {
    let tiny = Tiny::new(&lighthouses(4));
    let file = tiny.at("run.toml").display().to_string();
    tiny.run("out", &["--shard", "0/2"]);
    refused(&["run", &file, "--shard", "1/2", "--set", "run.seed=7"], &["another run", "seed: 42 before, 7 now"]);
    assert!(!tiny.at("out/shard-1-of-2").exists());
}

#[test]
fn a_dry_submission_prints_what_slurm_would_get() {
    let tiny = Tiny::new(&lighthouses(9));
    let file = tiny.at("run.toml").display().to_string();
    let output = tiny.at("it's out").display().to_string();
    let set = format!("run.output={output:?}");
    let args = ["submit", "slurm", &file, "--nodes", "3", "--dry-run", "--set", &set, "--", "--partition=gpu"];
    let told = stdout(&pressroom(&args));
    for part in [
        "#SBATCH --array=0-2%3\n",
        "#SBATCH --requeue\n",
        "--shard \"$SLURM_ARRAY_TASK_ID/3\"; }\n",
        "it'\\''s out' && '",
        "sbatch --parsable --partition=gpu ",
        "--dependency=afterany:ARRAY",
    ] {
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
    assert!(!tiny.at("it's out").exists());
    // Both scripts are scripts.
    for script in told.split("# /").skip(1).map(|part| part.split_once('\n').unwrap().1) {
        let script = script.split("\nsbatch ").next().unwrap();
        std::fs::write(tiny.at("script.sh"), script).unwrap();
        assert!(std::process::Command::new("sh").arg("-n").arg(tiny.at("script.sh")).status().unwrap().success());
    }
}
