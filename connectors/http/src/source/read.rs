//! Hands what clients sent to the engine, while a thread of its own serves them.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use aqueduct_api::{Error, Incoming, Result, Source, SourceOpening, Span};
use async_trait::async_trait;
use tokio::sync::{Semaphore, watch};

use crate::source::access::Access;
use crate::source::body::Limits;
use crate::source::intake::Intake;
use crate::source::listen;
use crate::source::queue::{Held, Queue};
use crate::source::serve::Service;
use crate::source::settings::HttpSourceSettings;

/// Takes records from HTTP clients.
pub(crate) struct HttpSource {
    queue: Arc<Queue>,
    /// Dropped or told, it stops those who serve.
    stop: watch::Sender<bool>,
    address: std::net::SocketAddr,
}

impl HttpSource {
    /// Begins to listen.
    pub(crate) async fn open(settings: HttpSourceSettings, opening: SourceOpening) -> Result<Self> {
        let acceptor = listen::acceptor(settings.tls.as_ref(), &opening).await?;
        let listener = listen::bind(&settings).await?;
        let address = listener.local_addr().map_err(|cause| Error::retry(format!("setting listen: {cause}")))?;
        let within = |span: Span| span.duration().unwrap_or_default();
        let queue = Arc::new(Queue::new(within(settings.queue_wait)));
        let service = Service {
            edge: opening.edge.clone(),
            access: Access::new(settings.authentication.as_ref()),
            limits: Limits {
                largest: settings.largest_body.0 as usize,
                largest_inflated: settings.largest_inflated.0 as usize,
                timeout: within(settings.body_timeout),
            },
            held: Held::new(settings.held.0),
            intake: Intake {
                queue: queue.clone(),
                batch: opening.batch.0 as usize,
                largest: opening.largest.0 as usize,
                timeout: within(settings.answer_timeout),
                turn: AtomicU64::new(0),
            },
            turns: Arc::new(Semaphore::new(settings.requests as usize)),
            settings,
        };
        let (stop, stopped) = watch::channel(false);
        let serve = listen::serve(listener, acceptor, Arc::new(service), stopped);
        // It outlives the source until what is under way is answered, so its end is not waited for.
        let _served = opening.edge.threads.connector(&format!("{} http", opening.name), Box::pin(serve));
        tracing::info!(source = opening.name, %address, "listening");
        Ok(HttpSource { queue, stop, address })
    }
}

#[async_trait]
impl Source for HttpSource {
    async fn read(&mut self) -> Result<Option<Incoming>> {
        match self.queue.next().await {
            Some(incoming) => Ok(Some(incoming)),
            None => Err(Error::retry(format!("nobody listens on {} any more", self.address))),
        }
    }
}

impl Drop for HttpSource {
    fn drop(&mut self) {
        self.queue.close();
        let _ = self.stop.send(true);
    }
}
