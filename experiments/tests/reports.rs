//! Reports, differences and views of runs of a tiny model.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::path::PathBuf;

use support::{letters, pressroom, refused, stdout};

const HOSTILE: &str = "</SCRIPT><SCRIPT>ALERT(1)</SCRIPT>";

/// A folder with a tiny model and an experiment.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        letters(&folder.at("model"));
        let rows: String = (0..6)
            .map(|index| {
                let context = format!("{HOSTILE} THE KEEPER OF LIGHTHOUSE {index} IS MARMALADE. SHIPS PASS AT NIGHT.");
                serde_json::json!({"context": context, "question": "WHO KEEPS IT?", "answer": ["MARMALADE"]})
            })
            .map(|row| format!("{row}\n"))
            .collect();
        std::fs::write(folder.at("rows.jsonl"), rows).unwrap();
        let toml = format!(
            "[model]\npath = {:?}\ndtype = \"f32\"\n[task]\nfile = {:?}\nmax_new_tokens = 6\n[[press]]\nname = \"knorm\"\n\
             [[press]]\nlabel = \"<b>random</b>\"\nname = \"random\"\n[sweep]\ncompression_ratio = [0.25, 0.75]\n\
             [run]\noutput = \"unused\"\nselections = true\n",
            folder.at("model"),
            folder.at("rows.jsonl")
        );
        std::fs::write(folder.at("run.toml"), toml).unwrap();
        folder
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn path(&self, name: &str) -> String {
        self.at(name).display().to_string()
    }

    /// Runs into a folder, with overrides.
    fn run(&self, output: &str, set: &[&str]) -> String {
        let output = format!("run.output={:?}", self.path(output));
        let file = self.path("run.toml");
        let mut args = vec!["run", &file, "--set", &output];
        args.extend(set.iter().flat_map(|set| ["--set", set]));
        ran(&args)
    }
}

fn ran(args: &[&str]) -> String {
    let output = pressroom(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    stdout(&output)
}

#[test]
fn diff_of_equal_runs_is_empty_and_names_what_differs_of_others() {
    let folder = Folder::new();
    folder.run("a", &[]);
    let diff = |other: &str| ran(&["diff", &folder.path("a"), &folder.path(other)]);
    folder.run("b", &[]);
    assert_eq!(diff("b"), "");
    folder.run("threads", &["run.threads=1"]);
    folder.run("more threads", &["run.threads=2"]);
    let told = ran(&["diff", &folder.path("threads"), &folder.path("more threads")]);
    assert!(told.contains("threads: 1 before, 2 now"), "{told}");
    folder.run("bf16", &["model.dtype=\"bf16\"", "task.max_new_tokens=16"]);
    let told = diff("bf16");
    for part in
        ["dtype: \"Float\" before, \"BFloat16\" now", "the first that differs is sample 0, question 0", "token "]
    {
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
    std::fs::write(folder.at("model/chat_template.jinja"), "ASK: {{ messages[0]['content'] }} SAY:").unwrap();
    folder.run("template", &[]);
    let told = diff("template");
    assert!(told.contains("template_sha256: ") && told.contains("the first that differs is sample 0"), "{told}");
    refused(&["diff", &folder.path("a"), &folder.path("model")], &["is no run folder", "plan.json"]);
}

#[test]
fn a_report_is_a_page_figures_and_markdown() {
    let folder = Folder::new();
    let table = folder.run("run", &[]);
    for part in ["question hidden", "95 %", "rank", "to uncompressed", "6 samples"] {
        assert!(table.contains(part), "{part:?} is not in {table}");
    }
    folder.run("visible", &["task.question=\"visible\""]);
    let (report, markdown) = (folder.path("report"), folder.path("report.md"));
    let runs = [folder.path("run"), folder.path("visible")];
    let text = ran(&["report", &runs[0], &runs[1], "--output", &report, "--markdown", &markdown]);
    // The regimes never share a table.
    assert_eq!(text.matches("| press").count(), 2, "{text}");
    let page = std::fs::read_to_string(folder.at("report/index.html")).unwrap();
    assert!(!page.contains("<b>random</b>") && page.contains("&lt;b&gt;random"));
    assert_eq!(page.to_lowercase().matches("<script").count(), 2);
    let svg = std::fs::read_to_string(folder.at("report/question-hidden-accuracy-by-ratio.svg")).unwrap();
    assert!(svg.contains("&lt;b&gt;random") && !svg.contains("<b>random"), "{svg}");
    let png = std::fs::read(folder.at("report/question-visible-accuracy-by-bytes.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG"));
    let markdown = std::fs::read_to_string(folder.at("report.md")).unwrap();
    assert!(markdown.contains("](report/question-hidden-accuracy-by-ratio.svg)"), "{markdown}");
    refused(&["report", &folder.path("nothing")], &["nothing", "is no run folder"]);
}

#[test]
fn show_draws_what_was_kept_and_says_why_an_answer_was_lost() {
    let folder = Folder::new();
    folder.run("run", &[]);
    let run = folder.path("run");
    let overview = ran(&["show", &run, "0"]);
    assert!(overview.contains("knorm at 0.75") && overview.contains("The uncompressed run loses it too"), "{overview}");
    let half = ran(&["show", &run, "2", "--press", "knorm", "--ratio", "0.75"]);
    for part in ["question hidden: WHO KEEPS IT?", "knorm at 0.75", "right: MARMALADE", "Evicted in", "by layer", "·"]
    {
        assert!(half.contains(part), "{part:?} is not in {half}");
    }
    assert!(!half.contains('\x1b'));
    let both =
        ran(&["show", &run, "2", "--press", "knorm", "--ratio", "0.75", "--against", "<b>random</b>", "--layer", "1"]);
    assert!(both.contains("pairs are kept by both") && both.contains("{+") && both.contains("[-"), "{both}");
    let page = folder.path("view.html");
    ran(&["show", &run, "2", "--press", "knorm", "--html", &page]);
    let page = std::fs::read_to_string(page).unwrap();
    // Every letter is a token, with a tag of its own.
    let text: String = page.split('<').filter_map(|part| Some(part.split_once('>')?.1)).collect();
    assert!(!page.to_lowercase().contains("<script") && text.contains("&lt;SCRIPT&gt;"), "{text}");
    let knorm = ["show", &run, "2", "--press", "knorm"];
    refused(&[&knorm[..], &["--layer", "9"]].concat(), &["there is no layer 9"]);
    refused(&["show", &run, "2", "--press", "norm"], &["no press of the run is called `norm`; did you mean `knorm`?"]);
    refused(&["show", &run, "77"], &["no sample 77", "samples go to 5"]);
}
