//! What is asked of a group, and what comes of it.

use aqueduct_api::Membership;
use bytes::Bytes;
use kafka_protocol::ResponseError;

/// Milliseconds on a clock that only rises.
pub(crate) type Millis = u64;

/// By what an answer that comes later is known: chosen by whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(pub(crate) u64);

/// One way of sharing the work that a member knows, and what it says of itself for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Protocol {
    /// Its name, such as `range`.
    pub(crate) name: String,
    /// For the leader; opaque here.
    pub(crate) metadata: Bytes,
}

/// A JoinGroup request.
#[derive(Clone, Debug)]
pub(crate) struct Join {
    /// Empty when it has none yet.
    pub(crate) member_id: String,
    /// What a static member calls itself.
    pub(crate) instance_id: Option<String>,
    /// How the client calls itself.
    pub(crate) client_id: String,
    /// Where it is.
    pub(crate) client_host: String,
    /// How long it may be silent.
    pub(crate) session_timeout: Millis,
    /// How long it may take to join again.
    pub(crate) rebalance_timeout: Millis,
    /// What the members have in common, such as `consumer`.
    pub(crate) protocol_type: String,
    /// In the order of its preference.
    pub(crate) protocols: Vec<Protocol>,
    /// The id that it gets where it has none.
    pub(crate) fresh_id: String,
    /// Whether it has to come back with its id before it counts (KIP-394).
    pub(crate) needs_id: bool,
    /// Whether a leader can be told to assign nothing (KIP-814).
    pub(crate) may_skip: bool,
}

/// A SyncGroup request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sync {
    /// Who asks.
    pub(crate) who: Claimed,
    /// Checked where it is said.
    pub(crate) protocol_type: Option<String>,
    /// Checked where it is said.
    pub(crate) protocol: Option<String>,
    /// Who gets what, from the leader.
    pub(crate) assignments: Vec<(String, Bytes)>,
}

/// Who somebody says it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claimed {
    /// As the group gave it.
    pub(crate) member_id: String,
    /// What a static member calls itself.
    pub(crate) instance_id: Option<String>,
    /// In which it believes to be.
    pub(crate) generation: i32,
}

/// A group that was joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Joined {
    /// The generation.
    pub(crate) generation: i32,
    /// What the members have in common.
    pub(crate) protocol_type: Option<String>,
    /// The way of sharing that was chosen.
    pub(crate) protocol: Option<String>,
    /// The member that assigns.
    pub(crate) leader: String,
    /// Whether the leader is to assign nothing.
    pub(crate) skip_assignment: bool,
    /// The id of who asked.
    pub(crate) member_id: String,
    /// All members, for the leader: id, instance id, metadata.
    pub(crate) members: Vec<(String, Option<String>, Bytes)>,
}

/// A join that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Why.
    pub(crate) error: ResponseError,
    /// The id that the member is told.
    pub(crate) member_id: String,
}

/// What a member is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Synced {
    /// What the members have in common.
    pub(crate) protocol_type: Option<String>,
    /// The way of sharing that was chosen.
    pub(crate) protocol: Option<String>,
    /// From the leader.
    pub(crate) assignment: Bytes,
}

/// What has to be done outside.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    /// A join is answered.
    Joined(Ticket, Result<Joined, Refused>),
    /// A sync is answered.
    Synced(Ticket, Result<Synced, ResponseError>),
    /// This is to be saved, after what was to be saved before, and the group told how it went.
    Save(Stamp, Membership),
}

/// Which save: they rise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp(pub(crate) u64);
