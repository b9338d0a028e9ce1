//! Parity with the reference, from golden data that `golden/*.py` made by running it.

mod answers;
mod build;
mod compare;
mod decoding;
mod half;
mod logits;
mod presses;
mod run;
mod support;
