//! Takes records from HTTP clients and answers when they are durable.

mod access;
mod body;
mod formats;
mod intake;
mod listen;
mod live;
mod patience;
mod pattern;
mod queue;
mod read;
mod refusal;
mod rest;
mod rest_v3;
mod route;
mod serve;
mod settings;

pub use settings::HttpSourceSettings;
