//! Answers Kafka clients from a log: the broker's side of Kafka's protocol, on one node.
//!
//! ```text
//! listener ─ connection ─ guard ─ apis ─┬─ what is asked of the log: metadata, produce, fetch, …
//!                                       ├─ groups: who reads what, and how far it has come
//!                                       └─ transactions: which writes of a producer count together
//! ```
//!
//! A request's bytes are walked by the shape of its message before anything is decoded from them. [`apis`] is the one
//! table of what is answered, in which versions and by whom.

// What comes over the wire.
mod call;
mod connection;
mod frame;
mod guard;
mod listener;
mod newer;
mod sending;
mod shapes;

// Who is asking.
mod security;

// Who answers.
mod apis;
mod broker;
mod broker_settings;
mod cluster;
mod configs;
mod fetch;
mod groups;
mod metadata;
mod names;
mod offsets;
mod produce;
mod producers;
mod records;
mod settings;
mod topic_partitions;
mod topics;
mod transactions;
mod versions;

pub use broker::{Broker, Counters, Host, Options, Served};
pub use groups::GroupSettings;
pub use listener::serve;
pub use security::Security;
pub use security::mechanism::Mechanism;
pub use security::oauth::OAuth;
pub use security::quotas::Quota;
pub use security::rights::{Of, Right, Rights};
pub use security::tls::{Naming, Tls};
pub use security::users::{Credentials, OTHERS, User, Users};
pub use transactions::TransactionSettings;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod worlds;
