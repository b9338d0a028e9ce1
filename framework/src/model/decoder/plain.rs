//! One sequence through the decoder in torch operations alone: slower than [`Llama::forward`], but autograd follows it,
//! and an adapter may change its weights.

use tch::{Kind, Tensor};

use super::super::attention::Linear;
use super::{Layer, Llama};
use crate::cache::KvCache;
use crate::error::{During, Error, Result};
use crate::model::{LoraAdapter, Rotary};
use crate::view::Geometry;

/// What an objective's gradient says of one layer, for tokens run over a cache.
#[derive(Debug)]
pub struct Sensitivity {
    /// Queries after rotary embedding, `[heads, n, head_dim]`.
    pub queries: Tensor,
    /// Keys of the tokens themselves after rotary embedding, `[kv_heads, n, head_dim]`.
    pub keys: Tensor,
    /// Gradient of the objective with respect to the output of the attention block, `[n, hidden]`.
    pub gradient: Tensor,
}

/// What a layer made of its input.
struct Passed {
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    /// Zeros that were added to the output of the attention block, and that a gradient can be taken of.
    probe: Tensor,
}

impl Llama {
    /// How much the sum of the squares of the last layer's outputs, over all `tokens`, depends on the output of each
    /// layer's attention block at each token. The tokens follow those of `cache`, which stays as it is.
    ///
    /// The graph of one pass is held until the gradients are there: activations of all layers for `tokens`, and the keys
    /// and values of the cache once more.
    ///
    /// # Errors
    /// There is no token or an unknown one, the cache is another model's, or an operation fails.
    pub fn sensitivities(&self, tokens: &[i64], cache: &KvCache) -> Result<Vec<Sensitivity>> {
        let embedded = self.embed(tokens)?;
        let layers = tch::with_grad(|| {
            let (last, passed) = self.pass(&embedded, cache, None)?;
            let objective = last.f_to_kind(Kind::Float)?.f_square()?.f_sum(Kind::Float)?;
            let probes: Vec<&Tensor> = passed.iter().map(|layer| &layer.probe).collect();
            let gradients = Tensor::f_run_backward(&[&objective], &probes, false, false)
                .during("the gradient of the last hidden states", &[&last])?;
            Ok::<_, Error>(passed.into_iter().zip(gradients).collect::<Vec<_>>())
        })?;
        let detached = layers.into_iter().map(|(Passed { queries, keys, .. }, gradient)| {
            Ok(Sensitivity { queries: queries.f_detach()?, keys: keys.f_detach()?, gradient })
        });
        detached.collect()
    }

    /// Appends to `cache` the keys and values of tokens that have embeddings of their own, `[n, hidden]`, read through
    /// weights that `adapter` changes.
    ///
    /// # Errors
    /// The embeddings, the adapter or the cache are another model's, or an operation fails.
    pub fn append_adapted(&self, embeddings: &Tensor, adapter: &LoraAdapter, cache: &mut KvCache) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let embeddings = embeddings.f_to_device(self.placement.layer(0))?.f_to_kind(self.kind)?;
        let (tokens, hidden) = embeddings.size2()?;
        if hidden != self.config.hidden_size {
            let due = self.config.hidden_size;
            return Err(Error::input(format!("embeddings of width {hidden} where the model's is {due}")));
        }
        let (_, passed) = self.pass(&embeddings, cache, Some(adapter))?;
        for (index, Passed { keys, values, .. }) in passed.iter().enumerate() {
            cache.layer_mut(index)?.append(keys, values)?;
        }
        cache.advance(tokens);
        Ok(())
    }

    /// Runs `stream`, `[n, hidden]`, over `cache`. Gives the last layer's output, before the final norm.
    fn pass(&self, stream: &Tensor, cache: &KvCache, adapter: Option<&LoraAdapter>) -> Result<(Tensor, Vec<Passed>)> {
        let tokens = stream.size2()?.0;
        let positions =
            Tensor::f_arange_start(cache.position(), cache.position() + tokens, (Kind::Int64, stream.device()))?;
        let mut tables = self.rotary().tables(&positions, self.kind)?;
        let mut stream = stream.shallow_clone();
        let mut passed = Vec::with_capacity(self.layers.len());
        for (index, layer) in self.layers.iter().enumerate() {
            let adapted = Adapted { adapter, layer: index };
            (stream, tables) = self.bring(index, stream, tables)?;
            let (next, own) = self.pass_layer(layer, &adapted, &stream, (&tables.0, &tables.1), cache)?;
            stream = next;
            passed.push(own);
        }
        Ok((stream, passed))
    }

    fn pass_layer(
        &self,
        layer: &Layer,
        adapted: &Adapted<'_>,
        stream: &Tensor,
        (cos, sin): (&Tensor, &Tensor),
        cache: &KvCache,
    ) -> Result<(Tensor, Passed)> {
        let Geometry { heads, kv_heads, head_dim, .. } = self.geometry;
        let tokens = stream.size2()?.0;
        let norm = |input: &Tensor, weight: &Tensor| {
            let width = [self.config.hidden_size];
            input.f_rms_norm(width, Some(weight), self.config.rms_norm_eps).during("RMSNorm", &[input, weight])
        };
        let (width, kv_width) = (heads * head_dim, kv_heads * head_dim);
        let names = [("self_attn.q_proj", width), ("self_attn.k_proj", kv_width), ("self_attn.v_proj", kv_width)];
        let projected = adapted.linear(&layer.attention.input, &names, &norm(stream, &layer.input_norm)?)?;
        let projected = projected.f_view([tokens, heads + 2 * kv_heads, head_dim])?.f_transpose(0, 1)?;
        let queries = Rotary::rotate(&projected.f_narrow(0, 0, heads)?, cos, sin)?;
        let keys = Rotary::rotate(&projected.f_narrow(0, heads, kv_heads)?, cos, sin)?;
        let values = projected.f_narrow(0, heads + kv_heads, kv_heads)?;

        let held = cache.layers().get(adapted.layer).ok_or_else(|| Error::input("the cache has fewer layers"))?;
        let before = held.lengths().first().copied().unwrap_or(0);
        let (held_keys, held_values) = held.span(0, before)?;
        let attended =
            attend(&queries, &Tensor::f_cat(&[&held_keys, &keys], 1)?, &Tensor::f_cat(&[&held_values, &values], 1)?)?;
        let hidden = self.config.hidden_size;
        let written = adapted.linear(&layer.attention.output, &[("self_attn.o_proj", hidden)], &attended)?;
        let probe = written.f_detach()?.f_zeros_like()?.f_set_requires_grad(true)?;
        let residual = stream.f_add(&written)?.f_add(&probe)?;

        let inner = self.config.intermediate_size;
        let names = [("mlp.gate_proj", inner), ("mlp.up_proj", inner)];
        let gate_up = adapted.linear(&layer.gate_up, &names, &norm(&residual, &layer.output_norm)?)?;
        let gated = gate_up.f_narrow(1, 0, inner)?.f_silu()?.f_mul(&gate_up.f_narrow(1, inner, inner)?)?;
        let next = residual.f_add(&adapted.linear(&layer.down, &[("mlp.down_proj", hidden)], &gated)?)?;
        Ok((next, Passed { queries, keys, values, probe }))
    }
}

/// The linear maps of one layer with what an adapter adds to them.
struct Adapted<'a> {
    adapter: Option<&'a LoraAdapter>,
    layer: usize,
}

impl Adapted<'_> {
    /// A stack of maps, called `names` and each of so many rows, of `input`.
    fn linear(&self, map: &Linear, names: &[(&str, i64)], input: &Tensor) -> Result<Tensor> {
        let (weight, bias) = map.parts();
        let mapped = input.f_linear(weight, bias).during("a linear layer", &[input, weight])?;
        let Some(adapter) = self.adapter else { return Ok(mapped) };
        let mut added = Vec::with_capacity(names.len());
        for &(name, rows) in names {
            added.push(match adapter.added(self.layer, name, input)? {
                Some(part) => part,
                None => Tensor::f_zeros([input.size2()?.0, rows], (input.kind(), input.device()))?,
            });
        }
        let added = Tensor::f_cat(&added, 1)?;
        mapped.f_add(&added).during("adding an adapter's part", &[&mapped, &added])
    }
}

/// Attention of `queries`, `[heads, n, head_dim]`, over `keys` and `values`, `[kv_heads, m, head_dim]`, the last `n` of
/// which are the queries' own. Gives `[n, heads * head_dim]`.
fn attend(queries: &Tensor, keys: &Tensor, values: &Tensor) -> Result<Tensor> {
    let (heads, tokens, head_dim) = queries.size3()?;
    let (kv_heads, all, _) = keys.size3()?;
    let group = heads / kv_heads;
    let seen = Tensor::f_ones([tokens, all], (Kind::Bool, keys.device()))?.f_tril(all - tokens)?;
    // KV heads are the batch, so that each is shared by its group without being repeated.
    let shared = |data: &Tensor| data.f_unsqueeze(1)?.f_expand([kv_heads, group, all, head_dim], false);
    queries
        .f_reshape([kv_heads, group, tokens, head_dim])
        .and_then(|queries| {
            let (keys, values) = (shared(keys)?, shared(values)?);
            let mask = Some(&seen);
            Tensor::f_scaled_dot_product_attention(&queries, &keys, &values, mask, 0.0, false, None, false)
        })
        .and_then(|out| out.f_reshape([heads, tokens, head_dim])?.f_transpose(0, 1)?.f_reshape([tokens, -1]))
        .during("attention of a plain pass", &[queries, keys])
}
