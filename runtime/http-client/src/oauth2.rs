//! Tokens by OAuth2's client credentials, fetched, kept and fetched anew.

use std::sync::Arc;
use std::time::Duration;

use aqueduct_api::{Error, Result, Secret};
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::answer::{excerpt, limited, told};
use crate::credentials::basic_header;
use crate::escape::percent;

/// The most bytes of a token's answer.
const LARGEST_ANSWER: usize = 256 << 10;
/// How long a token lasts whose server does not say.
const UNSAID: u64 = 300;

/// OAuth2 client credentials.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct OAuth2 {
    /// Where tokens come from.
    pub token_url: String,
    /// Who we are.
    pub client_id: String,
    /// What proves it.
    pub client_secret: Secret,
    /// What the token is for: names with spaces between them.
    pub scope: Option<String>,
    /// Whom the token is for, where the server wants to know.
    pub audience: Option<String>,
    /// Whether id and secret go in the body and not in `Authorization: Basic`. Default: false.
    #[serde(default)]
    pub in_body: bool,
}

/// Tokens of an OAuth2 server.
pub struct Tokens {
    client: reqwest::Client,
    settings: OAuth2,
    /// Where they stand.
    setting: &'static str,
    kept: Mutex<Option<Arc<Token>>>,
}

/// A token.
pub struct Token {
    header: HeaderValue,
    refresh_at: Instant,
}

/// What a server answers to a request for a token.
#[derive(Deserialize)]
struct Answer {
    access_token: String,
    /// Seconds: a number, says RFC 6749; some servers write it as text.
    #[serde(default)]
    expires_in: serde_json::Value,
}

impl OAuth2 {
    /// What is wrong with it: of which of its settings, and what.
    ///
    /// # Errors
    /// The first problem.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        match Url::parse(&self.token_url) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(()),
            _ => Err(("token-url", format!("`{}` is no address to get tokens from", self.token_url))),
        }
    }
}

impl Token {
    /// `Authorization`.
    pub(crate) fn header(&self) -> &HeaderValue {
        &self.header
    }
}

impl Tokens {
    pub(crate) fn new(setting: &'static str, settings: &OAuth2, client: &reqwest::Client) -> Self {
        Tokens { client: client.clone(), settings: settings.clone(), setting, kept: Mutex::new(None) }
    }

    /// The kept token, or a new one: requests that need one at the same time wait for one answer.
    pub(crate) async fn token(&self, refused: Option<&Arc<Token>>) -> Result<Arc<Token>> {
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
        let OAuth2 { token_url, client_id, client_secret, in_body, .. } = &self.settings;
        let mut request = self.client.post(token_url).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        if !in_body {
            // Both are encoded before they are joined, says RFC 6749.
            let (mut id, mut secret) = (String::new(), String::new());
            percent(client_id, &mut id);
            percent(client_secret.reveal(), &mut secret);
            request = request.header(AUTHORIZATION, basic_header(&id, &secret));
        }
        let answer = request.body(self.form()).send().await;
        let answer = answer.map_err(|cause| Error::retry(format!("{token_url}: {}", told(&cause))))?;
        let status = answer.status();
        let body = limited(answer, LARGEST_ANSWER).await.map_err(Error::retry)?;
        match status.as_u16() {
            200..=299 => self.read(&body),
            408 | 425 | 429 | 500..=599 => {
                Err(Error::retry(format!("{token_url} answered {status}: {}", excerpt(&body))))
            }
            _ => {
                let (said, setting) = (excerpt(&body), self.setting);
                Err(Error::fatal(format!("{token_url} answered {status}: {said}: look at `{setting}`")))
            }
        }
    }

    fn form(&self) -> String {
        let OAuth2 { client_id, client_secret, scope, audience, in_body, .. } = &self.settings;
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
        form
    }

    fn read(&self, body: &[u8]) -> Result<Token> {
        // What it says may hold a token, so it is not shown.
        let wrong = |what: &str| Error::retry(format!("{} answered {what}", self.settings.token_url));
        let answer: Answer = serde_json::from_slice(body).map_err(|_| wrong("without an `access_token`"))?;
        let mut header = HeaderValue::from_str(&format!("Bearer {}", answer.access_token))
            .map_err(|_| wrong("with a token that no header can hold"))?;
        header.set_sensitive(true);
        let said = answer.expires_in.as_f64();
        let said = said.or_else(|| answer.expires_in.as_str()?.trim().parse().ok()).filter(|seconds| !seconds.is_nan());
        let lasts = Duration::from_secs(said.unwrap_or(UNSAID as f64).clamp(0.0, 86_400.0 * 30.0) as u64);
        // A tenth of its time or half a minute before its end, so that none ends on its way.
        let early = (lasts / 10).max(Duration::from_secs(30)).min(lasts / 2);
        Ok(Token { header, refresh_at: Instant::now() + lasts.saturating_sub(early) })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_lasts_as_long_as_its_server_says_in_whatever_way() {
        let settings = json!({"token-url": "http://tokens/", "client-id": "id", "client-secret": "s"});
        let settings: OAuth2 = serde_json::from_value(settings).unwrap();
        let tokens = Tokens::new("authentication", &settings, &reqwest::Client::new());
        for (said, seconds) in [
            (json!({"expires_in": 3600}), 3240),
            (json!({"expires_in": "3600"}), 3240),
            (json!({"expires_in": 3600.5}), 3240),
            (json!({"expires_in": 40}), 20),
            (json!({"expires_in": "-1"}), 0),
            (json!({"expires_in": "NaN"}), 270),
            (json!({"expires_in": null}), 270),
            (json!({}), 270),
        ] {
            let mut answer = said.clone();
            answer["access_token"] = json!("t");
            let token = tokens.read(answer.to_string().as_bytes()).unwrap();
            let left = token.refresh_at.saturating_duration_since(Instant::now());
            assert_eq!(left.as_secs_f64().round(), f64::from(seconds), "{said}");
        }
        assert!(tokens.read(br#"{"expires_in": 3600}"#).is_err());
    }
}
