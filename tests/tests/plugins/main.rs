//! Press plugins: what is refused, what crosses the interface, and that nothing is lost on the way.

#[path = "../properties/support.rs"]
mod layers;
mod older;
mod refusals;
mod support;
mod twins;
