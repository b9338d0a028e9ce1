//! `simlayerkv`: lazy layers keep sinks and recent tokens.

use pressroom::press::{Budget, Needs, Params, Press, Range, Selection, Span};
use pressroom::{Error, Result, view::LayerView};
use tch::{Kind, Tensor};

pressroom::press! {
    /// Keeps everything, but in lazy layers the first tokens and the recent ones only.
    ///
    /// # Idea
    /// Some layers attend to the first and the most recent tokens and hardly to anything else. A layer is lazy if the
    /// last tokens give those more than `lazy_threshold` of their attention, mean over the heads; then only they are
    /// kept. Thresholds that the reference recommends: 0.9 for Llama 3, 0.65 for Llama 2, 0.8 for Mistral, 0.85 for Qwen.
    /// In a chain the first and recent tokens are those that are left.
    ///
    /// # Formula
    /// `lazy if mean over heads and the last n_last queries of the attention to the first n_initial entries and the last
    /// n_recent before them > lazy_threshold`; lazy layers keep the first `n_initial` and the last `n_recent - n_last`
    ///
    /// # Paper
    /// Zhang et al., "SimLayerKV: A Simple Framework for Layer-Level KV Cache Reduction", 2024,
    /// <https://arxiv.org/abs/2410.13846>
    "simlayerkv" Press SimLayerKv budget(Own) {
        /// Share of attention above which a layer is lazy; at 1 none is.
        lazy_threshold: f64 = 1.0, Range::closed(0.0, 1.0);
        /// Tokens at the end of the context whose attention is looked at.
        n_last: usize = 1, Range::closed(1.0, 1e9);
        /// Recent tokens of lazy layers; more than `n_last`.
        n_recent: usize = 1024, Range::closed(2.0, 1e9);
        /// Tokens at the start that lazy layers keep.
        n_initial: usize = 4, Range::closed(0.0, 1e9);
    }
}

impl SimLayerKv {
    /// The press with these parameters.
    ///
    /// # Errors
    /// Bad parameters; `n_recent` not larger than `n_last`.
    pub fn new(params: &Params) -> Result<Self> {
        let press = Self::from_params(params)?;
        if press.n_recent <= press.n_last {
            return Err(Error::input(format!(
                "n_recent = {} leaves no recent token beside the last n_last = {}: make it larger",
                press.n_recent, press.n_last
            )));
        }
        Ok(press)
    }

    /// Share of the last queries' attention that goes to initial and recent entries, `[batch]`.
    fn laziness(&self, view: &LayerView<'_>) -> Result<Tensor> {
        let weights = view.window_votes(self.n_last)?.f_mean_dim([1i64, 2].as_slice(), false, Kind::Float)?;
        let weights = weights.f_div_scalar(self.n_last as f64)?;
        let before = view.tokens() - self.n_last as i64;
        let sum = |start: i64, length: usize| {
            weights.f_narrow(1, start, length as i64)?.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float)
        };
        Ok(sum(0, self.n_initial)?.f_add(&sum(before - self.n_recent as i64, self.n_recent)?)?)
    }
}

impl Press for SimLayerKv {
    fn identity(&self) -> String {
        self.identity()
    }

    fn needs(&self) -> Needs {
        Needs { queries: Span::Last(self.n_last), ..Needs::KEYS_AND_VALUES }
    }

    fn select(&self, view: &LayerView<'_>, _budget: Budget) -> Result<Selection> {
        let (tokens, initial) = (view.tokens(), self.n_initial as i64);
        let short = tokens <= (self.n_initial + self.n_recent + self.n_last) as i64;
        if short || self.lazy_threshold >= 1.0 {
            return Ok(Selection::all());
        }
        let diligent = self.laziness(view)?.f_le(self.lazy_threshold)?;
        if diligent.f_all()?.f_int64_value(&[])? == 1 {
            return Ok(Selection::all());
        }
        let entries = Tensor::f_arange(tokens, (Kind::Int64, view.device()))?;
        let recent = entries.f_ge(tokens - (self.n_recent - self.n_last) as i64)?;
        let kept = entries.f_lt(initial)?.f_logical_or(&recent)?.f_logical_or(&diligent.f_unsqueeze(1)?)?;
        Selection::from_token_mask(&kept, view.geometry().kv_heads)
    }
}
