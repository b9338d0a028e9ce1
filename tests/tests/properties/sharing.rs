//! What sessions of one prefill share: a scorer scores a layer once, whatever wraps it and at however many ratios.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pressroom::hooks::AttentionHook;
use pressroom::pipeline::Session;
use pressroom::press::{Budget, Needs, Scorer};
use pressroom::view::LayerView;
use tch::Tensor;

use crate::generator::{alone, wrappers};
use crate::support::tiny;

/// Scores by the norms of the values, and counts how often.
#[derive(Default)]
struct Counting(AtomicUsize);

impl Scorer for Counting {
    fn identity(&self) -> String {
        "counting".into()
    }

    fn needs(&self) -> Needs {
        Needs::KEYS_AND_VALUES
    }

    fn score(&self, view: &LayerView<'_>, _budget: Budget) -> pressroom::Result<Tensor> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(view.values().norm_scalaropt_dim(2, [-1i64].as_slice(), false))
    }
}

#[test]
fn a_scorer_scores_a_layer_once_whatever_the_ratios() {
    let model = tiny();
    let context: Vec<i64> = (0..30).map(|index| index * 7 % 64).collect();
    let scored = |name: &str, ratios: &[f64]| {
        let counting = Arc::new(Counting::default());
        let scorer: Arc<dyn Scorer> = counting.clone();
        let method = wrappers(&scorer).into_iter().find(|(wrapper, _)| wrapper == name).unwrap().1;
        let mut sessions: Vec<Session> = ratios
            .iter()
            .map(|ratio| Session::new(alone(method.clone(), Budget::from_ratio(*ratio).unwrap())))
            .collect();
        let mut hooks: Vec<&mut dyn AttentionHook> =
            sessions.iter_mut().map(|it| it as &mut dyn AttentionHook).collect();
        model.prefill(&context, 0, &mut hooks).unwrap().into_iter().for_each(|outcome| outcome.unwrap());
        counting.0.load(Ordering::SeqCst)
    };
    let scorer: Arc<dyn Scorer> = Arc::new(Counting::default());
    let scored_once = wrappers(&scorer).into_iter().map(|(name, _)| {
        let (one, three) = (scored(&name, &[0.25]), scored(&name, &[0.25, 0.5, 0.75]));
        // What it scores next depends on what it has kept so far.
        assert!(three == one || name == "block", "{name} scores {one} times for one ratio, {three} times for three");
        usize::from(one == model.geometry().layers)
    });
    assert!(scored_once.sum::<usize>() >= 9);
}
