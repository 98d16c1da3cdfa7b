//! The transforms between JSON and the forms that other systems keep records in.
//!
//! - [`Decode`]: JSON of what Avro, Protobuf, JSON Schema or another converter of Kafka Connect wrote.
//! - [`Encode`]: the other way.
//!
//! What a schema registry says of an id never changes, so both are pure: an answer is kept, and asked for again only
//! where it was not given.

mod avro_read;
mod avro_schema;
mod avro_write;
mod bounds;
mod decode;
mod encode;
mod form;
mod json_schema;
mod known;
mod plain;
mod protobuf;
mod references;
mod registry;
mod registry_settings;
mod scalar_text;
mod schema;
mod style;
mod subject;
mod wire;

pub use decode::Decode;
pub use encode::{Encode, SchemaReference, UnknownFields};
pub use form::{Form, Part};
pub use plain::Encoding;
pub use registry_settings::{RegistrySettings, TlsSettings, Urls};
pub use style::Written;
