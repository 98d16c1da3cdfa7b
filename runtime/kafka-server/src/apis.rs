//! The table of what is answered: each API with its versions and who answers it.

use std::future::Future;
use std::ops::RangeInclusive;
use std::sync::Arc;

use futures::future::BoxFuture;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest};
use kafka_protocol::protocol::{Decodable, Encodable, Request};

use crate::broker::Broker;
use crate::call::{Broken, Call, Reply};
use crate::versions;

/// One API.
pub(crate) struct Api {
    /// Which.
    pub(crate) key: ApiKey,
    /// The versions that are answered, and that ApiVersions tells of.
    pub(crate) versions: RangeInclusive<i16>,
    /// Who answers.
    pub(crate) answer: fn(Arc<Broker>, Call) -> Answering,
}

/// An answer on its way. Until it resolves, the connection's next request waits; what may be waited for while the next
/// requests are taken goes into [`Reply::Later`].
pub(crate) type Answering = BoxFuture<'static, Result<Reply, Broken>>;

/// All APIs, by key. A row names its request's type, and the function that answers it:
/// `async fn(…, request, version) -> response`.
pub(crate) const APIS: &[Api] = &[Api {
    key: ApiKey::ApiVersions,
    versions: 0..=4,
    answer: |broker, call| answered(broker, call, |_, _: ApiVersionsRequest, _| async move { versions::answer() }),
}];

/// The row of an API.
pub(crate) fn api(key: i16) -> Option<&'static Api> {
    APIS.iter().find(|api| api.key as i16 == key)
}

/// Decodes a request, has it answered, and encodes the answer.
fn answered<R, F, W>(broker: Arc<Broker>, call: Call, answer: F) -> Answering
where
    R: Request + Decodable + Send + 'static,
    R::Response: Encodable + Send,
    F: FnOnce(Arc<Broker>, R, i16) -> W + Send + 'static,
    W: Future<Output = R::Response> + Send,
{
    Box::pin(async move {
        let request = call.decode::<R>()?;
        let response = answer(broker, request, call.version).await;
        call.reply(&response)
    })
}
