//! What proves who we are, with tokens that are fetched, kept and fetched anew.

use std::sync::Arc;
use std::time::Duration;

use aqueduct_api::{Error, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::escape::{excerpt, percent};
use crate::sink::client::limited;
use crate::sink::settings::{Authentication, OAuth2};

/// The most bytes of a token's answer.
const LARGEST_ANSWER: usize = 256 << 10;
/// How long a token lasts whose server does not say.
const UNSAID: u64 = 300;

/// Where the header comes from that proves who we are.
pub(crate) enum Credentials {
    /// Nobody asks.
    None,
    /// Always the same.
    Fixed(HeaderName, HeaderValue),
    /// From a server.
    Token(Box<Tokens>),
}

/// Tokens of an OAuth2 server.
pub(crate) struct Tokens {
    client: reqwest::Client,
    settings: OAuth2,
    kept: Mutex<Option<Arc<Token>>>,
}

/// A token.
pub(crate) struct Token {
    header: HeaderValue,
    refresh_at: Instant,
}

/// What a server answers to a request for a token.
#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: Option<serde_json::Number>,
}

impl Credentials {
    /// What the settings say; tokens are fetched by `client`.
    pub(crate) fn new(authentication: Option<&Authentication>, client: &reqwest::Client) -> Result<Self> {
        let fixed = |name: HeaderName, text: String| {
            let value = HeaderValue::from_str(&text);
            let mut value = value.map_err(|_| Error::fatal("setting authentication: holds what no header can hold"))?;
            value.set_sensitive(true);
            Ok(Credentials::Fixed(name, value))
        };
        match authentication {
            None => Ok(Credentials::None),
            Some(Authentication::Basic(basic)) => {
                fixed(AUTHORIZATION, basic_header(&basic.username, basic.password.reveal()))
            }
            Some(Authentication::Bearer(token)) => fixed(AUTHORIZATION, format!("Bearer {}", token.reveal())),
            Some(Authentication::Header(header)) => {
                let name =
                    header.name.parse().map_err(|_| Error::fatal("setting authentication: no name of a header"))?;
                fixed(name, header.value.reveal().to_owned())
            }
            Some(Authentication::Oauth2(settings)) => Ok(Credentials::Token(Box::new(Tokens {
                client: client.clone(),
                settings: settings.clone(),
                kept: Mutex::new(None),
            }))),
        }
    }

    /// The header to send, and the token in it; `refused` is one that a server did not take.
    pub(crate) async fn header(
        &self,
        refused: Option<&Arc<Token>>,
    ) -> Result<Option<(HeaderName, HeaderValue, Option<Arc<Token>>)>> {
        match self {
            Credentials::None => Ok(None),
            Credentials::Fixed(name, value) => Ok(Some((name.clone(), value.clone(), None))),
            Credentials::Token(tokens) => {
                let token = tokens.token(refused).await.map_err(|error| error.context("get a token"))?;
                Ok(Some((AUTHORIZATION, token.header.clone(), Some(token))))
            }
        }
    }
}

fn basic_header(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

impl Tokens {
    /// The kept token, or a new one: requests that need one at the same time wait for one answer.
    async fn token(&self, refused: Option<&Arc<Token>>) -> Result<Arc<Token>> {
        let mut kept = self.kept.lock().await;
        if let Some(token) = &*kept {
            let is_refused = refused.is_some_and(|refused| Arc::ptr_eq(refused, token));
            if !is_refused && Instant::now() < token.refresh_at {
                return Ok(token.clone());
            }
        }
        let token = Arc::new(self.fetch().await?);
        *kept = Some(token.clone());
        Ok(token)
    }

    async fn fetch(&self) -> Result<Token> {
        let OAuth2 { token_url, client_id, client_secret, scope, audience, in_body } = &self.settings;
        let mut form = "grant_type=client_credentials".to_owned();
        let mut field = |name: &str, value: &str| {
            form.push('&');
            form.push_str(name);
            form.push('=');
            percent(value, &mut form);
        };
        scope.iter().for_each(|scope| field("scope", scope));
        audience.iter().for_each(|audience| field("audience", audience));
        if *in_body {
            field("client_id", client_id);
            field("client_secret", client_secret.reveal());
        }
        let mut request = self.client.post(token_url).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        if !in_body {
            // Both are encoded before they are joined, says RFC 6749.
            let (mut id, mut secret) = (String::new(), String::new());
            percent(client_id, &mut id);
            percent(client_secret.reveal(), &mut secret);
            request = request.header(AUTHORIZATION, basic_header(&id, &secret));
        }
        let answer = request.body(form).send().await;
        let answer = answer.map_err(|cause| Error::retry(crate::sink::client::told(&cause)))?;
        let status = answer.status();
        let body = limited(answer, LARGEST_ANSWER).await.map_err(Error::retry)?;
        match status.as_u16() {
            200..=299 => self.read(&body),
            408 | 429 | 500..=599 => Err(Error::retry(format!("{token_url} answered {status}: {}", excerpt(&body)))),
            _ => Err(Error::fatal(format!(
                "{token_url} answered {status}: {}: look at `authentication.oauth2`",
                excerpt(&body)
            ))),
        }
    }

    fn read(&self, body: &[u8]) -> Result<Token> {
        // What it says may hold a token, so it is not shown.
        let wrong = |what: &str| Error::retry(format!("{} answered {what}", self.settings.token_url));
        let answer: Answer = serde_json::from_slice(body).map_err(|_| wrong("without an `access_token`"))?;
        let mut header = HeaderValue::from_str(&format!("Bearer {}", answer.access_token))
            .map_err(|_| wrong("with a token that no header can hold"))?;
        header.set_sensitive(true);
        let seconds = answer.expires_in.and_then(|seconds| seconds.as_f64()).unwrap_or(UNSAID as f64);
        let lasts = Duration::from_secs(seconds.clamp(0.0, 86_400.0 * 30.0) as u64);
        // A tenth of its time or half a minute before its end, so that none ends on its way.
        let early = (lasts / 10).max(Duration::from_secs(30)).min(lasts / 2);
        Ok(Token { header, refresh_at: Instant::now() + lasts.saturating_sub(early) })
    }
}
