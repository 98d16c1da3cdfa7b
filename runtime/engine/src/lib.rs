//! Runs sources and sinks over a log, so that nothing is lost and nothing doubled.
//!
//! Two straight loops: ingest `source.read → transforms → log.append (position inside) → answer`, and deliver
//! `pin → log.read → transforms → sink.write → commit`. No acknowledgement crosses the log. The engine knows no connector
//! and no log: it gets both through the contracts of `aqueduct-api`.

mod plan;
mod start;
mod status;
mod supervisor;

mod check;
mod counters;
mod host;
mod letters;
mod replay;
mod rewind;

mod budget;
mod holds;
mod incarnations;
mod kept;
mod lease;
mod retry;
mod settings_by_digest;
mod table;
mod transforms;

mod early;
mod flight;
mod ingest;
mod intake;
mod placing;
mod positions;
mod rides;
mod saving;
mod streams;

mod burial;
mod commits;
mod content;
mod dead_letters;
mod deliver;
mod glob;
mod opened;
mod partition;
mod pin;
mod ripeness;
mod takeover;
mod work;
mod writes;

pub use plan::{ChunkPlan, DeadLetterPlan, Plan, RetryPlan, SinkPlan, SourcePlan, TopicPlan, TransformPlan};
pub use replay::{LetterCounts, ReasonCount, Replay, Settled, count_letters, discard_letters, replay_letters};
pub use start::{RewindTo, Start};
pub use status::{BudgetStatus, ConnectorStatus, Kind, LastError, PartitionStatus, Rewound, State, Status, Unpinned};
pub use supervisor::{Engine, Parts, Resolve};
pub use transforms::Transforms;
