//! Views of a small context.

use super::*;
use crate::report::testing;

const HOSTILE: &str = "<script>alert(1)</script>\x1b[2J";

fn stored() -> Stored {
    let pieces = ["The", " code", " is", " 4", "2", ". ", HOSTILE];
    let mut ends = Vec::new();
    for piece in pieces {
        ends.push(ends.last().unwrap_or(&0) + piece.len());
    }
    let own = Kept::of(&[vec![vec![0, 3, 4], vec![0, 3]], vec![vec![0], vec![0, 6]]], pieces.len());
    let other = Kept::of(&[vec![vec![1], vec![1]], vec![vec![1], vec![1]]], pieces.len());
    let sessions = vec![("mine".to_owned(), Some(0.5), own), ("theirs".to_owned(), Some(0.5), other)];
    Stored { text: pieces.concat(), ends, question: HOSTILE.into(), sessions }
}

fn looked_at(against: bool, look: impl Fn(&View<'_>)) {
    let stored = stored();
    let mut record = testing::run(1, "mine").records.remove(0);
    record.answers = vec!["42".into()];
    record.prediction = HOSTILE.into();
    record.score = 0.0;
    let (kept, other) = (&stored.sessions[0].2, &stored.sessions[1].2);
    let against = against.then_some((&record, other));
    look(&View { stored: &stored, record: &record, uncompressed: None, kept, against, layer: None });
}

#[test]
fn tokens_are_marked_by_the_heads_that_keep_them() {
    looked_at(false, |view| {
        let marks: Vec<Mark> = (0..7).map(|token| view.mark(token)).collect();
        assert_eq!(marks, [10, 0, 0, 5, 3, 0, 3].map(Mark::Tenths));
        assert_eq!(view.carriers(), [(3, vec![2, 0]), (4, vec![1, 0])]);
        assert_eq!(
            view.told(),
            "Evicted in some heads: \"2\" (token 4), the token of the answer kept least, is kept by 1 of 4."
        );
        assert!(text(view, false).contains("The ···· ·· 42· <script>"));
    });
    looked_at(true, |view| {
        assert_eq!([view.mark(0), view.mark(1)], [Mark::Mine, Mark::Theirs]);
        assert!(text(view, false).contains("{+The+}[- code-] ··{+ 4+}2· "), "{}", text(view, false));
        assert!(view.overlap().unwrap().starts_with("0 pairs are kept by both: 0.0 % of the 8 of"));
    });
}

#[test]
fn a_hostile_context_stays_text() {
    looked_at(true, |view| {
        let page = page(view).unwrap();
        assert!(!page.contains("<script") && page.contains("&lt;script&gt;"));
        assert!(!page.contains(" style=") && page.contains(&crate::html::hash(include_str!("style.css"))));
        assert!(!text(view, false).contains('\x1b') && !text(view, true).contains("\x1b[2J"));
    });
}
