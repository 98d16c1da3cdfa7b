//! The bytes of an object on their way in: of the version that was listed, and all of them.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use object_store::{Error as StoreError, GetOptions, GetRange, GetResult};

use crate::answers::says;
use crate::listing::Listed;
use crate::reading::Failure;
use crate::store::PartStore;

/// The rest of an object, piece by piece.
pub(crate) struct Arriving {
    body: BoxStream<'static, object_store::Result<Bytes>>,
    size: u64,
    /// How many of the bytes that are stored have yet to come. A body may just end early.
    missing: u64,
}

impl Arriving {
    /// Asks for all from `from` on.
    pub(crate) async fn open(store: &Arc<dyn PartStore>, object: &Listed, from: u64) -> Result<Arriving, Failure> {
        let body = match from {
            // Read to its end, but nobody noted that: there is no range of nothing to ask for.
            _ if from > 0 && from >= object.size => futures::stream::empty().boxed(),
            _ => get(store, object, (from > 0).then_some(GetRange::Offset(from))).await?.into_stream(),
        };
        Ok(Arriving { body, size: object.size, missing: object.size.saturating_sub(from) })
    }

    /// The next piece; nothing at the end. May be dropped.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        match self.body.next().await {
            Some(Ok(bytes)) => {
                let left = self.missing.checked_sub(bytes.len() as u64);
                self.missing = left.ok_or_else(|| unlike("more than", self.size, self.size))?;
                Ok(Some(bytes))
            }
            Some(Err(cause)) => Err(failure(cause)),
            None if self.missing > 0 => Err(unlike("only", self.size - self.missing, self.size)),
            None => Ok(None),
        }
    }
}

/// Asks for a part of an object, and takes no less than that for an answer.
pub(crate) async fn part(store: &Arc<dyn PartStore>, object: &Listed, range: &Range<u64>) -> Result<Bytes, Failure> {
    let got = get(store, object, Some(GetRange::Bounded(range.clone()))).await?;
    let bytes = got.bytes().await.map_err(failure)?;
    match range.end - range.start {
        length if length == bytes.len() as u64 => Ok(bytes),
        length => Err(unlike("part", bytes.len() as u64, length)),
    }
}

async fn get(store: &Arc<dyn PartStore>, object: &Listed, range: Option<GetRange>) -> Result<GetResult, Failure> {
    let options = GetOptions { if_match: object.e_tag.clone(), range, ..GetOptions::default() };
    let got = store.get_opts(&object.key, options).await.map_err(failure)?;
    // A store without ETags tells another version by its size, if it can be told at all.
    if got.meta.size == object.size { Ok(got) } else { Err(Failure::Lost(ANEW.to_owned())) }
}

const ANEW: &str = "was written anew while it was read";

/// The body is not as long as it should be: no damage, another try may bring all of it.
fn unlike(how: &str, bytes: u64, of: u64) -> Failure {
    let source = format!("the store sent {how} {bytes} bytes of {of}");
    Failure::Store(StoreError::Generic { store: "S3", source: source.into() })
}

fn failure(cause: StoreError) -> Failure {
    match &cause {
        StoreError::NotFound { .. } if !says(&cause, &["NoSuchBucket"]) => Failure::Lost("is gone".to_owned()),
        StoreError::Precondition { .. } => Failure::Lost(ANEW.to_owned()),
        _ if says(&cause, &["InvalidObjectState"]) => Failure::Lost(format!("is archived, restore it first: {cause}")),
        _ if says(&cause, &["InvalidRange", "status code: 416"]) => Failure::Lost("is shorter than it was".to_owned()),
        _ => Failure::Store(cause),
    }
}
