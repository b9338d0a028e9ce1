//! Replaying a context: the model repeats it chunk by chunk, and is watched reading what it repeats.

use std::ops::Range;

use pressroom::Result;
use pressroom::error::During;
use pressroom::model::Step;
use pressroom::press::{Context, Selection, StepHook, StepView};
use pressroom::view::Geometry;
use pressroom_kernels::quadratic;
use pressroom_kernels::received::{Seen, Summary, received};
use tch::{Kind, Tensor};

/// Attention logits that a replay may hold at once; longer contexts are read by fewer tokens at a time.
const LOGITS: i64 = 1 << 26;
/// Tokens replayed at once, if there is room.
const BLOCK: i64 = 256;
/// What makes the model repeat a whole context.
pub(crate) const REPEAT: &str = "\n\nRepeat the previous context exactly.";
/// Tokens of the chunk before that say where a chunk starts.
const CUE: usize = 8;

/// A part of the context, and what makes the model repeat it.
pub(crate) struct Chunk {
    /// Its positions.
    pub(crate) span: Range<i64>,
    /// The request, the template up to the answer, and the chunk as the answer.
    pub(crate) tokens: Vec<i64>,
}

/// The chunks of a context, the template before the user's text left out.
pub(crate) fn chunks(context: &Context<'_>, chunk_size: usize) -> Result<Vec<Chunk>> {
    let prompt = context.prompt;
    let first = (prompt.encode)(REPEAT)?;
    let next = (prompt.encode)("\n\nRepeat the part of the previous context exactly, starting with")?;
    let mut start = prompt.prefix_tokens.min(context.tokens.len());
    let mut before: &[i64] = &[];
    let mut chunks = Vec::new();
    for chunk in context.tokens[start..].chunks(chunk_size) {
        let cue = &before[before.len().saturating_sub(CUE)..];
        let request = if chunks.is_empty() { &first } else { &next };
        let end = start + chunk.len();
        chunks.push(Chunk { span: start as i64..end as i64, tokens: [request, cue, prompt.suffix, chunk].concat() });
        (start, before) = (end, chunk);
    }
    Ok(chunks)
}

/// Runs `tokens` over the full cache, in blocks, and forgets them again.
pub(crate) fn replay(context: &mut Context<'_>, tokens: &[i64], hook: &mut impl StepHook) -> Result<()> {
    let start = context.cache.position();
    let row = context.model.geometry().heads * (start + tokens.len() as i64);
    let block = (LOGITS / row).clamp(1, BLOCK);
    for tokens in tokens.chunks(block as usize) {
        let hook: Option<&mut dyn StepHook> = Some(hook);
        let _hidden = context.model.forward(&mut [Step { tokens, cache: context.cache, hook }])?;
    }
    context.cache.rollback(start)
}

/// What each of `keys`, `[kv_heads, m, head_dim]`, the last `n` of which are the queries' own, receives of `queries`,
/// `[heads, n, head_dim]`; both after rotary embedding. Float32 `[kv_heads, group, m]`.
pub(crate) fn read(queries: &Tensor, keys: &Tensor, summary: Summary<'_>) -> Result<Tensor> {
    let ((heads, count, _), (kv_heads, all, _)) = (queries.size3()?, keys.size3()?);
    let seen = Seen { first: all - count, positions: None };
    let read = received(&queries.f_unsqueeze(0)?, &keys.f_unsqueeze(0)?, seen, summary);
    Ok(read.during("attention of the replay", &[queries, keys])?.f_view([kv_heads, heads / kv_heads, all])?)
}

/// How strongly each value writes into the residual stream through each query head of its group, `||v W_O||`:
/// `values` `[kv_heads, n, head_dim]` to float32 `[kv_heads, group, n]`.
pub(crate) fn written(values: &Tensor, output_projection: &Tensor, geometry: Geometry) -> Result<Tensor> {
    let Geometry { kv_heads, head_dim, .. } = geometry;
    // Through the Gram matrix of each head's columns: the written vectors are never held.
    let columns =
        output_projection.f_to_kind(Kind::Float)?.f_view([-1, geometry.heads, head_dim])?.f_transpose(0, 1)?;
    let gram =
        columns.f_transpose(1, 2)?.f_bmm(&columns)?.f_view([1, kv_heads, geometry.group(), head_dim, head_dim])?;
    Ok(quadratic::form(&values.f_unsqueeze(0)?, &gram, None)?.f_squeeze_dim(0)?.f_clamp_min(0.0)?.f_sqrt()?)
}

/// Scores of nothing read yet, for each layer float32 `[kv_heads, tokens]`.
pub(crate) fn unread(context: &Context<'_>) -> Result<Vec<Tensor>> {
    let Geometry { layers, kv_heads, .. } = context.model.geometry();
    let tokens = context.tokens.len() as i64;
    let zeros = || Ok(Tensor::f_zeros([kv_heads, tokens], (Kind::Float, context.model.device()))?);
    (0..layers).map(|_| zeros()).collect()
}

/// Marks the first `n_sink` entries of every layer as always kept.
pub(crate) fn keep_sinks(scores: &[Tensor], n_sink: usize) -> Result<()> {
    for layer in scores {
        let sinks = layer.size2()?.1.min(n_sink as i64);
        let _ = layer.f_narrow(1, 0, sinks)?.f_fill_(f64::INFINITY)?;
    }
    Ok(())
}

/// How much the reconstruction of a context reads of it: what KVzip and its kin score by.
pub(crate) struct Reconstruction {
    pub(crate) chunk_size: usize,
    pub(crate) n_sink: usize,
    /// Whether attention is weighted by what it moves, `||v W_O|| / ||h||` (KVzip+).
    pub(crate) weighted: bool,
}

impl Reconstruction {
    /// Scores of every layer, float32 `[kv_heads, tokens]`; infinite for the sinks.
    pub(crate) fn score(&self, context: &mut Context<'_>) -> Result<Vec<Tensor>> {
        let geometry = context.model.geometry();
        let scores = unread(context)?;
        for Chunk { span, tokens } in chunks(context, self.chunk_size)? {
            let sinks = span.start.min(self.n_sink as i64);
            let mut reader = Reader::new(span.clone(), sinks, Reading::Most { weighted: self.weighted });
            replay(context, &tokens, &mut reader)?;
            let length = span.end - span.start;
            for (layer, mut read) in reader.read.into_iter().enumerate() {
                if self.weighted {
                    let values = context.cache.layers()[layer].span(span.start, length)?.1;
                    read = read.f_mul(&written(&values, context.model.output_projection(layer)?, geometry)?)?;
                }
                let mut own = scores[layer].f_narrow(1, span.start, length)?;
                own.f_copy_(&read.f_amax([1i64].as_slice(), false)?)?;
            }
        }
        keep_sinks(&scores, self.n_sink)?;
        Ok(scores)
    }
}

/// What of several tokens' readings is remembered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// The largest; `weighted` by the inverse norm of the hidden state that a query comes from.
    Most { weighted: bool },
    /// Their sum.
    Sum,
}

/// Watches how much the replayed tokens read of a part of the context.
pub(crate) struct Reader {
    part: Range<i64>,
    /// Tokens at the context's start that compete for attention beside the part.
    sinks: i64,
    reading: Reading,
    /// What the tokens so far have read, for each layer float32 `[kv_heads, group, part]`.
    pub(crate) read: Vec<Tensor>,
}

impl Reader {
    pub(crate) fn new(part: Range<i64>, sinks: i64, reading: Reading) -> Self {
        Self { part, sinks, reading, read: Vec::new() }
    }
}

impl StepHook for Reader {
    fn on_layer(&mut self, step: &StepView<'_>) -> Result<Option<Selection>> {
        let length = self.part.end - self.part.start;
        let (sinks, part) = (step.cache.span(0, self.sinks)?.0, step.cache.span(self.part.start, length)?.0);
        let keys = Tensor::f_cat(&[sinks, part, step.cache.appended()?.0], 1)?;
        let factors = match self.reading {
            Reading::Most { weighted: true } => Some(inverse_norms(step.hidden_states)?),
            _ => None,
        };
        let summary = match self.reading {
            Reading::Most { .. } => Summary::Most(factors.as_ref()),
            Reading::Sum => Summary::Sum,
        };
        let read = read(&step.rotated_queries()?, &keys, summary)?.f_narrow(2, self.sinks, length)?;
        match (self.read.get_mut(step.layer), self.reading) {
            (Some(so_far), Reading::Most { .. }) => *so_far = so_far.f_maximum(&read)?,
            (Some(so_far), Reading::Sum) => *so_far = so_far.f_add(&read)?,
            (None, _) => self.read.push(read),
        }
        Ok(None)
    }
}

/// One over the length of each hidden state, `[n, hidden]` to float32 `[n]`. A hidden state of zeros reads everything
/// alike, whatever it is divided by: by one.
pub(crate) fn inverse_norms(hidden_states: &Tensor) -> Result<Tensor> {
    let norms = hidden_states.f_linalg_norm(2.0, [-1i64].as_slice(), false, Kind::Float)?;
    Ok(norms.f_masked_fill(&norms.f_eq(0.0)?, 1.0)?.f_reciprocal()?)
}
