//! The attention block of a decoder layer: projections, and attention of a whole context at once.

use tch::{Kind, Tensor};

use super::arena::Arena;
use crate::error::{During, Result};
use crate::view::Geometry;
use pressroom_kernels::attention::default_scale;
use pressroom_kernels::{linear, rotary};

/// A linear map with an optional bias.
#[derive(Debug)]
pub(super) struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// The maps called `names` stacked into one, so that one product computes them all.
    pub(super) fn load(weights: &Arena, names: &[String], bias: bool) -> Result<Self> {
        let stacked = |part: &str| {
            let parts: Vec<String> = names.iter().map(|name| format!("{name}.{part}")).collect();
            weights.stacked(&parts)
        };
        Ok(Self { weight: stacked("weight")?, bias: if bias { Some(stacked("bias")?) } else { None } })
    }

    /// Weight and bias.
    pub(super) fn parts(&self) -> (&Tensor, Option<&Tensor>) {
        (&self.weight, self.bias.as_ref())
    }

    pub(super) fn forward(&self, input: &Tensor) -> Result<Tensor> {
        self.run(input, None)
    }

    /// The map of `input`, added to `residual`.
    pub(super) fn added_to(&self, residual: &Tensor, input: &Tensor) -> Result<Tensor> {
        self.run(input, Some(residual))
    }

    fn run(&self, input: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        linear::linear(input, &self.weight, self.bias.as_ref(), residual, input.kind())
            .during("a linear layer", &[input, &self.weight])
    }
}

/// Queries, keys and values of some tokens: `[tokens, heads, head_dim]`, before rotary embedding.
pub(super) struct Projected {
    pub(super) queries: Tensor,
    pub(super) keys: Tensor,
    pub(super) values: Tensor,
}

/// Projections of one layer's attention.
#[derive(Debug)]
pub(super) struct Attention {
    pub(super) input: Linear,
    pub(super) output: Linear,
    geometry: Geometry,
}

impl Attention {
    pub(super) fn load(weights: &Arena, layer: usize, geometry: Geometry, bias: bool) -> Result<Self> {
        let name = |part: &str| format!("model.layers.{layer}.self_attn.{part}_proj");
        Ok(Self {
            input: Linear::load(weights, &[name("q"), name("k"), name("v")], bias)?,
            output: Linear::load(weights, &[name("o")], bias)?,
            geometry,
        })
    }

    /// Projects `hidden`, `[tokens, hidden]`.
    pub(super) fn project(&self, hidden: &Tensor) -> Result<Projected> {
        let Geometry { heads, kv_heads, head_dim, .. } = self.geometry;
        let projected = self.input.forward(hidden)?.f_view([-1, heads + 2 * kv_heads, head_dim])?;
        let mut parts = projected.f_split_with_sizes([heads, kv_heads, kv_heads], 1)?.into_iter();
        let mut next = || parts.next().ok_or_else(|| crate::Error::input("a split gave too few parts"));
        Ok(Projected { queries: next()?, keys: next()?, values: next()? })
    }

    /// Weight of the output projection, `[hidden, heads * head_dim]`.
    pub(super) fn output_weight(&self) -> &Tensor {
        &self.output.weight
    }

    /// Projects attention outputs, `[tokens, heads * head_dim]`, back to the residual `stream`.
    pub(super) fn finish(&self, stream: &Tensor, attended: &Tensor) -> Result<Tensor> {
        self.output.added_to(stream, attended)
    }
}

/// Attention weights of the queries of the last tokens over all keys, float32 `[heads, queries, tokens]`.
pub(super) fn attention_weights(queries: &Tensor, keys: &Tensor) -> Result<Tensor> {
    let ((heads, count, head_dim), (kv_heads, tokens, _)) = (queries.size3()?, keys.size3()?);
    let grouped = queries.f_reshape([kv_heads, heads / kv_heads * count, head_dim])?;
    let hidden = Tensor::f_ones([count, tokens], (Kind::Bool, keys.device()))?.f_triu(tokens - count + 1)?;
    grouped
        .f_bmm(&keys.f_transpose(1, 2)?)
        .and_then(|logits| logits.f_mul_scalar(default_scale(head_dim))?.f_view([heads, count, tokens]))
        .and_then(|logits| logits.f_masked_fill(&hidden, f64::NEG_INFINITY)?.f_softmax(-1, Kind::Float))
        .during("attention weights", &[queries, keys])
}

/// Writes `data`, `[tokens, heads, head_dim]`, rotated, to `output`, which has the same shape.
pub(super) fn rotate_into(data: &Tensor, (cos, sin): &(Tensor, Tensor), output: &Tensor) -> Result<()> {
    rotary::rotate_into(data, cos, sin, output).during("rotary embedding", &[data, cos])
}
