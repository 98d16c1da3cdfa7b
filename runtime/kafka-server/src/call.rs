//! One request of one connection, and what becomes of it.

use bytes::{BufMut, Bytes, BytesMut};
use futures::future::BoxFuture;
use kafka_protocol::messages::{ApiKey, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, Request};

/// A request whose frame has been checked.
pub(crate) struct Call {
    /// Which API.
    pub(crate) key: ApiKey,
    /// In which version: one of those that the API's row names.
    pub(crate) version: i16,
    /// What the answer is known by.
    pub(crate) correlation: i32,
    /// How the client calls itself.
    pub(crate) client: Option<String>,
    /// The request after its header.
    pub(crate) body: Bytes,
}

/// What is sent back.
pub(crate) enum Reply {
    /// A whole frame.
    Now(Bytes),
    /// A whole frame, for which the connection's next request need not wait; the order of answers holds.
    Later(BoxFuture<'static, Result<Bytes, Broken>>),
    /// Nothing: the client asked for no answer.
    Nothing,
}

/// Why a connection ends without an answer, as Kafka ends it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken(pub(crate) String);

impl Call {
    /// The request.
    pub(crate) fn decode<R: Request + Decodable>(&self) -> Result<R, Broken> {
        R::decode(&mut self.body.clone(), self.version)
            .map_err(|cause| Broken(format!("{:?} version {}: {cause}", self.key, self.version)))
    }

    /// A whole frame with this answer.
    pub(crate) fn frame<E: Encodable>(&self, response: &E) -> Result<Bytes, Broken> {
        let header_version = self.key.response_header_version(self.version);
        let unfit = |cause| Broken(format!("the answer to {:?} version {}: {cause}", self.key, self.version));
        let header = ResponseHeader::default().with_correlation_id(self.correlation);
        let size =
            header.compute_size(header_version).map_err(unfit)? + response.compute_size(self.version).map_err(unfit)?;
        let length = i32::try_from(size).map_err(|_| Broken(format!("an answer of {size} bytes")))?;
        let mut frame = BytesMut::with_capacity(4 + size);
        frame.put_i32(length);
        header.encode(&mut frame, header_version).map_err(unfit)?;
        response.encode(&mut frame, self.version).map_err(unfit)?;
        Ok(frame.freeze())
    }

    /// An answer at once.
    pub(crate) fn reply<E: Encodable>(&self, response: &E) -> Result<Reply, Broken> {
        self.frame(response).map(Reply::Now)
    }
}
