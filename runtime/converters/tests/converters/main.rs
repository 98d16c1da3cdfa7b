//! The converters, seen from outside.

#![allow(clippy::unwrap_used, reason = "tests are the outside")]

mod plain;
mod registry;
mod server;
mod world;
