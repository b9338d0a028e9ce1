//! `restorekv`: trained tokens read the whole cache before it is cut.

use pressroom::model::LoraAdapter;
use pressroom::press::{Budget, Context, ContextPress, ModelFacts, Params, Range, Selection};
use pressroom::{Error, Result, tensors};
use tch::{Kind, Tensor};

use crate::prepared::Prepared;
use crate::replay::Reconstruction;
use crate::sharing::{selections, share};

/// Where adapters are published, followed by the model's name.
const PUBLISHED: &str = "higokri/RestoreKV-";

pressroom::press! {
    /// Adds tokens that hold what eviction loses, and evicts as much more.
    ///
    /// # Idea
    /// A few restore tokens with trained embeddings are run over the full cache, through weights that a trained LoRA
    /// adapter changes for this one pass; their keys and values stay, in every head, and take their place in the budget.
    /// The rest is decided as by `kvzip` (or `kvzip_plus`). Later tokens count their positions from after the restore
    /// tokens. Adapters are trained for one model; the published ones are fetched unless `side_data` names another.
    ///
    /// # Formula
    /// `kept = all restore tokens, and by the scores of kvzip the best pairs up to the budget`
    ///
    /// # Paper
    /// Baek, Shin and Kong, "RestoreKV: Recovering Full-Cache Behavior Under Aggressive Query-Agnostic KV Cache Eviction",
    /// 2026, <https://arxiv.org/abs/2608.01247>
    "restorekv" Context RestoreKvParams {
        /// Whether every layer has the same budget, shared by its heads alone.
        layerwise: bool = false, Range::ANY;
        /// Tokens at the start that are always kept.
        n_sink: usize = 4, Range::closed(0.0, 1e9);
        /// Whether scores are those of `kvzip_plus`.
        kvzip_plus_normalization: bool = false, Range::ANY;
        /// Tokens of the context that each replay repeats.
        chunk_size: usize = 2048, Range::closed(1.0, 1e9);
        /// Folder or hub repository with a PEFT adapter (`adapter_config.json`, `adapter_model.safetensors`) and
        /// `restore_embeddings.safetensors`.
        side_data: Option<String> = None, Range::ANY;
    }
}

/// The press: parameters and what was trained for the model.
pub struct RestoreKv {
    params: RestoreKvParams,
    trained: Prepared<Trained>,
}

struct Trained {
    /// `[restore tokens, hidden]`
    embeddings: Tensor,
    adapter: LoraAdapter,
}

impl RestoreKv {
    /// A press without side data yet.
    ///
    /// # Errors
    /// Bad parameters.
    pub fn new(params: &Params) -> Result<Self> {
        Ok(Self { params: RestoreKvParams::from_params(params)?, trained: Prepared::default() })
    }

    fn read(&self, model: &ModelFacts) -> Result<Trained> {
        let plus = if self.params.kvzip_plus_normalization { "_plus" } else { "" };
        let name = model.name.rsplit('/').next().unwrap_or_default();
        let place = self.params.side_data.clone().unwrap_or_else(|| format!("{PUBLISHED}{name}{plus}"));
        let path = model.side_data(&place, "restore_embeddings.safetensors")?;
        let embeddings = tensors::read_one(&path, "restore_embeddings")?;
        match embeddings.size()[..] {
            [tokens, hidden] if tokens > 0 && hidden == model.hidden_size => {}
            ref size => {
                let due = model.hidden_size;
                return Err(Error::file(path, format!("embeddings have shape {size:?}, [tokens, {due}] is due")));
            }
        }
        let (config, weights) = ("adapter_config.json", "adapter_model.safetensors");
        let adapter = LoraAdapter::read(&model.side_data(&place, config)?, &model.side_data(&place, weights)?)?;
        Ok(Trained { embeddings, adapter })
    }
}

impl ContextPress for RestoreKv {
    fn identity(&self) -> String {
        self.params.identity()
    }

    fn prepare(&self, model: &ModelFacts) -> Result<()> {
        self.trained.prepare(model, || self.read(model))
    }

    fn score(&self, context: &mut Context<'_>) -> Result<Vec<Tensor>> {
        let RestoreKvParams { n_sink, chunk_size, kvzip_plus_normalization: weighted, .. } = self.params;
        let scores = Reconstruction { chunk_size, n_sink, weighted }.score(context)?;
        let tokens = self.trained.with(|Trained { embeddings, adapter }| {
            context.model.append_adapted(embeddings, adapter, context.cache)?;
            Ok(embeddings.size()[0])
        })?;
        let restoring = |layer: &Tensor| -> Result<Tensor> { Ok(layer.f_pad([0, tokens], "constant", f64::INFINITY)?) };
        scores.iter().map(restoring).collect()
    }

    fn select(&self, scores: &[Tensor], budgets: &[Budget]) -> Result<Vec<Selection>> {
        let tokens = self.trained.with(|trained| Ok(trained.embeddings.size()[0]))?;
        let evictable = |layer: &Tensor| -> Result<Tensor> { Ok(layer.f_narrow(1, 0, layer.size2()?.1 - tokens)?) };
        let scores = scores.iter().map(evictable).collect::<Result<Vec<_>>>()?;
        let left =
            |budget: Budget, entries: i64, heads: i64| (budget.left_together(entries, heads) - heads * tokens).max(0);
        let masks = share(&scores, budgets, self.params.layerwise, left)?;
        let (layers, kv_heads, _) = masks.size3()?;
        let restored = Tensor::f_ones([layers, kv_heads, tokens], (Kind::Bool, masks.device()))?;
        selections(&Tensor::f_cat(&[masks, restored], 2)?)
    }
}
