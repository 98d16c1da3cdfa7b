//! Takes connections, as many as may be.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt as _;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::broker::Broker;
use crate::connection;
use crate::security::door::Door;
use crate::security::session::{Session, TO_BE_KNOWN};
use crate::security::stream::Stream;

/// How long to wait where the process has no file left for a connection.
const NO_FILE_LEFT: Duration = Duration::from_millis(100);
/// After how long without a word the system asks whether a client is still there, how often, and how long it waits each
/// time: one that is gone without a word is noticed within a minute.
const QUIET: Duration = Duration::from_secs(30);
const PROBES: u32 = 3;
const BETWEEN_PROBES: Duration = Duration::from_secs(10);

/// Serves whoever connects, until dropped: all connections end with it.
pub async fn serve(listener: TcpListener, broker: Arc<Broker>) {
    let door = Door::new(broker.options.connections, broker.options.connections_of_one);
    let mut connections = JoinSet::new();
    let watch = async { tokio::join!(broker.groups.watch(), broker.transactions.watch()) };
    let watch = std::pin::pin!(watch);
    let mut watch = watch.fuse();
    let certificate = std::pin::pin!(broker.security.watch_certificate());
    let mut certificate = certificate.fuse();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => match door.enter(peer.ip()) {
                    Some(place) => {
                        let broker = broker.clone();
                        connections.spawn(async move {
                            connected(&broker, stream, peer).await;
                            drop(place);
                        });
                    }
                    None => {
                        broker.counters.turned_away.fetch_add(1, Ordering::Relaxed);
                        tracing::debug!(%peer, "a Kafka client was turned away: there are too many connections");
                    }
                },
                Err(cause) => {
                    tracing::warn!(%cause, "no Kafka client can connect");
                    tokio::time::sleep(NO_FILE_LEFT).await;
                }
            },
            _ = &mut watch => {}
            () = &mut certificate => {}
            Some(ended) = connections.join_next() => {
                if let Err(cause) = ended {
                    tracing::error!(%cause, "a Kafka client's connection panicked");
                }
            }
        }
    }
}

/// A connection while it is open.
struct Open<'a>(&'a Broker);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.counters.open.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn connected(broker: &Arc<Broker>, stream: TcpStream, peer: SocketAddr) {
    // Answers are gathered here; the socket need not wait for more.
    let _ = stream.set_nodelay(true);
    let alive = TcpKeepalive::new().with_time(QUIET).with_interval(BETWEEN_PROBES).with_retries(PROBES);
    if let Err(cause) = SockRef::from(&stream).set_tcp_keepalive(&alive) {
        tracing::debug!(%peer, %cause, "nobody will notice when a Kafka client is gone without a word");
    }
    broker.counters.connections.fetch_add(1, Ordering::Relaxed);
    broker.counters.open.fetch_add(1, Ordering::Relaxed);
    let _open = Open(broker);
    let security = broker.security.get();
    // For TLS and all that follows it together.
    let due = Instant::now() + TO_BE_KNOWN;
    let (stream, name) = match &security.tls {
        None => (Stream::Plain(stream), None),
        Some(tls) => match timeout_at(due, tls.accept(stream)).await {
            Ok(Ok((stream, name))) => (Stream::Tls(Box::new(stream)), name),
            failed => {
                broker.counters.insecure.fetch_add(1, Ordering::Relaxed);
                let cause = failed.map_or_else(
                    |_| "not in time".to_owned(),
                    |failed| failed.err().map_or_else(String::new, |cause| cause.to_string()),
                );
                tracing::debug!(%peer, %cause, "no TLS with a Kafka client");
                return;
            }
        },
    };
    let host = format!("/{}", peer.ip()).into();
    let refused = broker.counters.refused.clone();
    let both = (broker.security.clone(), security);
    let session = Arc::new(Session::new(host, both, broker.edge.clone(), refused, name));
    if let Err(cause) = connection::serve(broker.clone(), session, stream, due).await {
        broker.counters.broken.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%peer, cause = %cause.0, "a Kafka client's connection was closed");
    }
}
