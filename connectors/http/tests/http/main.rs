//! The sink against a server that does what real ones do on bad days, and the source under clients that mean no good.

#![allow(clippy::unwrap_used, reason = "tests are the outside")]

mod limits;
mod live;
mod seeds;
mod server;
mod sink;
mod source;
mod tls;
mod world;
