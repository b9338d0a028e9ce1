//! One budget for many KV heads: the best entries are kept, whichever layer and head they belong to.

use pressroom::Result;
use pressroom::error::During;
use pressroom::press::{Budget, Selection};
use pressroom_kernels::order::among_best;
use tch::Tensor;

/// What survives of `scores`, for each layer `[kv_heads, entries]`: bool `[layers, kv_heads, entries]`.
///
/// All heads compete where the layers' budgets are equal; those of each layer where budgets differ, or where
/// `layerwise` asks for it. `count(budget, entries, heads)` says how many pairs a budget leaves to heads together.
pub(crate) fn share(
    scores: &[Tensor],
    budgets: &[Budget],
    layerwise: bool,
    count: impl Fn(Budget, i64, i64) -> i64,
) -> Result<Tensor> {
    let scores = Tensor::f_stack(scores, 0)?;
    let (layers, kv_heads, entries) = scores.size3()?;
    match budgets {
        [all, others @ ..] if !layerwise && others.iter().all(|own| own == all) => {
            best(&scores, count(*all, entries, layers * kv_heads))
        }
        _ => {
            let masks = (0..layers)
                .zip(budgets)
                .map(|(layer, &budget)| best(&scores.f_narrow(0, layer, 1)?, count(budget, entries, kv_heads)))
                .collect::<Result<Vec<_>>>()?;
            Ok(Tensor::f_cat(&masks, 0)?)
        }
    }
}

/// The best `kept` entries of `scores`, `[layers, kv_heads, entries]`. Ties go to the earlier entry, whichever layer and
/// head it belongs to: where many are always kept, no layer is favoured.
fn best(scores: &Tensor, kept: i64) -> Result<Tensor> {
    let by_entry = scores.f_permute([2, 0, 1])?;
    let mask = among_best(&by_entry.f_reshape([1, -1])?, &[kept]).during("choosing among all heads", &[scores])?;
    Ok(mask.f_view(by_entry.size().as_slice())?.f_permute([1, 2, 0])?)
}

/// The selections, layer by layer, that masks `[layers, kv_heads, entries]` are.
pub(crate) fn selections(masks: &Tensor) -> Result<Vec<Selection>> {
    (0..masks.size3()?.0).map(|layer| Selection::from_mask(&masks.f_narrow(0, layer, 1)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(scores: &[[f32; 4]], budgets: &[Budget], layerwise: bool) -> Vec<Vec<i64>> {
        let layers: Vec<Tensor> = scores.iter().map(|layer| Tensor::from_slice(layer).view([2, 2])).collect();
        let masks = share(&layers, budgets, layerwise, Budget::left_together).unwrap();
        let lists = selections(&masks).unwrap();
        lists
            .iter()
            .map(|selection| selection.to_lists(2, 2).unwrap().iter().map(|head| head.len() as i64).collect())
            .collect()
    }

    #[test]
    fn heads_of_all_layers_compete_under_one_budget() {
        let half = Budget::from_ratio(0.5).unwrap();
        let scores = [[9.0, 8.0, 7.0, 1.0], [0.0, 6.0, 1.0, 0.0]];
        assert_eq!(kept(&scores, &[half, half], false), [[2, 1], [1, 0]]);
        assert_eq!(kept(&scores, &[half, half], true), [[2, 0], [1, 1]]);
        assert_eq!(kept(&scores, &[half, Budget::ALL], false), [[2, 0], [2, 2]]);
    }

    #[test]
    fn ties_favour_no_layer() {
        let infinite = f32::INFINITY;
        let scores = [[infinite, 3.0, infinite, 1.0], [infinite, 2.0, infinite, 2.0]];
        let half = Budget::from_ratio(0.5).unwrap();
        assert_eq!(kept(&scores, &[half, half], false), [[1, 1], [1, 1]]);
        let few = Budget::from_ratio(0.625).unwrap();
        assert_eq!(kept(&scores, &[few, few], false), [[1, 1], [1, 0]]);
        let none_emptied = [[0.0; 4]; 2];
        assert_eq!(kept(&none_emptied, &[half, half], false), [[1, 1], [1, 1]]);
    }
}
