//! The converters, seen from outside.

#![allow(clippy::unwrap_used, reason = "tests are the outside")]

mod avro;
mod plain;
mod protobuf;
mod registry;
mod server;
mod world;
