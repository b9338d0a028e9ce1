//! What a press plugin is written with: implement [`Scorer`] (or [`Selector`]) for a struct of parameters, name it in
//! [`export!`], build a `cdylib`.
//!
//! ```
//! use pressroom_plugin::{Needs, Result, Scorer, Scores, View, axis};
//!
//! /// Keeps the values with the largest L1 norm.
//! ///
//! /// # Idea
//! /// A value of small norm adds little to any output, however much attention it gets.
//! ///
//! /// # Formula
//! /// `score = scale * |v|_1`
//! ///
//! /// # Paper
//! /// None; an example.
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! #[serde(default)]
//! struct ValueNorm {
//!     /// Factor of every score.
//!     #[schemars(range(min = 0.001, max = 1000.0))]
//!     scale: f64,
//! }
//!
//! impl Default for ValueNorm {
//!     fn default() -> Self {
//!         Self { scale: 1.0 }
//!     }
//! }
//!
//! impl Scorer for ValueNorm {
//!     const NAME: &'static str = "value_norm";
//!
//!     fn score(&self, view: &View<'_>, scores: &mut Scores<'_>) -> Result {
//!         let values = view.values().f32();
//!         scores.assign(&values.map_axis(axis::CHANNEL, |v| v.iter().map(|x| x.abs() * self.scale as f32).sum::<f32>()));
//!         Ok(())
//!     }
//! }
//!
//! pressroom_plugin::export!(scorers: [ValueNorm]);
//! # fn main() {}
//! ```
//!
//! The struct's doc comment is the user's documentation, its fields are the parameters in TOML; types, ranges, units
//! and defaults come from the same declaration. An error or a panic ends the session that it happens in, with its text.

mod budget;
#[doc(hidden)]
pub mod glue;
mod log;
mod panics;
mod press;
mod schema;
mod scores;
mod selection;
mod tensor;
pub mod testing;
#[cfg(feature = "tch")]
pub mod torch;
mod view;

pub use budget::Budget;
pub use log::{info, warn};
pub use press::{Model, Needs, Result, Scorer, Selector, Span};
pub use scores::Scores;
pub use selection::Selection;
pub use tensor::{Dtype, Element, Tensor};
pub use view::{Phase, View};

pub use half;
pub use ndarray;

/// Names of the axes of `[batch, heads, tokens, channels]`.
pub mod axis {
    use ndarray::Axis;

    /// Sequences.
    pub const BATCH: Axis = Axis(0);
    /// KV heads, or query heads.
    pub const HEAD: Axis = Axis(1);
    /// Tokens: entries of keys and values, queries.
    pub const TOKEN: Axis = Axis(2);
    /// Channels of a head; of attention weights, the entries attended to.
    pub const CHANNEL: Axis = Axis(3);
}
