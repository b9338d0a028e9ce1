//! Answers, of the real model where they count.

use pressroom::model::{TextTokenizer, models_home};

use crate::support::{letters, pressroom};
use crate::{NEEDLE, context};

#[test]
fn ask_answers_from_a_compressed_cache() {
    let folder = tempfile::tempdir().unwrap();
    let context = context(folder.path(), &NEEDLE.repeat(4));
    let question = "\nWhat is the password of the lighthouse?";
    let ask = |more: &[&str]| -> serde_json::Value {
        let mut args = vec!["ask", "--context", &context, "--question", question, "--json", "--max-new-tokens", "16"];
        args.extend(more);
        let output = pressroom(&args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let full = ask(&["--dtype", "f32"]);
    assert_eq!(full["press"], "none");
    assert!(full["answers"][0]["text"].as_str().unwrap().contains("marmalade"), "{full}");
    assert_eq!(full["cache"]["bytes"], full["cache"]["uncompressed_bytes"]);
    let tokens = full["context_tokens"].as_i64().unwrap();

    let pressed = ask(&[
        "--dtype",
        "f32",
        "--press",
        "expected_attention",
        "--ratio",
        "0.25",
        "--question",
        "\nWhen does the bakery open?",
    ]);
    assert_eq!(pressed["answers"].as_array().unwrap().len(), 2);
    assert_eq!(pressed["cache"]["kept"].as_array().unwrap().len(), 30);
    let kept = (tokens as f64 * 0.75) as i64;
    assert_eq!(pressed["cache"]["kept"][0], serde_json::json!([kept, kept, kept]));
    assert_eq!(pressed["cache"]["bytes"].as_i64().unwrap(), kept * 2 * 30 * 3 * 64 * 4);
    for field in ["load_s", "prefill_s", "decode_s", "decode_tokens_per_s"] {
        assert!(pressed["timings"][field].as_f64().unwrap() > 0.0, "{field}");
    }
    assert!(pressed["peak_rss_bytes"].as_u64().unwrap() > 500_000_000);

    // A question asked second gets the answer it gets when it is asked alone.
    let second = ask(&["--dtype", "f32", "--press", "expected_attention", "--ratio", "0.25"]);
    assert_eq!(second["answers"][0], pressed["answers"][0]);
}

#[test]
fn kvzip_finds_the_needle_in_half_a_cache() {
    let folder = tempfile::tempdir().unwrap();
    let goods = ["apples", "rope", "lamp oil", "slate", "herring", "wool", "candles"];
    let days = |days: std::ops::Range<usize>| -> String {
        let line = |day: usize| {
            let (number, what) = (day * 37 % 50 + 3, goods[day % goods.len()]);
            format!("On day {day} the ferry brought {number} crates of {what}, and the clerk wrote it down. ")
        };
        days.map(line).collect()
    };
    let text = format!("{}The password of the lighthouse is marmalade. {}", days(1..25), days(25..45));
    let context = context(folder.path(), &text);
    let question = "\nWhat is the password of the lighthouse?";
    let args = ["ask", "--context", &context, "--question", question, "--json", "--max-new-tokens", "16"];
    let output = pressroom(&[&args[..], &["--dtype", "f32", "--press", "kvzip", "--ratio", "0.5"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(result["context_tokens"].as_u64().unwrap() > 900, "{result}");
    assert!(result["answers"][0]["text"].as_str().unwrap().contains("marmalade"), "{result}");
    let (held, full) =
        (result["cache"]["bytes"].as_f64().unwrap(), result["cache"]["uncompressed_bytes"].as_f64().unwrap());
    assert!((held / full - 0.5).abs() < 0.01, "{held} of {full} bytes");
}

#[test]
fn visible_questions_and_raw_texts_reach_the_model_as_they_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let text = NEEDLE.repeat(3);
    let path = context(folder.path(), &text);
    let question = "\nWhat is the password of the lighthouse?";
    let ask = |more: &[&str]| -> (serde_json::Value, String) {
        let mut args = vec!["ask", "--context", &path, "--question", question, "--json", "--show-prompt"];
        args.extend(["--dtype", "f32", "--max-new-tokens", "12"]);
        args.extend(more);
        let output = pressroom(&args);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{stderr}");
        (serde_json::from_slice(&output.stdout).unwrap(), stderr)
    };
    let tokenizer = TextTokenizer::read(&models_home().join("smollm2-135m-instruct")).unwrap();
    let tokens = |text: &str| tokenizer.encode(text).unwrap().len();
    let answer = |report: &serde_json::Value| report["answers"][0]["text"].as_str().unwrap().to_lowercase();
    let kept = |report: &serde_json::Value| report["cache"]["kept"][0][0].as_u64().unwrap();

    let snapkv = ["--press", "snapkv", "--ratio", "0.5"];
    let (hidden, prompt) = ask(&snapkv);
    assert_eq!(hidden["question"], "hidden");
    let rendered = prompt.split("[question]").next().unwrap();
    assert!(rendered.ends_with(&text) && !prompt.contains(question), "{prompt}");
    assert_eq!(hidden["context_tokens"], tokens(rendered));

    // The question is compressed with the text, and a press that looks at the end keeps what it asks for.
    let (visible, prompt) = ask(&[&snapkv[..], &["--visible"]].concat());
    assert_eq!(visible["question"], "visible");
    let rendered = prompt.split("[question]").next().unwrap();
    assert!(rendered.ends_with(&format!("{text}{question}")), "{prompt}");
    assert_eq!(visible["context_tokens"], tokens(rendered));
    assert!(kept(&visible) > kept(&hidden));
    assert!(answer(&visible).contains("marmalade"), "{visible}");

    // No template: the text and nothing else.
    let (raw, prompt) = ask(&["--raw", "--answer-prefix", "The password of the lighthouse is"]);
    assert_eq!(prompt.split("[question]").next().unwrap(), text);
    assert_eq!(raw["context_tokens"], tokens(&text));
    assert!(answer(&raw).contains("marmalade"), "{raw}");

    // The same two regimes in a run: every record says which it was.
    let row = serde_json::json!({"context": text, "question": question, "answer_prefix": "The password of the lighthouse is",
        "answer": ["marmalade"], "max_new_tokens": 6, "task": "facts"});
    std::fs::write(folder.path().join("row.jsonl"), format!("{row}\n")).unwrap();
    let output = folder.path().join("out");
    let toml = format!(
        "[model]\npath = \"smollm2-135m-instruct\"\ndtype = \"f32\"\n[task]\nfile = {:?}\nquestion = \"visible\"\n\
         raw = true\n[[press]]\nname = \"snapkv\"\ncompression_ratio = 0.5\n[run]\noutput = {output:?}\n",
        folder.path().join("row.jsonl"),
    );
    let file = folder.path().join("run.toml");
    std::fs::write(&file, toml).unwrap();
    let ran = pressroom(&["run", &file.display().to_string()]);
    let stderr = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && stderr.contains("question visible"), "{stderr}");
    let answers = std::fs::read_to_string(output.join("answers.jsonl")).unwrap();
    assert_eq!(answers.lines().count(), 2);
    for line in answers.lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(record["question"], "visible");
        assert!(record["score"] == 1.0 || record["press"] == "snapkv", "{record}");
        assert_eq!(record["context_tokens"], tokens(&format!("{text}{question}")));
    }
}

#[test]
fn every_generated_task_runs() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    letters(&at("model"));
    for (task, questions) in [("needle", 1), ("unlike", 1), ("instructions", 8), ("synthetic", 13), ("continuation", 1)]
    {
        let toml = format!(
            "[model]\npath = {:?}\ndtype = \"f32\"\n[task]\nname = {task:?}\nsamples = 1\ncontext_tokens = 2048\n\
             max_new_tokens = 2\n[[press]]\nname = \"knorm\"\ncompression_ratio = 0.5\n[run]\noutput = {:?}\n",
            at("model"),
            at(task)
        );
        std::fs::write(at("run.toml"), toml).unwrap();
        let output = pressroom(&["run", at("run.toml").to_str().unwrap()]);
        assert!(output.status.success(), "{task}: {}", String::from_utf8_lossy(&output.stderr));
        let answers = std::fs::read_to_string(at(task).join("answers.jsonl")).unwrap();
        let records: Vec<serde_json::Value> = answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(records.len(), 2 * questions, "{task}");
        for record in &records {
            assert!(record.get("error").is_none(), "{task}: {record}");
            assert!((1500..2100).contains(&record["context_tokens"].as_u64().unwrap()), "{task}: {record}");
            let measure = |name: &str| record["measures"][name].as_f64();
            if task != "continuation" {
                assert!(measure("strict").is_some() && !record["token_ids"].as_array().unwrap().is_empty());
                continue;
            }
            assert!(record["token_ids"].as_array().unwrap().is_empty() && measure("nll").unwrap() > 0.0);
            let whole = record["press"] == "none";
            assert_eq!(whole, measure("kl").unwrap() < 1e-6, "{record}");
            assert_eq!(whole, measure("agreement").unwrap() == 1.0, "{record}");
        }
    }
}
