//! Presses that exist for these tests only, so that messages that list all presses stay as they are.

use std::sync::Arc;

use pressroom::press::{Budget, Entry, Needs, Params, Press, Range, Registry, Scorer, Selection};
use pressroom::spec::{Spec, TaskInfo};
use pressroom::view::LayerView;
use pressroom::{Error, Result};
use tch::Tensor;

pressroom::press! {
    /// Scores without parameters.
    "norm" Scorer Norm {}
}

pressroom::press! {
    /// Scores with parameters of every type.
    "window" Scorer Window {
        /// Tokens of the observation window.
        window_size: usize = 64, Range::at_least(1.0);
        /// Width of the pooling, an odd number.
        kernel_size: usize = 5, Range::closed(1.0, 99.0);
        /// Added to every score.
        epsilon: f64 = 0.0, Range::closed(0.0, 1.0);
        /// Whether values count.
        use_values: bool = true, Range::ANY;
        /// Seed; absent, the run's.
        seed: Option<u64> = None, Range::at_least(0.0);
    }
}

pressroom::press! {
    /// Shares one budget between the heads.
    "heads" Press HeadsParams wraps(press: Scorer) {
        /// Share that every head keeps.
        alpha: f64 = 0.25, Range::closed(0.0, 1.0);
    }
}

macro_rules! scores_zero {
    ($($type:ty),*) => {$(
        impl Scorer for $type {
            fn identity(&self) -> String {
                self.identity()
            }

            fn needs(&self) -> Needs {
                Needs::KEYS_AND_VALUES
            }

            fn score(&self, _: &LayerView<'_>, _: Budget) -> Result<Tensor> {
                Err(Error::input("a press for tests of the TOML only"))
            }
        }
    )*};
}
scores_zero!(Norm, Window);

struct Heads(HeadsParams, Arc<dyn Scorer>);

impl Press for Heads {
    fn identity(&self) -> String {
        format!("{} over {}", self.0.identity(), self.1.identity())
    }

    fn needs(&self) -> Needs {
        self.1.needs()
    }

    fn head_wise(&self) -> bool {
        true
    }

    fn select(&self, _: &LayerView<'_>, _: Budget) -> Result<Selection> {
        Ok(Selection::all())
    }
}

fn window(params: &Params) -> Result<Window> {
    let window = Window::from_params(params)?;
    if window.kernel_size.is_multiple_of(2) {
        return Err(Error::input(format!("`kernel_size` is {}, it has to be odd", window.kernel_size)));
    }
    Ok(window)
}

/// `norm` and `window` are scorers, `heads` is a wrapper that keeps a different number per head.
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.add(Entry::scorer(Norm::info(), Norm::from_params)).unwrap();
    registry.add(Entry::scorer(Window::info(), window)).unwrap();
    let heads = |params: &Params, inner| Ok(Heads(HeadsParams::from_params(params)?, inner));
    registry.add(Entry::press_around(HeadsParams::info(), heads)).unwrap();
    registry
}

pressroom::parameters! {
    /// A task that is generated.
    "task" "needle" Needle {
        /// Lengths of the contexts, tokens.
        context_tokens: Vec<usize> = vec![2048], Range::closed(1.0, 1e8);
        /// Samples of each length.
        samples: usize = 50, Range::closed(1.0, 1e8);
    }
}

pressroom::parameters! {
    /// A task from a file.
    "task" "file" Rows {
        /// The file.
        file: Option<String> = None, Range::ANY;
        /// Most rows read.
        limit: Option<usize> = None, Range::closed(1.0, 1e8);
    }
}

/// `needle` is generated, `file` read from a file.
pub fn tasks() -> Vec<TaskInfo> {
    let info = |name: &str, params| TaskInfo { name: name.into(), doc: String::new(), params };
    vec![info("file", Rows::parameters()), info("needle", Needle::parameters())]
}

/// An experiment that has to be valid.
pub fn parse(text: &str) -> Spec {
    Spec::parse(text, "test.toml", &registry(), &tasks()).unwrap_or_else(|error| panic!("{error}"))
}

/// A small model's shape with this many layers.
pub fn config(layers: usize) -> pressroom::model::LlamaConfig {
    let folder = tempfile::tempdir().unwrap();
    let json = format!(
        r#"{{"model_type": "llama", "vocab_size": 32, "hidden_size": 16, "intermediate_size": 32,
            "num_hidden_layers": {layers}, "num_attention_heads": 2}}"#
    );
    let path = folder.path().join("config.json");
    std::fs::write(&path, json).unwrap();
    pressroom::model::LlamaConfig::read(&path).unwrap()
}

/// An experiment that uses everything a file can say.
pub const EVERYTHING: &str = r#"
[model]
path = "smollm2-135m-instruct" # a name
device = "cuda:1"
dtype = "bf16"

[task]
name = "needle"
context_tokens = 1_024
samples = 7
question = "visible"
max_new_tokens = 32

[[press]]
name = "window"
window_size = 32
epsilon = 1
use_values = false
compression_ratio = { from = 0.2, to = 0.8, shape = "linear" }

[[press]]
label = "shared"
name = "heads"
press = { name = "window", seed = 3 }
compression_ratio = [0.1, 0.2, 0.3, 0.4]

[[press]]
chain = [{ name = "norm", compression_ratio = 0.5 }, { name = "heads", press.name = "norm" }]

[[press]]
name = "norm"

[sweep]
compression_ratio = [0.25, 0.5]

[run]
output = "runs/everything"
baseline = true
seed = 7
threads = 2
"#;
