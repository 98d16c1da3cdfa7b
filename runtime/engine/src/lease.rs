//! The right of one run of a connector to append: void before the next run begins. A run that was ended may go on for a
//! while, so every append looks at its lease, and keeps it from being revoked until the append has its place.

use std::sync::Arc;

use aqueduct_api::fault::{Mutant, mutated};
use aqueduct_api::{Appended, At, Error, Result, Store, TopicPartition};
use aqueduct_record::Batch;
use tokio::runtime::Handle;
use tokio::sync::RwLock;

/// The right to append. Clones are the same right.
#[derive(Clone)]
pub(crate) struct Lease {
    store: Arc<dyn Store>,
    runtime: Handle,
    void: Arc<RwLock<bool>>,
}

impl Lease {
    /// A right that holds until it is revoked. To be made on the engine's runtime.
    pub(crate) fn new(store: &Arc<dyn Store>) -> Self {
        Lease { store: store.clone(), runtime: Handle::current(), void: Arc::default() }
    }

    /// Appends, unless the lease is void. What was begun is brought to its place even where the caller goes away:
    /// otherwise it might get it after the next run has looked at what is there.
    pub(crate) async fn append(&self, to: &TopicPartition, batch: Batch, at: At) -> Result<Appended> {
        let (store, void, to) = (self.store.clone(), self.void.clone(), to.clone());
        let placing = self.runtime.spawn(async move {
            let void = void.read().await;
            if *void && !mutated(Mutant::CommitAfterRevocation) {
                return Err(Error::fatal(format!("append to {to}: this run of the connector was ended")));
            }
            match store.append(&to, batch, at).await {
                // The batch is not to blame: it must not become dead letters.
                Err(error @ Error::Refused { .. }) if !is_there(&*store, &to).await? => {
                    Err(Error::fatal(error.to_string()))
                }
                appended => appended,
            }
        });
        placing.await.map_err(|cause| Error::fatal(format!("append: {cause}")))?
    }

    /// Makes the right void. On return nothing that was appended under it is without its place.
    pub(crate) async fn revoke(&self) {
        *self.void.write().await = true;
    }
}

async fn is_there(store: &dyn Store, of: &TopicPartition) -> Result<bool> {
    let topics = store.topics().await?;
    Ok(topics.iter().any(|topic| topic.name == of.topic && of.partition < topic.partitions))
}
