//! SentencePiece scores as an ordered list of merges, which is what a `tokenizer.json` holds.

use std::collections::HashMap;

/// No piece of a real vocabulary is longer; the number of ways to split a piece grows with its length.
const LONGEST_PIECE: usize = 512;

/// Every way to join two pieces of the vocabulary into a third, best score of the joined piece first.
///
/// SentencePiece joins the neighbours whose joined piece scores highest; a list of merges joins the neighbours that come
/// first in it. Pieces of equal score keep the order of the vocabulary.
pub(super) fn merges(pieces: &[&str], scores: &[f32]) -> Vec<(String, String)> {
    let ids: HashMap<&str, usize> = pieces.iter().enumerate().map(|(id, piece)| (*piece, id)).collect();
    let mut order: Vec<usize> = (0..pieces.len().min(scores.len())).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let mut merges = Vec::new();
    for id in order {
        let piece = pieces[id];
        if piece.len() > LONGEST_PIECE {
            continue;
        }
        let mut splits: Vec<(usize, usize, usize)> = piece
            .char_indices()
            .skip(1)
            .filter_map(|(at, _)| Some((*ids.get(&piece[..at])?, *ids.get(&piece[at..])?, at)))
            .collect();
        splits.sort_unstable();
        merges.extend(splits.into_iter().map(|(_, _, at)| (piece[..at].to_owned(), piece[at..].to_owned())));
    }
    merges
}
