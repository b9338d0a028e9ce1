//! `pressroom doctor`: what is there, which version, and what is missing.

use std::path::PathBuf;

use anyhow::Result;
use pressroom::model::{known_models, models_home};
use pressroom::pipeline::Hardware;

use super::print;
use crate::engine::DEFAULT_MODEL;

/// Prints the report.
///
/// # Errors
/// Something needed is missing; the report says what.
pub fn doctor() -> Result<()> {
    let hardware = Hardware::detect();
    let home = models_home();
    let models = known_models(&home);
    let libtorch = libtorch();
    let mut lines = vec![
        format!("pressroom  {}", env!("CARGO_PKG_VERSION")),
        match &libtorch {
            Some((folder, version)) => format!("libtorch   {version} ({})", folder.display()),
            None => "libtorch   loaded from an unknown place".into(),
        },
        format!("threads    {}", tch::get_num_threads()),
        format!(
            "processor  {}; dtype auto is {} on it",
            if hardware.bf16_arithmetic { "has bf16 arithmetic" } else { "has no bf16 arithmetic" },
            if hardware.bf16_arithmetic { "bf16" } else { "f32" }
        ),
        if hardware.cuda {
            format!("CUDA       {} devices", tch::Cuda::device_count())
        } else {
            "CUDA       no device (the CPU is used; `make setup-cuda` brings the libraries)".into()
        },
        format!(
            "models     {} ({})",
            if models.is_empty() { "none".into() } else { models.join(", ") },
            home.display()
        ),
    ];
    let complete = models.iter().any(|name| name == DEFAULT_MODEL);
    lines.push(if complete {
        "nothing is missing".into()
    } else {
        format!("missing: the default model {DEFAULT_MODEL}; `make setup` brings it")
    });
    print(&(lines.join("\n") + "\n"))?;
    if complete { Ok(()) } else { anyhow::bail!("the set-up is not complete") }
}

/// Folder and version of the libtorch that this process has loaded.
fn libtorch() -> Option<(PathBuf, String)> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let path = maps
        .lines()
        .find_map(|line| line.split_whitespace().nth(5).filter(|path| path.ends_with("libtorch_cpu.so")))?;
    let folder = PathBuf::from(path).parent()?.parent()?.to_owned();
    let version = std::fs::read_to_string(folder.join("build-version")).ok()?;
    Some((folder, version.trim().to_owned()))
}
