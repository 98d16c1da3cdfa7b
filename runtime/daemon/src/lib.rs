//! The binary `aqueduct`: configuration in, pipelines running.
//!
//! The only crate that names a concrete connector or log. [`main`] is the whole program; [`execute`] is one command
//! with an outside of the caller's choice.

// What people write.
mod config;
mod connectors;
mod diagnosis;
mod load;
mod merge;
mod problems;
mod references;
mod scalar;
mod schema;
mod secrets;
mod transforms;
mod tree;
mod yaml;

// What runs and answers.
mod daemon;
mod http;
mod kafka;
mod logging;
mod records;

// What people type.
mod cli;
mod client;
mod terminal;

use std::process::ExitCode;

// Tests of this crate and those beside it share what they run commands with.
#[cfg(test)]
extern crate self as aqueduct_daemon;

pub use cli::execute;
pub use connectors::registry;
pub use terminal::Terminal;

/// The program.
pub fn main() -> ExitCode {
    execute(std::env::args_os(), Terminal::real())
}
