//! Our results beside the reference's.

use std::collections::BTreeSet;

use tch::Tensor;

/// Scores `[kv_heads, tokens]` agree to 1e-4 relative; where ours is infinite (always kept) the reference's is the
/// highest that it gives in the layer.
///
/// Where a layer has negative scores, they are differences (cosines, z-scores): near zero they are as exact as what was
/// subtracted, 1e-5 of the largest.
pub fn scores(place: &str, ours: &Tensor, due: &Tensor) {
    assert_eq!(ours.size(), due.size(), "{place}");
    let ours = Vec::<f32>::try_from(ours.flatten(0, -1)).unwrap();
    let due = Vec::<f32>::try_from(due.flatten(0, -1)).unwrap();
    let highest = due.iter().copied().fold(f32::MIN, f32::max);
    let ranked: Vec<f32> = ours.iter().zip(&due).filter(|(ours, _)| ours.is_finite()).map(|(_, &due)| due).collect();
    let largest = ranked.iter().fold(0.0, |largest: f32, due| largest.max(due.abs()));
    let rounding = if ranked.iter().any(|due| *due < 0.0) { 1e-5 * largest } else { 0.0 };
    for (index, (&ours, &due)) in ours.iter().zip(&due).enumerate() {
        if ours.is_infinite() {
            assert_eq!(due, highest, "{place} entry {index}");
        } else {
            let off = (ours - due).abs();
            assert!(off <= (1e-4 * due.abs()).max(rounding), "{place} entry {index}: {ours} where {due} is due");
        }
    }
}

/// Kept positions of a layer's KV heads are the same, but for those that a tie decides (`either`).
pub fn kept(place: &str, ours: &[Vec<i64>], due: &[Vec<i64>], either: Option<&Vec<Vec<i64>>>) {
    let total = |kept: &[Vec<i64>]| kept.iter().map(Vec::len).sum::<usize>();
    assert_eq!(ours.len(), due.len(), "{place}");
    let ties = either.map_or(0, |either| total(either));
    assert!(total(ours).abs_diff(total(due)) <= ties, "{place}: {ours:?} where {due:?} is due");
    for (head, (ours, due)) in ours.iter().zip(due).enumerate() {
        let set = |kept: &[i64]| kept.iter().copied().collect::<BTreeSet<i64>>();
        let tied = either.map_or_else(BTreeSet::new, |either| set(&either[head]));
        let wrong: Vec<i64> = set(ours).symmetric_difference(&set(due)).copied().collect();
        assert!(
            wrong.iter().all(|position| tied.contains(position)),
            "{place} head {head}: kept {ours:?}, due is {due:?}; wrong is {wrong:?}"
        );
    }
}

/// As many KV pairs are kept over all layers and heads.
pub fn total(place: &str, ours: &[Vec<Vec<i64>>], due: &[Vec<Vec<i64>>]) {
    let total = |kept: &[Vec<Vec<i64>>]| kept.iter().flatten().map(Vec::len).sum::<usize>();
    assert_eq!(total(ours), total(due), "{place}");
}

/// Keys or values `[kept, channels]` agree to 1e-4 of the largest.
pub fn content(place: &str, ours: &Tensor, due: &Tensor) {
    assert_eq!(ours.size(), due.size(), "{place}");
    let (off, largest) = (f64::try_from((ours - due).abs().max()), f64::try_from(due.abs().max()));
    let (off, largest) = (off.unwrap(), largest.unwrap());
    assert!(off <= 1e-4 * largest.max(1e-3), "{place}: off by {off} where the largest is {largest}");
}

/// Of keys `[kept, channels]` exactly these channels are left, the others are zero.
pub fn channels(place: &str, keys: &Tensor, due: &[i64]) {
    let used = keys.abs().sum_dim_intlist([0i64].as_slice(), false, tch::Kind::Float);
    let used: Vec<i64> = (0..used.size()[0]).filter(|channel| used.double_value(&[*channel]) > 0.0).collect();
    assert_eq!(used, due, "{place}: key channels");
}
