//! Takes records from HTTP clients, and delivers records to HTTP servers.

mod escape;
mod firehose;
mod sink;
mod source;

pub use sink::HttpSinkSettings;
pub use source::HttpSourceSettings;
