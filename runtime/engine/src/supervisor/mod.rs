//! Runs every connector of a plan, and starts again what failed.

mod connector;
mod engine;
mod run;
mod supervision;
mod topics;

pub use engine::{Engine, Parts, Resolve};
