//! Where the layers of a model are: on one device, or on several, one after another.

use tch::Device;

use crate::error::{Error, Result};

/// Devices with the number of consecutive layers that each holds. The embedding is with the first layer, the final
/// norm and the output with the last.
///
/// `P` is a device; tests place layers on places that are only called so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement<P = Device> {
    runs: Vec<(P, usize)>,
}

impl<P: Copy + PartialEq> Placement<P> {
    /// Every layer on one device.
    pub fn single(place: P) -> Self {
        Self { runs: vec![(place, usize::MAX)] }
    }

    /// `layers` layers, as many on each device as the list says.
    ///
    /// # Errors
    /// The list places another number of layers.
    pub fn of(runs: &[(P, usize)], layers: usize) -> Result<Self> {
        let placed: usize = runs.iter().map(|(_, count)| count).sum();
        if placed != layers || layers == 0 {
            return Err(Error::input(format!("the device map places {placed} layers, and the model has {layers}")));
        }
        Ok(Self { runs: runs.iter().copied().filter(|(_, count)| *count > 0).collect() })
    }

    /// `layers` layers on the first place, if `model` bytes leave half of its room to caches, else on all of them, by
    /// their room. Places come with their free bytes; `None` where there are none.
    pub fn spread(layers: usize, model: u128, places: &[(P, u128)]) -> Option<Self> {
        let (first, room) = *places.first()?;
        if places.len() == 1 || 2 * model <= room {
            return Some(Self::single(first));
        }
        let all: u128 = places.iter().map(|(_, room)| room).sum::<u128>().max(1);
        let (mut runs, mut before, mut placed) = (Vec::new(), 0, 0);
        for &(place, room) in places {
            before += room;
            // Up to here in all, rounded, so that nothing is lost on the way.
            let end = ((layers as u128 * before + all / 2) / all) as usize;
            if end > placed {
                runs.push((place, end - placed));
            }
            placed = end;
        }
        Some(Self { runs })
    }

    /// The place of a layer; of the last one for layers that there are not.
    pub fn layer(&self, index: usize) -> P {
        let mut end = 0usize;
        for &(place, count) in &self.runs {
            end = end.saturating_add(count);
            if index < end {
                return place;
            }
        }
        self.last()
    }

    /// The place of the output.
    pub fn last(&self) -> P {
        // There is always one: no constructor makes an empty list.
        self.runs[self.runs.len() - 1].0
    }

    /// The place of a tensor by its name in the weights.
    pub(super) fn tensor(&self, name: &str) -> P {
        match name.strip_prefix("model.layers.").and_then(|rest| rest.split('.').next()?.parse().ok()) {
            Some(layer) => self.layer(layer),
            None if name.starts_with("model.embed_tokens.") => self.layer(0),
            None => self.last(),
        }
    }

    /// The places, each once.
    pub fn places(&self) -> Vec<P> {
        let mut places = Vec::new();
        for &(place, _) in &self.runs {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }
}

impl From<Device> for Placement {
    fn from(device: Device) -> Self {
        Self::single(device)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Pretend devices are numbers.
        #[test]
        fn layers_are_spread_in_order_by_room(layers in 1usize..200, rooms in prop::collection::vec(1u128..1000, 1..9)) {
            let places: Vec<(usize, u128)> = rooms.iter().copied().enumerate().collect();
            let placement = Placement::spread(layers, 10_000, &places).unwrap();
            let of: Vec<usize> = (0..layers).map(|layer| placement.layer(layer)).collect();
            prop_assert!(of.is_sorted(), "{:?}", of);
            prop_assert_eq!(placement.last(), of[layers - 1]);
            let all: u128 = rooms.iter().sum();
            for (place, room) in places {
                let held = of.iter().filter(|other| **other == place).count() as f64;
                let share = layers as f64 * room as f64 / all as f64;
                prop_assert!((held - share).abs() <= 1.0, "{} of {}", held, share);
            }
        }
    }

    #[test]
    fn a_model_that_leaves_room_for_caches_stays_on_one_device() {
        let places = [("first", 80), ("second", 80)];
        assert_eq!(Placement::spread(32, 16, &places), Some(Placement::single("first")));
        assert_eq!(Placement::spread(32, 140, &places[..1]), Some(Placement::single("first")));
        assert_eq!(Placement::spread(32, 60, &places), Placement::of(&[("first", 16), ("second", 16)], 32).ok());
        assert_eq!(Placement::<Device>::spread(32, 60, &[]), None);
    }

    #[test]
    fn tensors_are_where_their_layer_is() {
        let placement = Placement::of(&[("a", 2), ("none", 0), ("b", 1)], 3).unwrap();
        assert_eq!(["a", "a", "b"], [0, 1, 2].map(|layer| placement.layer(layer)));
        assert_eq!(placement.places(), ["a", "b"]);
        for (name, place) in [
            ("model.embed_tokens.weight", "a"),
            ("model.layers.1.mlp.up_proj.weight", "a"),
            ("model.layers.2.input_layernorm.weight", "b"),
            ("model.norm.weight", "b"),
            ("lm_head.weight", "b"),
        ] {
            assert_eq!(placement.tensor(name), place, "{name}");
        }
        let error = Placement::of(&[("a", 2)], 3).unwrap_err().to_string();
        assert_eq!(error, "the device map places 2 layers, and the model has 3");
    }
}
