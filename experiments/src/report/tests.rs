//! What tables hold.

use pressroom::pipeline::Regime;

use super::words::sentences;
use super::*;

fn hidden() -> Run {
    testing::run(2000, "random")
}

#[test]
fn regimes_never_share_a_column() {
    let (hidden, mut visible, mut turns) = (hidden(), hidden(), hidden());
    visible.records.iter_mut().for_each(|record| record.question = Regime::Visible);
    let more: Vec<_> =
        turns.records.iter().cloned().map(|record| crate::results::Record { turn: 1, ..record }).collect();
    turns.records.extend(more);
    let mut other = self::hidden();
    other.plan["template_sha256"] = "f".into();
    let tables = compare(&[hidden, visible, turns, other]);
    let slugs: Vec<&str> = tables.iter().map(|table| table.slug.as_str()).collect();
    assert_eq!(slugs, ["question-hidden", "question-hidden-2", "several-questions-hidden", "question-visible"]);
    let rows = tables[0].rows.len();
    assert!(tables.iter().all(|table| table.rows.len() == rows && table.samples == 96), "{rows}");
}

#[test]
fn a_sample_of_several_questions_counts_once() {
    let mut run = hidden();
    let again: Vec<_> = run
        .records
        .iter()
        .cloned()
        .map(|record| crate::results::Record { turn: 1, score: 1.0 - record.score, ..record })
        .collect();
    run.records.extend(again);
    let tables = compare(&[run]);
    assert!(tables[0].rows.iter().all(|row| row.scores.values().all(|score| *score == 0.5)));
    assert!(tables[0].rows.iter().all(|row| !row.differs && row.rank.is_none_or(|rank| rank == 1)));
}

#[test]
fn rows_are_ranked_within_their_ratio_and_differences_are_paired() {
    let mut run = hidden();
    // One press is as good as nothing compressed, another always wrong.
    let full: Vec<f64> =
        run.records.iter().filter(|record| record.press == "none").map(|record| record.score).collect();
    for record in &mut run.records {
        match record.press.as_str() {
            "knorm" => record.score = full[record.index],
            "random" => record.score = 0.0,
            _ => {}
        }
        if record.press == "random" && record.ratio == Some(0.5) {
            record.achieved_ratio = 0.4;
        }
    }
    let table = &compare(&[run])[0];
    for (ratio, rows) in table.by_ratio() {
        let of = |press: &str| *rows.iter().find(|row| row.cell.press == press).unwrap();
        let (same, lost) = (of("knorm"), of("random"));
        assert_eq!((same.rank, same.differs, same.difference.unwrap().mean), (Some(1), false, 0.0));
        assert!(lost.differs && lost.rank.unwrap() > 1 && lost.difference.unwrap().high < -0.5, "{ratio:?}");
        assert_eq!((same.off_budget(), lost.off_budget()), (false, ratio == Some(0.5)));
    }
    assert!(table.rows[0].is_baseline() && table.rows[0].rank.is_none());
    assert!((0.02..0.5).contains(&table.resolution.unwrap()), "{:?}", table.resolution);
    let told = sentences(table).join("\n");
    assert!(told.contains("random (-") && told.contains("comparisons, differences below about"), "{told}");
    let worst = table.rows[3].worst_task().unwrap();
    assert!(table.rows[3].by_task.values().all(|score| *score >= worst.1));
}

#[test]
fn a_run_without_the_uncompressed_says_so() {
    let mut run = hidden();
    run.records.retain(|record| record.press != "none");
    let table = &compare(&[run])[0];
    assert!(table.baseline().is_none() && table.rows.iter().all(|row| row.difference.is_none()));
    assert!(sentences(table)[0].contains("[run] baseline = true"));
}

#[test]
fn notes_name_positions_and_bytes() {
    let mut run = hidden();
    for session in run.plan["sessions"].as_array_mut().unwrap() {
        if session["label"] == "random" {
            session["positions"] = "kept".into();
        }
    }
    let notes = compare(&[run])[0].notes();
    let note = |name: &str| notes.iter().find(|(own, _)| *own == name).unwrap().1.clone();
    assert!(note("positions").ends_with("of random after the pairs kept, because their keys are moved"));
    assert!(note("bytes").contains("allocations") && note("question").starts_with("hidden"));
    assert!(note("query group").contains("formula") && note("chat template").contains("none"));
    assert_eq!(note("answer prefix"), "\"Answer:\"");
    assert_eq!(note("samples"), "96; seed 42");
    assert_eq!(note("ratio achieved"), "what was asked for, within 0.02");
    assert_eq!(note("contexts"), "2048 to 2048 tokens of the model's own tokenizer; none was cut");
    assert!(note("prefill").contains("0.90 s a context") && note("length").contains("ended by their limit"));
}
