//! Pressroom's kernels: one operation, one folder.
//!
//! Each folder holds the operation's plain reference (torch operations) and, where they exist, faster
//! implementations that are tested against it. Callers see the operation, not the implementation.
#![deny(unsafe_code)]

pub mod attention;
pub mod cuda;
