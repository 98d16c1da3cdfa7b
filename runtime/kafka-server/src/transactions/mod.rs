//! Transactions: which producer has which transactional id, and how what it writes in a transaction ends.

pub(crate) mod admin_apis;
pub(crate) mod apis;
mod coordinator;
mod ending;
mod entry;
mod kept;
mod markers;
mod records;
mod request;
#[cfg(test)]
mod tests;
mod transaction;

pub use coordinator::TransactionSettings;

pub(crate) use apis::OFFSETS;
pub(crate) use coordinator::{Coordinator, Permit};
pub(crate) use ending::OWN_EPOCHS;
pub(crate) use request::Who;
