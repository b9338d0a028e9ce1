//! What a plugin costs beside its own work: `cargo bench -p pressroom-experiments --bench plugins`.
//!
//! The press does nothing, so all that is measured is the way there and back: a layer of 64 tokens for the call itself,
//! one of 4,096 for what an isolated one copies.

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench may panic")]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
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

/// A plugin whose scorer writes nothing.
fn library(folder: &Path) -> PathBuf {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins");
    let library = folder.join("libidle.so");
    let mut cc = Command::new("cc");
    cc.args(["-std=gnu11", "-O2", "-w", "-shared", "-fPIC", "-DIDLE", "-I"]).arg(plugins.join("abi/include"));
    let status = cc.arg(plugins.join("corpus/broken.c")).arg("-o").arg(&library).arg("-lm").status().unwrap();
    assert!(status.success());
    library
}

fn scorer(library: &Path, isolation: Option<&Isolation>) -> Arc<dyn Scorer> {
    let mut registry = Registry::default();
    register(&mut registry, open(library, None, isolation).unwrap()).unwrap();
    registry.find("broken").unwrap().build(&Params::new(), Vec::new()).unwrap().into_scorer().unwrap()
}

fn boundary(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let library = library(folder.path());
    let isolation = Isolation { program: env!("CARGO_BIN_EXE_pressroom").into(), seconds: 60, memory_mib: 4096 };
    let (here, apart) = (scorer(&library, None), scorer(&library, Some(&isolation)));
    let rotary = Rotary::new(&LlamaConfig::parse(CONFIG).unwrap(), Device::Cpu).unwrap();
    for tokens in [64, 4096] {
        let zeros = || Tensor::zeros([1, 3, tokens, 64], (Kind::Float, Device::Cpu));
        let view = LayerView::new(0, GEOMETRY, zeros(), zeros(), Materialised::default(), &rotary).unwrap();
        for (name, scorer) in [("in this process", &here), ("isolated", &apart)] {
            criterion.bench_function(&format!("call of {tokens} tokens, {name}"), |bencher| {
                bencher.iter(|| black_box(scorer.score(&view, Budget::ALL).unwrap()));
            });
        }
    }
    criterion.bench_function("load", |bencher| {
        bencher.iter(|| black_box(open(&library, None, None).unwrap()));
    });
    criterion.bench_function("load isolated", |bencher| {
        bencher.iter(|| black_box(open(&library, None, Some(&isolation)).unwrap()));
    });
}

criterion_group!(benches, boundary);
criterion_main!(benches);
