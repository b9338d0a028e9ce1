//! A context that is read in slices of tokens is the context that is read at once.

use pressroom::Result;
use pressroom::hooks::AttentionHook;
use pressroom::model::Step;
use pressroom::press::{Needs, Selection, Span, StepHook, StepView};
use pressroom::view::LayerView;
use tch::{Device, Kind, Tensor};

use crate::support::tiny;

/// More than two slices, and a last one that is not whole.
const TOKENS: i64 = 2 * 2048 + 77;

/// Queries that are asked for: of two slices.
const QUERIES: i64 = 200;

/// Hidden states, queries of the last tokens, keys and values of each layer.
#[derive(Default)]
struct Seen {
    layers: Vec<[Tensor; 4]>,
    attention: Vec<Tensor>,
    sums: Vec<Tensor>,
}

impl AttentionHook for Seen {
    fn needs(&self, layer: usize) -> Option<Needs> {
        let sums = layer == 1;
        let (queries, attention) = (Span::Last(QUERIES as usize), Span::Last(QUERIES as usize));
        Some(Needs { hidden_states: true, queries, attention, attention_sums: sums, ..Needs::KEYS_AND_VALUES })
    }

    fn on_layer(&mut self, view: &LayerView<'_>) -> Result<()> {
        let queries = view.queries(Span::Last(QUERIES as usize))?.get(0);
        let own = [view.hidden_states()?.get(0), queries, view.keys().get(0), view.values().get(0)];
        self.layers.push(own.map(|data| data.copy()));
        self.attention.push(view.attention(Span::Last(QUERIES as usize))?.get(0));
        if view.layer() == 1 {
            self.sums.push(view.attention_sums()?.get(0));
        }
        Ok(())
    }
}

impl StepHook for Seen {
    fn on_layer(&mut self, view: &StepView<'_>) -> Result<Option<Selection>> {
        let heads = (0..2).map(|head| view.cache.head(head)).collect::<Result<Vec<_>>>()?;
        let side = |side: usize| {
            let rows: Vec<&Tensor> = heads.iter().map(|(keys, values)| [keys, values][side]).collect();
            Tensor::stack(&rows, 0)
        };
        let queries = view.queries.narrow(1, TOKENS - QUERIES, QUERIES);
        self.layers.push([view.hidden_states.copy(), queries.copy(), side(0), side(1)]);
        Ok(None)
    }
}

fn distance(left: &Tensor, right: &Tensor) -> f64 {
    assert_eq!(left.size(), right.size());
    (left - right).abs().max().double_value(&[])
}

#[test]
fn a_context_in_slices_is_the_context_at_once() {
    let model = tiny();
    let vocabulary = model.config().vocab_size;
    let tokens: Vec<i64> = (0..TOKENS).map(|index| index * 7 % vocabulary).collect();
    let (mut sliced, mut whole) = (Seen::default(), Seen::default());
    model.prefill(&tokens, 0, &mut [&mut sliced]).unwrap().remove(0).unwrap();
    let mut cache = model.empty_cache().unwrap();
    let _ = model.forward(&mut [Step { tokens: &tokens, cache: &mut cache, hook: Some(&mut whole) }]).unwrap();
    assert_eq!((sliced.layers.len(), whole.layers.len()), (3, 3));
    for (layer, (ours, theirs)) in sliced.layers.iter().zip(&whole.layers).enumerate() {
        for (what, (ours, theirs)) in ["hidden states", "queries", "keys", "values"].iter().zip(ours.iter().zip(theirs))
        {
            let off = distance(ours, theirs);
            assert!(off < 2e-4, "{what} of layer {layer} are off by {off}");
        }
    }
    // Attention weights of the last queries: one in all, nothing of what lies ahead.
    for weights in &sliced.attention {
        assert_eq!(weights.size(), [4, QUERIES, TOKENS]);
        let ones = Tensor::ones([4, QUERIES], (Kind::Float, Device::Cpu));
        assert!(distance(&weights.sum_dim_intlist([2i64].as_slice(), false, Kind::Float), &ones) < 1e-4);
        assert_eq!(weights.triu(TOKENS - QUERIES + 1).abs().max().double_value(&[]), 0.0);
    }
    // What all keys of a head receive from all queries is one for each of these.
    let received = sliced.sums[0].sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
    assert!(distance(&received, &Tensor::full([4], TOKENS, (Kind::Double, Device::Cpu))) < 0.5);
}
