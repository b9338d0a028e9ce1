//! `merging`: what is evicted lives on in its nearest neighbour.

use pressroom::error::During;
use pressroom::press::{Budget, Edits, Kept, Range, Scorer, Selection, Wrapper};
use pressroom::{Result, view::LayerView};
use tch::{Kind, Tensor};

pressroom::press! {
    /// Folds the values that are evicted into those of the most similar keys that are kept.
    ///
    /// # Idea
    /// What a scorer evicts need not be lost: the value of each evicted token is averaged into that of the kept token
    /// whose key is most similar, weighted by the similarity and by how large it is beside the other. Keys stay as they
    /// are.
    ///
    /// # Formula
    /// `v' = (v + sum w v_e) / (1 + sum w)` over the evicted `e` whose nearest kept key is that of `v`, with
    /// `w = max(cos(k_e, k), 0) * ||v_e|| / (||v_e|| + ||v||)`
    ///
    /// # Paper
    /// None of its own; after Bolya et al., "Token Merging: Your ViT But Faster", ICLR 2023,
    /// <https://arxiv.org/abs/2210.09461>, and Wan et al., "D2O: Dynamic Discriminative Operations for Efficient
    /// Long-Context Inference of Large Language Models", 2024, <https://arxiv.org/abs/2406.13035>
    "merging" Press Merging wraps(press: Scorer) {
        /// Smallest cosine similarity at which a token is merged.
        similarity_threshold: f64 = 0.0, Range::closed(0.0, 1.0);
        /// Fraction of the evicted tokens, the most similar ones, that is merged.
        merge_fraction: f64 = 1.0, Range::closed(1e-9, 1.0);
    }
}

/// Keeps quotients of zero norms finite.
const EPSILON: f64 = 1e-6;

/// Evicted tokens whose similarities to all kept ones are held at a time.
const SLICE: i64 = 1024;

impl Merging {
    /// Weights, float32 `[batch, kv_heads, evicted]`, at which evicted tokens of these similarities are merged before
    /// their sizes count.
    fn gate(&self, similarity: &Tensor) -> Result<Tensor> {
        let weights = similarity.f_clamp_min(0.0)?;
        let evicted = similarity.size()[2];
        let too_far = similarity.f_lt(self.similarity_threshold)?;
        let dissimilar = evicted - self.merged(evicted);
        let (_, ascending) = similarity.f_sort_stable(true, 2, false)?;
        let weights = weights.f_scatter_value(2, &ascending.f_narrow(2, 0, dissimilar)?, 0.0)?;
        Ok(weights.f_masked_fill(&too_far, 0.0)?)
    }

    /// How many of the evicted tokens are merged: those at or above the quantile `1 - merge_fraction`.
    fn merged(&self, evicted: i64) -> i64 {
        evicted - ((1.0 - self.merge_fraction) * (evicted - 1) as f64).ceil() as i64
    }
}

impl Wrapper for Merging {
    fn identity(&self, scorer: String) -> String {
        self.identity_around(&[scorer])
    }

    fn select(&self, scorer: &dyn Scorer, view: &LayerView<'_>, budget: Budget) -> Result<Selection> {
        let selection = scorer.select(view, budget)?;
        let Kept::Uniform(kept) = selection.kept() else { return Ok(selection) };
        let left =
            Tensor::f_ones([view.batch(), view.geometry().kv_heads, view.tokens()], (Kind::Bool, view.device()))?;
        let evicted = left.f_scatter_value(2, kept, 0)?.f_nonzero()?.f_select(1, 2)?;
        let evicted = Kept::Uniform(evicted.f_view([view.batch(), view.geometry().kv_heads, -1])?);
        let values = self.merge(view, selection.kept(), &evicted)?;
        Ok(selection.with_edits(Edits { values: Some(values), ..Edits::default() }))
    }
}

impl Merging {
    /// Values of the entries kept, `[batch, kv_heads, kept, head_dim]`, with the evicted ones folded in.
    fn merge(&self, view: &LayerView<'_>, kept: &Kept, evicted: &Kept) -> Result<Tensor> {
        let of = |data: &Tensor, entries: &Kept| -> Result<Tensor> { Ok(entries.pick(data)?.f_to_kind(Kind::Float)?) };
        let unit = |keys: Tensor| -> Result<Tensor> { Ok(keys.f_div(&norms(&keys)?.f_clamp_min(EPSILON)?)?) };
        let (similarity, nearest) = nearest(&unit(of(view.keys(), evicted)?)?, &unit(of(view.keys(), kept)?)?)?;
        let (values, extra) = (of(view.values(), kept)?, of(view.values(), evicted)?);
        let nearest = nearest.f_unsqueeze(-1)?;
        let sizes = norms(&extra)?;
        let total = norms(&values)?.f_gather(2, &nearest, false)?.f_add(&sizes)?.f_add_scalar(EPSILON)?;
        let weights = self.gate(&similarity)?.f_unsqueeze(-1)?.f_mul(&sizes)?.f_div(&total)?;
        let sums = values.f_scatter_add(2, &nearest.f_expand_as(&extra)?, &extra.f_mul(&weights)?)?;
        let weight = norms(&values)?.f_ones_like()?.f_scatter_add(2, &nearest, &weights)?;
        sums.f_div(&weight).during("merging values", &[&values, &extra])
    }
}

/// L2 norms of the last dimension, which stays.
fn norms(data: &Tensor) -> Result<Tensor> {
    Ok(data.f_linalg_norm(2.0, [-1i64].as_slice(), true, Kind::Float)?)
}

/// Of each evicted key its largest product with a kept one, and which that is, both `[batch, kv_heads, evicted]`.
fn nearest(evicted: &Tensor, kept: &Tensor) -> Result<(Tensor, Tensor)> {
    let kept = kept.f_transpose(2, 3)?;
    let (mut largest, mut which) = (Vec::new(), Vec::new());
    for part in evicted.f_split(SLICE, 2)? {
        let products = part.f_matmul(&kept).during("similarity of keys", &[&part, &kept])?;
        let (value, index) = products.f_max_dim(-1, false)?;
        largest.push(value);
        which.push(index);
    }
    Ok((Tensor::f_cat(&largest, 2)?, Tensor::f_cat(&which, 2)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_of_one_merges_nothing_and_the_fraction_counts() {
        crate::testing::with_view(31, |view| {
            let changed = |press: Merging| {
                let selection = press.select(&crate::Knorm {}, view, Budget::Ratio(0.5)).unwrap();
                let plain = selection.kept().pick(view.values()).unwrap();
                let merged = selection.kept_values(view.values()).unwrap();
                f64::try_from((merged - plain).abs().sum(Kind::Float)).unwrap()
            };
            assert_eq!(changed(Merging { similarity_threshold: 1.0, ..Merging::default() }), 0.0);
            let fraction = |merge_fraction| changed(Merging { merge_fraction, ..Merging::default() });
            let (half, all) = (fraction(0.5), fraction(1.0));
            assert!(0.0 < half && half < all, "{half} of {all}");
        });
        for (merge_fraction, merged) in [(1.0, 16), (0.5, 8), (0.75, 12), (0.01, 1)] {
            assert_eq!(Merging { merge_fraction, ..Merging::default() }.merged(16), merged, "{merge_fraction}");
        }
    }

    #[test]
    fn slices_find_what_one_product_finds() {
        let draw = |seed| pressroom::random::uniform(seed, &[1, 1, 2500, 4], tch::Device::Cpu).unwrap() - 0.5;
        let (evicted, kept) = (draw(1), draw(2).narrow(2, 0, 40));
        let (largest, which) = nearest(&evicted, &kept).unwrap();
        let (due, place) = evicted.matmul(&kept.transpose(2, 3)).max_dim(-1, false);
        assert!(largest.allclose(&due, 1e-6, 1e-6, false));
        assert_eq!(which, place);
    }
}
