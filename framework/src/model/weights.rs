//! Weights from safetensors files: checked as a whole, then loaded tensor by tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use indicatif::ProgressBar;
use safetensors::SafeTensors;
use serde::Deserialize;
use tch::{Device, Kind};

use super::arena::Arena;
use super::config::LlamaConfig;
use super::mapped::MappedFile;
use super::placement::Placement;
use crate::error::{Error, Result};
use crate::tensors;

/// Problems listed before the rest is counted only.
const MAX_PROBLEMS: usize = 20;

/// Loads the weights of `config` from `folder`, onto the devices of their layers in `kind`; by their Hugging Face names.
///
/// # Errors
/// [`Error::Weights`] with everything missing, unexpected, of the wrong shape or dtype.
pub(super) fn load(
    folder: &Path,
    config: &LlamaConfig,
    placement: &Placement,
    kind: Kind,
    progress: &ProgressBar,
) -> Result<Arena> {
    let files = weight_files(folder)?;
    let maps =
        files.into_iter().map(|path| MappedFile::open(&path).map(|map| (path, map))).collect::<Result<Vec<_>>>()?;
    let parsed = maps
        .iter()
        .map(|(path, map)| match SafeTensors::deserialize(map.bytes()) {
            Ok(file) => Ok((path, map, file)),
            Err(error) => Err(Error::file(path, format!("is no intact safetensors file: {error}; fetch it again"))),
        })
        .collect::<Result<Vec<_>>>()?;
    check(folder, config, parsed.iter().map(|(path, _, file)| (*path, file)))?;
    progress
        .set_length(parsed.iter().flat_map(|(_, _, file)| file.iter()).map(|(_, view)| view.data().len() as u64).sum());
    let arena = Arena::new(expected(config), placement, kind)?;
    for (path, map, file) in &parsed {
        for (name, view) in file.iter() {
            if let Some(mut room) = arena.find(name)? {
                let stored = tensors::kind_of(view.dtype())
                    .ok_or_else(|| Error::file(path, format!("{name} has dtype {:?}", view.dtype())))?;
                room.f_copy_(&tensors::from_bytes(view.data(), view.shape(), stored, Device::Cpu)?)?;
            }
            map.release(view.data());
            progress.inc(view.data().len() as u64);
        }
    }
    progress.finish_and_clear();
    Ok(arena)
}

/// Name and shape of every tensor that the configuration calls for, in the order in which tokens meet them; what is
/// stacked into one matrix lies together.
fn expected(config: &LlamaConfig) -> Vec<(String, Vec<i64>)> {
    let hidden = config.hidden_size;
    let (query, key) = (config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim);
    let mut tensors = vec![("model.embed_tokens.weight".to_owned(), vec![config.vocab_size, hidden])];
    for layer in 0..config.num_hidden_layers {
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        // Projections that are stacked, with their rows.
        let mut stack = |block: &str, parts: &[(&str, i64)], columns: i64, bias: bool| {
            let own = |part: &str, what: &str| name(&format!("{block}.{part}_proj.{what}"));
            tensors.extend(parts.iter().map(|&(part, rows)| (own(part, "weight"), vec![rows, columns])));
            if bias {
                tensors.extend(parts.iter().map(|&(part, rows)| (own(part, "bias"), vec![rows])));
            }
        };
        stack("self_attn", &[("q", query), ("k", key), ("v", key)], hidden, config.attention_bias);
        stack("self_attn", &[("o", hidden)], query, config.attention_bias);
        let inner = config.intermediate_size;
        stack("mlp", &[("gate", inner), ("up", inner)], hidden, config.mlp_bias);
        stack("mlp", &[("down", hidden)], inner, config.mlp_bias);
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            tensors.push((name(&format!("{norm}.weight")), vec![hidden]));
        }
    }
    tensors.push(("model.norm.weight".to_owned(), vec![hidden]));
    if !config.tie_word_embeddings {
        tensors.push(("lm_head.weight".into(), vec![config.vocab_size, hidden]));
    }
    tensors
}

/// Tensors that some checkpoints carry although they can be computed or are shared.
fn is_redundant(name: &str, config: &LlamaConfig) -> bool {
    name.ends_with("rotary_emb.inv_freq") || (config.tie_word_embeddings && name == "lm_head.weight")
}

/// Compares what the files hold with what the configuration calls for.
fn check<'a>(
    folder: &Path,
    config: &LlamaConfig,
    files: impl Iterator<Item = (&'a PathBuf, &'a SafeTensors<'a>)>,
) -> Result<()> {
    let mut expected: BTreeMap<_, _> = expected(config).into_iter().collect();
    let mut problems = Vec::new();
    for (path, file) in files {
        for (name, view) in file.iter() {
            let shape: Vec<i64> = view.shape().iter().map(|&extent| extent as i64).collect();
            match expected.remove(name) {
                Some(due) if due != shape => {
                    problems.push(format!("{name} has shape {shape:?}, config.json calls for {due:?}"))
                }
                None if !is_redundant(name, config) => {
                    problems.push(format!("{name} is unexpected or there twice ({})", path.display()))
                }
                _ => {}
            }
            if tensors::kind_of(view.dtype()).is_none() {
                problems.push(format!("{name} has dtype {:?}; F32, BF16 and F16 are supported", view.dtype()));
            }
        }
    }
    problems.extend(expected.keys().map(|name| format!("{name} is missing")));
    if problems.is_empty() {
        return Ok(());
    }
    let count = problems.len();
    problems.truncate(MAX_PROBLEMS);
    if count > MAX_PROBLEMS {
        problems.push(format!("and {} more", count - MAX_PROBLEMS));
    }
    problems.insert(0, format!("the weights do not fit config.json ({count} problems):"));
    Err(Error::Weights { path: folder.to_owned(), problems })
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The weight files of a folder: one file, or those that the index names.
fn weight_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let index_path = folder.join("model.safetensors.index.json");
    if !index_path.is_file() {
        return Ok(vec![folder.join("model.safetensors")]);
    }
    let text = std::fs::read_to_string(&index_path).map_err(Error::io(&index_path))?;
    let index: Index = serde_json::from_str(&text).map_err(|error| Error::file(&index_path, error.to_string()))?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    if names.is_empty() {
        return Err(Error::file(&index_path, "weight_map names no file"));
    }
    names
        .into_iter()
        .map(|name| {
            let mut parts = Path::new(&name).components();
            match (parts.next(), parts.next()) {
                (Some(Component::Normal(_)), None) => Ok(folder.join(name)),
                _ => Err(Error::file(
                    &index_path,
                    format!("weight_map names {name:?}; only files beside the index are read"),
                )),
            }
        })
        .collect()
}
