//! What the program says of itself, and of arguments that it cannot take.

use std::path::Path;

use crate::support::{letters, pressroom, refused, stdout};
use crate::{NEEDLE, context};

/// `PRESSROOM_BLESS=1` writes the page anew.
#[test]
fn the_page_of_presses_is_what_the_presses_say() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/presses.md");
    let printed = stdout(&pressroom(&["press", "docs"]));
    if std::env::var_os("PRESSROOM_BLESS").is_some() {
        std::fs::write(&page, &printed).unwrap();
    }
    let hint = "docs/presses.md is out of date: pressroom press docs > docs/presses.md";
    assert!(std::fs::read_to_string(&page).unwrap_or_default() == printed, "{hint}");
    for name in stdout(&pressroom(&["press", "list"])).lines().filter_map(|line| line.split(' ').next()) {
        assert!(printed.contains(&format!("\n## {name}\n")), "{name} has no section");
    }
}

#[test]
fn presses_are_listed_and_shown_from_their_sources() {
    let list = stdout(&pressroom(&["press", "list"]));
    assert_eq!(list.lines().count(), pressroom_presses::registry().unwrap().names().count());
    let show = stdout(&pressroom(&["press", "show", "snapkv"]));
    for part in [
        "Idea",
        "Formula",
        "window_size = 64",
        "kernel_size = 5",
        "queries of the last 64 tokens",
        "arxiv.org/abs/2404.14469",
    ] {
        assert!(show.contains(part), "{part:?} is not in {show}");
    }
    refused(&["press", "show", "snapvk"], &["did you mean `snapkv`"]);
}

#[test]
fn completions_and_manual_come_from_the_same_definitions() {
    assert!(stdout(&pressroom(&["completions", "bash"])).contains("max-new-tokens"));
    assert!(stdout(&pressroom(&["man"])).contains("pressroom"));
    assert!(pressroom(&["doctor"]).status.success());
}

#[test]
fn bad_arguments_are_refused_with_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let text = context(folder.path(), NEEDLE);
    let ask = |more: &[&str], expected: &[&str]| {
        let mut args = vec!["ask", "--context", &text, "--question", "q?"];
        args.extend(more);
        refused(&args, expected);
    };
    ask(&["--press", "knrom", "--ratio", "0.5"], &["did you mean `knorm`"]);
    ask(&["--press", "knorm"], &["--ratio"]);
    ask(&["--press", "knorm", "--ratio", "1.0"], &["outside [0, 1)"]);
    ask(&["--press", "knorm", "--ratio", "nan"], &["outside [0, 1)"]);
    ask(&["--press", "adakv", "--ratio", "0.5"], &["wraps a scorer"]);
    ask(&["--ratio", "0.5"], &["--press"]);
    ask(&["--device", "gpu"], &["unknown device `gpu`"]);
    ask(&["--dtype", "int8"], &["unknown dtype `int8`"]);
    ask(&["--model", "smollm"], &["there is no model `smollm`"]);
    ask(&["--max-new-tokens", "0"], &["max_new_tokens is 0"]);
    ask(&["--max-context-length", "0"], &["no token is left for the context"]);
    ask(&["--pipeline", "nowhere.toml"], &["nowhere.toml", "No such file"]);
    let own = folder.path().join("own.toml");
    std::fs::write(&own, "[[press]]\nname = \"knorm\"\ncompression_ratio = 0.5\n").unwrap();
    ask(&["--pipeline", &own.display().to_string(), "--ratio", "0.3"], &["--ratio changes nothing", "own.toml"]);
    refused(&["ask", "--context", "nowhere.txt", "--question", "q?"], &["nowhere.txt", "No such file"]);
    let told = pressroom(&["ask", "--context", "nowhere.txt", "--question", "q?"]);
    assert_eq!(String::from_utf8_lossy(&told.stderr).matches("No such file").count(), 1, "told once");
    let short = context(folder.path(), "Six words are not a window.");
    refused(
        &["ask", "--context", &short, "--question", "q?", "--press", "snapkv", "--ratio", "0.5"],
        &["snapkv", "layer 0", "window_size = 64"],
    );
    letters(&folder.path().join("letters"));
    let model = folder.path().join("letters").display().to_string();
    let two = context(folder.path(), "AB");
    refused(
        &[
            "ask",
            "--context",
            &two,
            "--question",
            "Q",
            "--raw",
            "--model",
            &model,
            "--press",
            "streaming_llm",
            "--ratio",
            "0.5",
        ],
        &["streaming_llm", "layer 0", "n_sink = 4"],
    );
    let empty = context(folder.path(), "  \n");
    refused(&["ask", "--context", &empty, "--question", "q?"], &["the context is empty"]);
    refused(&["run", "nowhere.toml"], &["nowhere.toml"]);
}
