//! `pressroom show`: what a press kept of one sample, and why its answer was lost.

use std::io::IsTerminal;

use anyhow::{Result, anyhow, bail};
use pressroom::Error;
use pressroom::plan::BASELINE;

use super::print;
use crate::cli::ShowArgs;
use crate::replay::replay;
use crate::report::Run;
use crate::results::Record;
use crate::selections::{Kept, Stored, read};
use crate::show::verdict::Case;
use crate::show::{View, page, text};

/// Runs `show`.
///
/// # Errors
/// The run has no such sample, press or layer, or what it stored no selection of cannot be replayed.
pub fn show(args: &ShowArgs) -> Result<()> {
    let run = Run::read(&args.run)?;
    let records = asked(&run, args);
    if records.is_empty() {
        let last = run.records.iter().map(|record| record.index).max().unwrap_or(0);
        bail!(
            "{} holds no sample {} with a question {}; samples go to {last}",
            args.run.display(),
            args.sample,
            args.turn
        );
    }
    let uncompressed = records.iter().copied().find(|record| record.press == BASELINE);
    let Some(press) = &args.press else {
        let stored = read(&args.run, args.sample, args.turn)?;
        return print(&overview(&records, uncompressed, stored.as_ref()));
    };
    let own = Looked::at(&run, args, press, args.ratio)?;
    let against = args.against.as_ref();
    let other = against.map(|other| Looked::at(&run, args, other, args.ratio.or(own.record.ratio))).transpose()?;
    let kept = own.kept()?;
    if let Some(layer) = args.layer.filter(|layer| *layer >= kept.layers) {
        bail!("there is no layer {layer}: the model has {}, from 0 on", kept.layers);
    }
    let against = other.as_ref().map(|other| Ok::<_, anyhow::Error>((&other.record, other.kept()?))).transpose()?;
    let view = View { stored: &own.stored, record: &own.record, uncompressed, kept, against, layer: args.layer };
    if let Some(path) = &args.html {
        std::fs::write(path, page(&view)?).map_err(Error::io(path))?;
        return print(&format!("{}\n{}\n", view.told(), path.display()));
    }
    let colors = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    print(&text(&view, colors))
}

/// The answers of a run to the question that is looked at.
fn asked<'a>(run: &'a Run, args: &ShowArgs) -> Vec<&'a Record> {
    run.records.iter().filter(|record| record.index == args.sample && record.turn == args.turn).collect()
}

/// An answer with the selection behind it.
struct Looked {
    record: Record,
    stored: Stored,
}

impl Looked {
    /// The answer of a press at a ratio: the run's if it stored the selection, else that of a replay.
    fn at(run: &Run, args: &ShowArgs, press: &str, ratio: Option<f64>) -> Result<Self> {
        let records = asked(run, args);
        let own = find(&records, press, ratio)?;
        if let (Some(record), Some(stored)) = (own, read(&args.run, args.sample, args.turn)?)
            && stored.kept(press, record.ratio).is_some()
        {
            return Ok(Self { record: record.clone(), stored });
        }
        let replayed = replay(run, &args.plugin, press, own.map_or(ratio, |record| record.ratio), args.sample)?;
        let record = asked(&replayed, args).into_iter().next().cloned();
        let record = record.ok_or_else(|| anyhow!("{} holds no answer", replayed.path.display()))?;
        if let Some(error) = &record.error {
            bail!("{}: {error}", record.named());
        }
        let stored = read(&replayed.path, args.sample, args.turn)?;
        Ok(Self { stored: stored.ok_or_else(|| anyhow!("{} holds no selection", replayed.path.display()))?, record })
    }

    fn kept(&self) -> Result<&Kept> {
        let kept = self.stored.kept(&self.record.press, self.record.ratio);
        kept.ok_or_else(|| anyhow!("the selection of {} is not stored", self.record.named()))
    }
}

/// The answer of a press: at the ratio asked for, if the run has it; else at its lowest that lost the answer, else at its
/// lowest.
fn find<'a>(records: &[&'a Record], press: &str, ratio: Option<f64>) -> Result<Option<&'a Record>> {
    let own: Vec<&Record> = records.iter().copied().filter(|record| record.press == press).collect();
    if own.is_empty() {
        let names = records.iter().map(|record| record.press.as_str());
        let near = pressroom::press::nearest(press, names).map(|near| format!("; did you mean `{near}`?"));
        bail!("no press of the run is called `{press}`{}", near.unwrap_or_default());
    }
    Ok(match ratio {
        None => own.iter().find(|record| record.score < 1.0).or(own.first()).copied(),
        Some(ratio) => own.into_iter().find(|record| record.ratio.is_some_and(|own| (own - ratio).abs() < 1e-9)),
    })
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
