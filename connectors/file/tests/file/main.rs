//! The file source over a disk in memory: what becomes of lines while files grow, rotate and go away.

#![allow(clippy::unwrap_used, reason = "tests")]

mod conformance;
mod damage;
mod disk;
mod framing;
mod model;
mod reading;
mod real;
mod rotation;
mod settings;
mod start;
mod world;
