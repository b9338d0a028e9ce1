//! Calibration: side data of presses, made for any model from texts.

mod duo_attention;
mod expected_attention_stats;
mod headkv;
mod kvzap;
mod lukv;
mod mlp;
mod moments;
mod qfilter;

use std::path::Path;
use std::sync::Arc;

use pressroom::hooks::AttentionHook;
use pressroom::model::Llama;
use pressroom::press::{ModelFacts, Needs, Scorer};
use pressroom::view::LayerView;
use pressroom::{Error, Result};

pub use duo_attention::DuoAttentionCalibration;
pub use expected_attention_stats::ExpectedAttentionStatsCalibration;
pub use headkv::HeadKvCalibration;
pub use kvzap::KvZapCalibration;
pub use lukv::LuKvCalibration;
pub use qfilter::QFilterCalibration;

/// Measures or learns the side data of a press, text by text.
pub trait Calibration {
    /// Learns from one text.
    ///
    /// # Errors
    /// The text is too short, or a pass through the model fails.
    fn learn(&mut self, text: Text<'_>) -> Result<()>;

    /// Writes what was learned to a folder, in the published format; gives the names of the files.
    ///
    /// # Errors
    /// Nothing was learned; a file cannot be written.
    fn write(&self, folder: &Path) -> Result<Vec<String>>;
}

/// A text to learn from.
#[derive(Clone, Copy)]
pub struct Text<'a> {
    /// The model that is calibrated for.
    pub model: &'a Llama,
    /// Its tokens, without a template.
    pub tokens: &'a [i64],
    /// What a chat template puts before the user's text.
    pub prefix: &'a [i64],
    /// What a chat template puts between the user's text and the answer.
    pub suffix: &'a [i64],
    /// Tokenizes what is said beside it.
    pub encode: &'a dyn Fn(&str) -> Result<Vec<i64>>,
}

/// Presses that can be calibrated.
pub const CALIBRATED: [&str; 6] = ["qfilter", "expected_attention_stats", "duo_attention", "headkv", "lukv", "kvzap"];

/// What calibrates `press` for `model`; `scorer` is what a wrapper is going to wrap.
///
/// # Errors
/// The press takes no side data that can be made here.
pub fn calibration(press: &str, model: &ModelFacts, scorer: Arc<dyn Scorer>) -> Result<Box<dyn Calibration>> {
    Ok(match press {
        "qfilter" => Box::new(QFilterCalibration::new(model)),
        "expected_attention_stats" => Box::new(ExpectedAttentionStatsCalibration::new(model, 4)),
        "duo_attention" => Box::new(DuoAttentionCalibration::new(model, 500)),
        "headkv" => Box::new(HeadKvCalibration::new(model)),
        "lukv" => Box::new(LuKvCalibration::new(model, scorer)),
        "kvzap" => Box::new(KvZapCalibration::new(model)),
        other => {
            let known = CALIBRATED.join(", ");
            return Err(Error::input(format!("`{other}` cannot be calibrated; the presses that can are {known}")));
        }
    })
}

/// Prefills `tokens` and shows every layer to `look`.
fn look_at(
    model: &Llama,
    tokens: &[i64],
    needs: Needs,
    look: &mut dyn FnMut(&LayerView<'_>) -> Result<()>,
) -> Result<()> {
    let mut hook = Looking { needs, look };
    let outcomes = model.prefill(tokens, 0, &mut [&mut hook])?;
    outcomes.into_iter().collect()
}

struct Looking<'a> {
    needs: Needs,
    look: &'a mut dyn FnMut(&LayerView<'_>) -> Result<()>,
}

impl AttentionHook for Looking<'_> {
    fn needs(&self, _layer: usize) -> Option<Needs> {
        Some(self.needs)
    }

    fn on_layer(&mut self, view: &LayerView<'_>) -> Result<()> {
        (self.look)(view)
    }
}

/// Writes a JSON file.
fn write_json(folder: &Path, name: &str, value: &serde_json::Value) -> Result<String> {
    let path = folder.join(name);
    std::fs::write(&path, format!("{value:#}\n")).map_err(Error::io(&path))?;
    Ok(name.into())
}

/// What is said when there was no text to learn from.
fn nothing_learned() -> Error {
    Error::input("no text was long enough to learn from")
}
