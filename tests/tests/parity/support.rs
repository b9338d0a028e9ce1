//! Golden files and tiny models.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use indicatif::ProgressBar;
use pressroom::model::{Llama, LoadOptions, ModelFolder};
use safetensors::SafeTensors;
use serde::de::DeserializeOwned;
use tch::{Device, Kind, Tensor};

/// `tests/golden/<name>`.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

/// A golden JSON file.
pub fn json<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&std::fs::read(golden(name)).unwrap()).unwrap()
}

/// The names of the JSON files in `tests/golden/<folder>`, without their endings.
pub fn json_files(folder: &str) -> BTreeSet<String> {
    let paths = std::fs::read_dir(golden(folder)).unwrap().map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect()
}

/// Held by tests that run the real model: libtorch's threads of two of them would only wait for each other.
pub fn alone() -> MutexGuard<'static, ()> {
    static MODEL: Mutex<()> = Mutex::new(());
    MODEL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Loads a folder in float32 on the CPU.
pub fn load(folder: &ModelFolder) -> Llama {
    load_in(folder, Kind::Float)
}

/// The same in another dtype.
pub fn load_in(folder: &ModelFolder, kind: Kind) -> Llama {
    let options = LoadOptions { placement: Device::Cpu.into(), kind, progress: ProgressBar::hidden() };
    Llama::load(folder, &options).unwrap()
}

/// The tiny model of a shape: `mha`, `gqa` or `mqa`.
pub fn tiny(shape: &str) -> Llama {
    load(&ModelFolder::read(&golden("tiny").join(shape)).unwrap())
}

/// A float32 tensor of a golden safetensors file.
pub fn tensor(file: &SafeTensors<'_>, name: &str) -> Tensor {
    let view = file.tensor(name).unwrap();
    pressroom::tensors::from_bytes(view.data(), view.shape(), Kind::Float, Device::Cpu).unwrap()
}

/// Largest absolute difference.
pub fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    f64::try_from((a - b).abs().max()).unwrap()
}
