//! A part of a sweep, for one of several machines.

use std::fmt;
use std::str::FromStr;

use pressroom::random::derive_seed;
use pressroom::{Error, Result};

/// Part `index` of `of`. A sample, with all that shares its prefill, belongs to one part, by a hash of its index: who
/// has it does not depend on the other samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: u64,
    of: u64,
}

impl Shard {
    /// Everything.
    pub const ALL: Self = Self { index: 0, of: 1 };

    /// Whether a sample belongs to the part.
    pub fn owns(self, sample: usize) -> bool {
        derive_seed(self.of, sample as u64) % self.of == self.index
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-of-{}", self.index, self.of)
    }
}

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers = text.split_once('/').and_then(|(index, of)| Some((index.parse().ok()?, of.parse().ok()?)));
        match numbers {
            Some((index, of)) if index < of => Ok(Self { index, of }),
            _ => {
                Err(Error::input(format!("`{text}` is no part of a run: write i/n with i from 0 to n - 1, as in 0/4")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_belongs_to_one_part_and_parts_are_alike() {
        let parts: Vec<Shard> = (0..4).map(|index| format!("{index}/4").parse().unwrap()).collect();
        let mut owned = [0; 4];
        for sample in 0..1000 {
            let owners: Vec<usize> = (0..4).filter(|part| parts[*part].owns(sample)).collect();
            assert_eq!(owners.len(), 1);
            owned[owners[0]] += 1;
            assert!(Shard::ALL.owns(sample));
        }
        assert!(owned.iter().all(|count| (200..300).contains(count)), "{owned:?}");
    }

    #[test]
    fn parts_are_written_i_of_n() {
        assert_eq!("2/3".parse::<Shard>().unwrap().to_string(), "2-of-3");
        for wrong in ["", "3", "3/3", "-1/3", "0/0", "1/x"] {
            assert!(wrong.parse::<Shard>().unwrap_err().to_string().contains("as in 0/4"), "{wrong}");
        }
    }
}
