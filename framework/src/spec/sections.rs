//! The sections `[model]`, `[sweep]` and `[run]`.

use std::ops::Range;
use std::path::PathBuf;

use serde::Serialize;
use tch::Device;

use super::budget::budget;
use super::cache::{Storage, storages};
use super::report::Mistakes;
use super::table::{Node, Table, list};
use crate::plan::{DeviceChoice, DtypeChoice, MemoryBudget};
use crate::press::Budget;

/// `[model]`: what answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelSpec {
    /// A known name or a folder in Hugging Face layout.
    pub path: String,
    /// Where it runs; `cpu` unless told otherwise.
    pub device: DeviceChoice,
    /// Number format; `auto` unless told otherwise.
    pub dtype: DtypeChoice,
}

/// `[run]`: how the experiment runs and where its results go. Serialises to what decides the answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunSpec {
    /// Folder for the results.
    #[serde(skip)]
    pub output: PathBuf,
    /// Whether the uncompressed baseline is part of the run.
    #[serde(skip)]
    pub baseline: bool,
    /// Decides everything random.
    pub seed: u64,
    /// Threads of the processor; `None` leaves it to libtorch.
    #[serde(skip)]
    pub threads: Option<usize>,
    /// Whether what every layer and head keeps is stored beside the answers.
    #[serde(skip)]
    pub selections: bool,
    /// Memory that the run may take; `None` takes what the machine has left.
    #[serde(skip)]
    pub memory: Option<MemoryBudget>,
}

/// Seed of a run that names none.
const DEFAULT_SEED: u32 = 42;

impl ModelSpec {
    pub(super) fn read(mut table: Table<'_>, mistakes: &mut Mistakes) -> Option<Self> {
        let path = table.required_text("path", "path = \"smollm2-135m-instruct\", or a model's folder", mistakes);
        let device = device(&mut table, mistakes);
        let dtype = table.choice("dtype", mistakes);
        table.finish(mistakes);
        Some(Self { path: path?.0.to_owned(), device: device.unwrap_or_default(), dtype: dtype.unwrap_or_default() })
    }
}

/// `[sweep]`: what is compared of every press that leaves it open.
#[derive(Default)]
pub(super) struct SweepSpec {
    pub(super) compression_ratio: Option<Vec<f64>>,
    /// Layouts, and where they are named.
    pub(super) caches: Option<(Vec<Storage>, Range<usize>)>,
    /// Whether no ratios are written, only layouts.
    pub(super) cache_only: bool,
}

impl SweepSpec {
    pub(super) fn read(mut table: Table<'_>, mistakes: &mut Mistakes) -> Self {
        let (ratios, caches) = (table.get("compression_ratio"), table.get("cache"));
        if ratios.is_none() && caches.is_none() {
            let mistake = mistakes.add(table.span(), "`sweep` has no `compression_ratio`, and no `cache`");
            mistake.help("compression_ratio = [0.25, 0.5, 0.75]");
        }
        let cache_only = ratios.is_none() && caches.is_some();
        let key = table.key_span("cache");
        let caches = caches.map(|node| (storages(node, mistakes).unwrap_or_default(), key));
        table.finish(mistakes);
        Self { compression_ratio: ratios.and_then(|node| swept_ratios(node, mistakes)), caches, cache_only }
    }
}

fn swept_ratios(node: &Node<'_>, mistakes: &mut Mistakes) -> Option<Vec<f64>> {
    let mut ratios: Vec<f64> = Vec::new();
    for item in list("compression_ratio", node, mistakes)? {
        let Some(ratio) = budget(item, mistakes).and_then(Budget::as_ratio) else { continue };
        if ratios.contains(&ratio) {
            mistakes.add(item.span(), format!("the ratio {ratio} is there twice")).help("remove one of them");
        }
        ratios.push(ratio);
    }
    Some(ratios)
}

/// `device`: a name, or a table of the layers on each device, in the order of their names.
fn device(table: &mut Table<'_>, mistakes: &mut Mistakes) -> Option<DeviceChoice> {
    if !table.is_table("device") {
        return table.choice("device", mistakes);
    }
    let mut places = table.table("device", mistakes)?;
    let mut runs = Vec::new();
    let names: Vec<String> = places.keys();
    for name in &names {
        let layers = places.whole(name, 1..=4096, mistakes)?;
        match name.parse::<DeviceChoice>() {
            Ok(DeviceChoice::Cpu) => runs.push((Device::Cpu, layers as usize)),
            Ok(DeviceChoice::Cuda(index)) => runs.push((Device::Cuda(index), layers as usize)),
            _ => {
                let mistake = mistakes.add(places.key_span(name), format!("`{name}` is no device to place layers on"));
                mistake.help("{ \"cuda:0\" = 16, \"cuda:1\" = 16 } places 16 layers on each of two GPUs");
                return None;
            }
        }
    }
    runs.sort_by_key(|(device, _)| match device {
        Device::Cuda(index) => *index,
        _ => usize::MAX,
    });
    Some(DeviceChoice::Layers(runs))
}

impl RunSpec {
    pub(super) fn read(mut table: Table<'_>, mistakes: &mut Mistakes) -> Option<Self> {
        let help = "output = \"runs/first\" is the folder for the results";
        let output = table.required_text("output", help, mistakes);
        let baseline = table.flag("baseline", mistakes).unwrap_or(true);
        let seed = table.whole("seed", 0..=u32::MAX, mistakes).unwrap_or(DEFAULT_SEED);
        let threads = table.whole("threads", 1..=1024, mistakes).map(|threads| threads as usize);
        let memory = table.choice("memory", mistakes);
        let selections = table.flag("selections", mistakes).unwrap_or(false);
        table.finish(mistakes);
        Some(Self { output: output?.0.into(), baseline, seed: seed.into(), threads, memory, selections })
    }
}
