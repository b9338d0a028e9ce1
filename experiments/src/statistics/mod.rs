//! What numbers of a run can be trusted: intervals, paired tests, shared ranks. Pure functions of scores.
//!
//! Everything random is seeded: the same scores give the same intervals.

mod bootstrap;
mod multiple;
mod paired;
mod ranks;
mod resolution;

pub use bootstrap::{Estimate, difference, mean};
pub use multiple::holm;
pub use paired::sign_flip;
pub use ranks::shared_ranks;
pub use resolution::smallest_difference;

/// Chance of a false difference that is accepted, over all comparisons that are read together.
pub const ALPHA: f64 = 0.05;

/// Observations that are taken for granted at each end of the scale (see `bootstrap`).
const AT_EACH_END: f64 = 2.0 / 3.0;

#[cfg(test)]
mod tests;
