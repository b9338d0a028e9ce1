//! `kvcompose`: heads choose their own tokens, layers how many.

use pressroom::Result;
use pressroom::press::{Budget, Context, ContextPress, Range, Selection};
use tch::{Kind, Tensor};

use crate::replay::{Reader, Reading, replay};
use crate::sharing::{selections, share};

pressroom::choices! {
    /// How several numbers become one.
    pub enum Aggregation { Max = "max", Mean = "mean" }
}

impl Aggregation {
    /// Over dimension `dim` of `data`.
    fn over(self, data: &Tensor, dim: i64) -> Result<Tensor> {
        Ok(match self {
            Self::Max => data.f_amax([dim].as_slice(), false)?,
            Self::Mean => data.f_mean_dim([dim].as_slice(), false, Kind::Float)?,
        })
    }
}

pressroom::press! {
    /// Lets every head choose its tokens, and layers compete for how many.
    ///
    /// # Idea
    /// The context is read a second time, and each KV pair scores by the attention it receives. The best pairs of all
    /// heads of a layer, then the second best, and so on, form composite tokens: a layer keeps as many of these as are
    /// among the best of all layers, so that all its heads hold the same number of pairs, each its own (structured).
    /// Unstructured, the heads of all layers compete pair by pair.
    ///
    /// # Formula
    /// `score = agg_group over query heads of agg_task over the second reading's queries q of softmax(q K / sqrt(d))`,
    /// plus its mean over the layer's heads; `composite[rank] = agg_head over heads of their score at this rank`
    ///
    /// # Paper
    /// Akulov et al., "KVCompose: Efficient Structured KV Cache Compression with Composite Tokens", 2025,
    /// <https://arxiv.org/abs/2509.05165>
    "kvcompose" Context KvCompose {
        /// Whether all heads of a layer keep the same number.
        structured: bool = true, Range::ANY;
        /// Over the queries of the second reading.
        agg_task: Aggregation = Aggregation::Max, Range::ANY;
        /// Over the query heads of a KV head's group.
        agg_group: Aggregation = Aggregation::Mean, Range::ANY;
        /// Over the heads of a layer, rank by rank.
        agg_head: Aggregation = Aggregation::Mean, Range::ANY;
        /// Whether scores are weighted by the norm of the value.
        add_v_norm: bool = false, Range::ANY;
        /// Whether the mean score of all heads of the layer is added.
        add_mean_across_heads: bool = true, Range::ANY;
        /// Tokens that every layer (unstructured: every head) keeps before any other counts.
        keep_token_lower_bound: usize = 0, Range::closed(0.0, 1e9);
    }
}

impl ContextPress for KvCompose {
    fn identity(&self) -> String {
        self.identity()
    }

    fn score(&self, context: &mut Context<'_>) -> Result<Vec<Tensor>> {
        let tokens = context.tokens;
        let count = tokens.len() as i64;
        let reading = match self.agg_task {
            Aggregation::Max => Reading::Most { weighted: false },
            Aggregation::Mean => Reading::Sum,
        };
        let mut reader = Reader::new(0..count, 0, reading);
        replay(context, tokens, &mut reader)?;
        let layers = reader.read.into_iter().zip(context.cache.layers());
        let scores = layers.map(|(read, cache)| {
            let read = if reading == Reading::Sum { read.f_div_scalar(count)? } else { read };
            let mut scores = self.agg_group.over(&read, 1)?;
            if self.add_v_norm {
                let values = cache.span(0, count)?.1;
                scores = scores.f_mul(&values.f_linalg_norm(2.0, [-1i64].as_slice(), false, Kind::Float)?)?;
            }
            if self.add_mean_across_heads {
                scores = scores.f_add(&scores.f_mean_dim([0i64].as_slice(), true, Kind::Float)?)?;
            }
            Ok(scores)
        });
        scores.collect()
    }

    fn select(&self, scores: &[Tensor], budgets: &[Budget]) -> Result<Vec<Selection>> {
        let (mut ranked, mut order) = (Vec::new(), Vec::new());
        for layer in scores {
            let (sorted, indices) = layer.f_sort_stable(true, -1, true)?;
            let sorted = if self.structured { self.agg_head.over(&sorted, 0)?.f_unsqueeze(0)? } else { sorted };
            let entries = sorted.size2()?.1;
            let bound = entries.min(self.keep_token_lower_bound as i64);
            let _ = sorted.f_narrow(1, 0, bound)?.f_fill_(f64::INFINITY)?;
            ranked.push(sorted);
            order.push(indices);
        }
        if !self.structured {
            let ranks = share(&ranked, budgets, false, Budget::kept_together)?;
            return selections(&ranks.f_scatter(2, &Tensor::f_stack(&order, 0)?, &ranks)?);
        }
        // The first layer never holds fewer than another.
        ranked[0] = Tensor::f_stack(&ranked, 0)?.f_amax([0i64].as_slice(), false)?;
        let counts = share(&ranked, budgets, false, Budget::kept_together)?;
        let counts = counts.f_sum_dim_intlist([1i64, 2].as_slice(), false, Kind::Int64)?;
        let counts: Vec<i64> = Vec::try_from(counts)?;
        let uniform = |(order, count): (&Tensor, i64)| {
            let entries = order.size2()?.1;
            let count = count.max(self.keep_token_lower_bound.max(1) as i64).min(entries);
            Selection::uniform(&order.f_narrow(1, 0, count)?.f_unsqueeze(0)?)
        };
        order.iter().zip(counts).map(uniform).collect()
    }
}
