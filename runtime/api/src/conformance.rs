//! The suites that every log, source and sink must pass: an implementation's test is a list of calls to these.

pub mod log;
pub mod sink;
pub mod source;
pub mod transactions;
