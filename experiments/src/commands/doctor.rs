//! `pressroom doctor`: what is there, which version, and what is missing.

use anyhow::Result;
use pressroom::model::{known_models, models_home};
use pressroom::pipeline::{Libtorch, cuda, has_bf16};
use tch::Device;

use super::print;
use crate::engine::DEFAULT_MODEL;

/// Prints the report.
///
/// # Errors
/// Something needed is missing; the report says what.
pub fn doctor() -> Result<()> {
    let bf16 = has_bf16(Device::Cpu);
    let home = models_home();
    let models = known_models(&home);
    let mut lines = vec![
        format!("pressroom  {}", env!("CARGO_PKG_VERSION")),
        match Libtorch::loaded() {
            Some(loaded) => format!("libtorch   {}", shown(&loaded)),
            None => "libtorch   loaded from an unknown place".into(),
        },
        format!("threads    {}", tch::get_num_threads()),
        format!(
            "processor  {}; dtype auto is {} on it",
            if bf16 { "has bf16 arithmetic" } else { "has no bf16 arithmetic" },
            if bf16 { "bf16" } else { "f32" }
        ),
        match cuda() {
            Ok(cuda) => format!("CUDA       {} devices; libtorch {}", cuda.devices, shown(&cuda.libtorch)),
            Err(problem) => format!("CUDA       not usable: {problem}"),
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

fn shown(libtorch: &Libtorch) -> String {
    let release = libtorch.release.as_deref().unwrap_or("of an unknown release");
    format!("{release} ({})", libtorch.libraries.display())
}
