//! Reports of runs: what they found and how sure that is, for the terminal, as a page and as figures.

mod comparison;
mod conditions;
mod figures;
mod markdown;
mod notes;
mod page;
mod row;
mod run;
pub mod terminal;
#[cfg(test)]
pub mod testing;
mod words;

pub use comparison::{Comparison, compare};
pub use conditions::Conditions;
pub use figures::{Figure, figures};
pub use markdown::markdown;
pub use page::page;
pub use row::Row;
pub use run::Run;

#[cfg(test)]
mod tests;
