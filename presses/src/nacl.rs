//! `nacl`: the judgement of proxy tokens, salted with chance.

use pressroom::press::{Budget, Needs, Range, Scorer, Span};
use pressroom::{Result, random, view::LayerView};
use pressroom_kernels::order::best;
use tch::{Kind, Tensor};

use crate::too_short;

pressroom::press! {
    /// Keeps what the last tokens attend to, and a draw from the rest.
    ///
    /// # Idea
    /// Attention summed over a whole context is biased; a few proxy tokens at its end, where a question stands, judge
    /// better. Still no judgement is safe: a part of the budget is drawn at random from what the proxies did not
    /// choose, head by head, so that heads keep different tokens. The proxies themselves are always kept (the authors'
    /// code protects sink tokens too). Attention is averaged over the query group.
    ///
    /// # Formula
    /// `F = mean over the query group of (sum over proxies of softmax(q K / sqrt(d)))`; the best by `F`, then, of the
    /// others, a sample without replacement with chances `softmax(F)`, which has `random_ratio` of the budget
    ///
    /// # Paper
    /// Chen et al., "NACL: A General and Effective KV Cache Eviction Framework for LLMs at Inference Time", 2024,
    /// <https://arxiv.org/abs/2408.03675>; chances and shares are those of the authors' code,
    /// <https://github.com/PaddlePaddle/Research/tree/master/NLP/ACL2024-NACL>
    "nacl" Scorer Nacl {
        /// Proxy tokens at the end of the context.
        proxy_tokens: usize = 64, Range::closed(1.0, 1e9);
        /// Part of the budget, without the proxies, that is drawn.
        random_ratio: f64 = 0.37, Range::closed(0.0, 1.0);
        /// Seed of the draw, the same in every layer. Absent: derived from the run's seed and the layer.
        seed: Option<u64> = None, Range::closed(0.0, 9_007_199_254_740_992.0);
    }
}

impl Scorer for Nacl {
    fn identity(&self) -> String {
        self.identity()
    }

    fn needs(&self) -> Needs {
        Needs { queries: Span::Last(self.proxy_tokens), ..Needs::KEYS_AND_VALUES }
    }

    fn scores_depend_on_budget(&self) -> bool {
        true
    }

    fn score(&self, view: &LayerView<'_>, budget: Budget) -> Result<Tensor> {
        too_short("proxy_tokens", self.proxy_tokens, view)?;
        let votes = view.window_votes(self.proxy_tokens)?;
        let attention = votes.f_mean_dim([2i64].as_slice(), false, Kind::Float)?;
        let proxies = view.last(self.proxy_tokens)?;
        let judged = attention.f_masked_fill(&proxies, f64::INFINITY)?;
        let proxy_tokens = self.proxy_tokens as i64;
        let free = (budget.kept(view.tokens()) - proxy_tokens).max(0);
        let drawn = (free as f64 * self.random_ratio) as i64;
        let chosen = (proxy_tokens + free - drawn).min(view.tokens());
        // The chosen are above zero, the others below in the order of an exponential race (Efraimidis and Spirakis,
        // 2006): times to arrival with rates in proportion to the chances, `exp(F)`. One race for all sequences of a
        // batch.
        let seed = self.seed.unwrap_or_else(|| view.seed());
        let uniform = random::uniform(seed, &[1, view.geometry().kv_heads, view.tokens()], view.device())?;
        let race = uniform.f_neg()?.f_log1p()?.f_mul(&attention.f_neg()?.f_exp()?)?;
        let best = best(&judged, chosen)?;
        Ok(race.f_scatter(2, &best, &judged.f_gather(2, &best, false)?)?)
    }
}
