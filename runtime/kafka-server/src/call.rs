//! One request of one connection, and what becomes of it.

use std::sync::Arc;

use aqueduct_api::{Error, Records};
use bytes::{BufMut, Bytes, BytesMut};
use futures::future::BoxFuture;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{ApiKey, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::newer;
use crate::security::principal::Principal;
use crate::security::rights::{Need, Operation, Resource};
use crate::security::session::Session;

/// A request whose frame has been checked.
pub(crate) struct Call {
    /// Which API.
    pub(crate) key: ApiKey,
    /// What the answer is known by.
    pub(crate) correlation: i32,
    /// Who asks, and in which version.
    pub(crate) caller: Caller,
    /// The request after its header.
    pub(crate) body: Bytes,
}

/// Who asks, and in which version.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// One of those that the API's row names.
    pub(crate) version: i16,
    /// How the client calls itself; empty where it does not.
    pub(crate) client: Arc<str>,
    /// Where it is, as Kafka writes it: `/127.0.0.1`.
    pub(crate) host: Arc<str>,
    /// Who it is known to be.
    pub(crate) principal: Principal,
    /// What it comes over.
    pub(crate) session: Arc<Session>,
    /// What the API's row says that it asks for.
    pub(crate) needs: &'static [Need],
}

impl Caller {
    /// Refuses what the caller may not do.
    pub(crate) fn may(&self, operation: Operation, resource: Resource<'_>) -> Result<(), ResponseError> {
        match self.allows(operation, resource) {
            true => Ok(()),
            false => Err(resource.kind().refused()),
        }
    }

    /// Whether the caller may do something.
    pub(crate) fn allows(&self, operation: Operation, resource: Resource<'_>) -> bool {
        let is_said = |need: &Need| (need.operation, need.of) == (operation, resource.kind());
        debug_assert!(self.needs.iter().any(is_said), "no row of the table says {operation:?} of {resource:?}");
        self.principal.rights().allow(operation, resource)
    }

    /// Goes by what holds now, which may have changed while the caller waited; whether it may do something else than before.
    pub(crate) fn look_again(&mut self) -> Result<bool, Broken> {
        let Some(now) = self.session.renewed()? else { return Ok(false) };
        let may_else = now.rights() != self.principal.rights();
        self.principal = now;
        Ok(may_else)
    }

    /// Counts bytes that the caller has sent to be written: for how many milliseconds it is held back.
    pub(crate) fn produced(&self, bytes: usize) -> i32 {
        self.session.hold(self.principal.used().produce.take(bytes, Instant::now()))
    }

    /// The most bytes of records that the caller may be sent at once.
    pub(crate) fn fetches_at_once(&self) -> usize {
        self.principal.used().fetch.at_once()
    }

    /// Counts bytes of records that the caller would be sent. Where it has had too many it is sent none, and held back: the error
    /// says for how many milliseconds.
    pub(crate) fn fetched(&self, bytes: usize) -> Result<(), i32> {
        let taken = self.principal.used().fetch.take_if_paid(bytes, Instant::now());
        taken.map_err(|back| self.session.hold(back))
    }

    /// A way to topics to which the caller may do something.
    pub(crate) fn to(&self, operation: Operation) -> Access<'_> {
        Access { caller: self, operation }
    }
}

#[cfg(test)]
impl Caller {
    /// Somebody who may do everything, and for whom no row of the table speaks.
    pub(crate) fn somebody(version: i16) -> Self {
        let host: Arc<str> = "/127.0.0.1".into();
        let edge = aqueduct_api::Edge::real();
        let security = crate::security::current::Current::new(Default::default());
        let both = (security.clone(), security.get());
        let session = Arc::new(Session::new(host.clone(), both, edge, Arc::default(), None));
        Caller { version, client: "c".into(), host, principal: Principal::anonymous(), session, needs: &[] }
    }
}

/// What somebody wants to do to a topic: who looks one up has to say it.
#[derive(Clone, Copy)]
pub(crate) struct Access<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) operation: Operation,
}

impl Access<'_> {
    /// Refuses what may not be done.
    pub(crate) fn check(self, topic: &str) -> Result<(), ResponseError> {
        self.caller.may(self.operation, Resource::Topic(topic))
    }
}

/// What is sent back.
pub(crate) enum Reply {
    /// A whole frame.
    Now(Bytes),
    /// A whole frame in pieces, and the room that is given back once the client has it.
    Pieces(Vec<Records>, Option<OwnedSemaphorePermit>),
    /// A whole frame, for which the connection's next request need not wait; the order of answers holds.
    Later(BoxFuture<'static, Result<Reply, Broken>>),
    /// Nothing: the client asked for no answer.
    Nothing,
}

/// Why a connection ends without an answer, as Kafka ends it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken(pub(crate) String);

impl Call {
    /// The request.
    pub(crate) fn decode<R: Request + Decodable>(&self) -> Result<R, Broken> {
        decode(self.key, self.caller.version, &self.body)
    }

    /// An answer at once.
    pub(crate) fn reply<E: Encodable>(&self, response: &E) -> Result<Reply, Broken> {
        self.frame(response).map(Reply::Now)
    }

    /// A whole frame with an answer.
    pub(crate) fn frame<E: Encodable>(&self, response: &E) -> Result<Bytes, Broken> {
        frame(self.key, self.caller.version, self.correlation, response)
    }
}

/// A request.
pub(crate) fn decode<R: Request + Decodable>(key: ApiKey, version: i16, body: &Bytes) -> Result<R, Broken> {
    R::decode(&mut body.clone(), newer::known_as(key, version))
        .map_err(|cause| Broken(format!("{key:?} version {version}: {cause}")))
}

/// A whole frame with an answer.
pub(crate) fn frame<E: Encodable>(key: ApiKey, version: i16, correlation: i32, response: &E) -> Result<Bytes, Broken> {
    let header_version = key.response_header_version(version);
    let unfit = |cause| Broken(format!("the answer to {key:?} version {version}: {cause}"));
    let version = newer::known_as(key, version);
    let header = ResponseHeader::default().with_correlation_id(correlation);
    let size = header.compute_size(header_version).map_err(unfit)? + response.compute_size(version).map_err(unfit)?;
    let length = i32::try_from(size).map_err(|_| Broken(format!("an answer of {size} bytes")))?;
    let mut frame = BytesMut::with_capacity(4 + size);
    frame.put_i32(length);
    header.encode(&mut frame, header_version).map_err(unfit)?;
    response.encode(&mut frame, version).map_err(unfit)?;
    Ok(frame.freeze())
}

/// An error as the protocol tells it: a code, and words for people.
#[derive(Clone, Debug)]
pub(crate) struct Wrong {
    pub(crate) error: ResponseError,
    pub(crate) why: Option<String>,
}

impl Wrong {
    /// An error with words of our own.
    pub(crate) fn new(error: ResponseError, why: impl Into<String>) -> Self {
        Wrong { error, why: Some(why.into()) }
    }

    /// The code on the wire.
    pub(crate) fn code(&self) -> i16 {
        self.error.code()
    }

    /// The words on the wire.
    pub(crate) fn message(&self) -> Option<StrBytes> {
        self.why.clone().map(StrBytes::from_string)
    }
}

impl From<ResponseError> for Wrong {
    fn from(error: ResponseError) -> Self {
        Wrong { error, why: None }
    }
}

/// What the log says of a partition that exists: a client tries again what may work later.
impl From<Error> for Wrong {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Retry { .. } => ResponseError::KafkaStorageError,
            Error::Refused { .. } => ResponseError::InvalidRequest,
            Error::Fatal { .. } => ResponseError::UnknownServerError,
        };
        Wrong::new(code, error.to_string())
    }
}
