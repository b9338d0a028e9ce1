//! A sequence that grows: what presses of the decoding phase remember of it, and how they look at its cache.

use pressroom::Result;
use pressroom::press::{Kept, Needs, Origin, Selection, Span, StepView};
use pressroom::view::{Geometry, LayerView, Materialised};
use pressroom::{Error, random::derive_seed};
use tch::{Kind, Tensor};

/// One growing sequence, layer by layer.
pub(crate) struct Running {
    layers: Vec<RunningLayer>,
    needs: Needs,
    /// Most earlier tokens whose hidden states and queries are remembered.
    buffer: i64,
    seed: u64,
}

/// One layer of a growing sequence.
#[derive(Default)]
pub(crate) struct RunningLayer {
    /// Where the keys of the entries stand, by KV head.
    positions: Vec<Vec<i64>>,
    /// Passes since the last compression.
    passes: usize,
    recent: Recent,
}

/// What is remembered of the last tokens.
#[derive(Default)]
struct Recent {
    /// `[n, hidden]`
    hidden_states: Option<Tensor>,
    /// `[heads, n, head_dim]`, before rotary embedding
    queries: Option<Tensor>,
}

impl Running {
    /// A sequence that grows from `origin`, and of whose tokens a press reads `needs`.
    pub(crate) fn new(origin: Origin<'_>, needs: Needs, buffer: usize) -> Self {
        let layer = |positions: &Vec<Vec<i64>>| RunningLayer { positions: positions.clone(), ..Default::default() };
        let buffer = i64::try_from(buffer).unwrap_or(i64::MAX);
        Self { layers: origin.positions.iter().map(layer).collect(), needs, buffer, seed: origin.seed }
    }

    /// Takes note of the new tokens of a layer; gives the passes since its last compression, this one counted.
    pub(crate) fn note(&mut self, step: &StepView<'_>) -> Result<usize> {
        let (buffer, needs) = (self.buffer, self.needs);
        let layer = self.layer(step)?;
        for head in &mut layer.positions {
            head.extend(step.position..step.end());
        }
        layer.passes += 1;
        layer.recent.note(step, needs, buffer)?;
        Ok(layer.passes)
    }

    /// The entries of a layer as scorers see them: one view of all KV heads where they hold as many, else a view of
    /// each.
    pub(crate) fn views<'s>(&self, step: &StepView<'s>) -> Result<Vec<LayerView<'s>>> {
        let layer = self.layers.get(step.layer).ok_or_else(|| unknown_layer(step))?;
        let Geometry { kv_heads, head_dim, .. } = step.geometry;
        let group = step.geometry.group();
        let seed = derive_seed(self.seed, step.position as u64);
        let view = |first: i64, keys: Tensor, values: Tensor| -> Result<LayerView<'s>> {
            let count = keys.size3()?.0;
            let positions = layer.positions[first as usize..(first + count) as usize].concat();
            let positions = Tensor::f_from_slice(&positions)?.f_to_device(keys.device())?.f_view([1, count, -1])?;
            let (keys, values) = (keys.f_unsqueeze(0)?, values.f_unsqueeze(0)?);
            let geometry = Geometry { heads: count * group, kv_heads: count, ..step.geometry };
            let parts = |attention: Option<Tensor>| -> Result<Materialised> {
                let queries = layer.recent.queries.as_ref();
                let queries = queries.map(|all| all.f_narrow(0, first * group, count * group)?.f_unsqueeze(0));
                let output = step.output_projection.f_narrow(1, first * group * head_dim, count * group * head_dim)?;
                let sums = attention.as_ref().filter(|_| self.needs.attention_sums);
                Ok(Materialised {
                    hidden_states: layer.recent.hidden_states.as_ref().map(|all| all.f_unsqueeze(0)).transpose()?,
                    queries: queries.transpose()?,
                    attention_sums: sums
                        .map(|w| w.f_sum_dim_intlist([2i64].as_slice(), false, Kind::Float))
                        .transpose()?,
                    attention,
                    output_projection: Some(output).filter(|_| self.needs.output_projection),
                    observed_tokens: Some(layer.recent.tokens()),
                })
            };
            let made = |attention: Option<Tensor>| {
                let (keys, values) = (keys.shallow_clone(), values.shallow_clone());
                let view = LayerView::new(step.layer, geometry, keys, values, parts(attention)?, step.rotary)?;
                Ok(view.at(positions.shallow_clone(), step.end()).of_kv_heads_from(first).with_seed(seed))
            };
            let view = made(None)?;
            if self.needs.attention == Span::None && !self.needs.attention_sums {
                return Ok(view);
            }
            let observed = layer.recent.tokens();
            let weights = view.window_attention(usize::try_from(observed).unwrap_or(usize::MAX))?;
            made(Some(weights.f_flatten(1, 2)?))
        };
        let lengths = || layer.positions.iter().map(Vec::len);
        if lengths().max() == lengths().min() {
            let (keys, values) = step.cache.span(0, lengths().max().unwrap_or(0) as i64)?;
            return Ok(vec![view(0, keys, values)?]);
        }
        let head = |head: i64| {
            let (keys, values) = step.cache.head(head as usize)?;
            view(head, keys.f_unsqueeze(0)?, values.f_unsqueeze(0)?)
        };
        (0..kv_heads).map(head).collect()
    }

    /// Ends the wait of a layer: `selection` is what its cache is going to keep.
    pub(crate) fn compressed(&mut self, step: &StepView<'_>, selection: &Selection) -> Result<()> {
        let layer = self.layer(step)?;
        (layer.passes, layer.recent) = (0, Recent::default());
        if matches!(selection.kept(), Kept::All) {
            return Ok(());
        }
        let lists = selection.to_lists(layer.positions.len(), 0)?;
        for (positions, list) in layer.positions.iter_mut().zip(lists) {
            *positions = list.iter().filter_map(|index| positions.get(*index as usize).copied()).collect();
        }
        Ok(())
    }

    fn layer(&mut self, step: &StepView<'_>) -> Result<&mut RunningLayer> {
        self.layers.get_mut(step.layer).ok_or_else(|| unknown_layer(step))
    }
}

impl Recent {
    fn tokens(&self) -> i64 {
        let of = |part: &Option<Tensor>, dim: usize| part.as_ref().map(|data| data.size()[dim]);
        of(&self.queries, 1).or_else(|| of(&self.hidden_states, 0)).unwrap_or(0)
    }

    /// Adds the new tokens behind the last `buffer` earlier ones.
    fn note(&mut self, step: &StepView<'_>, needs: Needs, buffer: i64) -> Result<()> {
        let behind = |earlier: &Option<Tensor>, new: &Tensor, dim: i64| -> Result<Tensor> {
            let Some(earlier) = earlier else { return Ok(new.f_contiguous()?) };
            let known = earlier.size()[dim as usize];
            let left = known.min(buffer);
            Ok(Tensor::f_cat(&[&earlier.f_narrow(dim, known - left, left)?, new], dim)?)
        };
        if needs.hidden_states {
            self.hidden_states = Some(behind(&self.hidden_states, step.hidden_states, 0)?);
        }
        if needs.queries != Span::None || needs.attention != Span::None || needs.attention_sums {
            self.queries = Some(behind(&self.queries, step.queries, 1)?);
        }
        Ok(())
    }
}

fn unknown_layer(step: &StepView<'_>) -> Error {
    Error::input(format!("the context has no layer {}", step.layer))
}
