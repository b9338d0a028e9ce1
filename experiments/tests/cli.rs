//! The real binary: on the real model where an answer counts, on a tiny one where an error does.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use pressroom::model::{TextTokenizer, models_home};
use support::{golden, letters, pressroom, pressroom_with, refused, refused_with, stdout};

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

const NEEDLE: &str = "The bakery opens at six. The password of the lighthouse is marmalade. Ships pass at night, and the \
    keeper sleeps by day. Nobody swims in the harbour in winter, because the water is cold and the stones are sharp.";

/// A context file.
fn context(folder: &Path, text: &str) -> String {
    let path = folder.join("context.txt");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

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
fn model_info_predicts_sizes() {
    let folder = tempfile::tempdir().unwrap();
    let config = r#"{"model_type": "llama", "vocab_size": 128256, "hidden_size": 8192, "intermediate_size": 28672,
        "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8, "rope_theta": 500000.0,
        "max_position_embeddings": 8192}"#;
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    let info = stdout(&pressroom(&["model", "info", &folder.path().display().to_string(), "--context", "1000000"]));
    assert!(info.contains("KV cache 327.7 GB") && info.contains("70553"), "{info}");
    // 141.1 of weights, 16.9 of hidden states and tables, 4.5 of one layer, 327.7 of the cache.
    assert!(info.contains("peak 490.2 GB") && info.contains("hidden states 16.9 GB"), "{info}");
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

/// A copy of a tiny model folder with a tokenizer from the real one.
fn tiny(folder: &Path) -> PathBuf {
    let at = folder.join("tiny");
    std::fs::create_dir_all(&at).unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(golden("tiny/gqa").join(name), at.join(name)).unwrap();
    }
    let config = std::fs::read_to_string(at.join("config.json")).unwrap();
    std::fs::write(
        at.join("config.json"),
        config.replace("\"max_position_embeddings\": 32", "\"max_position_embeddings\": 4096"),
    )
    .unwrap();
    let real = models_home().join("smollm2-135m-instruct");
    for name in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
        std::fs::copy(real.join(name), at.join(name)).unwrap();
    }
    at
}

#[test]
fn broken_model_folders_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let text = context(folder.path(), NEEDLE);
    let broken = |change: &dyn Fn(&Path), expected: &[&str]| {
        let model = tiny(folder.path());
        change(&model);
        refused(&["ask", "--context", &text, "--question", "q?", "--model", &model.display().to_string()], expected);
        std::fs::remove_dir_all(model).unwrap();
    };
    let write = |name: &'static str, content: &'static str| {
        move |model: &Path| std::fs::write(model.join(name), content).unwrap()
    };
    let remove = |name: &'static str| move |model: &Path| std::fs::remove_file(model.join(name)).unwrap();
    broken(&remove("config.json"), &["holds no config.json"]);
    broken(&remove("model.safetensors"), &["model.safetensors", "No such file"]);
    broken(&remove("tokenizer.json"), &["tokenizer.json", "No such file"]);
    broken(&|_| (), &["vocabulary of 64"]);
    let untemplated = |model: &Path| {
        std::fs::remove_file(model.join("chat_template.jinja")).unwrap();
        std::fs::write(model.join("tokenizer_config.json"), "{}").unwrap();
    };
    broken(&untemplated, &["no chat template", "raw"]);
    broken(&write("config.json", "{"), &["config.json"]);
    broken(&write("config.json", r#"{"model_type": "gpt2"}"#), &["config.json"]);
    broken(&write("tokenizer.json", "{\"version\": 1}"), &["tokenizer.json", "no usable tokenizer"]);
    broken(&write("chat_template.jinja", "{% for m in messages %}"), &["chat_template.jinja", "cannot be compiled"]);
    broken(
        &write("chat_template.jinja", "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}"),
        &["does not come to an end"],
    );
    broken(&write("chat_template.jinja", "{% include 'chat' %}"), &["cannot be rendered"]);
    broken(&write("chat_template.jinja", "nothing"), &["does not show the user's message"]);
    broken(&write("model.safetensors", ""), &["model.safetensors", "no intact safetensors file"]);
    broken(
        &write("model.safetensors.index.json", r#"{"weight_map": {"a": "../../etc/passwd"}}"#),
        &["only files beside the index"],
    );
    broken(&write("model.safetensors.index.json", r#"{"weight_map": {}}"#), &["weight_map names no file"]);
    // The sizes of config.json against the weights: all differences at once.
    let config = std::fs::read_to_string(golden("tiny/gqa/config.json")).unwrap();
    let other = config
        .replace("\"vocab_size\": 64", "\"vocab_size\": 63")
        .replace("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4");
    broken(
        &|model| std::fs::write(model.join("config.json"), &other).unwrap(),
        &[
            "do not fit config.json",
            "model.embed_tokens.weight has shape [64, ",
            "model.layers.3.mlp.down_proj.weight is missing",
        ],
    );
    for (from, to) in [
        ("\"num_attention_heads\": 4", "\"num_attention_heads\": 0"),
        ("\"vocab_size\": 64", "\"vocab_size\": 9223372036854775807"),
        ("\"num_hidden_layers\": 3", "\"num_hidden_layers\": -1"),
    ] {
        let config = config.replace(from, to);
        broken(
            &|model| std::fs::write(model.join("config.json"), &config).unwrap(),
            &["config.json", "allowed is 1 to"],
        );
    }
}

#[test]
fn weight_files_cut_anywhere_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let text = context(folder.path(), NEEDLE);
    let model = tiny(folder.path());
    let whole = std::fs::read(model.join("model.safetensors")).unwrap();
    for cut in [1, 7, 8, 9, 100, 1000, whole.len() / 2, whole.len() - 1] {
        std::fs::write(model.join("model.safetensors"), &whole[..cut]).unwrap();
        refused(
            &["ask", "--context", &text, "--question", "q?", "--model", &model.display().to_string()],
            &["no intact safetensors file"],
        );
    }
    for length in [0u64, 1, u64::MAX, 1 << 40] {
        let mut bytes = whole.clone();
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        std::fs::write(model.join("model.safetensors"), bytes).unwrap();
        refused(
            &["ask", "--context", &text, "--question", "q?", "--model", &model.display().to_string()],
            &["no intact safetensors file"],
        );
    }
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

#[test]
fn a_model_of_the_hub_goes_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("hub");
    let variables = [("HF_HUB_CACHE", cache.as_path())];
    let text = context(folder.path(), "WHO KEEPS THE LIGHTHOUSE");
    let ask =
        ["ask", "--context", &text, "--question", "WHO?", "--max-new-tokens", "3", "--model", "org/name", "--json"];
    refused_with(&variables, &ask, &["no model `org/name`", "`pressroom model fetch org/name` brings it"]);
    let snapshot = cache.join("models--org--name/snapshots/0123abc");
    letters(&snapshot);
    std::fs::create_dir_all(cache.join("models--org--name/refs")).unwrap();
    std::fs::write(cache.join("models--org--name/refs/main"), "0123abc").unwrap();
    let output = pressroom_with(&variables, &ask);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["model"], &report["context_tokens"]), (&"org/name".into(), &25.into()));
    let info = stdout(&pressroom_with(&variables, &["model", "info", "org/name"]));
    assert!(info.starts_with("org/name (") && info.contains("3 layers"), "{info}");
    // A hub where nobody answers: what is there is used.
    let offline = [variables[0], ("HF_ENDPOINT", Path::new("http://127.0.0.1:1"))];
    let fetched = pressroom_with(&offline, &["model", "fetch", "org/name"]);
    assert!(stdout(&fetched).contains(&snapshot.display().to_string()), "{}", stdout(&fetched));
    refused_with(&offline, &["model", "fetch", "org/other"], &["127.0.0.1:1 cannot be reached", "check the network"]);
    std::fs::remove_file(snapshot.join("model.safetensors")).unwrap();
    refused_with(&variables, &ask, &["no model.safetensors", "`pressroom model fetch org/name` completes it"]);
}

#[test]
fn a_gpu_that_cannot_be_used_is_told_with_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    letters(&folder.path().join("model"));
    let model = folder.path().join("model").display().to_string();
    let text = context(folder.path(), "WHO KEEPS THE LIGHTHOUSE");
    let ask = |device: &'static str| {
        [
            "ask",
            "--context",
            &text,
            "--question",
            "WHO?",
            "--max-new-tokens",
            "2",
            "--model",
            &model,
            "--device",
            device,
        ]
    };
    let libraries = folder.path().join("libraries");
    std::fs::create_dir_all(&libraries).unwrap();
    let variables = [("PRESSROOM_LIBTORCH_CUDA", libraries.as_path())];
    let doctor = || stdout(&pressroom_with(&variables, &["doctor"]));
    let cases = [None, Some("not a library"), Some("")];
    for (content, said) in cases.iter().zip(["holds no libtorch_cuda.so", "file too short", "file too short"]) {
        if let Some(content) = content {
            std::fs::write(libraries.join("libtorch_cuda.so"), content).unwrap();
        }
        refused_with(&variables, &ask("cuda:0"), &["device cuda:0 cannot be used", said, "or use device cpu"]);
        assert!(doctor().contains("CUDA       not usable") && doctor().contains(said), "{}", doctor());
        // `auto` goes on without, and says so where somebody had put the library there.
        let auto = pressroom_with(&variables, &ask("auto"));
        let stderr = String::from_utf8_lossy(&auto.stderr);
        assert!(auto.status.success(), "{stderr}");
        assert_eq!(stderr.contains("device auto is the processor"), content.is_some(), "{stderr}");
    }
}

#[test]
fn a_gpus_report_is_shown_as_tables() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let path = file.display().to_string();
    let report = r#"{"date": "2026-11-24", "device": "cuda:0", "torch": "2.11.0", "nvidia_smi": "GPU 0: a card",
        "checks": {"doctor": {"ok": true, "output": ""}, "kernels": {"ok": false, "output": "off by 1"}},
        "kernels": [{"kernel": "attention", "layout": "dense", "dtype": "bf16", "context_tokens": 32768, "batch": 8,
            "seconds": 4e-4, "bytes_per_s": 2.5e12, "bandwidth_share": 0.86}], "bench": null}"#;
    std::fs::write(&file, report).unwrap();
    let shown = stdout(&pressroom(&["bench", "--show", &path]));
    for part in ["2026-11-24, GPU 0: a card, torch 2.11.0: failed: kernels", "32768", "400 µs", "2500.0 GB/s", "86 %"]
    {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
    std::fs::write(&file, "{}").unwrap();
    refused(&["bench", "--show", &path], &["is no report of `pressroom bench --json`", "missing field"]);
    refused(&["bench", "--show", "/nowhere"], &["/nowhere"]);
}

/// With libraries that stand in for libtorch's CUDA half and for the driver.
#[test]
fn a_driver_that_is_damaged_old_or_without_a_gpu_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let libraries = folder.path();
    let build = |name: &str, source: &str| {
        std::fs::write(libraries.join("source.c"), source).unwrap();
        let arguments = ["-shared", "-fPIC", "source.c", "-o", name];
        assert!(Command::new("cc").args(arguments).current_dir(libraries).status().unwrap().success());
    };
    build("libtorch_cuda.so", "");
    let version = |number: u32, devices: u32| {
        format!(
            "int cuDriverGetVersion(int* version) {{ *version = {number}; return 0; }}
             int cuInit(unsigned flags) {{ (void)flags; return 0; }}
             int cuDeviceGetCount(int* count) {{ *count = {devices}; return 0; }}"
        )
    };
    std::os::unix::fs::symlink("libcuda.so.1", libraries.join("libcuda.so")).unwrap();
    let cases = [
        (None, "there is no NVIDIA driver (", "install the driver of this machine's GPU"),
        (Some(version(12_080, 1)), "knows CUDA 12.8, and 13.0 is needed", "install driver 580 or newer"),
        (Some(version(13_000, 0)), "the NVIDIA driver sees no device", "check `nvidia-smi`"),
        (Some(version(13_000, 1)), "the NVIDIA driver sees a device and libtorch none", "check `nvidia-smi`"),
    ];
    for (source, problem, remedy) in cases {
        match source {
            Some(source) => build("libcuda.so.1", &source),
            None => std::fs::write(libraries.join("libcuda.so.1"), "damaged").unwrap(),
        }
        let variables = [("PRESSROOM_LIBTORCH_CUDA", libraries), ("LD_LIBRARY_PATH", libraries)];
        let report = stdout(&pressroom_with(&variables, &["doctor"]));
        let line = report.lines().find(|line| line.starts_with("CUDA")).unwrap();
        assert!(line.contains(problem) && line.contains(remedy), "{line}");
    }
}

#[test]
fn libtorchs_cuda_half_is_opened_where_it_is_installed() {
    let installed = models_home().parent().unwrap().join("libtorch-cuda/torch/lib/libtorch_cuda.so").is_file();
    if !installed && std::env::var_os("PRESSROOM_LIBTORCH_CUDA").is_none() {
        eprintln!("skipped: no CUDA libraries (`make setup-cuda` brings them)");
        return;
    }
    let report = stdout(&pressroom(&["doctor"]));
    let line = report.lines().find(|line| line.starts_with("CUDA")).unwrap();
    // It opens; whether there is a driver and a device is the machine's affair.
    let outcomes = [" devices; libtorch 2.", "the NVIDIA driver", "there is no NVIDIA driver"];
    assert!(outcomes.iter().any(|outcome| line.contains(outcome)), "{line}");
}

#[test]
fn calibrated_side_data_is_found_by_the_press_without_being_named() {
    let folder = tempfile::tempdir().unwrap();
    let text = context(folder.path(), &NEEDLE.repeat(6));
    let home = folder.path().join("home");
    let model = models_home().join("smollm2-135m-instruct");
    let model = model.to_str().unwrap();
    let asks =
        ["ask", "--press", "qfilter", "--ratio", "0.3", "--context", &text, "--question", "Why?", "--model", model];
    let home: &[(&str, &Path)] = &[("PRESSROOM_HOME", &home)];
    refused_with(home, &asks, &["nothing was calibrated", "pressroom calibrate qfilter", "--text FILE"]);
    let made = pressroom_with(home, &["calibrate", "qfilter", "--model", model, "--text", &text, "--tokens", "64"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(stdout(&made).contains("side-data/qfilter/smollm2-135m-instruct/model.safetensors"), "{}", stdout(&made));
    let answered = pressroom_with(home, &[&asks[..], &["--json", "--max-new-tokens", "2"]].concat());
    assert!(answered.status.success(), "{}", String::from_utf8_lossy(&answered.stderr));
}

#[test]
fn few_heads_fetch_the_number_of_a_needle() {
    let folder = tempfile::tempdir().unwrap();
    let text = context(folder.path(), &NEEDLE.repeat(12));
    let model = models_home().join("smollm2-135m-instruct");
    let made = pressroom_with(
        &[("PRESSROOM_HOME", folder.path())],
        &[
            "calibrate",
            "headkv",
            "--model",
            model.to_str().unwrap(),
            "--text",
            &text,
            "--tokens",
            "150",
            "--samples",
            "3",
        ],
    );
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let scores = std::fs::read_to_string(stdout(&made).trim()).unwrap();
    let scores: std::collections::BTreeMap<String, Vec<f64>> = serde_json::from_str(&scores).unwrap();
    assert_eq!(scores.len(), 30 * 9);
    let texts = scores["0-0"].len();
    assert!(texts > 1 && scores.values().all(|scores| scores.len() == texts));
    assert!(scores.values().flatten().all(|score| (0.0..=1.0).contains(score)));
    let mut means: Vec<f64> = scores.values().map(|scores| scores.iter().sum::<f64>() / texts as f64).collect();
    means.sort_by(f64::total_cmp);
    assert!(means[269] > 0.4 && means[135] < 0.05, "best {}, median {}", means[269], means[135]);
}

#[test]
fn what_cannot_be_calibrated_is_refused() {
    let text = golden("README.md");
    let calibrate = |press: &str, file: &str| ["calibrate", press, "--text", file].map(str::to_owned);
    let cases = [
        (calibrate("knorm", text.to_str().unwrap()), "`knorm` cannot be calibrated"),
        (calibrate("qfilters", text.to_str().unwrap()), "did you mean `qfilter`?"),
        (calibrate("qfilter", "/no/such/file"), "/no/such/file"),
    ];
    for (args, expected) in cases {
        refused(&args.each_ref().map(String::as_str), &[expected]);
    }
}
