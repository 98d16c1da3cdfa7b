//! The sink that writes objects, to S3, to any store that speaks its protocol, or to a folder; and the source that reads
//! them.
//!
//! A chunk becomes one object, or one for each path that its records name. What makes it exactly once: an object's name
//! comes from offsets, it carries its topic's id, it becomes visible whole, and one that is there is kept. The source
//! reads each version of an object once: how far it has come is a position of fixed size.

mod access;
mod address;
mod ahead;
mod answers;
mod arriving;
mod avro;
mod avro_read;
mod avro_schema;
mod avro_values;
mod body;
mod bucket;
mod cells;
mod clock;
mod columns;
mod compressor;
mod condition;
mod csv;
mod decode;
mod encoder;
mod expect;
mod fed;
mod fence;
mod fill;
mod finished;
mod firehose;
mod folder;
mod format;
mod gather;
mod infer;
mod inflate;
mod instant;
mod keys;
mod layout;
mod learn;
mod levels;
mod lines;
mod listing;
mod naming;
mod parquet;
mod parquet_cells;
mod parquet_levels;
mod parquet_ranges;
mod parquet_read;
mod parquet_room;
mod protection;
mod reading;
mod role;
mod row;
mod rows;
mod scalar;
mod schema;
mod settings;
mod shape;
mod sink;
mod sketch;
mod source;
mod source_settings;
mod spill;
mod split;
mod store;
mod table;
mod tabular;
mod template;
mod thrift;

use std::sync::Arc;

use aqueduct_api::{Error, Result, Sink, SinkOpening, Source, SourceOpening};

use address::Address;
use sink::ObjectSink;
use source::ObjectSource;
use store::StoreBucket;

pub use cells::TakenColumns;
pub use compressor::Compression;
pub use csv::CsvStyle;
pub use format::Format;
pub use naming::ConfluentLayout;
pub use protection::{Acl, Checksum, Encryption};
pub use role::Role;
pub use row::RecordColumns;
pub use schema::{Field, Kind};
pub use settings::S3Settings;
pub use source_settings::{Archived, Csv, ObjectFormat, ObjectHeader, S3SourceSettings};
pub use store::PartStore;

/// Opens the sink over a store that the caller made, as the simulation does; of the settings' url only bucket and prefix
/// count.
///
/// # Errors
/// `Fatal` when the settings name no bucket or make no sense.
pub fn open_over(settings: &S3Settings, opening: &SinkOpening, store: Arc<dyn PartStore>) -> Result<Box<dyn Sink>> {
    let Address::Bucket { bucket, prefix } = settings.address()? else {
        return Err(Error::fatal(format!("setting url: {} is no bucket", settings.url)));
    };
    let bucket = StoreBucket::new(store, &bucket, &prefix, settings);
    Ok(Box::new(ObjectSink::new(settings, opening, Arc::new(bucket))?))
}

/// Opens the source over a store that the caller made; of the settings' url only bucket and prefix count.
///
/// # Errors
/// `Fatal` when the settings make no sense or the saved position is not the source's own.
pub fn open_source_over(
    settings: S3SourceSettings,
    opening: SourceOpening,
    store: Arc<dyn PartStore>,
) -> Result<Box<dyn Source>> {
    Ok(Box::new(ObjectSource::open(settings, opening, store)?))
}
