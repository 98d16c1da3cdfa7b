//! What each connector does right now, as people and metrics read it.

use aqueduct_record::Offset;
use schemars::JsonSchema;
use serde::Serialize;

/// Everything that the engine runs, by name.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Sources and sinks, by name.
    pub connectors: Vec<ConnectorStatus>,
    /// The memory that connectors share.
    pub budget: BudgetStatus,
}

/// The memory that connectors share, beyond the room that each has of its own.
#[derive(Clone, Debug, Serialize)]
pub struct BudgetStatus {
    /// Bytes that there are.
    pub bytes: u64,
    /// Bytes that are taken.
    pub taken: u64,
}

/// A source or a sink.
#[derive(Clone, Debug, Serialize)]
pub struct ConnectorStatus {
    /// Its name in the configuration.
    pub name: String,
    /// Source or sink.
    pub kind: Kind,
    /// Which kind of connector: what stands after `connector:`.
    pub connector: String,
    /// What it is doing.
    pub state: State,
    /// Why it is in a state that nobody asked for.
    pub reason: Option<String>,
    /// How often it was started again after a failure, since the engine started.
    pub restarts: u64,
    /// Records taken in and durable, or delivered, since the engine started.
    pub records: u64,
    /// Their bytes as stored.
    pub bytes: u64,
    /// Dead letters written since the engine started.
    pub dead_letters: u64,
    /// Failures that were tried again, since the engine started.
    pub retries: u64,
    /// Records skipped, loudly, because they were damaged or gone, since the engine started.
    pub lost: u64,
    /// The last failure, also when it has passed.
    pub last_error: Option<LastError>,
    /// The topics that it writes to or reads from.
    pub topics: Vec<String>,
    /// Streams with a position; sources only.
    pub streams: u64,
    /// Every partition that a sink delivers; sinks only.
    pub partitions: Vec<PartitionStatus>,
    /// Bytes read but not yet durable, or being delivered.
    pub in_flight_bytes: u64,
    /// When it last got something done, milliseconds since 1970; `None`: not since the engine started.
    pub progressed_at_ms: Option<i64>,
}

/// A failure.
#[derive(Clone, Debug, Serialize)]
pub struct LastError {
    /// What happened.
    pub message: String,
    /// When, milliseconds since 1970.
    pub at_ms: i64,
}

/// What kind of connector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Brings records in.
    Source,
    /// Takes records out.
    Sink,
}

/// Kafka Connect's states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// Not started yet.
    Unassigned,
    /// At work, or waiting for work.
    Running,
    /// Paused by a person, keeps its place.
    Paused,
    /// Stopped by a person, or a source that will never have more.
    Stopped,
    /// Failed; is tried again after a while.
    Failed,
    /// About to run again.
    Restarting,
}

impl State {
    /// The state's name as Kafka Connect spells it.
    pub fn name(self) -> &'static str {
        match self {
            State::Unassigned => "UNASSIGNED",
            State::Running => "RUNNING",
            State::Paused => "PAUSED",
            State::Stopped => "STOPPED",
            State::Failed => "FAILED",
            State::Restarting => "RESTARTING",
        }
    }
}

/// How far a sink is in one partition.
#[derive(Clone, Debug, Serialize)]
pub struct PartitionStatus {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset of the next record to deliver; `None`: nothing committed yet.
    pub committed: Option<Offset>,
    /// Where the chunks end that are being delivered.
    pub pinned: Vec<Offset>,
    /// The offset before which records can be read.
    pub end: Offset,
    /// How many offsets lie between `committed` and `end`.
    pub lag: u64,
    /// How long ago the engine saw the first record that is not delivered yet; 0: all are.
    pub chunk_age_ms: u64,
    /// Why this partition alone has stopped; a person has to rewind it or set it right.
    pub stopped: Option<String>,
}

/// What a rewind did, or would do, with a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rewound {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset that was next.
    pub from: Option<Offset>,
    /// The offset that is next now.
    pub to: Offset,
    /// How often the partition was rewound: what is written again carries it in its name.
    pub run: u32,
}

/// A partition whose pinned chunks were given up: what they had written may be written again in other chunks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unpinned {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset of the next record to deliver.
    pub committed: Offset,
    /// Where the pinned chunks ended.
    pub ends: Vec<Offset>,
}
