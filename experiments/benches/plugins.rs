//! What a plugin costs beside its own work: `cargo bench -p pressroom-experiments --bench plugins`.
//!
//! The press of the calls does nothing, so all that is measured is the way there and back. An isolated one reads a copy
//! of the layer: beside the call about 4,096 tokens stands what copying their keys and values takes one thread. (To map
//! their memory into the child for each call would take longer: the pages have to be entered one by one.)

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench may panic")]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, SamplingMode, criterion_group, criterion_main};
use pressroom::model::{LlamaConfig, Rotary};
use pressroom::press::{Budget, Params, Registry, Scorer};
use pressroom::view::{Geometry, LayerView, Materialised};
use pressroom_plugin_host::isolation::Isolation;
use pressroom_plugin_host::{open, register};
use tch::{Device, Kind, Tensor};

/// SmolLM2's heads.
const GEOMETRY: Geometry = Geometry { layers: 30, heads: 9, kv_heads: 3, head_dim: 64 };

const CONFIG: &str = r#"{"model_type": "llama", "vocab_size": 8, "hidden_size": 576, "intermediate_size": 8,
    "num_hidden_layers": 1, "num_attention_heads": 9, "num_key_value_heads": 3}"#;

/// A plugin whose scorer writes nothing; `flag` may say of what it does without.
fn library(folder: &Path, flag: &str) -> PathBuf {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins");
    let library = folder.join(format!("libidle{flag}.so"));
    let mut cc = Command::new("cc");
    cc.args(["-std=gnu11", "-O2", "-w", "-shared", "-fPIC", "-DIDLE", flag, "-I"]).arg(plugins.join("abi/include"));
    let status = cc.arg(plugins.join("corpus/broken.c")).arg("-o").arg(&library).arg("-lm").status().unwrap();
    assert!(status.success());
    library
}

fn scorer(library: &Path, isolation: Option<&Isolation>) -> Arc<dyn Scorer> {
    let mut registry = Registry::default();
    register(&mut registry, open(library, None, isolation).unwrap()).unwrap();
    registry.find("broken").unwrap().build(&Params::new(), Vec::new()).unwrap().into_scorer().unwrap()
}

/// Isolation by the program that cargo has built beside this bench.
fn isolation() -> Isolation {
    Isolation { program: env!("CARGO_BIN_EXE_pressroom").into(), seconds: 60, memory_mib: 4096 }
}

fn calls(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let library = |flag| library(folder.path(), flag);
    let here = scorer(&library("-DIDLE"), None);
    let apart = scorer(&library("-DIDLE"), Some(&isolation()));
    let keys_only = scorer(&library("-DWITHOUT_VALUES"), Some(&isolation()));
    let rotary = Rotary::new(&LlamaConfig::parse(CONFIG).unwrap(), Device::Cpu).unwrap();
    for tokens in [64, 4096] {
        let zeros = || Tensor::zeros([1, 3, tokens, 64], (Kind::Float, Device::Cpu));
        let view = LayerView::new(0, GEOMETRY, zeros(), zeros(), Materialised::default(), &rotary).unwrap();
        for (name, scorer) in [("in this process", &here), ("isolated", &apart), ("isolated, keys only", &keys_only)] {
            criterion.bench_function(&format!("call of {tokens} tokens, {name}"), |bencher| {
                bencher.iter(|| black_box(scorer.score(&view, Budget::ALL).unwrap()));
            });
        }
        let from = vec![0f32; 2 * 3 * 64 * tokens as usize];
        let mut to = from.clone();
        criterion.bench_function(&format!("copy of {tokens} tokens"), |bencher| {
            bencher.iter(|| black_box(&mut to).copy_from_slice(black_box(&from)));
        });
    }
}

fn loading(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let examples = std::env::current_exe().unwrap().parent().unwrap().join("libpressroom_plugin_examples.so");
    let mut copies = 0;
    // What is loaded stays, with its file: no more of it than needed.
    let mut group = criterion.benchmark_group("load");
    group.sampling_mode(SamplingMode::Flat).sample_size(20);
    group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_millis(500));
    group.bench_function("for the first time", |bencher| {
        let copy = || {
            copies += 1;
            let path = folder.path().join(format!("lib{copies}.so"));
            std::fs::copy(&examples, &path).unwrap();
            path
        };
        bencher.iter_batched(copy, |path| black_box(open(&path, None, None).unwrap()), BatchSize::PerIteration);
    });
    group.bench_function("again", |bencher| {
        bencher.iter(|| black_box(open(&examples, None, None).unwrap()));
    });
    group.bench_function("isolated", |bencher| {
        bencher.iter(|| black_box(open(&examples, None, Some(&isolation())).unwrap()));
    });
    group.finish();
}

criterion_group!(benches, calls, loading);
criterion_main!(benches);
