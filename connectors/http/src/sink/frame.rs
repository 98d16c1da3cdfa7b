//! The body of a request and the key that it is sent under.

use std::io::Write as _;

use aqueduct_api::{Chunk, Error, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::sink::request::Request;
use crate::sink::settings::{Compression, Format};

/// What a server knows a request by when it comes again: topic, partition, first offset, the offset after the last, and
/// which topic of that name it is; or which dead letter is replayed. Behind that, how often the sink was rewound and chunks
/// were given up. The key under which a record was refused is not used
/// again when it is replayed: servers that remember keys remember refusals.
pub(crate) fn key(chunk: &Chunk, request: &Request) -> String {
    let (range, of) = (request.range(), &chunk.partition);
    let mut key = match request.letter {
        Some((topic, offset)) => format!("letter-{topic}-{offset}"),
        None => format!("{}-{}-{}-{}-{}", of.topic, of.partition, range.start, range.end, chunk.topic_id),
    };
    if let Some(part) = &request.part {
        key.push_str(&format!("-part{}-{}", part.start, part.end));
    }
    if chunk.run != 0 {
        key.push_str(&format!("-run{}", chunk.run));
    }
    // What the chunk that was given up sent may have been of other settings, also between the same offsets.
    if chunk.given_up != 0 {
        key.push_str(&format!("-cut{}", chunk.given_up));
    }
    key
}

/// The key in the form of a UUID, as Firehose's requests are known.
pub(crate) fn uuid(key: &str) -> String {
    let digest = Sha256::digest(key.as_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    // Version 8, custom, of RFC 9562.
    id[6] = id[6] & 0x0f | 0x80;
    id[8] = id[8] & 0x3f | 0x80;
    let text: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}

/// The body of a request.
pub(crate) fn body(format: Format, request: &Request, request_id: &str) -> Bytes {
    let room = request.bytes.len() + 2 * request.records.len() + 2;
    match format {
        Format::Record => Bytes::copy_from_slice(request.each().next().unwrap_or_default()),
        Format::Lines | Format::JsonLines => {
            let mut body = Vec::with_capacity(room);
            for record in request.each() {
                body.extend_from_slice(record);
                body.push(b'\n');
            }
            body.into()
        }
        Format::JsonArray => {
            let mut body = Vec::with_capacity(room);
            body.push(b'[');
            for (index, record) in request.each().enumerate() {
                body.extend_from_slice(if index == 0 { b"" } else { b"," });
                body.extend_from_slice(record);
            }
            body.push(b']');
            body.into()
        }
        Format::Firehose => firehose(request, request_id).into(),
    }
}

fn firehose(request: &Request, request_id: &str) -> String {
    // The time of the first record: a request that is sent again is the same.
    let mut body = format!(r#"{{"requestId":"{request_id}","timestamp":{},"records":["#, request.timestamp.max(0));
    body.reserve(request.bytes.len() * 4 / 3 + 16 * request.records.len() + 2);
    for (index, record) in request.each().enumerate() {
        body.push_str(if index == 0 { r#"{"data":""# } else { r#",{"data":""# });
        STANDARD.encode_string(record, &mut body);
        body.push_str(r#""}"#);
    }
    body.push_str("]}");
    body
}

/// The body as it is sent.
pub(crate) fn compress(compression: Compression, body: &[u8]) -> Result<Bytes> {
    let failed = |cause: std::io::Error| Error::fatal(format!("compress: {cause}"));
    match compression {
        Compression::None => Ok(Bytes::copy_from_slice(body)),
        Compression::Gzip => {
            let room = Vec::with_capacity(body.len() / 4);
            let mut encoder = flate2::write::GzEncoder::new(room, flate2::Compression::new(6));
            encoder.write_all(body).map_err(failed)?;
            encoder.finish().map(Bytes::from).map_err(failed)
        }
        Compression::Zstd => zstd::bulk::compress(body, 1).map(Bytes::from).map_err(failed),
    }
}
