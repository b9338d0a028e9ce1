//! Runs: what they leave behind, whatever happens to them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pressroom::press::Kind;
use serde_json::{Value, json};
use support::tiny::{Answers, Tiny, lighthouses};
use support::{golden, letters, pressroom, refused, stdout, with_small_disk};

const NEEDLE: &str = "The bakery opens at six. The password of the lighthouse is marmalade. Ships pass at night, and the \
    keeper sleeps by day. Nobody swims in the harbour in winter, because the water is cold and the stones are sharp.";

#[test]
fn run_writes_answers_and_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let rows: String = ["marmalade", "six"]
        .iter()
        .zip(["the password of the lighthouse", "the hour at which the bakery opens"])
        .map(|(answer, what)| {
            let row = json!({"context": NEEDLE.repeat(2), "question": format!("\nWhat is {what}?"), "answer": [answer], "max_new_tokens": 20, "task": "facts"});
            format!("{row}\n")
        })
        .collect();
    std::fs::write(folder.path().join("rows.jsonl"), rows).unwrap();
    let output = folder.path().join("out");
    let toml = format!(
        "[model]\npath = \"smollm2-135m-instruct\"\ndtype = \"f32\"\n[task]\nfile = {:?}\n[[press]]\nname = \"knorm\"\n\
         [[press]]\nname = \"adakv\"\npress = {{ name = \"snapkv\", window_size = 16 }}\n\
         [sweep]\ncompression_ratio = [0.5]\n[run]\noutput = {:?}\n",
        folder.path().join("rows.jsonl"),
        output
    );
    let file = folder.path().join("run.toml");
    std::fs::write(&file, toml).unwrap();
    let file = file.display().to_string();
    let first = pressroom(&["run", &file]);
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    assert!(stdout(&first).contains("adakv(snapkv)") && !stdout(&first).contains('\u{1b}'), "{}", stdout(&first));
    let answers = std::fs::read_to_string(output.join("answers.jsonl")).unwrap();
    let lines: Vec<Value> = answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2 * 3);
    let of = |press: &str| lines.iter().find(|line| line["press"] == press && line["index"] == 0).unwrap();
    let (full, half) = (of("none"), of("knorm"));
    assert_eq!((&full["score"], &full["question"]), (&1.0.into(), &"hidden".into()));
    let share = half["cache_bytes"].as_f64().unwrap() / full["cache_bytes"].as_f64().unwrap();
    assert!((share - 0.5).abs() < 0.02, "{share}");
    // What is decoded together is shared out: a part is less than the whole.
    let sum = |field: &str| lines.iter().map(|line| line[field].as_f64().unwrap()).sum::<f64>();
    assert!(sum("decode_s") < 0.5 * sum("elapsed_s"), "{} of {}", sum("decode_s"), sum("elapsed_s"));

    // An interruption in the middle of a line: the rerun completes the file and repeats nothing.
    let cut = answers.len() - 20;
    std::fs::write(output.join("answers.jsonl"), &answers[..cut]).unwrap();
    assert!(pressroom(&["run", &file]).status.success());
    let resumed = std::fs::read_to_string(output.join("answers.jsonl")).unwrap();
    assert_eq!(resumed.lines().take(5).collect::<Vec<_>>(), answers.lines().take(5).collect::<Vec<_>>());
    let last: Value = serde_json::from_str(resumed.lines().last().unwrap()).unwrap();
    assert_eq!(last["token_ids"], lines[5]["token_ids"]);
    refused(&["run", &file, "--set", "run.seed=7"], &["another run", "seed: 42 before, 7 now"]);
    refused(&["run", &file, "--set", "task.max_new_tokens=3"], &["task.max_new_tokens: null before, 3 now"]);
}

#[test]
fn a_run_whose_side_data_changed_is_refused() {
    let tiny = Tiny::new(&lighthouses(1));
    let (data, file) = (tiny.at("filters"), tiny.at("run.toml"));
    std::fs::create_dir(&data).unwrap();
    let mut filters = std::fs::read(golden("presses/qfilter/gqa/model.safetensors")).unwrap();
    std::fs::write(data.join("model.safetensors"), &filters).unwrap();
    let toml =
        std::fs::read_to_string(&file).unwrap() + &format!("[[press]]\nname = 'qfilter'\nside_data = {data:?}\n");
    std::fs::write(&file, toml).unwrap();
    tiny.run("out", &[]);
    let said = tiny.run("out", &[]);
    assert!(said.contains("22 answers are there already"), "{said}");
    *filters.last_mut().unwrap() ^= 1;
    std::fs::write(data.join("model.safetensors"), &filters).unwrap();
    let changed = format!("side_data_sha256.{}/model.safetensors: \"", data.display());
    refused(&["run", &file.display().to_string()], &["results of another run", &changed, "before", "now"]);
}

#[test]
fn a_run_on_a_full_disk_keeps_what_it_wrote_and_goes_on_later() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    letters(&at("model"));
    let rows: String = (0..60)
        .map(|index| serde_json::json!({"context": format!("WHO KEEPS THE LIGHTHOUSE {index}"), "question": "WHO?", "answer": ["X"]}))
        .map(|row| format!("{row}\n"))
        .collect();
    std::fs::write(at("rows.jsonl"), rows).unwrap();
    let disk = at("disk");
    std::fs::create_dir_all(&disk).unwrap();
    let toml = format!(
        "[model]\npath = {:?}\ndtype = \"f32\"\n[task]\nfile = {:?}\nmax_new_tokens = 2\n[run]\noutput = {:?}\n",
        at("model"),
        at("rows.jsonl"),
        disk.join("out")
    );
    std::fs::write(at("run.toml"), toml).unwrap();
    let script = format!(
        "cd '{}'; mount -t tmpfs -o size=40k tmpfs disk; run() {{ '{}' run run.toml; }}\n\
         if run 2> full.txt; then exit 9; fi\n\
         cp disk/out/answers.jsonl full.jsonl\n\
         mount -o remount,size=4m disk; run; cp disk/out/answers.jsonl whole.jsonl",
        folder.path().display(),
        env!("CARGO_BIN_EXE_pressroom")
    );
    let Some(output) = with_small_disk(&script) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let message = std::fs::read_to_string(at("full.txt")).unwrap();
    assert!(message.contains("No space left") && message.contains("run the same command again"), "{message}");
    assert!(!message.contains("panicked"), "{message}");
    let read = |name: &str| std::fs::read_to_string(at(name)).unwrap();
    let (full, whole) = (read("full.jsonl"), read("whole.jsonl"));
    let kept = full.matches('\n').count();
    assert!(kept > 5 && kept < 60, "{kept} answers fitted");
    assert_eq!(whole.lines().count(), 60);
    assert_eq!(whole.lines().take(kept).collect::<Vec<_>>(), full.lines().take(kept).collect::<Vec<_>>());
}

#[test]
fn answers_are_those_of_each_session_alone() {
    let tiny = Tiny::new(&lighthouses(5));
    for regime in ["hidden", "visible"] {
        let question = format!("task.question='{regime}'");
        let name = |how: &str| format!("{regime}-{how}");
        let said = tiny.run(&name("together"), &["--set", &question]);
        assert!(said.contains("5 prefills") && said.contains("serve 95 sessions"), "{said}");
        // So little memory that every session is prefilled and decoded alone.
        let said = tiny.run(&name("alone"), &["--set", &question, "--set", "run.memory='1B'"]);
        assert!(said.contains("95 prefills"), "{said}");
        let answers = tiny.answers(&name("together"));
        assert_eq!(answers.len(), 95);
        assert!(answers.values().all(|answer| answer["question"] == *regime && answer.get("error").is_none()));
        assert_eq!(answers, tiny.answers(&name("alone")));
    }
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let tiny = Tiny::new(&lighthouses(4));
    let said = tiny.run("out", &["--dry-run"]);
    assert!(said.contains("4 prefills") && said.contains("76 questions") && said.contains("memory about"), "{said}");
    assert!(!tiny.at("out").exists());
    tiny.run("out", &[]);
    let said = tiny.run("out", &["--dry-run"]);
    assert!(said.contains("76 answers are there already; 0 prefills"), "{said}");
}

#[test]
fn a_run_folder_describes_itself() {
    let tiny = Tiny::new(&lighthouses(2));
    tiny.run("out", &[]);
    let read = |name: &str| -> Value {
        serde_json::from_str(&std::fs::read_to_string(tiny.at("out").join(name)).unwrap()).unwrap()
    };
    let (plan, machine, metrics) = (read("plan.json"), read("machine.json"), read("metrics.json"));
    for hash in ["model_sha256", "template_sha256", "samples_sha256"] {
        assert_eq!(plan[hash].as_str().unwrap().len(), 64, "{hash}");
    }
    assert_eq!((&plan["dtype"], &plan["task"]["question"]), (&json!("Float"), &json!("hidden")));
    assert_eq!(plan["versions"]["pressroom"], env!("CARGO_PKG_VERSION"));
    let rules: Vec<&Value> = plan["sessions"].as_array().unwrap().iter().map(|it| &it["positions"]).collect();
    assert_eq!((rules[0], rules[18]), (&json!("uncompressed"), &json!("kept")));
    assert!(machine["cores"].as_u64().unwrap() > 0, "{machine}");
    let memory = read("memory.json");
    assert!(memory["predicted"].as_u64().unwrap() > 0 && memory["measured"].as_u64().unwrap() > 0, "{memory}");
    let sessions = metrics["sessions"].as_array().unwrap();
    assert_eq!((sessions.len(), &metrics["template_sha256"]), (19, &plan["template_sha256"]));
    for session in sessions {
        assert_eq!((&session["answers"], &session["errors"]), (&json!(2), &json!(0)), "{session}");
        let stopped = session["stopped_eos"].as_u64().unwrap() + session["stopped_length"].as_u64().unwrap();
        assert_eq!((stopped, &session["worst_task"]), (2, &json!("rows")), "{session}");
    }
    // Another model, template or data of the same name are other runs, whatever the file says.
    let changed = |name: &str, from: &str, to: &str, expected: &str| {
        let path = tiny.at(name);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
        refused(&["run", &tiny.at("run.toml").display().to_string()], &["another run", expected]);
        std::fs::write(&path, text).unwrap();
    };
    changed("model/chat_template.jinja", "<", "<<", "template_sha256");
    changed("rows.jsonl", "KEEPS", "SWEEPS", "samples_sha256");
    changed("model/config.json", "4096", "4095", "model_sha256");
    tiny.run("out", &[]);
}

#[test]
fn samples_that_cannot_be_asked_end_the_run_or_are_passed_over() {
    let mut rows = lighthouses(3);
    rows[1]["question"] = json!("Where? ".repeat(40_000));
    let tiny = Tiny::new(&rows);
    let file = tiny.at("run.toml").display().to_string();
    refused(&["run", &file], &["sample 1: no token is left for the context"]);
    assert!(tiny.answers("out").is_empty());
    let said = tiny.run("out", &["--keep-going"]);
    assert!(said.contains("error: sample 1, question 0: no token is left for the context"), "{said}");
    let answers = tiny.answers("out");
    let (failed, answered): (Vec<_>, Vec<_>) = answers.values().partition(|answer| answer.get("error").is_some());
    assert_eq!((failed.len(), answered.len()), (19, 38));
    assert!(failed.iter().all(|answer| answer["index"] == 1));
}

/// A number that looks random, below `bound`.
fn draw(state: &mut u64, bound: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % bound
}

/// `PRESSROOM_KILLS=1000 cargo test -p pressroom-experiments --test runs killed` takes longer and says more.
#[test]
fn a_run_that_is_killed_again_and_again_ends_as_if_it_had_not_been() {
    let kills: usize = std::env::var("PRESSROOM_KILLS").map_or(25, |count| count.parse().unwrap());
    let tiny = Tiny::new(&lighthouses(6));
    let start = Instant::now();
    tiny.run("undisturbed", &[]);
    let longest = start.elapsed().as_micros() as u64;
    let expected = tiny.answers("undisturbed");
    assert_eq!(expected.len(), 6 * 19);
    let (mut state, mut killed, mut ended, mut found) = (kills as u64, 0, 0, Answers::new());
    while killed < kills || ended == 0 {
        let mut child = tiny.command("killed", &[]).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_micros(draw(&mut state, longest));
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if killed < kills && Instant::now() > deadline => break None,
                None => std::thread::sleep(Duration::from_micros(200)),
            }
        };
        if status.is_none() {
            child.kill().unwrap();
            child.wait().unwrap();
            killed += 1;
        }
        let now = tiny.answers("killed");
        assert!(found.keys().all(|key| now.contains_key(key)), "kill {killed}: something finished is lost");
        assert!(now.iter().all(|(key, answer)| expected[key] == *answer), "kill {killed}");
        found = now;
        if let Some(status) = status {
            assert!(status.success(), "after {killed} kills");
            assert_eq!(found, expected, "after {killed} kills");
            std::fs::remove_dir_all(tiny.at("killed")).unwrap();
            (ended, found) = (ended + 1, Answers::new());
        }
    }
    eprintln!("{killed} kills, {ended} runs came to their end");
}

#[test]
fn a_folder_that_cannot_be_written_to_is_said_to_be_one() {
    let tiny = Tiny::new(&lighthouses(1));
    let script = format!(
        "cd '{}'; mkdir disk; mount -t tmpfs tmpfs disk; mkdir disk/out; mount -o remount,ro disk\n\
         if '{}' run run.toml --set run.output='\"disk/out\"' 2> said.txt; then exit 9; fi",
        tiny.at("").display(),
        env!("CARGO_BIN_EXE_pressroom")
    );
    let Some(output) = with_small_disk(&script) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = std::fs::read_to_string(tiny.at("said.txt")).unwrap();
    assert!(
        said.contains("disk/out") && said.contains("Read-only file system") && !said.contains("panicked"),
        "{said}"
    );
}

/// The examples at a small size: every press of every one answers.
#[test]
fn every_example_runs() {
    let tiny = Tiny::new(&[]);
    let plugins = std::env::current_exe().unwrap().parent().unwrap().join("libpressroom_plugin_examples.so");
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(&configs).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut command = Command::new(env!("CARGO_BIN_EXE_pressroom"));
        let sets = [
            format!("model.path={:?}", tiny.at("model")),
            format!("run.output={:?}", tiny.at(&name)),
            "model.dtype=f32".to_owned(),
            "task.context_tokens=600".to_owned(),
            "task.samples=1".to_owned(),
            "task.max_new_tokens=40".to_owned(),
        ];
        command.arg("run").arg(&path).args(sets.iter().flat_map(|set| ["--set", set]));
        if name == "plugin" {
            command.args(["--set", &format!("plugin.0.path={plugins:?}")]);
        }
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && !said.contains("error"), "{name}: {said}");
        let answers = tiny.answers(&name);
        assert!(answers.len() >= 3 && answers.values().all(|answer| answer.get("error").is_none()), "{name}");
        seen.push(name);
    }
    for due in
        ["quickstart", "leaderboard-small", "per-layer", "chained", "plugin", "decoding", "long-context", "quantized"]
    {
        assert!(seen.iter().any(|name| name == due), "{due}");
    }
}

#[test]
fn the_small_leaderboard_has_every_press_that_it_can_have() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/leaderboard-small.toml");
    let text = std::fs::read_to_string(file).unwrap();
    let registry = pressroom_presses::registry().unwrap();
    for entry in registry.entries() {
        let info = entry.info();
        // Side data is made first; a question has to be seen; answers have to grow.
        let elsewhere = info.param("side_data").is_some() || info.name == "finch" || info.kind == Kind::Decoding;
        let there = text.contains(&format!("\nname = \"{}\"\n", info.name));
        assert_eq!(there, !elsewhere, "{}", info.name);
    }
}

#[test]
fn parts_of_a_run_merge_to_the_whole() {
    let tiny = Tiny::new(&lighthouses(7));
    tiny.run("whole", &[]);
    let whole = tiny.answers("whole");
    for part in ["0/3", "1/3", "2/3", "1/3"] {
        tiny.run("parts", &["--shard", part]);
    }
    let merge = |folders: &[&str]| {
        let folders = folders.iter().map(|name| tiny.at("parts").join(name).display().to_string());
        let args: Vec<String> =
            ["merge".into(), tiny.at("parts").display().to_string()].into_iter().chain(folders).collect();
        pressroom(&args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert!(merge(&["shard-1-of-3/1"]).status.success());
    assert!(tiny.answers("parts").len() < whole.len());
    let merged = merge(&[]);
    assert!(merged.status.success() && stdout(&merged).contains("| none"), "{}", stdout(&merged));
    assert_eq!(tiny.answers("parts"), whole);
    // The merged folder is a run's like any other: nothing is left to do.
    assert!(tiny.run("parts", &[]).contains("133 answers are there already; 0 prefills"));
    refused(&["merge", &tiny.at("nowhere").display().to_string()], &["nowhere", "nothing to merge"]);
    refused(&["merge", &tiny.at("model").display().to_string()], &["nothing to merge"]);
}
