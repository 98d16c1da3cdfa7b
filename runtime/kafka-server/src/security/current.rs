//! How clients come to be known as it is now: it may change while they are connected.

use std::sync::Arc;

use tokio::sync::watch;

use super::Security;

/// What holds now. Clones are the same.
#[derive(Clone)]
pub(crate) struct Current(Arc<watch::Sender<Arc<Security>>>);

impl Current {
    /// What holds at first.
    pub(crate) fn new(security: Security) -> Self {
        Current(Arc::new(watch::Sender::new(Arc::new(security))))
    }

    /// What holds now.
    pub(crate) fn get(&self) -> Arc<Security> {
        self.0.borrow().clone()
    }

    /// Returns once something else holds than `before`.
    pub(crate) async fn changed(&self, before: &Arc<Security>) {
        let mut changes = self.0.subscribe();
        // Its sender is here.
        let _ = changes.wait_for(|now| !Arc::ptr_eq(now, before)).await;
    }

    /// Goes by something else from now on.
    pub(crate) fn change(&self, security: Security) {
        self.0.send_replace(Arc::new(security));
    }

    /// Keeps the certificate current, where there is one, whichever that is.
    pub(crate) async fn watch_certificate(&self) {
        let mut changes = self.0.subscribe();
        loop {
            let tls = changes.borrow_and_update().tls.clone();
            let watching = async {
                match tls {
                    Some(tls) => tls.watch().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = watching => {}
                // Its sender is here.
                _ = changes.changed() => {}
            }
        }
    }
}
