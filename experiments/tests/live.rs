//! What a terminal shows while a run goes on, through a pseudo-terminal.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::io::Read;
use std::process::{Command, Stdio};

use support::tiny::{Tiny, lighthouses};

const LINES: u16 = 30;
const COLUMNS: u16 = 100;

/// The screens that a run goes through, each as its lines; none where there is no `script` to make a terminal.
fn screens(tiny: &Tiny, output: &str, more: &str) -> Vec<String> {
    let run = format!(
        "stty rows {LINES} cols {COLUMNS}; exec '{}' run '{}' --set run.output='\"{}\"' {more}",
        env!("CARGO_BIN_EXE_pressroom"),
        tiny.at("run.toml").display(),
        tiny.at(output).display(),
    );
    let mut command = Command::new("script");
    command.args(["--quiet", "--flush", "--return", "--command", &run, "/dev/null"]).env("TERM", "xterm-256color");
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = spawned else {
        eprintln!("skipped: no `script`, which is part of util-linux");
        return Vec::new();
    };
    let (mut terminal, mut screens) = (vt100::Parser::new(LINES, COLUMNS, 0), Vec::new());
    let mut stream = child.stdout.take().unwrap();
    let mut bytes = [0; 4096];
    loop {
        let read = stream.read(&mut bytes).unwrap();
        if read == 0 {
            break;
        }
        terminal.process(&bytes[..read]);
        screens.push(terminal.screen().contents());
    }
    assert!(child.wait().unwrap().success(), "{}", screens.last().unwrap());
    screens
}

#[test]
fn a_table_of_how_the_presses_stand_is_updated_in_place_and_gone_at_the_end() {
    // With so little memory every sample is prefilled for a press at a time, and answers come one by one.
    let tiny = Tiny::new(&lighthouses(12));
    let screens = screens(&tiny, "seen", "--set 'run.memory=\"1B\"'");
    let Some(last) = screens.last() else { return };
    // The bar is drawn last: a screen that has it is whole.
    let whole = |screen: &&String| screen.contains("| so far") && screen.contains(" left");
    let live: Vec<&String> = screens.iter().filter(whole).collect();
    assert!(live.len() > 2, "{} of {} screens have a table", live.len(), screens.len());
    let answered = |screen: &str| -> usize {
        let line = screen.lines().find(|line| line.contains("/228 answers")).unwrap_or_else(|| panic!("{screen}"));
        line.split("/228").next().unwrap().trim().rsplit(' ').next().unwrap().parse().unwrap()
    };
    for screen in &live {
        assert_eq!(screen.matches("| so far").count(), 1, "not in place:\n{screen}");
        for part in ["| none ", "| adakv(expected_attention) ", "0.25 |", "0.75 |"] {
            assert!(screen.contains(part), "{part:?} is not in\n{screen}");
        }
    }
    let counts: Vec<usize> = live.iter().map(|screen| answered(screen)).collect();
    assert!(counts.is_sorted() && counts[0] < *counts.last().unwrap(), "{counts:?}");
    assert!(!last.contains("so far") && last.contains("answers.jsonl"), "it stays:\n{last}");
}

#[test]
fn nothing_is_shown_where_it_is_not_wanted_or_there_is_no_terminal() {
    let tiny = Tiny::new(&lighthouses(3));
    for screen in screens(&tiny, "quiet", "--quiet") {
        assert!(!screen.contains("so far") && !screen.contains("left"), "{screen}");
    }
    let said = tiny.run("piped", &[]);
    assert!(!said.contains("so far") && !said.contains('\x1b'), "{said}");
}
