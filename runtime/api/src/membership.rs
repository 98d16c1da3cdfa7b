//! What a coordinator of groups keeps in the log besides offsets.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Committed, Result, Token, TopicPartition};

/// A log that also keeps who is in a group, for a coordinator whose members come from outside. It asks for a token like
/// everybody else who commits: so a group is either its own or somebody else's, never both.
#[async_trait]
pub trait Memberships: Send + Sync {
    /// Assigns the group to the caller, unless somebody else holds a token of it: `None` then.
    async fn claim(&self, group: &str) -> Result<Option<Token>>;

    /// Whether somebody holds a token of the group.
    fn is_claimed(&self, group: &str) -> bool;

    /// Saves who is in the group, durably; `None` forgets it. `Fatal` when `token` is void.
    async fn remember(&self, token: &Token, membership: Option<Membership>) -> Result<()>;

    /// Who was in the group when that was last saved.
    async fn remembered(&self, group: &str) -> Result<Option<Membership>>;

    /// Commits offsets in the transaction of a producer (its id and epoch), durably: they hold once that is committed, unless
    /// something else was committed for the same partition after them. `Fatal` when `token` is void, `Refused` with a
    /// [`crate::ProducerError`] where the producer was replaced.
    async fn commit_in_transaction(
        &self,
        token: &Token,
        producer: (i64, i16),
        offsets: Vec<(TopicPartition, Committed)>,
    ) -> Result<()>;

    /// Where offsets of the group wait for the outcome of a transaction.
    async fn undecided(&self, group: &str) -> Result<BTreeSet<TopicPartition>>;

    /// When each of the group's offsets was committed, in milliseconds since 1970.
    async fn committed_at(&self, group: &str) -> Result<BTreeMap<TopicPartition, i64>>;
}

/// Who is in a group, as Kafka saves it (`GroupMetadataValue.json`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// What the members have in common, such as `consumer`; empty where there never was one.
    pub protocol_type: String,
    /// Rises with every change of members.
    pub generation: i32,
    /// The way of sharing the work that they chose.
    pub protocol: Option<String>,
    /// The member that assigns.
    pub leader: Option<String>,
    /// Since when it is as it is, in milliseconds since 1970; -1 where unknown.
    pub since: i64,
    /// The members; none: the group is empty.
    pub members: Vec<Member>,
}

/// One member of a group, as it is saved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// As the group gave it.
    pub id: String,
    /// What a static member calls itself.
    pub instance_id: Option<String>,
    /// How its client calls itself.
    pub client_id: String,
    /// Where its client is.
    pub client_host: String,
    /// How long it may take to join again, in milliseconds; -1: as long as it may be silent.
    pub rebalance_timeout: i32,
    /// How long it may be silent, in milliseconds.
    pub session_timeout: i32,
    /// What it said of itself.
    pub subscription: Bytes,
    /// What it is to do.
    pub assignment: Bytes,
}
