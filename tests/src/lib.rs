//! Whole-system tests of Pressroom; the tests are under `tests/`, golden data and its scripts under `golden/`.
#![forbid(unsafe_code)]
