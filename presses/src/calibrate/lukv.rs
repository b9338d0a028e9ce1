//! Budget curves for `lukv`: how much each head gives up so that the attention lost is least.

use std::path::Path;
use std::sync::Arc;

use pressroom::press::{Budget, ModelFacts, Needs, Scorer, Span};
use pressroom::view::LayerView;
use pressroom::{Error, Result};
use tch::{Kind, Tensor};

use super::{Calibration, Text, look_at, nothing_learned};
use crate::lukv::STEPS;

/// Tokens that the press protects, first and last.
const SINK: usize = 4;
const WINDOW: usize = 1;
/// Shortest text that says something of what comes later.
const SHORTEST: usize = 64;

/// Averages the best allocations over texts.
///
/// The first half of a text is the context, the second half its future. In a head that keeps the `b` best of the
/// context by the scorer's ranking, the future finds the share `U(b)` of the attention that it pays to the context. For
/// every total the budgets that maximise the sum of all `U` over layers and heads are wanted: with each `U` replaced by
/// its concave hull, taking the steepest pieces first is optimal.
pub struct LuKvCalibration {
    scorer: Arc<dyn Scorer>,
    model: ModelFacts,
    texts: usize,
    /// Sums of what is removed, `[99][layers * kv_heads]`.
    removed: Vec<Vec<f64>>,
}

impl LuKvCalibration {
    /// Nothing learned yet; the curve will be that of `scorer`.
    pub fn new(model: &ModelFacts, scorer: Arc<dyn Scorer>) -> Self {
        let heads = model.geometry.layers * model.geometry.kv_heads as usize;
        Self { scorer, model: model.clone(), texts: 0, removed: vec![vec![0.0; heads]; STEPS as usize] }
    }

    /// For every KV head of a layer what the future pays to each entry of the context, best-scored first.
    fn utilities(&self, view: &LayerView<'_>, context: i64) -> Result<Vec<Vec<f64>>> {
        let past = view.slice(0, context)?;
        let protected = past.first(SINK)?.f_logical_or(&past.last(WINDOW)?)?;
        let scores = self.scorer.score(&past, Budget::ALL)?.f_masked_fill(&protected, f64::INFINITY)?;
        let (_, order) = scores.f_sort_stable(true, -1, true)?;
        let paid = view.attention_within(context..view.context_end())?;
        let paid = paid.f_narrow(4, 0, context)?.f_sum_dim_intlist([2i64, 3].as_slice(), false, Kind::Double)?;
        let total = paid.f_sum_dim_intlist([2i64].as_slice(), true, Kind::Double)?.f_clamp_min(f64::MIN_POSITIVE)?;
        let ranked = paid.f_div(&total)?.f_gather(2, &order, false)?.f_squeeze_dim(0)?;
        Ok(Vec::try_from(ranked)?)
    }

    /// What is removed of each head, `[99][layers * kv_heads]`.
    fn allocate(utilities: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let entries = utilities.first().map_or(0, Vec::len);
        let least = (SINK + WINDOW).min(entries);
        let mut pieces: Vec<(usize, Piece)> = utilities
            .iter()
            .enumerate()
            .flat_map(|(head, gains)| concave_hull(&gains[least..]).into_iter().map(move |piece| (head, piece)))
            .collect();
        pieces.sort_by(|(_, a), (_, b)| b.slope.total_cmp(&a.slope));
        let mut kept = vec![least as f64; utilities.len()];
        let mut left = pieces.into_iter().peekable();
        let mut rows: Vec<Vec<f64>> = Vec::with_capacity(STEPS as usize);
        // From the largest budget's end: what a smaller one keeps, a larger one keeps too.
        for percent in (1..=STEPS).rev() {
            let total = (utilities.len() * entries) as f64 * (1.0 - percent as f64 / 100.0);
            let mut missing = total - kept.iter().sum::<f64>();
            while missing > 0.0 {
                let Some((head, piece)) = left.peek_mut() else { break };
                let taken = missing.min(piece.length);
                kept[*head] += taken;
                piece.length -= taken;
                missing -= taken;
                if piece.length <= 0.0 {
                    left.next();
                }
            }
            rows.push(kept.iter().map(|kept| 1.0 - kept / entries as f64).collect());
        }
        rows.reverse();
        rows
    }
}

impl Calibration for LuKvCalibration {
    fn learn(&mut self, text: Text<'_>) -> Result<()> {
        if text.tokens.len() < SHORTEST {
            return Ok(());
        }
        let context = text.tokens.len() as i64 / 2;
        let needs = self.scorer.needs().union(Needs { queries: Span::All, ..Needs::KEYS_AND_VALUES });
        let mut utilities = Vec::new();
        look_at(text.model, text.tokens, needs, &mut |view| {
            utilities.append(&mut self.utilities(view, context)?);
            Ok(())
        })?;
        self.texts += 1;
        for (sums, row) in self.removed.iter_mut().zip(Self::allocate(&utilities)) {
            sums.iter_mut().zip(row).for_each(|(sum, removed)| *sum += removed);
        }
        Ok(())
    }

    fn write(&self, folder: &Path) -> Result<Vec<String>> {
        if self.texts == 0 {
            return Err(nothing_learned());
        }
        let shape = [STEPS, self.model.geometry.layers as i64, self.model.geometry.kv_heads];
        let curve = Tensor::f_from_slice(&self.removed.concat())?.f_div_scalar(self.texts as i64)?.f_view(shape)?;
        let (name, path) = ("curve.npy", folder.join("curve.npy"));
        curve.write_npy(&path).map_err(|error| Error::file(&path, error.to_string()))?;
        Ok(vec![name.into()])
    }
}

/// A piece of a concave curve.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Piece {
    length: f64,
    slope: f64,
}

/// The least concave curve above the running sum of `gains`: pieces of falling slope.
fn concave_hull(gains: &[f64]) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for gain in gains {
        let mut piece = Piece { length: 1.0, slope: *gain };
        while let Some(before) = pieces.pop_if(|before| before.slope <= piece.slope) {
            let length = before.length + piece.length;
            let gained = before.slope * before.length + piece.slope * piece.length;
            piece = Piece { length, slope: gained / length };
        }
        pieces.push(piece);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hull_joins_what_would_rise() {
        let piece = |length, slope| Piece { length, slope };
        assert_eq!(concave_hull(&[4.0, 1.0, 3.0, 0.5]), [piece(1.0, 4.0), piece(2.0, 2.0), piece(1.0, 0.5)]);
        assert_eq!(concave_hull(&[1.0, 2.0, 3.0]), [piece(3.0, 2.0)]);
    }

    #[test]
    fn budgets_add_up_nest_and_go_to_the_head_that_gains_more() {
        let flat = vec![1.0 / 100.0; 100];
        let mut peaked = vec![0.0; 100];
        peaked[..20].fill(1.0 / 20.0);
        let curve = LuKvCalibration::allocate(&[flat, peaked]);
        for (index, row) in curve.iter().enumerate() {
            // Below 95 %; above, what is protected is kept all the same.
            let ratio = (index + 1) as f64 / 100.0;
            assert!((row.iter().sum::<f64>() / 2.0 - ratio.min(0.95)).abs() < 1e-9, "{ratio}: {row:?}");
        }
        assert!(curve.windows(2).all(|rows| rows[0].iter().zip(&rows[1]).all(|(less, more)| less <= more)));
        // At 87.5 % the peaked head keeps its peak, the flat one what is protected.
        assert!((curve[86][1] - 0.8).abs() < 0.02 && curve[86][0] > 0.93, "{:?}", curve[86]);
    }
}
