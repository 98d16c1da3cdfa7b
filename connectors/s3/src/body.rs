//! One object under construction: what is encoded goes into parts, or whole where it is small.

use std::mem;

use aqueduct_api::fault::{self, Mutant};
use aqueduct_api::{Chunk, Error, Result};

use crate::bucket::{Bucket, Object, Upload};
use crate::compressor::Spare;
use crate::encoder::Encoder;
use crate::rows::Rows;

/// The most parts of an object, as S3 has it.
const MOST_PARTS: usize = 10_000;

/// Bytes by which most records exceed a part at most.
const ROOM: usize = 64 << 10;

/// An object under construction.
pub(crate) struct Body {
    object: Object,
    encoder: Encoder,
    records: u64,
    state: State,
}

enum State {
    /// Less than a part so far: nothing was sent.
    Small,
    /// It is there already: what is encoded goes nowhere.
    There,
    /// Parts are on their way; the buffer is for the next one.
    Large { upload: Box<dyn Upload>, parts: usize, spare: Vec<u8> },
}

/// What is left to do for an object that is encoded to its end.
pub(crate) enum Finished {
    /// Nothing: it has no records, or it is there.
    Done,
    /// It is smaller than a part, and has yet to be put.
    Small(Object, Vec<u8>),
}

impl Body {
    /// An object without records.
    pub(crate) fn new(object: Object, encoder: Encoder) -> Self {
        Body { object, encoder, records: 0, state: State::Small }
    }

    /// Where a record is appended, to be followed by [`Body::pushed`].
    pub(crate) fn input(&mut self) -> &mut Vec<u8> {
        self.encoder.input()
    }

    /// Where a row is added where the object is a table, to be followed by [`Body::pushed`].
    pub(crate) fn rows(&mut self) -> Option<&mut Rows> {
        self.encoder.rows()
    }

    /// Counts what was appended.
    pub(crate) fn pushed(&mut self) {
        self.records += 1;
    }

    /// Whether [`Body::step`] has something to do.
    pub(crate) fn is_ripe(&self, bucket: &dyn Bucket) -> bool {
        self.encoder.is_ripe(bucket.part_size())
    }

    /// Compresses what was appended, and sends the parts that are full.
    pub(crate) async fn step(&mut self, bucket: &dyn Bucket, chunk: &mut Chunk) -> Result<()> {
        let part_size = bucket.part_size();
        let encoded = self.encoder.step().await?;
        if matches!(self.state, State::Small) && encoded.len() > part_size {
            self.state = begin(bucket, chunk, &self.object).await?;
        }
        match &mut self.state {
            State::Small => {}
            State::There => encoded.clear(),
            State::Large { upload, parts, spare } => {
                while encoded.len() > part_size {
                    let mut rest = mem::take(spare);
                    // Room for the record that makes the part full, so that the buffer does not double for it.
                    rest.reserve(part_size + ROOM);
                    rest.extend_from_slice(&encoded[part_size..]);
                    encoded.truncate(part_size);
                    let part = mem::replace(encoded, rest);
                    *spare = send(&mut **upload, &self.object, parts, part).await?;
                }
            }
        }
        Ok(())
    }

    /// Encodes the rest, and completes what was begun in parts; and says what the next object's encoder is made with.
    pub(crate) async fn finish(mut self, bucket: &dyn Bucket, chunk: &mut Chunk) -> Result<(Finished, Spare)> {
        if self.records == 0 {
            return Ok((Finished::Done, Spare::default()));
        }
        let (mut rest, spare) = self.encoder.finish().await?;
        if matches!(self.state, State::Small) && rest.len() <= bucket.part_size() {
            return Ok((Finished::Small(self.object, rest), spare));
        }
        if matches!(self.state, State::Small) {
            self.state = begin(bucket, chunk, &self.object).await?;
        }
        let State::Large { mut upload, mut parts, .. } = self.state else { return Ok((Finished::Done, spare)) };
        while !rest.is_empty() {
            let after = rest.split_off(rest.len().min(bucket.part_size()));
            send(&mut *upload, &self.object, &mut parts, mem::replace(&mut rest, after)).await?;
        }
        upload.complete().await?;
        Ok((Finished::Done, spare))
    }

    /// Gives up what was begun.
    pub(crate) async fn abort(self) {
        if let State::Large { upload, .. } = self.state {
            upload.abort().await;
        }
    }
}

/// Begins a large object unless it is there, and saves its id before its first part is sent.
async fn begin(bucket: &dyn Bucket, chunk: &mut Chunk, object: &Object) -> Result<State> {
    if !fault::mutated(Mutant::StaleOverNewer) && bucket.find(object).await? {
        return Ok(State::There);
    }
    let upload = bucket.begin(object).await?;
    if let Some(note) = upload.note() {
        let note = serde_json::to_string(&note).map_err(|cause| Error::fatal(format!("write note: {cause}")))?;
        if let Err(error) = chunk.save_note(&note).await {
            upload.abort().await;
            return Err(error.context("save the upload's id"));
        }
    }
    Ok(State::Large { upload, parts: 0, spare: Vec::new() })
}

async fn send(upload: &mut dyn Upload, object: &Object, parts: &mut usize, part: Vec<u8>) -> Result<Vec<u8>> {
    *parts += 1;
    if *parts > MOST_PARTS {
        return Err(Error::fatal(format!("{object} has more than {MOST_PARTS} parts: raise settings.part-size")));
    }
    upload.part(part).await
}

/// Puts an object that is smaller than a part, unless it is there. Where it hardly can be, a put that the bucket surely refuses
/// then is as good as a look.
pub(crate) async fn put_small(bucket: &dyn Bucket, object: &Object, bytes: Vec<u8>, is_again: bool) -> Result<()> {
    let is_looked_at = is_again || !bucket.is_refusing();
    if is_looked_at && !fault::mutated(Mutant::StaleOverNewer) && bucket.find(object).await? {
        return Ok(());
    }
    bucket.put(object, bytes).await
}
