//! One member of a group.

use std::collections::BTreeSet;

use aqueduct_api::Member as Saved;
use bytes::Bytes;

use super::request::{Join, Millis, Protocol, Ticket};

/// One member of a group.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// As the group gave it.
    pub(crate) id: String,
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
    /// In the order of its preference.
    pub(crate) protocols: Vec<Protocol>,
    /// From the leader of the last generation that it was told of.
    pub(crate) assignment: Bytes,
    /// When it counts as gone unless it is heard of.
    pub(crate) until: Millis,
    /// Whether it has never been told of a generation: it can not send heartbeats yet, so a wait for an answer does not keep it.
    pub(crate) is_new: bool,
    /// The join that waits for its answer.
    pub(crate) joining: Option<Ticket>,
    /// The sync that waits for its answer.
    pub(crate) syncing: Option<Ticket>,
}

impl Member {
    /// A member that joins for the first time.
    pub(crate) fn new(id: String, join: Join, until: Millis) -> Self {
        Member {
            id,
            instance_id: join.instance_id,
            client_id: join.client_id,
            client_host: join.client_host,
            session_timeout: join.session_timeout,
            rebalance_timeout: join.rebalance_timeout,
            protocols: join.protocols,
            assignment: Bytes::new(),
            until,
            is_new: true,
            joining: None,
            syncing: None,
        }
    }

    /// A member as it was saved, which is heard of now.
    pub(crate) fn load(saved: Saved, protocol: &str, now: Millis) -> Self {
        let session_timeout = Millis::try_from(saved.session_timeout).unwrap_or(0);
        Member {
            id: saved.id,
            instance_id: saved.instance_id,
            client_id: saved.client_id,
            client_host: saved.client_host,
            session_timeout,
            rebalance_timeout: Millis::try_from(saved.rebalance_timeout).unwrap_or(session_timeout),
            protocols: vec![Protocol { name: protocol.to_owned(), metadata: saved.subscription }],
            assignment: saved.assignment,
            until: now + session_timeout,
            is_new: false,
            joining: None,
            syncing: None,
        }
    }

    /// What is saved of it under the protocol that was chosen.
    pub(crate) fn save(&self, protocol: Option<&str>, assignment: Bytes) -> Saved {
        Saved {
            id: self.id.clone(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            session_timeout: i32::try_from(self.session_timeout).unwrap_or(i32::MAX),
            rebalance_timeout: i32::try_from(self.rebalance_timeout).unwrap_or(i32::MAX),
            subscription: protocol.map(|protocol| self.metadata(protocol)).unwrap_or_default(),
            assignment,
        }
    }

    /// What it says of itself for a protocol.
    pub(crate) fn metadata(&self, protocol: &str) -> Bytes {
        let known = self.protocols.iter().find(|known| known.name == protocol);
        known.map(|known| known.metadata.clone()).unwrap_or_default()
    }

    /// The protocols that it knows.
    pub(crate) fn known(&self) -> BTreeSet<&str> {
        self.protocols.iter().map(|protocol| &*protocol.name).collect()
    }

    /// Whether it stays though it was silent: it waits for an answer, which is not its fault.
    pub(crate) fn waits(&self) -> bool {
        !self.is_new && (self.joining.is_some() || self.syncing.is_some())
    }

    /// It was heard of.
    pub(crate) fn heard(&mut self, now: Millis) {
        self.until = now + self.session_timeout;
    }
}
