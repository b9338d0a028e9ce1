//! `key_rerotation`: no gaps between the positions of what is kept.

use pressroom::press::{Budget, Edits, Kept, Scorer, Selection, Wrapper};
use pressroom::{Result, view::LayerView};
use tch::{Kind, Tensor};

pressroom::press! {
    /// Moves the keys that a scorer keeps to neighbouring positions.
    ///
    /// # Idea
    /// Evicting leaves gaps between positions. Turning the kept keys to the positions 0, 1, 2, .. gives a cache that
    /// looks like that of a short context; questions and answers take their positions from its length on. Where layers
    /// keep different numbers, they count from the longest.
    ///
    /// # Formula
    /// `k of the i-th kept token, at position p, becomes R(i - p) k`
    ///
    /// # Paper
    /// Corallo and Papotti, "FINCH: Prompt-guided Key-Value Cache Compression for Large Language Models", TACL 2024,
    /// <https://doi.org/10.1162/tacl_a_00716>
    "key_rerotation" Press KeyRerotation wraps(press: Scorer) {}
}

impl Wrapper for KeyRerotation {
    fn identity(&self, scorer: String) -> String {
        self.identity_around(&[scorer])
    }

    fn moves_keys(&self) -> bool {
        true
    }

    fn select(&self, scorer: &dyn Scorer, view: &LayerView<'_>, budget: Budget) -> Result<Selection> {
        closed_up(scorer.select(view, budget)?)
    }
}

/// The same number of entries in every head, moved to the positions 0, 1, 2, ..; everything stays where it is.
pub(crate) fn closed_up(selection: Selection) -> Result<Selection> {
    let Kept::Uniform(indices) = selection.kept() else { return Ok(selection) };
    let positions = Tensor::f_arange(indices.size()[2], (Kind::Int64, indices.device()))?.f_expand_as(indices)?;
    Ok(selection.with_edits(Edits { positions: Some(positions), ..Edits::default() }))
}
