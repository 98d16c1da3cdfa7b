//! Groups of consumers: who reads which partitions, and how far each group has come.

mod acting;
mod coordinator;
mod group;
pub(crate) mod groups_apis;
mod joining;
mod leaving;
mod member;
pub(crate) mod members_apis;
pub(crate) mod offsets_apis;
mod rebalance;
mod request;
mod retention;
mod subscription;
mod taken;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod transactional_apis;
mod wanted;
mod writes;

pub use coordinator::GroupSettings;

pub(crate) use coordinator::Coordinator;
