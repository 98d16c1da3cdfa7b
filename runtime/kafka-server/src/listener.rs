//! Takes connections, as many as may be.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::broker::Broker;
use crate::connection::{self, Peer};
use crate::security::principal::Principal;
use crate::security::stream::Stream;

/// How long to wait where the process has no file left for a connection.
const NO_FILE_LEFT: Duration = Duration::from_millis(100);

/// Serves whoever connects, until dropped: all connections end with it.
pub async fn serve(listener: TcpListener, broker: Arc<Broker>) {
    let places = Arc::new(Semaphore::new(broker.options.connections));
    let mut connections = JoinSet::new();
    let watch = std::pin::pin!(futures::future::join(broker.groups.watch(), broker.transactions.watch()));
    let mut watch = watch.fuse();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => match places.clone().try_acquire_owned() {
                    Ok(place) => {
                        let broker = broker.clone();
                        connections.spawn(async move {
                            connected(&broker, stream, peer).await;
                            drop(place);
                        });
                    }
                    Err(_) => {
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
            Some(ended) = connections.join_next() => {
                if let Err(cause) = ended {
                    tracing::error!(%cause, "a Kafka client's connection panicked");
                }
            }
        }
    }
}

async fn connected(broker: &Arc<Broker>, stream: TcpStream, peer: std::net::SocketAddr) {
    // Answers are gathered here; the socket need not wait for more.
    let _ = stream.set_nodelay(true);
    broker.counters.connections.fetch_add(1, Ordering::Relaxed);
    let at = Peer { host: format!("/{}", peer.ip()).into(), principal: Principal::anonymous() };
    if let Err(cause) = connection::serve(broker.clone(), at, Stream::Plain(stream)).await {
        broker.counters.broken.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%peer, cause = %cause.0, "a Kafka client's connection was closed");
    }
}
