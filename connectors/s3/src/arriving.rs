//! The bytes of an object on their way in: of the version that was listed, and all of them.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _};
use object_store::{Error as StoreError, GetOptions, GetRange, GetResult};

use crate::answers::says;
use crate::keys;
use crate::listing::Listed;
use crate::reading::Failure;
use crate::store::PartStore;

/// How much of an object that is here already is handed on at once.
const PIECE: usize = 64 << 10;

/// An object in its store, or fetched from there.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) store: Arc<dyn PartStore>,
    pub(crate) object: Listed,
    /// All its bytes, where they are here.
    pub(crate) here: Option<Bytes>,
}

impl Stored {
    /// A part of it, no less than that.
    pub(crate) async fn part(&self, range: &Range<u64>) -> Result<Bytes, Failure> {
        if let Some(here) = &self.here {
            return Ok(here.slice(range.start as usize..range.end as usize));
        }
        let got = self.get(Some(GetRange::Bounded(range.clone()))).await?;
        let bytes = got.bytes().await.map_err(failure)?;
        match range.end - range.start {
            length if length == bytes.len() as u64 => Ok(bytes),
            length => Err(unlike("part", bytes.len() as u64, length)),
        }
    }

    /// All of it, in memory; nothing where that fails, which whoever reads it will find out as well.
    pub(crate) async fn fetch(&self) -> Option<Bytes> {
        let bytes = self.get(None).await.ok()?.bytes().await.ok()?;
        (bytes.len() as u64 == self.object.size).then_some(bytes)
    }

    async fn get(&self, range: Option<GetRange>) -> Result<GetResult, Failure> {
        if let Some(reason) = keys::refused(&self.object.key()) {
            return Err(Failure::Lost(reason.to_owned()));
        }
        let options = GetOptions { if_match: self.object.e_tag.clone(), range, ..GetOptions::default() };
        let got = self.store.get_opts(&self.object.path, options).await.map_err(failure)?;
        // A store without ETags tells another version by its size, if it can be told at all.
        if got.meta.size == self.object.size { Ok(got) } else { Err(Failure::Lost(ANEW.to_owned())) }
    }
}

/// The rest of an object, piece by piece.
pub(crate) struct Arriving {
    body: BoxStream<'static, object_store::Result<Bytes>>,
    size: u64,
    /// How many of the bytes that are stored have yet to come. A body may just end early.
    missing: u64,
}

impl Arriving {
    /// Asks for all from `from` on.
    pub(crate) async fn open(stored: &Stored, from: u64) -> Result<Arriving, Failure> {
        let size = stored.object.size;
        let body = match &stored.here {
            // Read to its end, but nobody noted that: there is no range of nothing to ask for.
            _ if from > 0 && from >= size => stream::empty().boxed(),
            Some(here) => pieces(here.slice(from as usize..)).boxed(),
            None => stored.get((from > 0).then_some(GetRange::Offset(from))).await?.into_stream(),
        };
        Ok(Arriving { body, size, missing: size.saturating_sub(from) })
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

/// Not all at once: what is compressed may become a lot.
fn pieces(mut bytes: Bytes) -> impl Stream<Item = object_store::Result<Bytes>> {
    stream::iter(std::iter::from_fn(move || (!bytes.is_empty()).then(|| Ok(bytes.split_to(PIECE.min(bytes.len()))))))
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
        _ if says(&cause, &["InvalidRange", "status code: 416"]) => Failure::Lost("is shorter than it was".to_owned()),
        _ if says(&cause, NO_KEYS) => Failure::Lost(format!("can not be asked for: {cause}")),
        _ => Failure::Store(cause),
    }
}

/// What stores answer that list a key and then take it for none.
const NO_KEYS: &[&str] = &["InvalidObjectName", "InvalidURI", "KeyTooLongError"];
