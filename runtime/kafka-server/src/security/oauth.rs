//! OAUTHBEARER (RFC 7628): a client shows a token, which somebody signed whose keys are known.

use std::sync::Arc;

use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use parking_lot::RwLock;
use serde_json::Value;
use tokio::sync::Notify;

/// What clocks may differ by, in milliseconds: as in Kafka.
const SKEW: i64 = 30_000;
/// What separates the parts of a client's message.
const SEPARATOR: char = '\u{1}';

/// Which tokens count, and the keys that sign them.
pub struct OAuth {
    tokens: Tokens,
    keys: RwLock<Arc<JwkSet>>,
    missed: Notify,
}

/// Which tokens count.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tokens {
    /// Whose they are.
    issuer: String,
    /// For whom they must be.
    audience: String,
    /// The claim that is the name.
    claim: String,
}

/// What a token says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bearer {
    /// Who has it.
    pub(crate) name: String,
    /// Until when, in milliseconds since 1970.
    pub(crate) until: i64,
}

impl OAuth {
    /// Tokens of an issuer for an audience, whose claim `claim` says who has one. No key is known yet.
    pub fn new(issuer: String, audience: String, claim: String) -> Self {
        let keys = RwLock::new(Arc::new(JwkSet { keys: Vec::new() }));
        OAuth { tokens: Tokens { issuer, audience, claim }, keys, missed: Notify::new() }
    }

    /// Which tokens count, whatever the keys.
    pub(crate) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Goes by other keys from now on: a JSON Web Key Set.
    ///
    /// # Errors
    /// What is wrong with them, for people; the keys before them hold.
    pub fn set_keys(&self, set: &[u8]) -> Result<(), String> {
        let set: Value = serde_json::from_slice(set).map_err(|cause| format!("no JSON: {cause}"))?;
        let all = set.get("keys").and_then(Value::as_array).ok_or("it has no `keys`")?;
        // A key of a kind that is not known here is no reason to do without the others.
        let keys = all.iter().filter_map(|key| serde_json::from_value(key.clone()).ok());
        let keys: Vec<Jwk> = keys.filter(|key| DecodingKey::from_jwk(key).is_ok()).collect();
        if keys.is_empty() {
            return Err("it has no key that is known here".to_owned());
        }
        *self.keys.write() = Arc::new(JwkSet { keys });
        Ok(())
    }

    /// Waits until a token came that was signed with a key which is not known.
    pub async fn missed(&self) {
        self.missed.notified().await;
    }

    /// Who has a token.
    pub(crate) fn verify(&self, token: &str, now: i64) -> Result<Bearer, String> {
        let header = jsonwebtoken::decode_header(token).map_err(|cause| format!("the token is malformed: {cause}"))?;
        if matches!(header.alg, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512) {
            return Err("the token is not signed with a key pair".to_owned());
        }
        let keys = self.keys.read().clone();
        let key = match (&header.kid, &*keys.keys) {
            (Some(id), _) => keys.find(id),
            (None, [key]) => Some(key),
            (None, _) => return Err("the token does not say which key signed it".to_owned()),
        };
        let Some(key) = key else {
            self.missed.notify_one();
            return Err("the token is signed with a key that is not known".to_owned());
        };
        let key = DecodingKey::from_jwk(key).map_err(|cause| format!("the token's key is of no use: {cause}"))?;
        let Tokens { issuer, audience, claim } = &self.tokens;
        let mut validation = Validation::new(header.alg);
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        // Time is the edge's: looked at below.
        validation.validate_exp = false;
        let decoded = jsonwebtoken::decode::<Value>(token, &key, &validation);
        let claims = decoded.map_err(|cause| format!("the token is not valid: {cause}"))?.claims;
        let millis = |claim: &str| claims.get(claim).and_then(Value::as_f64).map(|seconds| (seconds * 1000.0) as i64);
        let until = millis("exp").ok_or("the token never ends")?;
        if until.saturating_add(SKEW) <= now {
            return Err("the token has ended".to_owned());
        }
        if millis("nbf").is_some_and(|from| from > now.saturating_add(SKEW)) {
            return Err("the token does not count yet".to_owned());
        }
        let name = claims.get(claim).and_then(Value::as_str).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| format!("the token has no claim `{claim}`"))?.to_owned();
        Ok(Bearer { name, until })
    }
}

/// The token in a client's first message, and whom the client says it acts for.
pub(crate) fn token(message: &[u8]) -> Result<(&str, Option<&str>), String> {
    let malformed = || "an OAUTHBEARER client's first message is malformed".to_owned();
    let text = std::str::from_utf8(message).map_err(|_| malformed())?;
    let (header, rest) = text.split_once(SEPARATOR).ok_or_else(malformed)?;
    let body = rest.strip_suffix("\u{1}\u{1}").ok_or_else(malformed)?;
    let header = header.strip_prefix("n,").or_else(|| header.strip_prefix("y,"));
    let other = header.and_then(|header| header.strip_suffix(',')).ok_or_else(malformed)?;
    let other = match other {
        "" => None,
        other => Some(other.strip_prefix("a=").ok_or_else(malformed)?),
    };
    let bearer = body.split(SEPARATOR).find_map(|pair| pair.strip_prefix("auth="));
    let (scheme, token) = bearer.and_then(|bearer| bearer.split_once(' ')).ok_or_else(malformed)?;
    match scheme.eq_ignore_ascii_case("bearer") {
        true => Ok((token, other)),
        false => Err(malformed()),
    }
}

#[cfg(test)]
pub(crate) mod tests;
