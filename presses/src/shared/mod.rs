//! What several presses share.

pub(crate) mod prepared;
