//! Reads a request's body: never more than it may have, never longer than it may take.

use std::io::Read;
use std::time::Duration;

use aqueduct_api::Edge;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_ENCODING, HeaderMap};

use crate::source::queue::Charge;
use crate::source::refusal::Refusal;

/// What bodies may be.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) largest: usize,
    pub(crate) largest_inflated: usize,
    pub(crate) timeout: Duration,
}

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Gzip,
    Zstd,
}

/// Reads a body whole and undoes its compression; `charge` holds what it takes.
pub(crate) async fn read(
    edge: &Edge,
    headers: &HeaderMap,
    body: Incoming,
    limits: Limits,
    mut charge: Charge,
) -> Result<(Bytes, Charge), Refusal> {
    let encoding = encoding(headers)?;
    let late = || Refusal::new(StatusCode::REQUEST_TIMEOUT, format!("no whole body within {:?}", limits.timeout));
    let received = tokio::time::timeout(limits.timeout, receive(body, limits.largest, &mut charge));
    let received = received.await.map_err(|_| late())??;
    let Some(encoding) = encoding else { return Ok((received, charge)) };
    let job = move || inflate(encoding, &received, limits.largest_inflated, charge);
    let inflated = edge.blocking(job).await;
    inflated.map_err(|cause| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, cause.to_string()))?
}

fn encoding(headers: &HeaderMap) -> Result<Option<Encoding>, Refusal> {
    let Some(value) = headers.get(CONTENT_ENCODING) else { return Ok(None) };
    match value.to_str().unwrap_or("?").trim().to_ascii_lowercase().as_str() {
        "identity" | "" => Ok(None),
        "gzip" | "x-gzip" => Ok(Some(Encoding::Gzip)),
        "zstd" => Ok(Some(Encoding::Zstd)),
        other => {
            let message =
                format!("content encoding `{}` is not known, expected `gzip` or `zstd`", other.escape_debug());
            Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
        }
    }
}

async fn receive(mut body: Incoming, largest: usize, charge: &mut Charge) -> Result<Bytes, Refusal> {
    let too_large = || Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body has more than {largest} bytes"));
    let told = body.size_hint().lower();
    if told > largest as u64 {
        return Err(too_large());
    }
    let mut received = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|cause| Refusal::bad(format!("the body ends early or makes no sense: {cause}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if received.len() + data.len() > largest {
            return Err(too_large());
        }
        charge.grow(data.len())?;
        received.extend_from_slice(&data);
    }
    Ok(received.freeze())
}

fn inflate(encoding: Encoding, body: &[u8], largest: usize, mut charge: Charge) -> Result<(Bytes, Charge), Refusal> {
    let name = match encoding {
        Encoding::Gzip => "gzip",
        Encoding::Zstd => "zstd",
    };
    let wrong = |cause: std::io::Error| Refusal::bad(format!("the body is not {name}: {cause}"));
    let mut reader: Box<dyn Read + '_> = match encoding {
        Encoding::Gzip => Box::new(flate2::read::MultiGzDecoder::new(body)),
        Encoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(wrong)?;
            // 8 MiB, what every decoder has to know: a larger window could only be asked for to cost memory.
            decoder.window_log_max(23).map_err(wrong)?;
            Box::new(decoder)
        }
    };
    let mut inflated = Vec::new();
    let mut part = vec![0; 64 << 10];
    loop {
        let length = reader.read(&mut part).map_err(wrong)?;
        if length == 0 {
            return Ok((inflated.into(), charge));
        }
        if inflated.len() + length > largest {
            let message = format!("the body has more than {largest} bytes when it is inflated");
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        charge.grow(length)?;
        inflated.extend_from_slice(&part[..length]);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::source::queue::Held;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(9));
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn outcome(encoding: Encoding, body: &[u8]) -> Result<usize, (u16, String)> {
        let inflated = inflate(encoding, body, 1 << 20, Held::new(4 << 20).charge());
        inflated.map(|(bytes, _)| bytes.len()).map_err(|refusal| (refusal.status.as_u16(), refusal.message))
    }

    #[test]
    fn bodies_inflate_within_bounds() {
        let text = b"some text ".repeat(1000);
        let zstd = |bytes: &[u8]| zstd::bulk::compress(bytes, 3).unwrap();
        let bomb = vec![0; 64 << 20];
        assert_eq!(outcome(Encoding::Gzip, &gzip(&text)), Ok(10_000));
        assert_eq!(outcome(Encoding::Gzip, &[gzip(&text), gzip(&text)].concat()), Ok(20_000));
        assert_eq!(outcome(Encoding::Zstd, &zstd(&text)), Ok(10_000));
        for (encoding, body, status) in [
            (Encoding::Gzip, gzip(&bomb), 413),
            (Encoding::Zstd, zstd(&bomb), 413),
            (Encoding::Gzip, gzip(&text)[..50].to_vec(), 400),
            (Encoding::Zstd, zstd(&text)[..20].to_vec(), 400),
            (Encoding::Gzip, text.clone(), 400),
            (Encoding::Zstd, text.clone(), 400),
            (Encoding::Gzip, Vec::new(), 400),
        ] {
            let found = outcome(encoding, &body).map_err(|(status, _)| status);
            assert_eq!(found, Err(status), "{encoding:?} of {} bytes", body.len());
        }
    }
}
