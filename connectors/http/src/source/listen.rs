//! Accepts connections, within limits, until it is told to stop.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_api::{Error, Result, SourceOpening};
use aqueduct_tls::{ClientCertificates, Files, ServerTls};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::source::patience::Patient;
use crate::source::serve::Service;
use crate::source::settings::HttpSourceSettings;

/// How long connections may take to end when the source stops.
const STOP: Duration = Duration::from_secs(10);
/// How long to try to get an address that a source before this one may be about to leave.
const BIND: Duration = Duration::from_secs(3);
/// The most bytes of a request's headers.
const HEADERS: usize = 32 << 10;
/// The most headers of a request.
const MOST_HEADERS: usize = 100;

/// Takes the address.
pub(crate) async fn bind(settings: &HttpSourceSettings) -> Result<TcpListener> {
    let address = settings.address().map_err(|why| Error::fatal(format!("setting listen: {why}")))?;
    let begun = tokio::time::Instant::now();
    loop {
        let bound = TcpListener::bind(address).and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
        match bound {
            Ok(listener) => return Ok(listener),
            Err(cause) if cause.kind() == io::ErrorKind::AddrInUse && begun.elapsed() < BIND => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(cause) => {
                let told = format!("setting listen: {address}: {cause}");
                return Err(match cause.kind() {
                    io::ErrorKind::PermissionDenied | io::ErrorKind::AddrNotAvailable => Error::fatal(told),
                    _ => Error::retry(told),
                });
            }
        }
    }
}

/// Looks whether the address and the certificates can be had.
pub(crate) async fn probe(settings: &HttpSourceSettings, opening: &SourceOpening) -> Result<Vec<String>> {
    acceptor(settings.tls.as_ref(), opening).await?;
    let address = settings.address().map_err(|why| Error::fatal(format!("setting listen: {why}")))?;
    match TcpListener::bind(address) {
        Ok(_) => Ok(Vec::new()),
        Err(cause) if cause.kind() == io::ErrorKind::AddrInUse => {
            Ok(vec![format!("{address} is in use, which is as it should be where this source runs already")])
        }
        Err(cause) => Err(Error::fatal(format!("setting listen: {address}: {cause}"))),
    }
}

/// What makes connections secure.
pub(crate) async fn acceptor(tls: Option<&ServerTls>, opening: &SourceOpening) -> Result<Option<TlsAcceptor>> {
    let Some(tls) = tls else { return Ok(None) };
    let files = Files::read(tls, &opening.edge, &opening.folder).await?;
    let mut config = files.config(ClientCertificates::Required)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

/// Serves until `stop` says so; whatever way it ends, nobody is left waiting.
pub(crate) async fn serve(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    service: Arc<Service>,
    mut stop: watch::Receiver<bool>,
) {
    let _gone = Gone(service.clone());
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(cause) => return tracing::error!(%cause, "no connections can be accepted"),
    };
    let free = Arc::new(Semaphore::new(service.settings.connections as usize));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            // Whether it was told or whoever tells is gone.
            _ = stop.changed() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = accept(&listener, &free) => accepted,
        };
        let (stream, turn) = match accepted {
            Ok(accepted) => accepted,
            Err(cause) => {
                tracing::warn!(%cause, "a connection is not accepted");
                // Too many open files, mostly: trying at once would spin.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Answers are small and waited for.
        let _ = stream.set_nodelay(true);
        let (service, acceptor, stop) = (service.clone(), acceptor.clone(), stop.clone());
        connections.spawn(async move {
            let _turn = turn;
            match acceptor {
                None => connection(stream, service, stop).await,
                Some(acceptor) => {
                    let limit = service.settings.header_timeout.duration().unwrap_or(STOP);
                    match tokio::time::timeout(limit, acceptor.accept(stream)).await {
                        Ok(Ok(stream)) => connection(stream, service, stop).await,
                        Ok(Err(cause)) => tracing::debug!(%cause, "no TLS"),
                        Err(_) => tracing::debug!("no TLS in time"),
                    }
                }
            }
        });
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP, ended).await.is_err() {
        tracing::warn!("connections are cut off: they did not end in time");
    }
}

async fn accept(
    listener: &tokio::net::TcpListener,
    free: &Arc<Semaphore>,
) -> io::Result<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let turn = free.clone().acquire_owned().await.map_err(io::Error::other)?;
    listener.accept().await.map(|(stream, _)| (stream, turn))
}

/// Serves one connection until it ends, or the source stops and what is under way is answered.
async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    service: Arc<Service>,
    mut stop: watch::Receiver<bool>,
) {
    let timeout = service.settings.header_timeout.duration();
    let respond = service_fn(move |request| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(service.answer(request).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(timeout).max_headers(MOST_HEADERS).max_buf_size(HEADERS);
    let stream = Patient::new(stream, timeout.unwrap_or(STOP));
    let connection = builder.serve_connection(TokioIo::new(stream), respond);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stop.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(cause) = ended {
        tracing::debug!(%cause, "a connection failed");
    }
}

/// Tells the engine's side that nobody listens any more.
struct Gone(Arc<Service>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.intake.queue.close();
    }
}
