//! One connection's way from somebody unknown to somebody who may do something: SASL, and what stays of it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aqueduct_api::Edge;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{
    ApiKey, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use kafka_protocol::protocol::StrBytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::current::Current;
use super::mechanism::Mechanism;
use super::principal::Principal;
use super::scram::{self, Hash};
use super::users::Users;
use super::{Rule, Security, oauth};
use crate::call::Broken;

/// How long a client may take to say who it is.
pub(crate) const TO_BE_KNOWN: Duration = Duration::from_secs(5);
/// How long who is not known waits for its answer, so that guessing is slow: as in Kafka.
const REFUSED: Duration = Duration::from_millis(100);
/// Bytes that the server adds to a client's nonce.
const NONCE: usize = 24;

/// Who is at the other end of a connection.
pub(crate) struct Session {
    /// Where it is, as Kafka writes it: `/127.0.0.1`.
    pub(crate) host: Arc<str>,
    security: Current,
    edge: Edge,
    /// Whose certificate it has shown.
    certified: Option<String>,
    /// How many said wrongly who they are.
    refused: Arc<AtomicU64>,
    state: Mutex<State>,
}

struct State {
    known: Option<Principal>,
    /// What held when it came to be known.
    under: Arc<Security>,
    /// By what it said so, if it was asked.
    by: Option<Mechanism>,
    /// Until when that counts.
    until: Option<Instant>,
    exchange: Exchange,
    /// Whether tokens come without a header: after version 0 of the handshake.
    is_raw: bool,
    is_over: bool,
    held_until: Option<Instant>,
}

/// How far a client has come.
enum Exchange {
    Idle,
    Chosen(Mechanism),
    Scram(Mechanism, scram::Exchange),
    /// A token was refused, which the client has to acknowledge.
    Refusing(String),
}

/// What follows from a client's message.
enum Step {
    Challenge(String, Exchange),
    /// Who it is, what it is told, and until when, in milliseconds since 1970.
    Known(String, String, Option<i64>),
}

impl Session {
    /// A new connection from `host`, which was `certified`, if it was, by what held then: `under`.
    pub(crate) fn new(
        host: Arc<str>,
        (security, under): (Current, Arc<Security>),
        edge: Edge,
        refused: Arc<AtomicU64>,
        certified: Option<String>,
    ) -> Self {
        let state = State {
            known: known(&under, certified.as_deref()),
            under,
            by: None,
            until: None,
            exchange: Exchange::Idle,
            is_raw: false,
            is_over: false,
            held_until: None,
        };
        Session { host, security, edge, certified, refused, state: Mutex::new(state) }
    }

    /// Who it is known to be.
    pub(crate) fn known(&self) -> Option<Principal> {
        self.state.lock().known.clone()
    }

    /// Who asks for something; who may not ask for it yet, or not any more, is cut off.
    pub(crate) fn asks(&self, key: ApiKey) -> Result<Principal, Broken> {
        let mut state = self.state.lock();
        self.look_again(&mut state)?;
        let is_open = matches!(key, ApiKey::ApiVersions | ApiKey::SaslHandshake | ApiKey::SaslAuthenticate);
        match (&state.known, state.until) {
            (Some(_), Some(until)) if until <= Instant::now() && !is_open => {
                Err(Broken(format!("{key:?} was asked after the session's end")))
            }
            (Some(known), _) => Ok(known.clone()),
            (None, _) if is_open => Ok(Principal::nobody()),
            (None, _) => Err(Broken(format!("{key:?} was asked before it was known by whom"))),
        }
    }

    /// Who it is by what holds now, for a request that is under way; nothing where that is what held when it came.
    pub(crate) fn renewed(&self) -> Result<Option<Principal>, Broken> {
        let mut state = self.state.lock();
        let is_other = self.look_again(&mut state)?;
        Ok(state.known.clone().filter(|_| is_other))
    }

    /// Returns once something else holds than when it was looked at last.
    pub(crate) async fn changed(&self) {
        let under = self.state.lock().under.clone();
        self.security.changed(&under).await;
    }

    /// Goes by what holds now, and says whether it is something else than before; who is not known any more by it is cut off, and
    /// so is whoever is known by another rule.
    fn look_again(&self, state: &mut State) -> Result<bool, Broken> {
        let now = self.security.get();
        if Arc::ptr_eq(&now, &state.under) {
            return Ok(false);
        }
        if let Some(before) = &state.known {
            let still = match (now.rule(state.by), state.by) {
                (Some(Rule::Unasked), _) => Some(Principal::anonymous()),
                (rule, _) if rule.is_none() || rule != state.under.rule(state.by) => None,
                (_, Some(by)) => now.proved(before.name(), by),
                (_, None) => known(&now, self.certified.as_deref()),
            };
            match still {
                Some(still) => {
                    state.known = Some(still);
                    // Sessions may have come to be shorter.
                    let longest = now.session.filter(|_| state.by.is_some()).map(|longest| Instant::now() + longest);
                    state.until = state.until.into_iter().chain(longest).min();
                }
                None => return Err(Broken(format!("{before} is not known any more"))),
            }
        }
        state.under = now;
        Ok(true)
    }

    /// Whether the next frame is a token, and nothing else.
    pub(crate) fn is_raw(&self) -> bool {
        self.state.lock().is_raw
    }

    /// Whether nothing is to be taken any more.
    pub(crate) fn is_over(&self) -> bool {
        self.state.lock().is_over
    }

    /// Takes no request for so long; returns it in milliseconds.
    pub(crate) fn hold(&self, back: Duration) -> i32 {
        let mut state = self.state.lock();
        if !back.is_zero() {
            state.held_until = state.held_until.max(Some(Instant::now() + back));
        }
        i32::try_from(back.as_millis()).unwrap_or(i32::MAX)
    }

    /// Until when no request is taken.
    pub(crate) fn held_until(&self) -> Option<Instant> {
        self.state.lock().held_until.take()
    }

    /// SaslHandshake.
    pub(crate) fn handshake(&self, request: &SaslHandshakeRequest, version: i16) -> SaslHandshakeResponse {
        let offered = &self.security.get().mechanisms;
        let names = offered.iter().map(|mechanism| StrBytes::from_static_str(mechanism.name())).collect();
        let response = SaslHandshakeResponse::default().with_mechanisms(names);
        let mut state = self.state.lock();
        if offered.is_empty() || !matches!(state.exchange, Exchange::Idle) {
            state.is_over |= state.known.is_none();
            return response.with_error_code(ResponseError::IllegalSaslState.code());
        }
        let chosen = offered.iter().find(|mechanism| mechanism.name() == &*request.mechanism);
        // Who says again who it is does it in the same way.
        match chosen.filter(|mechanism| state.by.is_none_or(|by| by == **mechanism)) {
            Some(mechanism) => {
                state.exchange = Exchange::Chosen(*mechanism);
                state.is_raw = version == 0;
                response
            }
            None => {
                state.is_over = true;
                response.with_error_code(ResponseError::UnsupportedSaslMechanism.code())
            }
        }
    }

    /// SaslAuthenticate.
    pub(crate) async fn authenticate(
        &self,
        request: SaslAuthenticateRequest,
        version: i16,
    ) -> SaslAuthenticateResponse {
        let response = SaslAuthenticateResponse::default().with_error_message(None);
        if matches!(self.state.lock().exchange, Exchange::Idle) {
            let mut state = self.state.lock();
            state.is_over |= state.known.is_none();
            let why = "SaslAuthenticate comes after SaslHandshake";
            let error = ResponseError::IllegalSaslState.code();
            return response.with_error_code(error).with_error_message(Some(StrBytes::from_static_str(why)));
        }
        match self.token(&request.auth_bytes).await {
            Ok((told, lifetime)) => {
                let response = response.with_auth_bytes(told);
                if version >= 1 { response.with_session_lifetime_ms(lifetime) } else { response }
            }
            Err(why) => response
                .with_error_code(ResponseError::SaslAuthenticationFailed.code())
                .with_error_message(Some(StrBytes::from_string(why))),
        }
    }

    /// A token that came without a header: the frame that answers it.
    pub(crate) async fn raw(&self, token: &[u8]) -> Result<Bytes, Broken> {
        let (told, _) = self.token(token).await.map_err(Broken)?;
        let mut frame = BytesMut::with_capacity(4 + told.len());
        frame.put_u32(told.len() as u32);
        frame.put_slice(&told);
        Ok(frame.freeze())
    }

    /// What a client is told, and how long it will be known, in milliseconds; 0: for ever.
    async fn token(&self, token: &[u8]) -> Result<(Bytes, i64), String> {
        let exchange = std::mem::replace(&mut self.state.lock().exchange, Exchange::Idle);
        let by = match &exchange {
            Exchange::Chosen(mechanism) | Exchange::Scram(mechanism, _) => Some(*mechanism),
            _ => None,
        };
        // What is proved is proved under this: whatever is changed meanwhile is looked at with the next request.
        let under = self.security.get();
        let known = match self.step(&under, exchange, token).await {
            Ok(Step::Challenge(told, exchange)) => {
                self.state.lock().exchange = exchange;
                return Ok((Bytes::from(told), 0));
            }
            Ok(Step::Known(name, told, until)) => {
                self.know(under, &name, by, until).map(|lifetime| (told.into(), lifetime))
            }
            Err(why) => Err(why),
        };
        if let Err(why) = &known {
            self.refused.fetch_add(1, Ordering::Relaxed);
            let mechanism = by.map_or("", Mechanism::name);
            tracing::info!(host = %self.host, mechanism, %why, "a Kafka client was not authenticated");
            self.state.lock().is_over = true;
            tokio::time::sleep(REFUSED).await;
        }
        known
    }

    /// From now on it is `name`, as was proved under what held then, until a time: for how long, in milliseconds.
    fn know(
        &self,
        security: Arc<Security>,
        name: &str,
        by: Option<Mechanism>,
        until: Option<i64>,
    ) -> Result<i64, String> {
        let proved = by.and_then(|by| security.proved(name, by));
        let principal = proved.ok_or_else(|| format!("{name} is not known any more"))?;
        let of_token = until.map(|until| Duration::from_millis((until - self.edge.now()).max(1) as u64));
        let lifetime = of_token.into_iter().chain(security.session).min();
        let mut state = self.state.lock();
        if let (Some(before), Some(_)) = (&state.known, state.by)
            && before.name() != name
        {
            return Err(format!("a session of {before} stays one, and is not one of {principal}"));
        }
        state.until = lifetime.map(|lifetime| Instant::now() + lifetime);
        (state.known, state.by, state.is_raw, state.under) = (Some(principal), by, false, security);
        Ok(lifetime.map_or(0, |lifetime| lifetime.as_millis() as i64))
    }

    async fn step(&self, security: &Security, exchange: Exchange, token: &[u8]) -> Result<Step, String> {
        let Some(users) = &security.users else { return Err("there are no users".to_owned()) };
        match exchange {
            Exchange::Idle => Err("SASL was not begun".to_owned()),
            Exchange::Refusing(why) => Err(why),
            Exchange::Chosen(Mechanism::Plain) => self.plain(users, token).await,
            Exchange::Chosen(Mechanism::OAuthBearer) => self.bearer(security, token),
            Exchange::Chosen(mechanism @ (Mechanism::ScramSha256 | Mechanism::ScramSha512)) => {
                let hash = if mechanism == Mechanism::ScramSha256 { Hash::Sha256 } else { Hash::Sha512 };
                let nonce = BASE64_STANDARD_NO_PAD.encode(scram::random(NONCE));
                let begun = scram::begin(token, &nonce, |user| users.stored(hash, user));
                let (exchange, told) = begun.map_err(|why| failed(mechanism, &why))?;
                Ok(Step::Challenge(told, Exchange::Scram(mechanism, exchange)))
            }
            Exchange::Scram(mechanism, exchange) => {
                let is_current = exchange.is_about(|hash, user| users.stored(hash, user));
                // All of it is looked at first, so that nobody learns who is known.
                let finished = exchange.finish(token).and_then(|finished| match is_current {
                    true => Ok(finished),
                    false => Err("invalid credentials".to_owned()),
                });
                let (user, told) = finished.map_err(|why| failed(mechanism, &why))?;
                Ok(Step::Known(user, told, None))
            }
        }
    }

    /// RFC 4616: whom to act for, who one is, and the password.
    async fn plain(&self, users: &Users, token: &[u8]) -> Result<Step, String> {
        let text = std::str::from_utf8(token).map_err(|_| "a PLAIN client's message is no text".to_owned())?;
        let parts: Vec<&str> = text.split('\0').collect();
        let [other, user, password] = parts[..] else { return Err("a PLAIN client's message is malformed".to_owned()) };
        if !other.is_empty() && other != user {
            return Err("a client is who it says it is, not somebody else".to_owned());
        }
        let (stored, password) = (users.stored_of_any(user), password.to_owned());
        let is_right = self.edge.blocking(move || stored.is_of(&password)).await;
        match is_right {
            Ok(true) => Ok(Step::Known(user.to_owned(), String::new(), None)),
            Ok(false) => Err("Authentication failed: Invalid username or password".to_owned()),
            Err(_) => Err("the server is stopping".to_owned()),
        }
    }

    fn bearer(&self, security: &Security, token: &[u8]) -> Result<Step, String> {
        let Some(known) = &security.oauth else { return Err("there are no keys of tokens".to_owned()) };
        let verified = oauth::token(token).and_then(|(token, other)| {
            let bearer = known.verify(token, self.edge.now())?;
            match other.is_none_or(|other| other == bearer.name) {
                true => Ok(bearer),
                false => Err("the token is somebody else's".to_owned()),
            }
        });
        Ok(match verified {
            Ok(bearer) => Step::Known(bearer.name, String::new(), Some(bearer.until)),
            Err(why) => {
                let told = serde_json::json!({ "status": "invalid_token" }).to_string();
                Step::Challenge(told, Exchange::Refusing(failed(Mechanism::OAuthBearer, &why)))
            }
        })
    }
}

/// Who a client is by its certificate alone.
fn known(security: &Security, certified: Option<&str>) -> Option<Principal> {
    match certified {
        _ if !security.asks() => Some(Principal::anonymous()),
        Some(name) => security.certified(name),
        None => None,
    }
}

/// As Kafka says it, with a reason where that helps nobody to guess.
fn failed(mechanism: Mechanism, why: &str) -> String {
    format!("Authentication failed with SASL mechanism {}: {why}", mechanism.name())
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("host", &self.host).field("known", &self.known()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
