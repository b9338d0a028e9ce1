//! `pressroom model`: where models come from, and what they need.

use std::path::Path;

use anyhow::{Result, bail};
use pressroom::Error;
use pressroom::model::hub::{FetchOptions, fetch};
use pressroom::model::import::{ImportDtype, ImportOptions, import_gguf};
use pressroom::model::{ModelFolder, PeakMemory, known_models, models_home};
use pressroom::plan::DtypeChoice;

use super::print;
use crate::cli::ModelCommand;
use crate::engine::open_model;
use crate::table::bytes;

/// Runs the `model` commands.
///
/// # Errors
/// What the command could not do.
pub fn model(command: &ModelCommand) -> Result<()> {
    match command {
        ModelCommand::List => {
            let home = models_home();
            let names = known_models(&home);
            if names.is_empty() {
                eprintln!("no models in {}", home.display());
            }
            print(&names.iter().map(|name| format!("{name}\n")).collect::<String>())
        }
        ModelCommand::Info { name, context, dtype } => print(&info(&open_model(name)?, *context, *dtype)),
        ModelCommand::Import { file, name, dtype } => import(file, name.as_deref(), *dtype),
        ModelCommand::Fetch { repo, revision } => {
            let options = FetchOptions { revision: revision.clone(), progress: true, ..FetchOptions::default() };
            let folder = fetch(repo, &options)?;
            print(&format!("{} is in {}\n", repo, folder.display()))
        }
    }
}

fn import(file: &Path, name: Option<&str>, dtype: DtypeChoice) -> Result<()> {
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().to_lowercase());
    let name = match name {
        Some(name) => name.to_owned(),
        None => stem.ok_or_else(|| anyhow::anyhow!("{} names no file", file.display()))?,
    };
    if name.is_empty() || name.contains(['/', '\\']) || name.starts_with('.') {
        bail!("`{name}` is no name for a model: use letters, digits, '-', '_' and '.'");
    }
    let folder = models_home().join(&name);
    if folder.join("config.json").is_file() {
        eprintln!("{name} is in place ({})", folder.display());
        return Ok(());
    }
    let dtype = match dtype {
        DtypeChoice::Auto | DtypeChoice::F32 => ImportDtype::F32,
        DtypeChoice::Bf16 => ImportDtype::Bf16,
        DtypeChoice::F16 => ImportDtype::F16,
    };
    std::fs::create_dir_all(models_home()).map_err(Error::io(models_home()))?;
    let report = import_gguf(file, &folder, &ImportOptions { dtype, progress: true })?;
    let size = bytes(u128::from(report.bytes));
    print(&format!("{name}: {} tensors, {size}, in {}\n", report.tensors, report.folder.display()))
}

fn info(folder: &ModelFolder, context: Option<u64>, dtype: DtypeChoice) -> String {
    let config = folder.config();
    let kind = dtype.resolve(false);
    let element = kind.elt_size_in_bytes() as u128;
    let tokens = context.unwrap_or_else(|| u64::try_from(config.max_position_embeddings).unwrap_or(0));
    let kv_per_token = config.kv_elements_per_token() * element;
    let peak = PeakMemory::of_prefill(config, kind, tokens, 1.0);
    format!(
        "{name} ({path})\n\
         architecture   llama, {layers} layers, hidden {hidden}, MLP {mlp}, vocabulary {vocab}{tied}\n\
         attention      {heads} heads, {kv} KV heads, head_dim {dim}\n\
         positions      {positions} (rope {rope}, theta {theta})\n\
         parameters     {parameters:.1} M\n\
         weights        {weights} in {kind:?}\n\
         KV per token   {per_token} in {kind:?}\n\
         {tokens} tokens: KV cache {cache}, with the weights {total}\n\
         prefill        peak {peak}: weights, hidden states {hidden_states}, one layer's keys and values with a slice of tokens {layer}, \
         and what presses keep of the KV cache, here all\n",
        name = folder.name(),
        path = folder.path().display(),
        layers = config.num_hidden_layers,
        hidden = config.hidden_size,
        mlp = config.intermediate_size,
        vocab = config.vocab_size,
        tied = if config.tie_word_embeddings { ", tied embeddings" } else { "" },
        heads = config.num_attention_heads,
        kv = config.num_key_value_heads,
        dim = config.head_dim,
        positions = config.max_position_embeddings,
        rope = config.rope_scaling.name(),
        theta = config.rope_theta,
        parameters = config.parameters() as f64 / 1e6,
        weights = bytes(peak.weights),
        per_token = bytes(kv_per_token),
        cache = bytes(peak.caches),
        total = bytes(peak.weights + peak.caches),
        peak = bytes(peak.total()),
        hidden_states = bytes(peak.hidden_states),
        layer = bytes(peak.layer),
    )
}
