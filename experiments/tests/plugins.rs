//! The real binary and bad plugins: each fault is named, and in isolation nothing else is touched.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use pressroom::model::{LlamaConfig, Rotary};
use pressroom::pipeline::Session;
use pressroom::press::{Budget, Params, Pipeline, Press, Registry, Stage};
use pressroom::view::{Geometry, LayerView, Materialised};
use pressroom_plugin_host::isolation::Isolation;
use pressroom_plugin_host::{open, register};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A library that cargo has built beside this test.
fn built(name: &str) -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().join(name)
}

fn compile(source: &str, flags: &[&str], library: &Path) {
    let root = root();
    let mut command = Command::new("cc");
    command.args(["-std=gnu11", "-O1", "-w", "-shared", "-fPIC"]).args(flags);
    command.arg("-I").arg(root.join("plugins/abi/include")).arg(root.join("plugins").join(source));
    let output = command.arg("-o").arg(library).arg("-lm").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Every fault with the check that names it and its library.
fn corpus(folder: &Path) -> Vec<(String, String, PathBuf)> {
    let list = std::fs::read_to_string(root().join("plugins/corpus/faults.txt")).unwrap();
    let faults: Vec<_> = list.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(faults.len() >= 30);
    let compiled = faults.into_iter().map(|line| {
        let (fault, check) = line.split_once(' ').unwrap();
        let library = folder.join(format!("{fault}.so"));
        compile("corpus/broken.c", &[&format!("-DFAULT_{fault}")], &library);
        (fault.to_owned(), check.to_owned(), library)
    });
    compiled.collect()
}

/// The findings of `pressroom plugin check`, and whether it passed.
fn check(library: &Path, seconds: &str) -> (Vec<Value>, bool) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pressroom"));
    let output = command.args(["plugin", "check", "--json", "--time-limit-s", seconds]).arg(library).output().unwrap();
    assert!(output.stdout.starts_with(b"["), "{output:?}");
    (serde_json::from_slice(&output.stdout).unwrap(), output.status.success())
}

/// Checks at fault, as `press: check`.
fn faults(findings: &[Value]) -> Vec<String> {
    let at_fault = findings.iter().filter(|finding| matches!(finding["outcome"].as_str(), Some("failed" | "crashed")));
    at_fault.map(|finding| finding["check"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_fault_of_the_corpus_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for (fault, expected, library) in corpus(folder.path()) {
        let (findings, passed) = check(&library, "10");
        let faults = faults(&findings);
        assert!(faults.contains(&expected) && !passed, "{fault}: {expected} is not among {faults:?}");
    }
}

#[test]
fn panics_are_told_with_their_place() {
    let (findings, _) = check(&built("libpressroom_plugin_corpus.so"), "10");
    for (press, check) in [
        ("panic_in_check", "creates"),
        ("panic_in_needs", "needs-agree"),
        ("panic_in_score", "answers"),
        ("panic_in_select", "answers"),
    ] {
        let finding = findings.iter().find(|finding| finding["press"] == press && finding["check"] == check).unwrap();
        assert_eq!(finding["outcome"], "failed", "{finding}");
        let detail = finding["detail"].as_str().unwrap();
        assert!(detail.contains("panicked at plugins/corpus/src/lib.rs:") && detail.contains("index"), "{detail}");
    }
}

#[test]
fn good_plugins_pass_every_check() {
    let folder = tempfile::tempdir().unwrap();
    let (twins, sound) = (folder.path().join("libtwins.so"), folder.path().join("libsound.so"));
    compile("examples/c/twins.c", &[], &twins);
    compile("corpus/broken.c", &[], &sound);
    let with_libtorch = built("libpressroom_plugin_example_tch.so");
    for library in [built("libpressroom_plugin_examples.so"), with_libtorch, twins, sound] {
        // A busy machine is no fault of theirs.
        let (findings, passed) = check(&library, "120");
        let odd: Vec<_> =
            findings.iter().filter(|finding| !matches!(finding["outcome"].as_str(), Some("ok" | "skipped"))).collect();
        assert!(passed && odd.is_empty(), "{}: {odd:?}", library.display());
        let first = &findings[findings.len() - 1]["press"];
        let own = findings.iter().filter(|finding| finding["press"].is_null() || finding["press"] == *first);
        assert!(own.count() >= 40, "there are fewer than 40 checks");
    }
}

/// An experiment with a plugin.
fn experiment(folder: &Path, plugin: &str, press: &str) -> String {
    let text = format!(
        "[model]\npath = \"absent\"\n[task]\nname = \"needle\"\n[[plugin]]\n{plugin}\n[[press]]\n{press}\n\
         compression_ratio = 0.5\n[run]\noutput = \"out\"\n"
    );
    let file = folder.join("x.toml");
    std::fs::write(&file, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_pressroom")).arg("run").arg(&file).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn mistakes_about_plugins_are_shown_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let library = format!("path = {:?}", built("libpressroom_plugin_examples.so"));
    let isolated = format!("{library}\nisolated = true");
    let hashed = format!("{library}\nsha256 = \"{}\"", "0".repeat(64));
    for (plugin, press, expected) in [
        ("path = \"absent.so\"", "name = \"rkv\"", ["plugin absent.so: No such file", "x.toml:6:8"]),
        (&hashed, "name = \"rkv\"", ["its SHA-256 is", "x.toml:6:8"]),
        (&library, "name = \"rkw\"", ["did you mean `rkv`?", "x.toml:8:8"]),
        (&library, "name = \"rkv\"\nlambda = 1.5", ["`lambda` is 1.5, allowed is 0 to 1", "x.toml:9:10"]),
        (&isolated, "name = \"rkv\"\nkernel_size = 4", ["kernel_size is odd", "x.toml:9:8"]),
        (&isolated, "name = \"rkv\"", ["absent", ""]),
    ] {
        let text = experiment(folder.path(), plugin, press);
        assert!(expected.iter().all(|part| text.contains(part)), "{plugin} {press}: {text}");
    }
}

#[test]
fn a_new_plugin_is_written_once_and_under_a_good_name() {
    let folder = tempfile::tempdir().unwrap();
    let new = |name: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pressroom"));
        command.current_dir(folder.path()).args(["plugin", "new", name]).output().unwrap()
    };
    let output = new("my-press");
    assert!(output.status.success(), "{output:?}");
    let manifest = std::fs::read_to_string(folder.path().join("my-press/Cargo.toml")).unwrap();
    assert!(manifest.contains("name = \"my-press\"") && manifest.contains("plugins/sdk\""), "{manifest}");
    let source = std::fs::read_to_string(folder.path().join("my-press/src/lib.rs")).unwrap();
    assert!(source.contains("\"my_press\"") && !source.contains("{press}"), "{source}");
    for (name, expected) in [
        ("my-press", "is there already"),
        ("My Press", "is no name"),
        ("..", "is no name"),
        ("snapkv", "is a built-in press"),
        ("serde", "is no name"),
        ("match", "is no name"),
    ] {
        let stderr = String::from_utf8(new(name).stderr).unwrap();
        assert!(stderr.contains(expected), "{stderr}");
    }
}

const GEOMETRY: Geometry = Geometry { layers: 2, heads: 4, kv_heads: 2, head_dim: 8 };

fn rotary() -> Rotary {
    let config = r#"{"model_type": "llama", "vocab_size": 8, "hidden_size": 32, "intermediate_size": 8,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}"#;
    Rotary::new(&LlamaConfig::parse(config).unwrap(), Device::Cpu).unwrap()
}

/// A layer of 60 tokens.
fn view(rotary: &Rotary, layer: usize) -> LayerView<'_> {
    let draw = |part: u64, heads: i64| {
        pressroom::random::uniform(10 * layer as u64 + part, &[1, heads, 60, 8], Device::Cpu).unwrap() - 0.5
    };
    let parts = Materialised { queries: Some(draw(2, 4)), ..Materialised::default() };
    LayerView::new(layer, GEOMETRY, draw(0, 2), draw(1, 2), parts, rotary).unwrap()
}

fn isolation(seconds: u64) -> Isolation {
    Isolation { program: env!("CARGO_BIN_EXE_pressroom").into(), seconds, memory_mib: 1024 }
}

fn isolated(library: &Path, seconds: u64) -> Result<Registry, String> {
    let mut registry = Registry::default();
    let opened = open(library, None, Some(&isolation(seconds))).map_err(|refusal| refusal.to_string())?;
    register(&mut registry, opened).map_err(|error| error.to_string())?;
    Ok(registry)
}

fn make(registry: &Registry, name: &str) -> Result<Arc<dyn Press>, String> {
    let built = registry.find(name).unwrap().build(&Params::new(), Vec::new());
    built.and_then(pressroom::press::Built::into_press).map_err(|error| error.to_string())
}

fn kept(press: &dyn Press, view: &LayerView<'_>) -> Result<Vec<Vec<i64>>, String> {
    let selection = press.select(view, Budget::from_ratio(0.5).unwrap()).map_err(|error| error.to_string())?;
    selection.check(1, GEOMETRY.kv_heads, view.tokens()).map_err(|error| error.to_string())?;
    selection.to_lists(2, view.tokens()).map_err(|error| error.to_string())
}

#[test]
fn in_isolation_the_host_and_the_others_survive_every_fault() {
    let folder = tempfile::tempdir().unwrap();
    let rotary = rotary();
    let sound = make(&pressroom_presses::registry().unwrap(), "knorm").unwrap();
    let expected: Vec<_> = (0..2).map(|layer| kept(sound.as_ref(), &view(&rotary, layer)).unwrap()).collect();
    let (environment, directory) = (std::env::vars_os().count(), std::env::current_dir().unwrap());
    for (fault, _, library) in corpus(folder.path()) {
        let broken = isolated(&library, 2).and_then(|registry| make(&registry, "broken"));
        for (layer, expected) in expected.iter().enumerate() {
            let view = view(&rotary, layer);
            let before = [view.keys().copy(), view.values().copy()];
            let outcome = broken.as_ref().map_err(Clone::clone).and_then(|press| kept(press.as_ref(), &view));
            if let Err(text) = &outcome {
                assert!(!text.is_empty(), "{fault}");
            }
            assert!(view.keys().equal(&before[0]) && view.values().equal(&before[1]), "{fault} changed the layer");
            assert_eq!(&kept(sound.as_ref(), &view).unwrap(), expected, "{fault} changed another press");
        }
    }
    assert_eq!(std::env::vars_os().count(), environment);
    assert_eq!(std::env::current_dir().unwrap(), directory);
}

#[test]
fn a_crash_costs_one_session_and_says_what_happened() {
    let folder = tempfile::tempdir().unwrap();
    let rotary = rotary();
    for (fault, expected) in [
        ("ABORT", "was killed by SIGABRT"),
        ("SEGFAULT", "was killed by SIGSEGV"),
        ("STACK_OVERFLOW", "was killed by SIG"),
        ("EXIT", "exited with code 0"),
        ("ENDLESS_LOOP", "took longer than 2 s"),
        ("WRITES_INPUTS", "was killed by SIGSEGV"),
        ("WRITES_PAST_END", "was killed by SIGSEGV"),
    ] {
        let library = folder.path().join(format!("{fault}.so"));
        compile("corpus/broken.c", &[&format!("-DFAULT_{fault}")], &library);
        let broken = make(&isolated(&library, 2).unwrap(), "broken").unwrap();
        let sound = make(&pressroom_presses::registry().unwrap(), "knorm").unwrap();
        let session = |press: Arc<dyn Press>| {
            let method = pressroom::press::Method::Layer(press);
            let budgets = vec![Budget::from_ratio(0.5).unwrap(); 2];
            Session::new(Pipeline::new(vec![Stage { method, budgets }], 2).unwrap())
        };
        let (mut broken, mut sound) = (session(broken), session(sound));
        let mut errors = Vec::new();
        for layer in 0..2 {
            use pressroom::hooks::AttentionHook;
            errors.extend(broken.on_layer(&view(&rotary, layer)).err().map(|error| error.to_string()));
            sound.on_layer(&view(&rotary, layer)).unwrap();
        }
        assert!(errors[0].contains(expected) && errors[0].contains("broken@"), "{fault}: {errors:?}");
    }
}

#[test]
fn an_isolated_plugin_cannot_reach_the_host_through_what_they_share() {
    let folder = tempfile::tempdir().unwrap();
    let rotary = rotary();
    for (fault, expected) in [("CUTS_MEMORY", None), ("BABBLES", Some("answered nonsense and was ended"))] {
        let library = folder.path().join(format!("{fault}.so"));
        compile("corpus/broken.c", &[&format!("-DFAULT_{fault}")], &library);
        let broken = make(&isolated(&library, 2).unwrap(), "broken").unwrap();
        for layer in 0..2 {
            let outcome = kept(broken.as_ref(), &view(&rotary, layer));
            match expected {
                None => assert!(outcome.is_ok(), "{fault}: {outcome:?}"),
                Some(text) => {
                    assert!(outcome.as_ref().is_err_and(|error| error.contains(text)), "{fault}: {outcome:?}")
                }
            }
        }
    }
}

#[test]
fn isolated_results_are_those_of_this_process() {
    let rotary = rotary();
    let library = built("libpressroom_plugin_examples.so");
    let apart = isolated(&library, 20).unwrap();
    let mut here = Registry::default();
    register(&mut here, open(&library, None, None).unwrap()).unwrap();
    for name in here.names() {
        let params = here.find(name).unwrap().info().param("window_size").map(|param| param.name.clone());
        let params: Params = params.map(|name| (name, pressroom::press::Value::Integer(8))).into_iter().collect();
        let make = |registry: &Registry| registry.find(name).unwrap().build(&params, Vec::new()).unwrap();
        for kind in [Kind::Float, Kind::BFloat16] {
            let wide = view(&rotary, 1);
            let parts = Materialised {
                queries: Some(wide.queries(pressroom::press::Span::All).unwrap()),
                ..Materialised::default()
            };
            // Heads and tokens swapped in memory, as a model's projections leave them.
            let swap = |data: &Tensor| data.to_kind(kind).transpose(1, 2).contiguous().transpose(1, 2);
            let view = LayerView::new(0, GEOMETRY, swap(wide.keys()), swap(wide.values()), parts, &rotary).unwrap();
            match (make(&here), make(&apart)) {
                (pressroom::press::Built::Scorer(here), pressroom::press::Built::Scorer(apart)) => {
                    let scores = |scorer: &dyn pressroom::press::Scorer| scorer.score(&view, Budget::ALL).unwrap();
                    assert!(scores(here.as_ref()).equal(&scores(apart.as_ref())), "{name}");
                }
                (here, apart) => {
                    let lists =
                        |built: pressroom::press::Built| kept(built.into_press().unwrap().as_ref(), &view).unwrap();
                    assert_eq!(lists(here), lists(apart), "{name}");
                }
            }
        }
    }
}
