//! Records of Kafka REST's version 3 that a client sends one after the other in a request that stays open: each is answered
//! when it is durable, before the next one has to be there.

use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream::{self, unfold};
use http_body_util::{BodyExt as _, Either, StreamBody};
use hyper::StatusCode;
use hyper::body::{Body as _, Frame, Incoming};
use hyper::header::{CONTENT_ENCODING, HeaderMap};
use serde_json::value::RawValue;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use crate::source::formats::not_json;
use crate::source::intake::{Entry, Place};
use crate::source::queue::Charge;
use crate::source::refusal::{Answer, Refusal, bytes};
use crate::source::rest_v3::{self, Asked};
use crate::source::serve::Service;

/// Whether a request may stay open: how long its body is was not said.
pub(crate) fn is_live(headers: &HeaderMap, body: &Incoming) -> bool {
    body.size_hint().exact().is_none() && !headers.contains_key(CONTENT_ENCODING)
}

/// Answers once the first records are durable, or are not taken; what comes after them is answered as it comes.
pub(crate) async fn answer(
    service: Arc<Service>,
    topic: String,
    body: Incoming,
    turn: OwnedSemaphorePermit,
) -> Result<Answer, Refusal> {
    let charge = service.held.charge();
    let mut live =
        Live { service, topic, body: Some(body), buffer: BytesMut::new(), scan: Scan::default(), charge, turn };
    let first = live.next().await.ok_or_else(|| Refusal::bad("the body holds no record"))?;
    let is_over = live.body.is_none();
    match first.refused.filter(|refusal| is_over || refusal.retry_after.is_some()) {
        // Who looks at the status alone is not told that all is well.
        Some(refusal) => Ok(refusal.decorate(bytes(StatusCode::OK, "application/json", first.text.into_bytes()))),
        None => {
            let rest = unfold(live, |mut live| async move { live.next().await.map(|reports| (reports.text, live)) });
            let texts = stream::iter([first.text]).chain(rest);
            let frames = texts.map(|text| Ok(Frame::data(Bytes::from(text))));
            let mut answer = bytes(StatusCode::OK, "application/json", Vec::new());
            *answer.body_mut() = Either::Right(StreamBody::new(frames).boxed_unsync());
            Ok(answer)
        }
    }
}

/// A request that stays open.
struct Live {
    service: Arc<Service>,
    topic: String,
    /// `None`: nothing more comes, or is taken.
    body: Option<Incoming>,
    /// What was received and is not a whole record yet.
    buffer: BytesMut,
    scan: Scan,
    /// What the buffer holds.
    charge: Charge,
    /// It counts as one request until its end.
    #[expect(dead_code, reason = "held until the request ends")]
    turn: OwnedSemaphorePermit,
}

/// What is told of some records.
struct Reports {
    text: String,
    /// Why none of them was taken.
    refused: Option<Refusal>,
}

impl Live {
    /// Reports of the next records; `None` when there are no more.
    async fn next(&mut self) -> Option<Reports> {
        let within = self.service.limits.timeout;
        let deadline = Instant::now() + within;
        loop {
            let asked = self.whole_records();
            if !asked.is_empty() {
                return Some(self.take(asked).await);
            }
            let frame = match timeout_at(deadline, self.body.as_mut()?.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(None) if self.buffer.iter().all(u8::is_ascii_whitespace) => return None,
                Ok(None) => return Some(self.end(Refusal::bad("the body ends within a record"))),
                Ok(Some(Err(_))) => return None,
                Err(_) => {
                    let late = format!("no whole record within {within:?}");
                    return Some(self.end(Refusal::new(StatusCode::REQUEST_TIMEOUT, late)));
                }
            };
            let Ok(data) = frame.into_data() else { continue };
            if let Err(refusal) = self.charge.grow(data.len()) {
                return Some(self.end(refusal));
            }
            self.buffer.extend_from_slice(&data);
        }
    }

    /// The records that are there whole. What follows something that is none is lost to us.
    fn whole_records(&mut self) -> Vec<Asked> {
        let now = self.service.edge.now();
        let mut asked = Vec::new();
        while self.body.is_some() {
            match self.scan.end(&mut self.buffer) {
                Ok(Some(end)) if end > self.service.limits.largest => asked.push(self.too_large()),
                Ok(Some(end)) => {
                    let piece = self.buffer.split_to(end).freeze();
                    asked.push(match serde_json::from_slice::<&RawValue>(&piece) {
                        Ok(raw) => rest_v3::read(&piece, raw, now),
                        Err(cause) => Asked::wrong(String::new(), not_json(&cause)),
                    });
                }
                Ok(None) if self.buffer.len() > self.service.limits.largest => asked.push(self.too_large()),
                Ok(None) => break,
                Err(byte) => {
                    let found = char::from(byte).escape_default();
                    asked.push(self.wrong(Refusal::bad(format!("`{found}` where a record was expected to begin"))));
                }
            }
        }
        asked
    }

    async fn take(&mut self, asked: Vec<Asked>) -> Reports {
        let entries: Vec<Entry> = asked.iter().filter_map(|one| one.entry.as_ref().ok().cloned()).collect();
        let charge = std::mem::replace(&mut self.charge, self.service.held.charge());
        let mut places: Vec<Result<Place, Refusal>> = Vec::new();
        if !entries.is_empty() {
            let taken = self.service.intake.take(Some(&self.topic), &entries, charge).await;
            places = taken.unwrap_or_else(|refusal| entries.iter().map(|_| Err(refusal.clone())).collect());
        }
        // What is left of the buffer is held on.
        if let Err(refusal) = self.charge.grow(self.buffer.len()) {
            self.body = None;
            places.push(Err(refusal));
        }
        let refused =
            places.iter().find_map(|place| place.as_ref().err()).filter(|_| places.iter().all(Result::is_err));
        let text = rest_v3::reports(&asked, &places, &self.service.settings.cluster);
        Reports { text, refused: refused.cloned() }
    }

    fn too_large(&mut self) -> Asked {
        let message = format!("a record has more than {} bytes", self.service.limits.largest);
        self.wrong(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message))
    }

    fn wrong(&mut self, refusal: Refusal) -> Asked {
        self.body = None;
        Asked::wrong(String::new(), refusal)
    }

    /// The last report.
    fn end(&mut self, refusal: Refusal) -> Reports {
        let asked = [self.wrong(refusal.clone())];
        Reports { text: rest_v3::reports(&asked, &[], &self.service.settings.cluster), refused: Some(refusal) }
    }
}

/// How far a record was looked through.
#[derive(Default)]
struct Scan {
    at: usize,
    depth: usize,
    is_in_text: bool,
    is_escaped: bool,
}

impl Scan {
    /// Where the first record of the buffer ends, if it is there whole, or the byte that begins none.
    fn end(&mut self, buffer: &mut BytesMut) -> Result<Option<usize>, u8> {
        if self.at == 0 {
            let space = buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            buffer.advance(space);
        }
        for byte in &buffer[self.at..] {
            self.at += 1;
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.is_in_text => self.is_escaped = true,
                b'"' if self.depth > 0 => self.is_in_text = !self.is_in_text,
                _ if self.is_in_text => {}
                b'{' | b'[' if self.depth > 0 || *byte == b'{' => self.depth += 1,
                b'}' | b']' if self.depth > 1 => self.depth -= 1,
                b'}' | b']' if self.depth == 1 => {
                    let end = self.at;
                    *self = Scan::default();
                    return Ok(Some(end));
                }
                other if self.depth == 0 => return Err(*other),
                _ => {}
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is cut from pieces, and how it ends.
    fn cut(pieces: &[&str]) -> (Vec<String>, Result<Option<usize>, u8>) {
        let (mut scan, mut buffer, mut found) = (Scan::default(), BytesMut::new(), Vec::new());
        let mut last = Ok(None);
        for piece in pieces {
            buffer.extend_from_slice(piece.as_bytes());
            last = scan.end(&mut buffer);
            while let Ok(Some(end)) = last {
                found.push(String::from_utf8(buffer.split_to(end).to_vec()).unwrap());
                last = scan.end(&mut buffer);
            }
        }
        (found, last)
    }

    #[test]
    fn records_are_cut_wherever_they_come_apart() {
        let text = r#" {"a":"}{\"\\"}{"b":[{},[1]]} {"c":"]"} "#;
        let expected = [r#"{"a":"}{\"\\"}"#, r#"{"b":[{},[1]]}"#, r#"{"c":"]"}"#];
        for at in 0..text.len() {
            for then in at..text.len() {
                let (found, last) = cut(&[&text[..at], &text[at..then], &text[then..]]);
                assert_eq!((&found[..], last), (&expected.map(str::to_owned)[..], Ok(None)), "{at} {then}");
            }
        }
        assert_eq!(cut(&["{} 7"]), (vec!["{}".to_owned()], Err(b'7')));
        assert_eq!(cut(&["[{}]"]), (vec![], Err(b'[')));
        assert_eq!(cut(&["{\"a\":"]), (vec![], Ok(None)));
    }
}
