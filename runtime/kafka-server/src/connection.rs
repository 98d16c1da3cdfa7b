//! One connection: requests are taken in the order in which they come, and answered in that order.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aqueduct_api::Records;
use bytes::Bytes;
use kafka_protocol::messages::ApiKey;
use tokio::io::{AsyncWriteExt, BufReader, BufWriter};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use crate::apis::{Api, api};
use crate::broker::Broker;
use crate::call::{Broken, Call, Caller, Reply};
use crate::frame::{self, Frame, Taken};
use crate::guard::{self, Walk};
use crate::security::session::Session;
use crate::security::stream::{Reader, Stream, Writer};
use crate::sending;
use crate::shapes::{Shape, shape_of};
use crate::versions;

/// Requests of one connection that are taken before the first of them is answered. A Java producer has five.
const PIPELINED: usize = 16;
/// Small frames are gathered, large ones pass by.
const BUFFER: usize = 4 << 10;
/// How long a client may take none of an answer's next bytes.
const NOT_READING: Duration = Duration::from_secs(30);
/// Bytes that are handed to the socket at once.
const STRETCH: usize = 256 << 10;

/// An answer that waits for its turn, with what its request holds.
type Waiting = (Reply, Taken);

/// Serves one client until it goes, or does what ends a connection, or has not said by `due` who it is.
pub(crate) async fn serve(
    broker: Arc<Broker>,
    session: Arc<Session>,
    stream: Stream,
    due: Instant,
) -> Result<(), Broken> {
    let (reader, writer) = stream.split();
    let (answers, waiting) = mpsc::channel(PIPELINED);
    let served =
        async { tokio::try_join!(take(&broker, &session, reader, answers), give(&broker, writer, waiting)).map(drop) };
    tokio::select! {
        served = served => served,
        () = unknown_for_too_long(&broker, &session, due) => Err(Broken("it did not say in time who it is".to_owned())),
    }
}

/// Ends when a client should have said who it is, and has not.
async fn unknown_for_too_long(broker: &Broker, session: &Session, due: Instant) {
    if session.known().is_none() {
        sleep_until(due).await;
    }
    match session.known() {
        Some(_) => std::future::pending().await,
        None => drop(broker.counters.silent.fetch_add(1, Ordering::Relaxed)),
    }
}

async fn take(
    broker: &Arc<Broker>,
    session: &Arc<Session>,
    reader: Reader,
    answers: mpsc::Sender<Waiting>,
) -> Result<(), Broken> {
    let mut reader = BufReader::with_capacity(BUFFER, reader);
    loop {
        let (limits, room) = match session.known() {
            Some(_) => (&broker.limits, &broker.room),
            None => (&broker.lobby.0, &broker.lobby.1),
        };
        let Some(Frame { bytes, room }) = frame::read(&mut reader, limits, room).await? else { return Ok(()) };
        let reply = match session.is_raw() {
            true => Reply::Now(session.raw(&bytes).await?),
            false => answer(broker, session, bytes).await?,
        };
        if answers.send((reply, room)).await.is_err() || session.is_over() {
            return Ok(());
        }
        if let Some(until) = session.held_until() {
            broker.counters.throttled.fetch_add(1, Ordering::Relaxed);
            sleep_until(until).await;
        }
    }
}

async fn give(broker: &Broker, writer: Writer, mut waiting: mpsc::Receiver<Waiting>) -> Result<(), Broken> {
    let mut writer = BufWriter::with_capacity(BUFFER, writer);
    while let Some((reply, _room)) = waiting.recv().await {
        let reply = match reply {
            Reply::Later(reply) => {
                // What is answered already does not wait for what is not.
                in_time(writer.flush()).await?;
                reply.await?
            }
            reply => reply,
        };
        let (pieces, _held) = match reply {
            Reply::Now(frame) => (vec![Records::Bytes(frame)], None),
            Reply::Pieces(pieces, held) => (pieces, held),
            Reply::Later(_) | Reply::Nothing => continue,
        };
        for piece in &pieces {
            match piece {
                Records::Bytes(bytes) => {
                    for stretch in bytes.chunks(STRETCH) {
                        in_time(writer.write_all(stretch)).await?;
                    }
                }
                Records::File(part) => sending::send(broker, &mut writer, part).await?,
            }
        }
        if waiting.is_empty() {
            in_time(writer.flush()).await?;
        }
    }
    in_time(writer.flush()).await
}

/// What comes of writing, unless the client takes nothing for too long.
pub(crate) async fn in_time<T>(written: impl Future<Output = std::io::Result<T>>) -> Result<T, Broken> {
    match timeout(NOT_READING, written).await {
        Ok(Ok(written)) => Ok(written),
        Ok(Err(cause)) => Err(Broken(format!("it broke off: {cause}"))),
        Err(_) => Err(Broken("answers were not read for too long".to_owned())),
    }
}

/// The answer to one frame.
async fn answer(broker: &Arc<Broker>, session: &Arc<Session>, frame: Bytes) -> Result<Reply, Broken> {
    match opened(&frame, session)? {
        Opened::Asked(api, call) => {
            let Caller { version, client, host, principal, .. } = &call.caller;
            tracing::trace!(api = ?call.key, version, %client, %host, %principal, "asked by a Kafka client");
            (api.answer)(broker.clone(), call).await
        }
        Opened::Unversioned(call) => call.reply(&versions::refused()),
    }
}

enum Opened {
    /// A request that has a row in the table, and whose body is what its shape says.
    Asked(&'static Api, Call),
    /// ApiVersions in a version that is not known here: answered in version 0, so that the client may choose another.
    Unversioned(Call),
}

fn opened(frame: &Bytes, session: &Arc<Session>) -> Result<Opened, Broken> {
    let mut walk = Walk { rest: frame, version: 0, is_flexible: false, elements: 0 };
    let (key, version, correlation) = (walk.short()?, walk.short()?, walk.int()?);
    let unknown = || Broken(format!("API {key} version {version} is not supported"));
    let (api, shape) = api(key).and_then(|api| Some((api, shape_of(api.key)?))).ok_or_else(unknown)?;
    let principal = session.asks(api.key)?;
    let caller = |version, client: Option<String>| Caller {
        version,
        client: client.unwrap_or_default().into(),
        host: session.host.clone(),
        principal: principal.clone(),
        session: session.clone(),
        needs: api.needs,
    };
    if !api.versions.contains(&version) {
        if api.key == ApiKey::ApiVersions {
            let call = Call { key: api.key, correlation, caller: caller(0, None), body: Bytes::new() };
            return Ok(Opened::Unversioned(call));
        }
        return Err(unknown());
    }
    let malformed = |cause: Broken| Broken(format!("{:?} version {version}: {}", api.key, cause.0));
    let client = header(&mut walk, shape, version).map_err(malformed)?;
    let body = walk.rest;
    guard::check(shape, version, body).map_err(malformed)?;
    let body = frame.slice_ref(body);
    Ok(Opened::Asked(api, Call { key: api.key, correlation, caller: caller(version, client), body }))
}

/// The rest of a header: how the client calls itself.
fn header(walk: &mut Walk<'_>, shape: &Shape, version: i16) -> Result<Option<String>, Broken> {
    let client = walk.short_text()?.map(|name| String::from_utf8_lossy(name).into_owned());
    if version >= shape.flexible {
        (walk.version, walk.is_flexible) = (version, true);
        walk.structure(&[])?;
    }
    Ok(client)
}
