//! The transforms, seen from outside.

#![allow(clippy::unwrap_used, reason = "tests are the outside")]

mod hostile;
mod problems;
mod programs;
mod world;
