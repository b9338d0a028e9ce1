//! The memory of a model's weights: one allocation on each device, in large pages where there are any.
//!
//! Tensors lie in it in the order in which tokens meet them, without gaps: what is multiplied as one matrix needs no
//! copying together, and loading leaves nothing behind.

use std::collections::HashMap;

use tch::{Device, Kind, Tensor};

use super::placement::Placement;
use crate::error::{Error, Result};
use pressroom_kernels::pages;

/// Room for tensors, by name.
#[derive(Debug)]
pub(super) struct Arena {
    /// All elements of a device, in one dimension.
    places: Vec<(Device, Tensor)>,
    spans: HashMap<String, Span>,
}

/// Where a tensor lies.
#[derive(Debug)]
struct Span {
    place: usize,
    start: i64,
    shape: Vec<i64>,
}

impl Span {
    fn length(&self) -> i64 {
        self.shape.iter().product()
    }
}

impl Arena {
    /// Room for `tensors`, names and shapes, one after another, each on its device; not yet written.
    ///
    /// # Errors
    /// A device has too little memory.
    pub(super) fn new(tensors: Vec<(String, Vec<i64>)>, placement: &Placement, kind: Kind) -> Result<Self> {
        let devices = placement.places();
        let mut ends = vec![0; devices.len()];
        let mut spans = HashMap::new();
        for (name, shape) in tensors {
            let device = placement.tensor(&name);
            // Every tensor's device is one of them.
            let place = devices.iter().position(|other| *other == device).unwrap_or(0);
            let span = Span { place, start: ends[place], shape };
            ends[place] += span.length();
            spans.insert(name, span);
        }
        let room = |(&device, &elements): (&Device, &i64)| -> Result<_> {
            let all = Tensor::f_empty([elements], (kind, device))?;
            pages::prefer_large(&all);
            Ok((device, all))
        };
        Ok(Self { places: devices.iter().zip(&ends).map(room).collect::<Result<_>>()?, spans })
    }

    /// The tensor called `name`, if there is one.
    pub(super) fn find(&self, name: &str) -> Result<Option<Tensor>> {
        self.spans.get(name).map(|span| self.view(span, span.length(), &span.shape)).transpose()
    }

    /// The tensor called `name`.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn tensor(&self, name: &str) -> Result<Tensor> {
        self.stacked(&[name])
    }

    /// The tensors called `names`, neighbours that differ in their first extent alone, as one.
    ///
    /// # Errors
    /// One is not there, or they are no such neighbours.
    pub(super) fn stacked(&self, names: &[impl AsRef<str>]) -> Result<Tensor> {
        let missing = |name: &str| Error::input(format!("the weights hold no tensor {name}"));
        let mut spans = names.iter().map(|name| {
            let name = name.as_ref();
            self.spans.get(name).map(|span| (name, span)).ok_or_else(|| missing(name))
        });
        let (_, first) = spans.next().unwrap_or_else(|| Err(missing("without a name")))?;
        let (mut shape, mut length) = (first.shape.clone(), first.length());
        for found in spans {
            let (name, span) = found?;
            let neighbour = span.place == first.place && span.start == first.start + length;
            if !neighbour || span.shape[1..] != shape[1..] {
                return Err(Error::input(format!("the weights {name} do not follow those that they are stacked on")));
            }
            shape[0] += span.shape[0];
            length += span.length();
        }
        self.view(first, length, &shape)
    }

    fn view(&self, first: &Span, length: i64, shape: &[i64]) -> Result<Tensor> {
        Ok(self.places[first.place].1.f_narrow(0, first.start, length)?.f_view(shape)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arena() -> Arena {
        let tensors = [("a", vec![2, 3]), ("b", vec![1, 3]), ("c", vec![3]), ("d", vec![4, 3])];
        let tensors = tensors.map(|(name, shape)| (name.to_owned(), shape)).to_vec();
        Arena::new(tensors, &Placement::single(Device::Cpu), Kind::Float).unwrap()
    }

    #[test]
    fn neighbours_are_one_matrix_without_a_copy() {
        let arena = arena();
        for (name, value) in [("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", 4.0)] {
            let _ = arena.tensor(name).unwrap().fill_(value);
        }
        let stacked = arena.stacked(&["a", "b"]).unwrap();
        assert_eq!(stacked.size(), [3, 3]);
        assert_eq!(Vec::<f32>::try_from(stacked.select(1, 0)).unwrap(), [1.0, 1.0, 2.0]);
        assert_eq!(stacked.data_ptr(), arena.tensor("a").unwrap().data_ptr());
        assert_eq!(arena.find("d").unwrap().unwrap().size(), [4, 3]);
        assert!(arena.find("e").unwrap().is_none());
    }

    #[test]
    fn what_cannot_be_stacked_is_refused() {
        let arena = arena();
        for (names, problem) in [
            (vec!["a", "d"], "the weights d do not follow"),
            (vec!["b", "c"], "the weights c do not follow"),
            (vec!["a", "e"], "no tensor e"),
            (vec![], "no tensor without a name"),
        ] {
            let error = arena.stacked(&names).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn views_outlive_the_arena() {
        let held = arena().tensor("d").unwrap();
        let _ = held.shallow_clone().fill_(7.0);
        assert_eq!(held.sum(Kind::Float).double_value(&[]), 84.0);
    }
}
