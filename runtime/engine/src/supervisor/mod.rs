//! Runs every connector of a plan, and starts again what failed.

mod engine;

pub use engine::{Engine, Parts, Resolve};
