//! `chunk`: the same share of every part of the context.

use pressroom::press::{Budget, Needs, Range, Scorer, Selection, Wrapper};
use pressroom::{Error, Result, view::LayerView};
use tch::Tensor;

pressroom::press! {
    /// Compresses chunks of the context independently of one another.
    ///
    /// # Idea
    /// Scores over a whole context may put everything that is kept into one region. Here every chunk is a context of
    /// its own for the scorer, with its own sink tokens and observation window, and keeps the same share, rounded down
    /// in each and at least one.
    ///
    /// # Formula
    /// `kept = union over chunks of the best floor(tokens of the chunk * (1 - compression_ratio)) by scores of the chunk`
    ///
    /// # Paper
    /// Corallo and Papotti, "FINCH: Prompt-guided Key-Value Cache Compression for Large Language Models", TACL 2024,
    /// <https://doi.org/10.1162/tacl_a_00716>
    "chunk" Press Chunk wraps(press: Scorer) {
        /// Tokens of a chunk; what is left over at the end is a shorter one, or joins the last if it is too short for the
        /// scorer.
        chunk_length: usize = 1024, Range::closed(1.0, 1e9);
    }
}

/// Refuses scorers that cannot score a part of the context as if there were nothing else.
pub(crate) fn scores_parts(press: &str, scorer: &dyn Scorer) -> Result<()> {
    let needs = scorer.needs();
    if needs.attention == pressroom::press::Span::None && !needs.attention_sums {
        return Ok(());
    }
    Err(Error::input(format!(
        "`{press}` scores parts of the context on their own, and {} reads attention weights, which are those of the \
         whole; wrap a scorer that reads keys, queries or hidden states",
        scorer.identity()
    )))
}

impl Wrapper for Chunk {
    fn identity(&self, scorer: String) -> String {
        self.identity_around(&[scorer])
    }

    fn needs(&self, scorer: Needs) -> Needs {
        // Windows are needed at the end of every chunk.
        scorer.everywhere()
    }

    fn check(&self, scorer: &dyn Scorer) -> Result<()> {
        scores_parts("chunk", scorer)
    }

    fn select(&self, scorer: &dyn Scorer, view: &LayerView<'_>, budget: Budget) -> Result<Selection> {
        let tokens = view.tokens();
        if budget.keeps_all(tokens) {
            return Ok(Selection::all());
        }
        let share = Budget::from_ratio(budget.ratio(tokens))?;
        let (mut kept, mut end) = (Vec::new(), tokens);
        let chunks = (tokens as usize).div_ceil(self.chunk_length);
        for start in (0..chunks).rev().map(|chunk| (chunk * self.chunk_length) as i64) {
            let length = end - start;
            match view.slice(start, length)?.best(scorer, share, share.kept(length)) {
                Ok(best) => kept.push(best.f_add_scalar(start)?),
                Err(Error::TooShort { .. }) if end == tokens && start > 0 => continue,
                Err(error) => return Err(Error::input(format!("the chunk of tokens {start} to {}: {error}", end - 1))),
            }
            end = start;
        }
        kept.reverse();
        Selection::ascending(Tensor::f_cat(&kept, 2)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pressroom::press::Span;
    use pressroom::view::Materialised;

    /// Every chunk's observation window is its own last tokens, at their positions in the context.
    #[test]
    fn a_chunk_is_scored_as_a_context_of_its_own() {
        crate::testing::with_view(40, |view| {
            let snapkv = crate::SnapKv { window_size: 3, kernel_size: 1 };
            let press = Chunk { chunk_length: 10 };
            let kept = press.select(&snapkv, view, Budget::Ratio(0.5)).unwrap().to_lists(2, 40).unwrap();
            for head in &kept {
                assert_eq!(head.len(), 20);
                for end in [10, 20, 30, 40] {
                    assert!((end - 3..end).all(|token| head.contains(&token)), "no window at {end}: {head:?}");
                }
            }
            // A context that ends where the first chunk ends leaves the same of it.
            let first = view.slice(0, 10).unwrap();
            let alone = press.select(&snapkv, &first, Budget::Ratio(0.5)).unwrap().to_lists(2, 10).unwrap();
            for (head, alone) in kept.iter().zip(&alone) {
                assert_eq!(&head[..5], alone);
            }
        });
    }

    /// Rotary embedding knows distances alone: the same queries and keys give the same further on.
    #[test]
    fn chunks_of_the_same_content_keep_the_same() {
        crate::testing::with_view(10, |first| {
            let again = |data: &Tensor, dim: i64| Tensor::cat(&[data, data], dim);
            let delta = Tensor::from_slice(&[10i64]);
            let moved = first.rotary().shift(first.keys(), &delta, 20).unwrap();
            let parts =
                Materialised { queries: Some(again(&first.queries(Span::All).unwrap(), 2)), ..Materialised::default() };
            let keys = Tensor::cat(&[first.keys(), &moved], 2);
            let view =
                LayerView::new(0, first.geometry(), keys, again(first.values(), 2), parts, first.rotary()).unwrap();
            let scorers: [&dyn Scorer; 2] = [
                &crate::SnapKv { window_size: 3, kernel_size: 1 },
                &crate::ExpectedAttention { n_sink: 1, ..Default::default() },
            ];
            for scorer in scorers {
                let press = Chunk { chunk_length: 10 };
                let kept = press.select(scorer, &view, Budget::Ratio(0.5)).unwrap().to_lists(2, 20).unwrap();
                for head in kept {
                    let further: Vec<i64> = head[..5].iter().map(|token| token + 10).collect();
                    assert_eq!(head[5..], further);
                }
            }
        });
    }

    #[test]
    fn a_rest_too_short_for_the_scorer_joins_the_chunk_before() {
        crate::testing::with_view(23, |view| {
            let snapkv = crate::SnapKv { window_size: 4, kernel_size: 1 };
            let select = |chunk_length| Chunk { chunk_length }.select(&snapkv, view, Budget::Ratio(0.5));
            let kept = select(10).unwrap().to_lists(2, 23).unwrap();
            for head in kept {
                assert_eq!(head.len(), 5 + 6);
                assert!((19..23).all(|token| head.contains(&token)), "no window in {head:?}");
            }
            let error = select(4).unwrap_err();
            let told = "the chunk of tokens 12 to 15: the context has 4 tokens and window_size = 4";
            assert!(error.to_string().contains(told), "{error}");
        });
    }
}
