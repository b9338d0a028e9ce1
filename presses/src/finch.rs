//! `finch`: the question says what to keep.

use pressroom::press::{Budget, Needs, Press, Range, Scorer, Selection, Span};
use pressroom::{Error, Result, view::LayerView};
use pressroom_kernels::order::best;
use tch::{Kind, Tensor};

use crate::key_rerotation::closed_up;

pressroom::press! {
    /// Keeps what the question attends to, and the question, without gaps between positions.
    ///
    /// # Idea
    /// The question, read with the context, is the observation window: attention of its tokens ranks the others. The
    /// keys kept are moved to neighbouring positions, as the prompt of that length would have them. It needs the
    /// question in the compressed text: `question = "visible"` (`--visible`). The reference marks the question with
    /// a delimiter token that it adds to the model; here the prompt knows where it begins, so none is needed.
    ///
    /// # Formula
    /// `score = mean over the query group and the question's tokens q of n_q softmax(q K / sqrt(d))`, `n_q` being the
    /// number of entries before `q` (1 without `normalize_scores`); infinite for the question
    ///
    /// # Paper
    /// Corallo and Papotti, "FINCH: Prompt-guided Key-Value Cache Compression for Large Language Models", TACL 2024,
    /// <https://doi.org/10.1162/tacl_a_00716>
    "finch" Press Finch {
        /// Tokens of chunks that keep the same share each; more than what is kept of one to hold the question. Absent:
        /// the context is compressed as a whole.
        chunk_length: Option<usize> = None, Range::closed(1.0, 1e9);
        /// Whether attention weights are multiplied by the number of entries they are spread over.
        normalize_scores: bool = true, Range::ANY;
        /// Whether the keys kept are moved to the positions 0, 1, 2, ..
        rerotate_keys: bool = true, Range::ANY;
    }
}

/// What ranks: attention of the question.
impl Scorer for Finch {
    fn identity(&self) -> String {
        self.identity()
    }

    fn needs(&self) -> Needs {
        // How long the question is shows with the prompt.
        Needs { queries: Span::All, ..Needs::KEYS_AND_VALUES }
    }

    fn score(&self, view: &LayerView<'_>, _budget: Budget) -> Result<Tensor> {
        let window = view.question_tokens();
        if window == 0 {
            return Err(Error::input(
                "finch ranks by the question, and the question is hidden: ask with it in the compressed text, \
                 question = \"visible\" in [task] (`--visible` of `pressroom ask`)",
            ));
        }
        crate::too_short("the question", window as usize, view)?;
        let mut weights = view.window_attention(window as usize)?;
        if self.normalize_scores {
            // Entries before each token of the question, itself not counted.
            let questions =
                Tensor::f_arange_start(view.context_end() - window, view.context_end(), (Kind::Int64, view.device()))?;
            let before = view.positions()?.f_unsqueeze(-2)?.f_lt_tensor(&questions.f_unsqueeze(-1)?)?;
            let counts = before.f_sum_dim_intlist([-1i64].as_slice(), true, Kind::Float)?;
            weights = weights.f_mul(&counts.f_unsqueeze(2)?)?;
        }
        let scores = weights.f_mean_dim([2i64, 3].as_slice(), false, Kind::Float)?;
        Ok(scores.f_masked_fill(&view.last(window as usize)?, f64::INFINITY)?)
    }
}

impl Press for Finch {
    fn identity(&self) -> String {
        self.identity()
    }

    fn needs(&self) -> Needs {
        Scorer::needs(self)
    }

    fn moves_keys(&self) -> bool {
        self.rerotate_keys
    }

    fn select(&self, view: &LayerView<'_>, budget: Budget) -> Result<Selection> {
        let tokens = view.tokens();
        if budget.keeps_all(tokens) {
            return Ok(Selection::all());
        }
        let scores = view.scores(self, budget)?;
        let selection = match self.chunk_length {
            None => best(&scores, budget.kept(tokens))?,
            Some(length) => {
                let share = Budget::from_ratio(budget.ratio(tokens))?;
                self.check_chunks(length as i64, share, view.question_tokens())?;
                let mut kept = Vec::new();
                for (index, chunk) in scores.f_split(length as i64, 2)?.into_iter().enumerate() {
                    kept.push(best(&chunk, share.kept(chunk.size()[2]))?.f_add_scalar((index * length) as i64)?);
                }
                Tensor::f_cat(&kept, 2)?
            }
        };
        let selection = Selection::ascending(selection)?;
        if self.rerotate_keys { closed_up(selection) } else { Ok(selection) }
    }
}

impl Finch {
    /// Refuses chunks of which less is kept than the question holds.
    fn check_chunks(&self, length: i64, share: Budget, question: i64) -> Result<()> {
        if share.kept(length) >= question {
            return Ok(());
        }
        Err(Error::input(format!(
            "of a chunk of chunk_length = {length} tokens {} are kept, and the question has {question}: use longer chunks \
             or a lower compression ratio",
            share.kept(length)
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hidden_question_is_refused() {
        crate::testing::with_view(20, |view| {
            let error = Finch::default().select(view, Budget::Ratio(0.5)).unwrap_err().to_string();
            assert!(error.contains("question = \"visible\""), "{error}");
        });
    }
}
