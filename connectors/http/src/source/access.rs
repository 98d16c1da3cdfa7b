//! Who may send what where.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, HeaderMap, ORIGIN};
use sha2::{Digest as _, Sha256};

use crate::firehose;
use crate::source::pattern::any_matches;
use crate::source::refusal::Refusal;
use crate::source::settings::Authentication;

/// Who may send.
pub(crate) enum Access {
    /// Everybody.
    Open,
    /// Who has one of these.
    Tokens(Vec<Known>),
}

/// A token that is known, by its digest: how long a comparison takes tells nothing about the token.
pub(crate) struct Known {
    name: String,
    digest: [u8; 32],
    paths: Vec<String>,
    topics: Vec<String>,
}

/// What a request may do.
pub(crate) struct Rights<'a>(Option<&'a Known>);

impl Access {
    /// What the settings say.
    pub(crate) fn new(authentication: Option<&Authentication>) -> Self {
        match authentication {
            None | Some(Authentication::None) => Access::Open,
            Some(Authentication::Tokens(tokens)) => Access::Tokens(
                tokens
                    .iter()
                    .map(|token| Known {
                        name: token.name.clone(),
                        digest: digest(token.token.reveal()),
                        paths: token.paths.clone(),
                        topics: token.topics.clone(),
                    })
                    .collect(),
            ),
        }
    }

    /// Finds out who sends a request.
    pub(crate) fn rights(&self, headers: &HeaderMap) -> Result<Rights<'_>, Refusal> {
        // A page in somebody's browser could reach an address that only this machine reaches.
        if headers.contains_key(ORIGIN) {
            return Err(Refusal::new(StatusCode::FORBIDDEN, "requests from a browser's pages are not taken"));
        }
        let Access::Tokens(tokens) = self else { return Ok(Rights(None)) };
        let (name, secret) = presented(headers).ok_or_else(|| {
            let how = "a token is needed: `Authorization: Bearer …`, `Authorization: Basic …` or `X-API-Key: …`";
            Refusal::new(StatusCode::UNAUTHORIZED, how).coded(40101)
        })?;
        let presented = digest(&secret);
        let mut found = None;
        for token in tokens {
            let is_named = name.as_ref().is_none_or(|name| *name == token.name);
            if same(&presented, &token.digest) & is_named {
                found = Some(token);
            }
        }
        let unknown = || Refusal::new(StatusCode::UNAUTHORIZED, "the token is not known here").coded(40101);
        found.map(|token| Rights(Some(token))).ok_or_else(unknown)
    }
}

impl Rights<'_> {
    /// Refuses a path that the token is not for.
    pub(crate) fn path(&self, path: &str) -> Result<(), Refusal> {
        match self.0 {
            Some(token) if !any_matches(&token.paths, path) => {
                Err(Refusal::new(StatusCode::FORBIDDEN, format!("token {} is not for this path", token.name))
                    .coded(40301))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a topic that the token is not for.
    pub(crate) fn topic(&self, topic: &str) -> Result<(), Refusal> {
        match self.0 {
            Some(token) if !any_matches(&token.topics, topic) => {
                let message = format!("token {} is not for topic {topic}", token.name);
                Err(Refusal::new(StatusCode::FORBIDDEN, message).coded(40301))
            }
            _ => Ok(()),
        }
    }
}

/// The token that a request brings, and the name that goes with it.
fn presented(headers: &HeaderMap) -> Option<(Option<String>, String)> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(text) = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()) {
        let (scheme, rest) = text.split_once(' ')?;
        return match scheme.to_ascii_lowercase().as_str() {
            "bearer" => Some((None, rest.trim().to_owned())),
            "basic" => {
                let text = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
                let (name, secret) = text.split_once(':')?;
                Some((Some(name.to_owned()), secret.to_owned()))
            }
            _ => None,
        };
    }
    let key = header("x-api-key").or_else(|| header(firehose::ACCESS_KEY))?;
    Some((None, key.to_owned()))
}

fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// Whether both are equal, found out in the same time whether they are or not.
fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn outcome(header: (&'static str, &str), path: &str, topic: &str) -> u16 {
        let authentication = json!({"tokens": [
            {"name": "all", "token": "0123456789abcdef"},
            {"name": "some", "token": "fedcba9876543210", "paths": ["/in/*"], "topics": ["logs.*"]},
        ]});
        let access = Access::new(Some(&serde_json::from_value(authentication).unwrap()));
        let headers = HeaderMap::from_iter([(header.0.parse().unwrap(), header.1.parse().unwrap())]);
        let checked = access.rights(&headers).and_then(|rights| rights.path(path).and_then(|()| rights.topic(topic)));
        checked.map_or_else(|refusal| refusal.status.as_u16(), |()| 200)
    }

    #[test]
    fn tokens_open_their_own_doors() {
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        for (name, value, path, topic, expected) in [
            ("authorization", "Bearer 0123456789abcdef".to_owned(), "/x", "t", 200),
            ("authorization", "bearer 0123456789abcdef".to_owned(), "/x", "t", 200),
            ("x-api-key", "0123456789abcdef".to_owned(), "/x", "t", 200),
            ("x-amz-firehose-access-key", "0123456789abcdef".to_owned(), "/x", "t", 200),
            ("authorization", basic("all:0123456789abcdef"), "/x", "t", 200),
            ("authorization", basic("some:0123456789abcdef"), "/x", "t", 401),
            ("authorization", basic("all"), "/x", "t", 401),
            ("authorization", "Basic %%%".to_owned(), "/x", "t", 401),
            ("authorization", "Bearer 0123456789abcdeg".to_owned(), "/x", "t", 401),
            ("authorization", "Bearer ".to_owned(), "/x", "t", 401),
            ("authorization", "0123456789abcdef".to_owned(), "/x", "t", 401),
            ("x-other", "0123456789abcdef".to_owned(), "/x", "t", 401),
            ("x-api-key", "fedcba9876543210".to_owned(), "/in/a", "logs.a", 200),
            ("x-api-key", "fedcba9876543210".to_owned(), "/x", "logs.a", 403),
            ("x-api-key", "fedcba9876543210".to_owned(), "/in/a", "t", 403),
            ("origin", "http://evil.example".to_owned(), "/in/a", "t", 403),
        ] {
            assert_eq!(outcome((name, &value), path, topic), expected, "{name}: {value} {path} {topic}");
        }
    }
}
