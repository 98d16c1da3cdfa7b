//! The sink that writes documents to Elasticsearch and OpenSearch.
//!
//! What makes it exactly once: a document's id and version come from its record's place in the log, so writing it again
//! changes nothing, and whatever the cluster says about one document is answered for its record alone.

mod access;
mod answer;
mod bulk;
mod cluster;
mod delivery;
mod document;
mod lookup;
mod name;
mod pace;
mod probe;
mod request;
mod settings;
mod sink;
mod tls;
mod wire;

pub use access::{AwsService, AwsSettings};
pub use document::{OnNull, Operation};
pub use settings::{ElasticsearchSettings, Urls, open_over};
pub use tls::TlsSettings;
pub use wire::{Call, Reply, Wire};
