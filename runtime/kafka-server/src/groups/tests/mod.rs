//! Groups without disk, network or clock: what each request is answered in each state, and many members at once.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod absence;
mod case;
mod clients;
mod coordinated;
mod offsets;
mod requests;
mod simulation;
pub(crate) mod store;
mod transacted;
mod world;
