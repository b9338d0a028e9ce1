//! Layers made of numbers, so that an author can test a press without a model.

use std::ffi::c_void;

use ndarray::{Array, Array2, Array3, Array4, Dimension, s};
use pressroom_plugin_abi::*;

use crate::{Budget, Element, Model, Needs, Result, Scorer, Selection, Selector, Span, View, axis};

/// One layer of a made-up model: 4 query heads, 2 KV heads of 8 channels, unless the fields say otherwise.
#[derive(Clone, Debug)]
pub struct Layer {
    /// `[batch, kv_heads, tokens, head_dim]`
    pub keys: Array4<f32>,
    /// `[batch, kv_heads, tokens, head_dim]`
    pub values: Array4<f32>,
    /// `[batch, heads, tokens, head_dim]`; the same before and after rotary embedding.
    pub queries: Array4<f32>,
    /// `[batch, tokens, hidden]`
    pub hidden_states: Array3<f32>,
    /// `[hidden, heads * head_dim]`
    pub output_projection: Array2<f32>,
    /// `[batch, kv_heads, tokens]`
    pub positions: Array3<i64>,
    /// See [`View::seed`].
    pub seed: u64,
}

impl Layer {
    /// A layer of one sequence of `tokens` tokens; equal seeds give equal layers.
    pub fn random(tokens: usize, seed: u64) -> Self {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        // Xorshift (Marsaglia, 2003), the sum of four draws: close enough to a normal distribution.
        let mut draw = || {
            let mut sum = 0.0;
            for _ in 0..4 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                sum += (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
            }
            sum * 1.7
        };
        Self {
            keys: Array4::from_shape_simple_fn((1, 2, tokens, 8), &mut draw),
            values: Array4::from_shape_simple_fn((1, 2, tokens, 8), &mut draw),
            queries: Array4::from_shape_simple_fn((1, 4, tokens, 8), &mut draw),
            hidden_states: Array3::from_shape_simple_fn((1, tokens, 32), &mut draw),
            output_projection: Array2::from_shape_simple_fn((32, 32), &mut draw),
            positions: Array3::from_shape_fn((1, 2, tokens), |(_, _, token)| token as i64),
            seed,
        }
    }

    /// The scores that `press` gives, `[batch, kv_heads, tokens]`.
    ///
    /// # Errors
    /// The press's own.
    pub fn score(&self, press: &impl Scorer) -> Result<Array3<f32>> {
        press.prepare(&self.model())?;
        let mut scores = Array3::zeros(self.positions.dim());
        self.shown(press.needs(), |view| press.score(view, &mut scores.view_mut().into()))?;
        Ok(scores)
    }

    /// The entries that `press` keeps of each KV head, sequence after sequence.
    ///
    /// # Errors
    /// The press's own.
    pub fn select(&self, press: &impl Selector, ratio: f64) -> Result<Vec<Vec<usize>>> {
        press.prepare(&self.model())?;
        let (batch, kv_heads, tokens) = self.positions.dim();
        let (mut counts, mut indices) = (Array2::zeros((batch, kv_heads)), Array3::zeros((batch, kv_heads, tokens)));
        let budget = Budget::new(ratio, ((tokens as f64 * (1.0 - ratio)) as usize).max(1));
        self.shown(press.needs(), |view| {
            press.select(view, budget, &mut Selection::new(counts.view_mut(), indices.view_mut()))
        })?;
        let rows = counts.indexed_iter().map(|((sequence, head), &count)| {
            (0..count as usize).map(|slot| indices[[sequence, head, slot]] as usize).collect()
        });
        Ok(rows.collect())
    }

    /// The model that has this layer and no other.
    pub fn model(&self) -> Model {
        let (_, kv_heads, _, head_dim) = self.keys.dim();
        let (heads, hidden_size) = (self.queries.dim().1, self.hidden_states.dim().2);
        Model { name: "made-up".into(), layers: 1, heads, kv_heads, head_dim, hidden_size }
    }

    /// Shows all of the layer to `look`.
    ///
    /// # Errors
    /// Those of `look`.
    pub fn view<T>(&self, look: impl FnOnce(&View<'_>) -> Result<T>) -> Result<T> {
        let all = Needs {
            keys: true,
            values: true,
            queries: Span::All,
            rotated_queries: Span::All,
            attention: Span::All,
            hidden_states: true,
            attention_sums: true,
            output_projection: true,
            on_device: false,
        };
        self.shown(all, look)
    }

    /// Shows as much of the layer to `look` as was declared.
    fn shown<T>(&self, needs: Needs, look: impl FnOnce(&View<'_>) -> Result<T>) -> Result<T> {
        let last = |span: Span, array: &Array4<f32>| {
            let rows = array.dim().2;
            let first = rows.saturating_sub(usize::try_from(span.count()).unwrap_or(usize::MAX));
            (first < rows).then(|| array.slice(s![.., .., first.., ..]).to_owned())
        };
        let weights = (needs.attention_sums || needs.attention != Span::None).then(|| self.attention());
        let sums = weights.as_ref().filter(|_| needs.attention_sums).map(|weights| weights.sum_axis(axis::TOKEN));
        let attention = weights.and_then(|weights| last(needs.attention, &weights));
        let (queries, rotated) = (last(needs.queries, &self.queries), last(needs.rotated_queries, &self.queries));
        let (keys, values) = (needs.keys.then(|| Lent::new(&self.keys)), needs.values.then(|| Lent::new(&self.values)));
        let positions = Lent::new(&self.positions);
        let (queries, rotated) = (queries.as_ref().map(Lent::new), rotated.as_ref().map(Lent::new));
        let (attention, sums) = (attention.as_ref().map(Lent::new), sums.as_ref().map(Lent::new));
        let hidden_states = needs.hidden_states.then(|| Lent::new(&self.hidden_states));
        let projection = needs.output_projection.then(|| Lent::new(&self.output_projection));
        let place = |lent: &Option<Lent>| lent.as_ref().map_or(std::ptr::null(), |lent| &raw const lent.tensor);
        let (batch, kv_heads, tokens, head_dim) = self.keys.dim();
        let raw = PressroomView {
            size: size_of::<PressroomView>() as u32,
            phase: PRESSROOM_PREFILL,
            layer: 0,
            layers: 1,
            batch: batch as i64,
            heads: self.queries.dim().1 as i64,
            kv_heads: kv_heads as i64,
            head_dim: head_dim as i64,
            tokens: tokens as i64,
            context_start: 0,
            context_end: self.queries.dim().2 as i64,
            seed: self.seed,
            keys: place(&keys),
            values: place(&values),
            positions: &positions.tensor,
            queries: place(&queries),
            rotated_queries: place(&rotated),
            attention: place(&attention),
            hidden_states: place(&hidden_states),
            attention_sums: place(&sums),
            output_projection: place(&projection),
        };
        // SAFETY: the view and all that it points to live until the end of this function, `look` cannot keep them.
        look(&unsafe { View::new(&raw) }?)
    }

    /// Causal attention weights of all queries, `[batch, heads, tokens, tokens]`.
    fn attention(&self) -> Array4<f32> {
        let (batch, heads, tokens, head_dim) = self.queries.dim();
        let group = heads / self.keys.dim().1;
        let mut weights = Array4::zeros((batch, heads, tokens, self.keys.dim().2));
        for (sequence, head, token) in ndarray::indices((batch, heads, tokens)) {
            let query = self.queries.slice(s![sequence, head, token, ..]);
            let mut row = weights.slice_mut(s![sequence, head, token, ..]);
            for (entry, weight) in row.iter_mut().enumerate() {
                if self.positions[[sequence, head / group, entry]] <= token as i64 {
                    let key = self.keys.slice(s![sequence, head / group, entry, ..]);
                    *weight = (query.dot(&key) / (head_dim as f32).sqrt()).exp();
                }
            }
            let sum = row.sum();
            row.mapv_inplace(|weight| weight / sum);
        }
        weights
    }
}

/// An array as the host lends it.
struct Lent {
    tensor: PressroomTensor,
    _shape: Vec<i64>,
    _strides: Vec<i64>,
}

impl Lent {
    fn new<T: Element, D: Dimension>(array: &Array<T, D>) -> Self {
        let shape: Vec<i64> = array.shape().iter().map(|length| *length as i64).collect();
        let strides: Vec<i64> = array.strides().iter().map(|stride| *stride as i64).collect();
        let (code, bits) = match T::DTYPE {
            crate::Dtype::F32 => (PRESSROOM_FLOAT, 32),
            crate::Dtype::F16 => (PRESSROOM_FLOAT, 16),
            crate::Dtype::Bf16 => (PRESSROOM_BFLOAT, 16),
            crate::Dtype::I64 => (PRESSROOM_INT, 64),
        };
        let tensor = PressroomTensor {
            size: size_of::<PressroomTensor>() as u32,
            flags: PRESSROOM_READ_ONLY,
            array: PressroomArray {
                data: array.as_ptr().cast::<c_void>().cast_mut(),
                device: PressroomDevice { device_type: PRESSROOM_CPU, device_id: 0 },
                ndim: shape.len() as i32,
                dtype: PressroomDtype { code, bits, lanes: 1 },
                shape: shape.as_ptr(),
                strides: strides.as_ptr(),
                byte_offset: 0,
            },
            byte_len: size_of_val(array.as_slice_memory_order().unwrap_or_default()) as u64,
            stream: std::ptr::null_mut(),
        };
        Self { tensor, _shape: shape, _strides: strides }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scores;

    /// Reads one thing and declares another.
    #[derive(serde::Deserialize, schemars::JsonSchema)]
    struct Forgetful {}

    impl Scorer for Forgetful {
        const NAME: &'static str = "forgetful";

        fn needs(&self) -> Needs {
            Needs { rotated_queries: Span::Last(3), ..Needs::default() }
        }

        fn score(&self, view: &View<'_>, _: &mut Scores<'_>) -> Result {
            assert_eq!(view.rotated_queries()?.shape(), [1, 4, 3, 8]);
            view.hidden_states()?;
            Ok(())
        }
    }

    #[test]
    fn what_is_not_declared_is_not_shown() {
        let error = Layer::random(12, 1).score(&Forgetful {}).unwrap_err().to_string();
        assert_eq!(error, "reads hidden states that its needs do not declare");
    }

    /// Reads keys and says that it does not.
    #[derive(serde::Deserialize, schemars::JsonSchema)]
    struct Blind {}

    impl Scorer for Blind {
        const NAME: &'static str = "blind";

        fn needs(&self) -> Needs {
            Needs { keys: false, ..Needs::default() }
        }

        fn score(&self, view: &View<'_>, _: &mut Scores<'_>) -> Result {
            assert_eq!(view.values().shape(), [1, 2, 12, 8]);
            view.keys();
            Ok(())
        }
    }

    #[test]
    fn what_a_press_does_without_is_not_shown() {
        let panic = std::panic::catch_unwind(|| Layer::random(12, 1).score(&Blind {})).unwrap_err();
        assert_eq!(panic.downcast_ref::<String>().unwrap(), "reads keys that its needs do without");
    }

    #[test]
    fn a_view_is_the_layer_where_it_lies() {
        let layer = Layer::random(12, 1);
        layer
            .view(|view| {
                assert_eq!((view.tokens(), view.group(), view.context_end()), (12, 2, 12));
                assert_eq!(view.keys().f32().as_ptr(), layer.keys.as_ptr());
                assert_eq!(
                    view.values().head(0, 1),
                    layer.values.index_axis(axis::BATCH, 0).index_axis(axis::BATCH, 1)
                );
                assert!(view.keys().typed::<half::bf16>().is_none());
                let rows = view.attention()?.f32().sum_axis(axis::CHANNEL);
                assert!(rows.iter().all(|sum| (sum - 1.0).abs() < 1e-5), "{rows}");
                Ok(())
            })
            .unwrap();
    }
}
