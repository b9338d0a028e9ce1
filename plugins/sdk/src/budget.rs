//! How much a selector may keep.

use pressroom_plugin_abi::PressroomBudget;

/// How much of a layer may stay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    ratio: f64,
    kept: usize,
}

impl Budget {
    /// `kept` entries per KV head, which is what the compression ratio `ratio` leaves.
    pub fn new(ratio: f64, kept: usize) -> Self {
        Self { ratio, kept }
    }

    pub(crate) fn from_raw(raw: &PressroomBudget) -> Self {
        Self { ratio: raw.compression_ratio, kept: usize::try_from(raw.kept).unwrap_or(0) }
    }

    /// The compression ratio: the fraction removed.
    pub fn ratio(self) -> f64 {
        self.ratio
    }

    /// Entries per KV head, at least 1; of a head-wise press, on average over the heads of a sequence.
    pub fn kept(self) -> usize {
        self.kept
    }
}
