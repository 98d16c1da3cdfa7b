//! Transactions without disk, network or clock: what each request is answered in each state, and many clients at once.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod clients;
mod log;
mod requests;
mod simulation;
mod world;
