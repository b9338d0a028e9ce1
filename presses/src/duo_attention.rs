//! `duo_attention`: few heads look back far.

use pressroom::press::{Budget, ModelFacts, Needs, Params, Press, Range, Selection, SideData};
use pressroom::{Result, view::LayerView};
use serde::Deserialize;
use tch::Tensor;

use crate::prepared::Prepared;

pressroom::press! {
    /// Keeps everything in retrieval heads, and sinks and recent tokens in streaming heads.
    ///
    /// # Idea
    /// Some heads retrieve from anywhere in the context, the others look at the first tokens and the most recent ones
    /// only. Which are which is known of a model beforehand: published patterns, or scores that
    /// `pressroom calibrate duo_attention` measures. The heads of the lowest scores, over all layers, are streaming
    /// heads.
    ///
    /// # Formula
    /// `kept = first sink_size and last recent_size tokens` of the `round(head_compression_ratio * layers * kv_heads)`
    /// KV heads of the lowest scores, everything of the others
    ///
    /// # Paper
    /// Xiao et al., "DuoAttention: Efficient Long-Context LLM Inference with Retrieval and Streaming Heads", 2024,
    /// <https://arxiv.org/abs/2410.10819>
    "duo_attention" Press DuoAttentionParams budget(Own) {
        /// Fraction of the KV heads of all layers that become streaming heads.
        head_compression_ratio: f64 = 0.0, Range::closed(0.0, 1.0);
        /// Folder of a pattern: `full_attention_heads.tsv`, a row of KV head scores a layer, and `config.json` with
        /// `sink_size` and `recent_size`. Absent: what `pressroom calibrate duo_attention` made.
        side_data: Option<String> = None, Range::ANY;
    }
}

/// The press: parameters and the pattern of the model.
pub struct DuoAttention {
    params: DuoAttentionParams,
    pattern: Prepared<Pattern>,
}

/// Which heads stream, and what those keep.
struct Pattern {
    /// bool `[layers, kv_heads]`
    streaming: Tensor,
    sizes: Sizes,
}

#[derive(Clone, Copy, Deserialize)]
struct Sizes {
    sink_size: usize,
    recent_size: usize,
}

impl DuoAttention {
    /// A press whose pattern is read when it is prepared for a model.
    ///
    /// # Errors
    /// Bad parameters.
    pub fn new(params: &Params) -> Result<Self> {
        Ok(Self { params: DuoAttentionParams::from_params(params)?, pattern: Prepared::default() })
    }

    fn read(&self, model: &ModelFacts) -> Result<Pattern> {
        let given = self.params.side_data.as_deref();
        let data = SideData::open("duo_attention", given, model)?;
        let (layers, kv_heads) = (model.geometry.layers, model.geometry.kv_heads as usize);
        let mut scores = Vec::with_capacity(layers * kv_heads);
        for (row, line) in data.text(SCORES)?.lines().filter(|line| !line.trim().is_empty()).enumerate() {
            let read = line.split_whitespace().map(str::parse).collect::<Result<Vec<f64>, _>>();
            match read {
                Ok(heads) if heads.len() == kv_heads => scores.extend(heads),
                Ok(heads) => {
                    let problem =
                        format!("row {}: {} scores where the model has {kv_heads} KV heads", row + 1, heads.len());
                    return Err(data.bad(SCORES, &problem));
                }
                Err(error) => return Err(data.bad(SCORES, &format!("row {}: {error}", row + 1))),
            }
        }
        if scores.len() != layers * kv_heads || scores.iter().any(|score| score.is_nan()) {
            let problem = format!("{} rows of numbers where the model has {layers} layers", scores.len() / kv_heads);
            return Err(data.bad(SCORES, &problem));
        }
        // As the authors do: what training left outside is the end of the range.
        scores.iter_mut().for_each(|score| *score = score.clamp(0.0, 1.0));
        let count = (scores.len() as f64 * self.params.head_compression_ratio).round_ties_even() as usize;
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
        let mut streaming = vec![false; scores.len()];
        order[..count].iter().for_each(|head| streaming[*head] = true);
        let streaming = Tensor::f_from_slice(&streaming)?.f_view([layers as i64, kv_heads as i64])?;
        Ok(Pattern { streaming, sizes: data.json(SIZES)? })
    }
}

impl Press for DuoAttention {
    fn identity(&self) -> String {
        self.params.identity()
    }

    fn needs(&self) -> Needs {
        Needs::KEYS_AND_VALUES
    }

    fn head_wise(&self) -> bool {
        true
    }

    fn prepare(&self, model: &ModelFacts) -> Result<()> {
        self.pattern.prepare(model, || self.read(model))
    }

    fn select(&self, view: &LayerView<'_>, _budget: Budget) -> Result<Selection> {
        let (streaming, sizes) =
            self.pattern.with(|pattern| Ok((pattern.streaming.f_select(0, view.layer() as i64)?, pattern.sizes)))?;
        let streaming = view.own_heads(&streaming, 0)?;
        let ends = view.first(sizes.sink_size)?.f_logical_or(&view.last(sizes.recent_size)?)?;
        let retrieves = streaming.f_to_device(view.device())?.f_logical_not()?.f_view([1, -1, 1])?;
        let kept = ends.f_logical_or(&retrieves)?;
        Selection::from_mask(&kept.f_expand([view.batch(), view.geometry().kv_heads, view.tokens()], false)?)
    }
}

const SIZES: &str = "config.json";
const SCORES: &str = "full_attention_heads.tsv";
