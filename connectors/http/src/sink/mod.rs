//! Delivers records to an HTTP server: at least once, each request under a key that stays the same when it is sent again.

mod answer;
mod client;
mod cut;
mod frame;
mod pack;
mod plan;
mod request;
mod settings;
mod target;
mod write;

pub use settings::HttpSinkSettings;
