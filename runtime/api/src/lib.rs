//! The contracts of Aqueduct: what a log, a source and a sink are, and what they get from the outside. Read this first.
//!
//! - [`Log`], [`Topics`] and [`Groups`]: where records are kept, and how far each reader has come.
//! - [`Memberships`]: who is in which group, for a coordinator whose members come from outside.
//! - [`Producers`]: what a log remembers of those who write to it with sequence numbers.
//! - [`Transactions`]: how what they write in transactions ends, and what readers see of it.
//! - [`Stretches`]: records where they lie, for those who pass them on.
//! - [`Kept`]: what a log takes, and how one is rid of records, for those who look after it from outside.
//! - [`Source`] and [`Sink`]: one system each; they know no log, no offset store, no retry and no schedule.
//! - [`Transform`]: what records go through on their way, pure.
//! - [`Settings`], [`SourceSettings`], [`SinkSettings`], [`TransformSettings`] and the [`Registry`]: how one is declared
//!   and opened.
//! - [`Edge`]: disk, clock, threads and chance, so that a whole run with faults can be replayed from one seed.
//! - [`Error`]: what the engine does next.
//!
//! What exists is open: there is no init, start or flush. Stopping is dropping the future of [`Source::read`], and a
//! signal that [`Sink::write`] is given time to answer; `Drop` only frees memory.

pub mod buffers;
pub mod disk;
pub mod edge;
mod error;
pub mod fault;
pub mod field;
mod kept;
pub mod line;
mod log;
mod membership;
mod placeholder;
mod producer;
mod registry;
mod replayed;
mod settings;
mod sink;
mod source;
mod stretch;
pub mod template;
mod topic;
mod transaction;
mod transform;
mod units;

#[cfg(feature = "conformance")]
pub mod conformance;

pub use disk::{Disk, File};
pub use edge::Edge;
pub use error::{Cause, Error, Result, add_causes};
pub use kept::{Kept, OnDisk};
pub use log::{Appended, At, Bounds, Committed, Durable, Groups, Limit, Log, Measured, Read, Store, Token};
pub use membership::{Member, Membership, Memberships};
pub use producer::{Producer, ProducerError, Producers};
pub use registry::{Described, Registry, SinkConnector, SourceConnector, TransformKind};
pub use replayed::{REPLAYED_HEADER, Replayed};
pub use settings::{
    NamedBy, Problem, Settings, SinkOpening, SinkSettings, SourceOpening, SourceSettings, TransformOpening,
    TransformSettings, Trial,
};
pub use sink::{Batches, Chunk, ChunkBatch, ChunkRecords, Content, Made, Outcome, Rejected, Sink};
pub use source::{DeadLetter, Done, Incoming, Position, Source, Stream};
pub use stretch::{Part, Records, Stretch, Stretches, Watch, Watcher};
pub use topic::{CleanupPolicy, Durability, Hold, Topic, TopicId, TopicPartition, TopicSettings, Topics};
pub use transaction::{Aborted, Isolation, Marker, ReadBatches, Transactions};
pub use transform::{Draft, DraftHeader, Transform, Transformed, Unfit};
pub use units::{ByteSize, Secret, Span};

/// The header in which a source's position rides with its data, as JSON `[source, stream, position, sequence]`: on
/// the last record of a batch. Sinks and transforms never see it.
pub const POSITION_HEADER: &str = "aqueduct.position";
