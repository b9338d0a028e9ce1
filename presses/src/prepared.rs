//! What a press has read of its side data.

use std::sync::{Mutex, PoisonError};

use pressroom::{Error, Result};

/// Side data for the model at hand: set before any context.
pub(crate) struct Prepared<T>(Mutex<Option<T>>);

impl<T> Default for Prepared<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Prepared<T> {
    pub(crate) fn set(&self, data: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(data);
    }

    pub(crate) fn with<R>(&self, read: impl FnOnce(&T) -> Result<R>) -> Result<R> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            Some(data) => read(data),
            None => Err(Error::input("the press was not prepared for a model: its side data is not loaded")),
        }
    }
}
