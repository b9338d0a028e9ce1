//! The framework of Pressroom.

pub mod error;
pub mod model;
