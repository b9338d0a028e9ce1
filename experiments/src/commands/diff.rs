//! `pressroom diff`: where two runs differ.

use std::collections::HashMap;

use anyhow::Result;

use super::print;
use crate::cli::DiffArgs;
use crate::report::Run;
use crate::results::{Record, differences};

/// Runs `diff`. Times are no difference.
///
/// # Errors
/// One of them is no run folder.
pub fn diff(args: &DiffArgs) -> Result<()> {
    let (before, now) = (Run::read(&args.before)?, Run::read(&args.now)?);
    let lines =
        [differences(&before.plan, &now.plan), differences(&before.machine, &now.machine), answers(&before, &now)];
    print(&lines.concat().iter().map(|line| format!("{line}\n")).collect::<String>())
}

/// The first answer that differs with its first token, how many differ, and what only one run holds.
fn answers(before: &Run, now: &Run) -> Vec<String> {
    let known: HashMap<_, &Record> = now.records.iter().map(|record| (record.key(), record)).collect();
    let pairs: Vec<(&Record, &Record)> =
        before.records.iter().filter_map(|record| Some((record, *known.get(&record.key())?))).collect();
    let mut differing = pairs.iter().filter(|(before, now)| !same(before, now));
    let mut lines = Vec::new();
    if let Some((first, second)) = differing.next() {
        let place = format!("sample {}, question {}, {}", first.index, first.turn, first.named());
        lines.push(format!("answers: the first that differs is {place}: {}", what_differs(first, second)));
        lines.push(format!("answers: {} of {} differ", differing.count() + 1, pairs.len()));
    }
    for (run, all, which) in [(before, before.records.len(), "before"), (now, now.records.len(), "now")] {
        let alone = all - pairs.len();
        if alone > 0 {
            lines.push(format!("answers: {alone} are in {} ({which}) alone", run.path.display()));
        }
    }
    lines
}

/// Equal in everything that is no time.
fn same(before: &Record, now: &Record) -> bool {
    let timeless = |record: &Record| Record { prefill_s: 0.0, decode_s: 0.0, elapsed_s: 0.0, ..record.clone() };
    timeless(before) == timeless(now)
}

fn what_differs(before: &Record, now: &Record) -> String {
    let (first, second) = (&before.token_ids, &now.token_ids);
    let common = first.iter().zip(second).take_while(|(a, b)| a == b).count();
    let token = |ids: &[i64]| ids.get(common).map_or("the end".into(), |id| format!("token {id}"));
    if first != second {
        return format!(
            "token {common} is {} before, {} now ({:?} before, {:?} now)",
            token(first),
            token(second),
            before.prediction,
            now.prediction
        );
    }
    let fields = |record: &Record| serde_json::to_value(record).unwrap_or_default();
    differences(&fields(before), &fields(now)).into_iter().filter(|line| !is_time(line)).collect::<Vec<_>>().join("; ")
}

fn is_time(line: &str) -> bool {
    ["prefill_s", "decode_s", "elapsed_s"].iter().any(|field| line.starts_with(field))
}
