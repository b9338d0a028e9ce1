//! Budgets as written: a compression ratio or a number of tokens; one, one per layer, or a schedule over the layers.

use std::ops::Range;

use toml::de::DeValue;

use super::report::Mistakes;
use super::table::{Node, Table, integer, kind, list, number};
use crate::press::Budget;

/// How much a press keeps on which layer.
#[derive(Clone, Debug, PartialEq)]
pub enum BudgetSpec {
    /// The same on every layer.
    Same(Budget),
    /// One per layer, first layer first.
    PerLayer(Vec<Budget>),
    /// In equal steps from the first layer to the last.
    Linear {
        /// Ratio on the first layer.
        from: f64,
        /// Ratio on the last layer.
        to: f64,
    },
}

/// Shapes of schedules by their names in TOML.
pub(super) const SHAPES: [&str; 1] = ["linear"];

impl BudgetSpec {
    /// One budget per layer, or a sentence that says why that cannot be.
    pub fn layers(&self, layers: usize) -> Result<Vec<Budget>, String> {
        match self {
            Self::Same(budget) => Ok(vec![*budget; layers]),
            Self::PerLayer(list) if list.len() == layers => Ok(list.clone()),
            Self::PerLayer(list) => {
                let what = if let [Budget::Tokens(_), ..] = list[..] { "budgets" } else { "compression ratios" };
                Err(format!("{} {what} for a model of {layers} layers", list.len()))
            }
            Self::Linear { from, to } => {
                let (from, to) = (*from, *to);
                let steps = layers.saturating_sub(1).max(1) as f64;
                // Rounding must not carry a step past the ends.
                let ratio = |i: usize| (from + (to - from) * i as f64 / steps).clamp(from.min(to), from.max(to));
                (0..layers).map(|i| Budget::from_ratio(ratio(i)).map_err(|error| error.to_string())).collect()
            }
        }
    }

    /// Reads `budget`: tokens, one number or one per layer.
    pub(super) fn read_tokens(node: &Node<'_>, mistakes: &mut Mistakes) -> Option<Self> {
        let DeValue::Array(_) = node.get_ref() else { return tokens(node, mistakes).map(Self::Same) };
        let items = list("budget", node, mistakes)?;
        let budgets: Vec<Option<Budget>> = items.iter().map(|item| tokens(item, mistakes)).collect();
        budgets.into_iter().collect::<Option<_>>().map(Self::PerLayer)
    }

    /// Reads `compression_ratio`.
    pub(super) fn read(node: &Node<'_>, mistakes: &mut Mistakes) -> Option<Self> {
        match node.get_ref() {
            DeValue::Array(_) => {
                let items = list("compression_ratio", node, mistakes)?;
                let budgets: Vec<Option<Budget>> = items.iter().map(|item| budget(item, mistakes)).collect();
                budgets.into_iter().collect::<Option<_>>().map(Self::PerLayer)
            }
            DeValue::Table(_) => schedule(node, mistakes),
            DeValue::Integer(_) | DeValue::Float(_) => budget(node, mistakes).map(Self::Same),
            other => {
                mistakes
                    .add(node.span(), format!("`compression_ratio` is not {}", kind(other)))
                    .help("it is a number, a list of one number per layer, or { from = 0.2, to = 0.8 }");
                None
            }
        }
    }
}

fn schedule(node: &Node<'_>, mistakes: &mut Mistakes) -> Option<BudgetSpec> {
    let mut table = Table::of("the schedule", node, mistakes)?;
    let help = "a schedule goes { from = 0.2, to = 0.8, shape = \"linear\" }, first layer to last";
    let mut end =
        |key, mistakes: &mut Mistakes| table.require(key, help, mistakes).and_then(|node| budget(node, mistakes));
    let (from, to) = (end("from", mistakes), end("to", mistakes));
    table.one_of("shape", "shape", &SHAPES, mistakes);
    table.finish(mistakes);
    Some(BudgetSpec::Linear { from: from?.as_ratio()?, to: to?.as_ratio()? })
}

/// One ratio.
pub(super) fn budget(node: &Node<'_>, mistakes: &mut Mistakes) -> Option<Budget> {
    let Some(ratio) = number(node) else {
        mistakes.add(node.span(), format!("a compression ratio is a number, not {}", kind(node.get_ref())));
        return None;
    };
    Budget::from_ratio(ratio).map_err(|error| outside(node.span(), ratio, error.to_string(), mistakes)).ok()
}

/// One number of tokens.
fn tokens(node: &Node<'_>, mistakes: &mut Mistakes) -> Option<Budget> {
    let Some(tokens) = integer(node).and_then(|tokens| usize::try_from(tokens).ok()).filter(|tokens| *tokens > 0)
    else {
        let mistake = mistakes.add(node.span(), "a budget is a whole number of tokens, at least 1");
        mistake.help("it is what each KV head keeps; `compression_ratio` is the fraction removed");
        return None;
    };
    Some(Budget::Tokens(tokens))
}

fn outside(span: Range<usize>, ratio: f64, message: String, mistakes: &mut Mistakes) {
    let mistake = mistakes.add(span, message);
    if (2.0..100.0).contains(&ratio) {
        mistake.help(format!("{ratio} per cent is {}", ratio / 100.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ratios(spec: &BudgetSpec, layers: usize) -> Vec<f64> {
        spec.layers(layers).unwrap().into_iter().filter_map(Budget::as_ratio).collect()
    }

    fn linear(from: f64, to: f64) -> BudgetSpec {
        BudgetSpec::Linear { from, to }
    }

    #[test]
    fn a_schedule_starts_at_from_and_ends_at_to() {
        assert_eq!(ratios(&linear(0.0, 0.75), 4), [0.0, 0.25, 0.5, 0.75]);
        assert_eq!(ratios(&linear(0.75, 0.25), 3), [0.75, 0.5, 0.25]);
        assert_eq!(ratios(&linear(0.5, 0.75), 1), [0.5]);
        assert!(ratios(&linear(0.5, 0.75), 0).is_empty());
    }

    proptest! {
        #[test]
        fn a_schedule_never_leaves_its_ends(from in 0.0f64..1.0, to in 0.0f64..1.0, layers in 1usize..200) {
            for ratio in ratios(&linear(from, to), layers) {
                prop_assert!(ratio >= from.min(to) && ratio <= from.max(to));
            }
        }
    }
}
