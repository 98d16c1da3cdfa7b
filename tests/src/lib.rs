//! What whole-system tests share: the real services, the real daemon, a network that loses answers, writers of lines.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types, reason = "tests are the outside")]

pub mod asked;
pub mod daemon;
pub mod lines;
pub mod members;
pub mod network;
#[path = "../services/mod.rs"]
pub mod services;
