//! `pressroom show`: what a press kept of one sample, and why its answer was lost.

use std::io::IsTerminal;

use anyhow::{Result, anyhow, bail};
use pressroom::Error;
use pressroom::plan::BASELINE;

use super::print;
use crate::cli::ShowArgs;
use crate::report::Run;
use crate::results::Record;
use crate::selections::{Kept, Stored, read};
use crate::show::verdict::Case;
use crate::show::{View, page, text};

/// Runs `show`.
///
/// # Errors
/// The run has no such sample, press, ratio or layer, or stored no selections.
pub fn show(args: &ShowArgs) -> Result<()> {
    let run = Run::read(&args.run)?;
    let turn = |record: &&Record| record.index == args.sample && record.turn == args.turn;
    let records: Vec<&Record> = run.records.iter().filter(turn).collect();
    if records.is_empty() {
        let last = run.records.iter().map(|record| record.index).max().unwrap_or(0);
        bail!(
            "{} holds no sample {} with a question {}; samples go to {last}",
            args.run.display(),
            args.sample,
            args.turn
        );
    }
    let stored = read(&args.run, args.sample, args.turn)?;
    let uncompressed = records.iter().copied().find(|record| record.press == BASELINE);
    let Some(press) = &args.press else { return print(&overview(&records, uncompressed, stored.as_ref())) };
    let stored = stored.ok_or_else(|| {
        anyhow!("{} stored no selections; set [run] selections = true and run into another folder", args.run.display())
    })?;
    let record = find(&records, press, args.ratio, &stored)?;
    let kept = kept(&stored, record)?;
    let against = match &args.against {
        None => None,
        Some(other) => {
            let other = find(&records, other, args.ratio.or(record.ratio), &stored)?;
            Some((other, self::kept(&stored, other)?))
        }
    };
    if let Some(layer) = args.layer.filter(|layer| *layer >= kept.layers) {
        bail!("there is no layer {layer}: the model has {}, from 0 on", kept.layers);
    }
    let view = View { stored: &stored, record, uncompressed, kept, against, layer: args.layer };
    if let Some(path) = &args.html {
        std::fs::write(path, page(&view)?).map_err(Error::io(path))?;
        return print(&format!("{}\n{}\n", view.told(), path.display()));
    }
    let colors = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    print(&text(&view, colors))
}

fn kept<'a>(stored: &'a Stored, record: &Record) -> Result<&'a Kept> {
    stored.kept(&record.press, record.ratio).ok_or_else(|| anyhow!("the selection of {} is not stored", record.named()))
}

/// The answer of a press: at the ratio asked for, else at its lowest that lost the answer, else at its lowest.
fn find<'a>(records: &[&'a Record], press: &str, ratio: Option<f64>, stored: &Stored) -> Result<&'a Record> {
    let own: Vec<&Record> = records.iter().copied().filter(|record| record.press == press).collect();
    if own.is_empty() {
        let names = records.iter().map(|record| record.press.as_str());
        let near = pressroom::press::nearest(press, names).map(|near| format!("; did you mean `{near}`?"));
        bail!("no press of the run is called `{press}`{}", near.unwrap_or_default());
    }
    match ratio {
        None => {
            own.iter().find(|record| record.score < 1.0).or(own.first()).copied().ok_or_else(|| anyhow!("no answer"))
        }
        Some(ratio) => {
            let found = own.iter().find(|record| record.ratio.is_some_and(|own| (own - ratio).abs() < 1e-9));
            found.copied().ok_or_else(|| anyhow!("{}", not_run(&own, press, ratio, stored)))
        }
    }
}

/// What can be told of a ratio that was not run: it lies between its neighbours, as scorers keep more of the same.
fn not_run(own: &[&Record], press: &str, ratio: f64, stored: &Stored) -> String {
    let ratios: Vec<f64> = own.iter().filter_map(|record| record.ratio).collect();
    let below = ratios.iter().copied().filter(|own| *own < ratio).reduce(f64::max);
    let above = ratios.iter().copied().filter(|own| *own > ratio).reduce(f64::min);
    let shown = ratios.iter().map(f64::to_string).collect::<Vec<_>>().join(", ");
    let kept = |ratio: Option<f64>| stored.kept(press, Some(ratio?));
    let between = match (kept(below), kept(above)) {
        (Some(more), Some(fewer)) if more.common(fewer) == fewer.count() => format!(
            "; files hold selections, not scores, but what it keeps there lies between its neighbours: the {} pairs kept \
             at {} and some of the {} more at {}",
            fewer.count(),
            above.unwrap_or_default(),
            more.count() - fewer.count(),
            below.unwrap_or_default()
        ),
        _ => String::new(),
    };
    format!(
        "`{press}` was not run at {ratio}, only at {shown}{between}; a run with --set sweep.compression_ratio=[{ratio}] tells"
    )
}

/// A line for each press: its answer and the verdict.
fn overview(records: &[&Record], uncompressed: Option<&Record>, stored: Option<&Stored>) -> String {
    let line = |record: &&Record| {
        let kept = stored.and_then(|stored| stored.kept(&record.press, record.ratio));
        let (text, ends) = stored.map_or(("", &[][..]), |stored| (stored.text.as_str(), stored.ends.as_slice()));
        let verdict = Case { record, uncompressed, text, ends, kept }.verdict();
        let told = verdict.told(kept, |token| stored.map_or(String::new(), |stored| stored.token(token).to_owned()));
        format!("{}: {:?}\n    {told}\n", record.named(), record.prediction.trim())
    };
    let first = records.first().map(|record| format!("right: {}\n", record.answers.join(" | "))).unwrap_or_default();
    first + &records.iter().map(line).collect::<String>()
}
