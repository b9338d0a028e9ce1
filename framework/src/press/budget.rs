//! The one place where a compression ratio becomes a count.

use serde::Serialize;

use crate::error::{Error, Result};

/// How much a press may keep of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// Removes this fraction of the KV pairs, in `[0, 1)`.
    Ratio(f64),
    /// Keeps this many KV pairs per KV head.
    Tokens(usize),
}

impl Budget {
    /// Nothing is removed.
    pub const ALL: Self = Self::Ratio(0.0);

    /// Removes `ratio` of the KV pairs.
    ///
    /// # Errors
    /// `ratio` is outside `[0, 1)` or not a number.
    pub fn from_ratio(ratio: f64) -> Result<Self> {
        if (0.0..1.0).contains(&ratio) {
            Ok(Self::Ratio(ratio))
        } else {
            Err(Error::input(format!("compression ratio {ratio} is outside [0, 1): it is the fraction removed")))
        }
    }

    /// Keeps `tokens` KV pairs per KV head, or all where there are fewer.
    ///
    /// # Errors
    /// `tokens` is 0: a cache is never emptied.
    pub fn from_tokens(tokens: usize) -> Result<Self> {
        if tokens > 0 { Ok(Self::Tokens(tokens)) } else { Err(Error::input("a budget is at least 1 token")) }
    }

    /// The fraction of `tokens` KV pairs that is removed.
    pub fn ratio(self, tokens: i64) -> f64 {
        match self {
            Self::Ratio(ratio) => ratio,
            Self::Tokens(_) => 1.0 - self.kept(tokens) as f64 / tokens.max(1) as f64,
        }
    }

    /// The ratio as it was written, if it was one.
    pub fn as_ratio(self) -> Option<f64> {
        match self {
            Self::Ratio(ratio) => Some(ratio),
            Self::Tokens(_) => None,
        }
    }

    /// The number of tokens as it was written, if it was one.
    pub fn as_tokens(self) -> Option<usize> {
        match self {
            Self::Ratio(_) => None,
            Self::Tokens(tokens) => Some(tokens),
        }
    }

    /// Whether everything is kept of `tokens` KV pairs, whatever the scores.
    pub fn keeps_all(self, tokens: i64) -> bool {
        self.kept(tokens) == tokens
    }

    /// Number of KV pairs kept of `tokens`: of a ratio, `tokens * (1 - ratio)` rounded down. At least one,
    /// so that a short context is never emptied.
    pub fn kept(self, tokens: i64) -> i64 {
        let kept = match self {
            Self::Ratio(ratio) => (tokens as f64 * (1.0 - ratio)) as i64,
            Self::Tokens(kept) => i64::try_from(kept).unwrap_or(i64::MAX),
        };
        kept.max(1).min(tokens)
    }

    /// Number of KV pairs that `heads` KV heads of `tokens` pairs each keep together where they share one budget:
    /// rounded down, as in [`Self::kept`].
    pub fn kept_together(self, tokens: i64, heads: i64) -> i64 {
        match self {
            Self::Ratio(_) => self.kept(heads * tokens),
            Self::Tokens(_) => heads * self.kept(tokens),
        }
    }

    /// [`Self::kept_together`] rounded up: of a ratio, the number *evicted* is rounded down.
    pub fn left_together(self, tokens: i64, heads: i64) -> i64 {
        match self {
            Self::Ratio(ratio) => heads * tokens - ((heads * tokens) as f64 * ratio) as i64,
            Self::Tokens(_) => heads * self.kept(tokens),
        }
    }
}

impl std::fmt::Display for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ratio(ratio) => write!(f, "{ratio}"),
            Self::Tokens(tokens) => write!(f, "{tokens} tokens"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keeps_at_least_one_and_never_more_than_there_is(tokens in 1i64..1_000_000, ratio in 0.0f64..1.0, count in 1usize..2_000_000) {
            for budget in [Budget::from_ratio(ratio).unwrap(), Budget::from_tokens(count).unwrap()] {
                prop_assert!((1..=tokens).contains(&budget.kept(tokens)));
                prop_assert!((0.0..1.0).contains(&budget.ratio(tokens)));
            }
        }

        #[test]
        fn a_higher_ratio_never_keeps_more(tokens in 1i64..100_000, a in 0.0f64..1.0, b in 0.0f64..1.0) {
            let kept = |ratio| Budget::from_ratio(ratio).unwrap().kept(tokens);
            prop_assert!(kept(a.max(b)) <= kept(a.min(b)));
        }

        #[test]
        fn heads_that_share_a_budget_keep_what_they_would_alone(tokens in 1i64..100_000, heads in 1i64..100, ratio in 0.0f64..1.0, count in 1usize..200_000) {
            let shared = Budget::from_ratio(ratio).unwrap();
            let (down, up) = (shared.kept_together(tokens, heads), shared.left_together(tokens, heads));
            prop_assert!(heads * shared.kept(tokens) <= down.max(heads) && down <= up && up <= down + 1);
            let counted = Budget::from_tokens(count).unwrap();
            prop_assert_eq!(counted.kept_together(tokens, heads), heads * counted.kept(tokens));
            prop_assert_eq!(counted.left_together(tokens, heads), heads * counted.kept(tokens));
        }
    }

    #[test]
    fn ratio_zero_keeps_all() {
        assert_eq!(Budget::ALL.kept(1037), 1037);
        assert!(Budget::ALL.keeps_all(1037));
    }

    #[test]
    fn a_count_is_a_count() {
        let budget = Budget::from_tokens(100).unwrap();
        assert_eq!((budget.kept(400), budget.kept(60)), (100, 60));
        assert_eq!((budget.ratio(400), budget.ratio(60)), (0.75, 0.0));
        assert!(Budget::from_tokens(0).is_err());
    }

    #[test]
    fn impossible_ratios_are_refused() {
        for ratio in [1.0, -0.1, f64::NAN, f64::INFINITY] {
            assert!(Budget::from_ratio(ratio).is_err(), "{ratio}");
        }
    }
}
