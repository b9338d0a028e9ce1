//! Half precision end to end: prefill, compression and answers in bf16 and f16 against f32.
//!
//! How far a half-precision model may be off depends on how much the model makes of small errors. Rounding its weights to
//! the format and computing in f32 shows that; rounding every result as well may not do much more than that.

use std::path::Path;

use indicatif::ProgressBar;
use pressroom::cache::KvCache;
use pressroom::model::{Llama, LoadOptions, ModelFolder, Step};
use pressroom::pipeline::{Asked, DecodeOptions, answer};
use pressroom::press::Pipeline;
use pressroom::tensors;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use tch::{Device, Kind, Tensor};

use crate::pipeline::{pipeline, sessions};
use crate::support::{keep, tiny_in};

/// The error of computing in a format may be this multiple of what rounding the weights to it does: a weight is rounded
/// once, a result at every operation. transformers' own model comes to 2.1 on this context (5.2.0, f16).
const MOST: f64 = 3.0;

/// The tiny model with its weights rounded to `kind`, computing in f32.
fn rounded(kind: Kind) -> Llama {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/tiny/gqa");
    let bytes = std::fs::read(golden.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let halves: Vec<(String, Vec<usize>, Vec<u8>)> = file
        .iter()
        .map(|(name, view)| {
            let whole = tensors::from_bytes(view.data(), view.shape(), Kind::Float, Device::Cpu).unwrap();
            (name.to_owned(), view.shape().to_vec(), tensors::to_bytes(&whole.to_kind(kind)).unwrap())
        })
        .collect();
    let views = halves.iter().map(|(name, shape, bytes)| {
        (name, TensorView::new(tensors::dtype_of(kind).unwrap(), shape.clone(), bytes).unwrap())
    });
    let folder = tempfile::tempdir().unwrap();
    safetensors::serialize_to_file(views, None, &folder.path().join("model.safetensors")).unwrap();
    std::fs::copy(golden.join("config.json"), folder.path().join("config.json")).unwrap();
    let options = LoadOptions { placement: Device::Cpu.into(), kind: Kind::Float, progress: ProgressBar::hidden() };
    Llama::load(&ModelFolder::read(folder.path()).unwrap(), &options).unwrap()
}

fn logits(model: &Llama, cache: &KvCache, tokens: &[i64]) -> Tensor {
    let mut fork = cache.fork().unwrap();
    let hidden = model.forward(&mut [Step { tokens, cache: &mut fork, hook: None }]).unwrap();
    model.logits(&hidden).unwrap().to_kind(Kind::Double)
}

fn error(ours: &Tensor, exact: &Tensor) -> f64 {
    let square = |tensor: Tensor| f64::try_from(tensor.square().mean(Kind::Double)).unwrap();
    (square(ours - exact) / square(exact.shallow_clone())).sqrt()
}

#[test]
fn compressed_answers_in_half_precision_are_as_close_as_the_format_allows() {
    let exact = tiny_in(Kind::Float);
    let context: Vec<i64> = (0..90).map(|at| (at * at + 7 * at) % 64).collect();
    let question = [5, 40, 11];
    let names = ["knorm", "streaming_llm", "random", "snapkv", "expected_attention", "adakv-knorm", "adakv-snapkv"];
    let whole = |model: &Llama| sessions(model, &context, vec![Pipeline::default()]).remove(0).cache;
    let full = whole(&exact);
    for kind in [Kind::BFloat16, Kind::Half] {
        let (model, rounded) = (tiny_in(kind), rounded(kind));
        let rounded_full = whole(&rounded);
        let mut pipelines = vec![Pipeline::default()];
        pipelines.extend(names.iter().map(|name| pipeline(name, 0.5)));
        let (mut computing, mut rounding) = (0.0, 0.0);
        for (name, context) in ["none"].iter().chain(&names).zip(sessions(&model, &context, pipelines)) {
            let (cache, decisions) = (&context.cache, &context.decisions);
            let pairs: usize = decisions.iter().flatten().map(Vec::len).sum();
            assert_eq!(pairs, 3 * 2 * if *name == "none" { 90 } else { 45 }, "{name}");
            // Two bytes a value, besides the offsets of a ragged layout.
            let offsets = if name.starts_with("adakv") { 3 * 3 * 8 } else { 0 };
            assert_eq!(cache.bytes(), pairs * 2 * 8 * 2 + offsets, "{name} in {kind:?}");
            // The same pairs in f32: only the arithmetic differs.
            let due = logits(&exact, &keep(&full, decisions), &question);
            let off = error(&logits(&model, cache, &question), &due);
            let weights = error(&logits(&rounded, &keep(&rounded_full, decisions), &question), &due);
            assert!(off > 0.0 && off < 0.5, "{name} in {kind:?} is off by {off}");
            computing += off * off;
            rounding += weights * weights;
            // Decoding is the forward pass: every token is the best of the logits that led to it, up to their error.
            let options = DecodeOptions { max_new_tokens: 8, eos_token_ids: vec![] };
            let answer = answer(&model, &[Asked { context: &context, question: &question }], &options, &mut |_, _| {})
                .unwrap()
                .remove(0);
            let fed = [&question[..], &answer.token_ids[..7]].concat();
            let all = logits(&model, cache, &fed).narrow(0, 2, 8);
            let chosen = all.gather(1, &Tensor::from_slice(&answer.token_ids).view([8, 1]), false).view([8]);
            let lost = f64::try_from((all.max_dim(1, false).0 - chosen).max()).unwrap();
            let spread = f64::try_from(all.std(true)).unwrap();
            assert!(lost <= off * spread, "{name} in {kind:?}: a token {lost} below the best was taken");
        }
        let share = (computing / rounding).sqrt();
        assert!(share < MOST, "{kind:?}: the error is {share} times that of rounding the weights");
    }
}
