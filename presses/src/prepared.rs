//! What a press has read of its side data.

use std::sync::{Mutex, PoisonError};

use pressroom::press::ModelFacts;
use pressroom::{Error, Result};
use tch::{Device, Tensor};

/// Side data for the model at hand: read before any context.
pub(crate) struct Prepared<T>(Mutex<Option<(ModelFacts, T)>>);

impl<T> Default for Prepared<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Prepared<T> {
    /// Reads it, unless it was read for this model already.
    pub(crate) fn prepare(&self, model: &ModelFacts, read: impl FnOnce() -> Result<T>) -> Result<()> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_none_or(|(of, _)| of != model) {
            *known = Some((model.clone(), read()?));
        }
        Ok(())
    }

    pub(crate) fn with<R>(&self, using: impl FnOnce(&mut T) -> Result<R>) -> Result<R> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some((_, data)) => using(data),
            None => Err(Error::input("the press was not prepared for a model: its side data is not loaded")),
        }
    }
}

impl Prepared<Vec<Vec<Tensor>>> {
    /// The tables of one layer on `device`; what is elsewhere moves there for good.
    pub(crate) fn tables(&self, layer: usize, device: Device) -> Result<Vec<Tensor>> {
        self.with(|layers| {
            let known = layers.len();
            let missing = || Error::input(format!("side data of {known} layers has no layer {layer}"));
            let tables = layers.get_mut(layer).ok_or_else(missing)?;
            for table in tables.iter_mut().filter(|table| table.device() != device) {
                *table = table.f_to_device(device)?;
            }
            Ok(tables.iter().map(Tensor::shallow_clone).collect())
        })
    }
}
