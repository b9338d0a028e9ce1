//! The one place where a compression ratio becomes a count.

use crate::error::{Error, Result};

/// How much a press may keep of a layer: the compression ratio is the fraction *removed*.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    ratio: f64,
}

impl Budget {
    /// Removes `ratio` of the KV pairs.
    ///
    /// # Errors
    /// `ratio` is outside `[0, 1)` or not a number.
    pub fn from_ratio(ratio: f64) -> Result<Self> {
        if (0.0..1.0).contains(&ratio) {
            Ok(Self { ratio })
        } else {
            Err(Error::input(format!("compression ratio {ratio} is outside [0, 1): it is the fraction removed")))
        }
    }

    /// The fraction removed.
    pub fn ratio(self) -> f64 {
        self.ratio
    }

    /// Whether everything is kept, whatever the scores.
    pub fn keeps_all(self) -> bool {
        self.ratio == 0.0
    }

    /// Number of KV pairs kept of `tokens`: `tokens * (1 - ratio)` rounded down, and at least one,
    /// so that a short context is never emptied.
    pub fn kept(self, tokens: i64) -> i64 {
        let kept = (tokens as f64 * (1.0 - self.ratio)) as i64;
        kept.max(1).min(tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keeps_at_least_one_and_never_more_than_there_is(tokens in 1i64..1_000_000, ratio in 0.0f64..1.0) {
            let kept = Budget::from_ratio(ratio).unwrap().kept(tokens);
            prop_assert!((1..=tokens).contains(&kept));
        }

        #[test]
        fn a_higher_ratio_never_keeps_more(tokens in 1i64..100_000, a in 0.0f64..1.0, b in 0.0f64..1.0) {
            let kept = |ratio| Budget::from_ratio(ratio).unwrap().kept(tokens);
            prop_assert!(kept(a.max(b)) <= kept(a.min(b)));
        }
    }

    #[test]
    fn ratio_zero_keeps_all() {
        assert_eq!(Budget::from_ratio(0.0).unwrap().kept(1037), 1037);
    }

    #[test]
    fn impossible_ratios_are_refused() {
        for ratio in [1.0, -0.1, f64::NAN, f64::INFINITY] {
            assert!(Budget::from_ratio(ratio).is_err(), "{ratio}");
        }
    }
}
