//! Runs every connector of a plan, and starts again what failed.

mod connector;
mod engine;

pub use engine::{Engine, Parts, Resolve};
