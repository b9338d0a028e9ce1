//! Press plugins: what is refused, what crosses the interface, and that nothing is lost on the way.

#[path = "../properties/support.rs"]
#[allow(dead_code, reason = "the properties use all of it")]
mod layers;
mod older;
mod refusals;
mod support;
mod twins;
