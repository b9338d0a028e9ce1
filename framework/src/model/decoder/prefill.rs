//! Prefill: a context for any number of subscribers, layer by layer in slices of tokens. Of a layer, all tokens have keys
//! and values at a time, and what presses read; queries, attention and the MLP's activations are those of a slice.

use tch::{Kind, Tensor};

use super::super::attention::{Projected, rotate_into};
use super::super::context_layer::{ContextLayer, late};
use super::{Llama, Tables, slices};
use crate::error::{During, Result};
use crate::hooks::{self, AttentionHook};
use crate::press::{Needs, Span};
use crate::view::{Geometry, LayerView, union_of};
use pressroom_kernels::attention::attend_context;

impl Llama {
    /// Runs a context through the model once, for all `hooks`: after each layer's attention every hook sees the
    /// layer's full keys and values, which are then dropped. `seed` is what random presses derive theirs from.
    ///
    /// Gives for each hook whether it went through; a failed hook does not disturb the others.
    ///
    /// # Errors
    /// The context is empty, holds an unknown token id, or an operation of the model itself fails.
    pub fn prefill(&self, tokens: &[i64], seed: u64, hooks: &mut [&mut dyn AttentionHook]) -> Result<Vec<Result<()>>> {
        self.prefill_visible(tokens, 0, seed, hooks)
    }

    /// [`Self::prefill`] of a context whose last `question_tokens` tokens are a visible question.
    ///
    /// # Errors
    /// As [`Self::prefill`].
    pub fn prefill_visible(
        &self,
        tokens: &[i64],
        question_tokens: usize,
        seed: u64,
        hooks: &mut [&mut dyn AttentionHook],
    ) -> Result<Vec<Result<()>>> {
        let _guard = tch::no_grad_guard();
        let mut outcomes: Vec<Result<()>> = hooks.iter().map(|_| Ok(())).collect();
        let mut stream = self.embed(tokens)?;
        let mut tables = self.context_tables(tokens.len())?;
        for index in 0..self.layers.len() {
            (stream, tables) = self.bring(index, stream, tables)?;
            let wanted: Vec<Option<Needs>> = hooks
                .iter()
                .zip(&outcomes)
                .map(|(hook, outcome)| if outcome.is_ok() { hook.needs(index) } else { None })
                .collect();
            let needs = union_of(wanted.iter().flatten().copied());
            let view = self.prefill_layer(index, &stream, &tables, needs)?;
            let view = view.with_seed(seed).with_question(question_tokens as i64);
            for ((hook, outcome), wanted) in hooks.iter_mut().zip(&mut outcomes).zip(&wanted) {
                if wanted.is_some() {
                    *outcome = hooks::call(*hook, &view);
                }
            }
        }
        Ok(outcomes)
    }

    /// One layer over a whole context; each slice is written over its part of `stream`, `[tokens, hidden]`.
    fn prefill_layer(&self, index: usize, stream: &Tensor, tables: &Tables, needs: Needs) -> Result<LayerView<'_>> {
        let mut context = self.context_layer(index, stream, needs)?;
        for (start, length) in slices(stream.size2()?.0) {
            let mut own = stream.f_narrow(0, start, length)?;
            let queries = self.project_slice(&mut context, &own, start, tables, needs)?;
            // Nothing reads the residual stream after the last layer of a prefill.
            if index + 1 == self.layers.len() {
                continue;
            }
            let seen = |all: &Tensor| all.f_narrow(1, 0, start + length);
            let (keys, values) = (seen(&context.keys)?, seen(&context.values)?);
            let attended =
                attend_context(&queries, &keys, &values).during("attention over the context", &[&queries, &keys])?;
            drop(queries);
            own.f_copy_(&self.finish_slice(&self.layers[index], &own, &attended)?)?;
        }
        context.view(needs)
    }

    /// The first layer of a context, with what presses that read `needs` see of it: to try presses on a layer without
    /// a prefill of the whole model.
    ///
    /// # Errors
    /// As [`Self::prefill`].
    pub fn first_layer(&self, tokens: &[i64], needs: Needs) -> Result<ContextLayer<'_>> {
        let _guard = tch::no_grad_guard();
        let stream = self.embed(tokens)?;
        let tables = self.context_tables(tokens.len())?;
        let mut context = self.context_layer(0, &stream, needs)?;
        for (start, length) in slices(stream.size2()?.0) {
            let _ = self.project_slice(&mut context, &stream.f_narrow(0, start, length)?, start, &tables, needs)?;
        }
        Ok(context)
    }

    /// Rotary tables of the first `tokens` positions, on the first layer's device.
    fn context_tables(&self, tokens: usize) -> Result<Tables> {
        let positions = Tensor::f_arange(tokens as i64, (Kind::Int64, self.placement.layer(0)))?;
        self.rotary().tables(&positions, self.kind)
    }

    /// A layer of a context of which nothing is projected yet, with room for the keys and values of all its tokens.
    fn context_layer(&self, index: usize, stream: &Tensor, needs: Needs) -> Result<ContextLayer<'_>> {
        let Geometry { kv_heads, head_dim, .. } = self.geometry;
        let size = [kv_heads, stream.size2()?.0, head_dim];
        let room = || Tensor::f_empty(size, (self.kind, stream.device()));
        let normed = || self.rms_norm(stream, &self.layers[index].input_norm);
        Ok(ContextLayer {
            index,
            geometry: self.geometry,
            rotary: self.rotary_of(index),
            output_projection: self.layers[index].attention.output_weight(),
            queries: vec![],
            keys: room()?,
            values: room()?,
            unrotated: vec![],
            hidden_states: needs.hidden_states.then(normed).transpose()?,
        })
    }

    /// Projections of the tokens of `stream`, a slice that begins at token `start`: keys and values into the context,
    /// beside what `needs` reads of the rest. Gives the rotated queries, `[heads, n, head_dim]`.
    fn project_slice(
        &self,
        context: &mut ContextLayer<'_>,
        stream: &Tensor,
        start: i64,
        tables: &Tables,
        needs: Needs,
    ) -> Result<Tensor> {
        let layer = &self.layers[context.index];
        let (length, tokens) = (stream.size2()?.0, context.keys.size3()?.1);
        let Geometry { heads, head_dim, .. } = self.geometry;
        let normed = match &context.hidden_states {
            Some(all) => all.f_narrow(0, start, length)?,
            None => self.rms_norm(stream, &layer.input_norm)?,
        };
        let Projected { queries: unrotated, keys, values } = layer.attention.project(&normed)?;
        let tables = (tables.0.f_narrow(0, start, length)?, tables.1.f_narrow(0, start, length)?);
        let own = |all: &Tensor| all.f_narrow(1, start, length)?.f_transpose(0, 1);
        rotate_into(&keys, &tables, &own(&context.keys)?)?;
        own(&context.values)?.f_copy_(&values)?;
        let queries = Tensor::f_empty([heads, length, head_dim], (self.kind, stream.device()))?;
        rotate_into(&unrotated, &tables, &queries.f_transpose(0, 1)?)?;
        let attending = if needs.attention_sums { Span::All } else { needs.attention };
        context.queries.extend(late(&queries, 1, start, attending.of(tokens), tokens)?);
        context.unrotated.extend(late(&unrotated, 0, start, needs.queries.of(tokens), tokens)?);
        Ok(queries)
    }
}
