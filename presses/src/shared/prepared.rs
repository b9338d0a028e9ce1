//! What a press has read of its side data.

use std::sync::{Mutex, PoisonError};

use pressroom::press::ModelFacts;
use pressroom::{Error, Result};

/// Side data as it was read for one model.
pub(crate) struct Prepared<T>(Mutex<Option<(ModelFacts, T)>>);

impl<T> Default for Prepared<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Prepared<T> {
    /// Reads it, once for each model.
    pub(crate) fn prepare(&self, model: &ModelFacts, read: impl FnOnce() -> Result<T>) -> Result<()> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_none_or(|(of, _)| of != model) {
            *known = Some((model.clone(), read()?));
        }
        Ok(())
    }

    /// Hands it to `using`.
    pub(crate) fn with<R>(&self, using: impl FnOnce(&mut T) -> Result<R>) -> Result<R> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some((_, data)) => using(data),
            None => Err(Error::input("side data is used before the press was prepared for a model")),
        }
    }
}
