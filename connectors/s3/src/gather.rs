//! Records of an object come together in a batch.

use aqueduct_api::SourceOpening;
use aqueduct_record::BatchBuilder;
use bytes::Bytes;

use crate::reading::{Next, Progress, Reading};
use crate::source_settings::ObjectHeader;

/// What a record may cost beyond its value.
pub(crate) const ROOM: usize = 8 << 10;

/// Where gathering stopped.
pub(crate) enum Gathered {
    /// The batch is full.
    Full,
    /// The object has to come further first.
    More,
    /// The object has no more.
    End,
    /// A record that does not fit beside those before it, in a batch of its own; and where it begins.
    Large(Progress, BatchBuilder),
    /// Something that no record can be made of.
    Unfit(Unfit),
}

/// Something that no record can be made of.
pub(crate) struct Unfit {
    /// Where it begins.
    pub(crate) before: Progress,
    /// What is told of it besides, as headers.
    pub(crate) told: Vec<(&'static str, String)>,
    /// Its bytes, where they are at hand.
    pub(crate) value: Option<Bytes>,
    /// What is wrong with it.
    pub(crate) reason: String,
}

/// Takes records from the object into the batch, as far as it has come or the batch goes.
pub(crate) fn gather(
    reading: &mut Reading,
    builder: &mut BatchBuilder,
    opening: &SourceOpening,
    names: &[ObjectHeader],
    bucket: &str,
) -> Gathered {
    let (key, tag) = (reading.object.key().into_owned(), reading.object.e_tag.clone().unwrap_or_default());
    let own: Vec<(&str, Option<&[u8]>)> = names
        .iter()
        .map(|name| match name {
            ObjectHeader::Bucket => ("bucket", Some(bucket.as_bytes())),
            ObjectHeader::Key => ("key", Some(key.as_bytes())),
            ObjectHeader::Etag => ("etag", Some(tag.as_bytes())),
        })
        .collect();
    let modified = reading.object.place.modified;
    while builder.size() < opening.batch.0 as usize {
        let before = reading.progress;
        let decoded = match reading.next() {
            Next::More => return Gathered::More,
            Next::End => return Gathered::End,
            Next::Unfit { told, value, reason } => {
                return Gathered::Unfit(Unfit { before, told, value: value.map(Bytes::copy_from_slice), reason });
            }
            Next::Record(decoded) => decoded,
        };
        let headers: Vec<(&str, Option<&[u8]>)> =
            decoded.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        let headers = if headers.is_empty() { own.clone() } else { [headers, own.clone()].concat() };
        let parts = [decoded.key.as_deref(), decoded.value.as_deref()];
        let size: usize = parts.iter().flatten().map(|part| part.len()).sum();
        let is_large = !builder.is_empty() && builder.size() + size + ROOM > opening.largest.0 as usize;
        let mut alone = BatchBuilder::new();
        let [key, value] = parts;
        let batch = if is_large { &mut alone } else { &mut *builder };
        batch.push(decoded.timestamp.unwrap_or(modified), key, value, &headers);
        if is_large {
            return Gathered::Large(before, alone);
        }
    }
    Gathered::Full
}
