//! The file sink: each record once and in order, whatever ends a write and whatever the disk forgets.

#![allow(clippy::unwrap_used, reason = "tests")]

mod conformance;
mod crashes;
mod disk;
mod failures;
mod files;
mod settings;
mod world;
