//! The transforms between JSON and the forms that other systems keep records in.
//!
//! - [`Decode`]: JSON of what Avro, Protobuf, JSON Schema or another converter of Kafka Connect wrote.
//! - [`Encode`]: the other way.
//!
//! What a schema registry says of an id never changes, so both are pure: an answer is kept, and asked for again only
//! where it was not given.

mod decode;
mod encode;
mod form;
mod plain;

pub use decode::Decode;
pub use encode::Encode;
pub use form::{Form, Part};
pub use plain::Encoding;
