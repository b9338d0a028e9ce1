//! Parity with the reference, from golden data that `golden/*.py` made by running it.

mod answers;
mod half;
mod logits;
mod scores;
mod support;
