//! The binary `aqueduct`: configuration in, pipelines running.

mod problems;
mod references;
mod secrets;
mod yaml;
