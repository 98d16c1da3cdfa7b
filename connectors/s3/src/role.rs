//! Keys of a role that is assumed: short-lived, fetched again before they end.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::DateTime;
use object_store::CredentialProvider;
use object_store::aws::{AwsAuthorizer, AwsCredential, AwsCredentialProvider};
use object_store::client::{HttpRequest, HttpRequestBody};
use reqwest::header::{CONTENT_TYPE, DATE};
use reqwest::{Client, Method, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// A role that is assumed with the keys that there are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Role {
    /// Its ARN: `arn:aws:iam::123456789012:role/lake-writer`.
    pub arn: String,
    /// What its owner asks for beside the ARN.
    pub external_id: Option<String>,
    /// What the session is called in the owner's logs. Default: aqueduct.
    #[serde(default = "session")]
    pub session: String,
    /// The address of the token service. Default: Amazon's in the region.
    pub endpoint: Option<String>,
}

fn session() -> String {
    "aqueduct".to_owned()
}

/// How long keys are asked for; others are fetched when a sixth of what they live is left, or before.
const LIFE: Duration = Duration::from_secs(3600);

/// How long keys are used before others are fetched, though they may live longer: a store that refuses them as expired,
/// after a sleep of the machine for example, is no end to that.
const USED: Duration = Duration::from_secs(600);

/// The longest that an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Assumes a role.
pub(crate) struct AssumedRole {
    role: Role,
    region: String,
    /// Whose keys assume it.
    base: AwsCredentialProvider,
    client: Client,
    /// The keys, and when to fetch others.
    current: Mutex<Option<(Arc<AwsCredential>, Instant)>>,
}

impl fmt::Debug for AssumedRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AssumedRole({})", self.role.arn)
    }
}

impl AssumedRole {
    /// Assumes `role` with the keys of `base`; no request is made yet.
    pub(crate) fn new(role: &Role, region: String, base: AwsCredentialProvider) -> Result<Self, String> {
        let client = Client::builder().timeout(PATIENCE).build().map_err(|cause| cause.to_string())?;
        Ok(AssumedRole { role: role.clone(), region, base, client, current: Mutex::new(None) })
    }

    async fn assume(&self) -> Result<(AwsCredential, Duration), String> {
        let Role { arn, external_id, session, endpoint } = &self.role;
        let amazon = || format!("https://sts.{}.amazonaws.com/", self.region);
        let url = endpoint.clone().unwrap_or_else(amazon);
        let life = LIFE.as_secs().to_string();
        let mut form = vec![("Action", "AssumeRole"), ("Version", "2011-06-15"), ("RoleArn", arn)];
        form.extend([("RoleSessionName", session.as_str()), ("DurationSeconds", &life)]);
        form.extend(external_id.as_ref().map(|id| ("ExternalId", id.as_str())));
        let form: Vec<_> = form.into_iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let form = form.join("&");

        let mut request = HttpRequest::new(HttpRequestBody::from(form.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = url.parse().map_err(|cause| format!("{url}: {cause}"))?;
        let kind = reqwest::header::HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(CONTENT_TYPE, kind);
        let base = self.base.get_credential().await.map_err(|cause| cause.to_string())?;
        let signer = AwsAuthorizer::new(&base, "sts", &self.region);
        signer.try_authorize(&mut request, None).map_err(|cause| cause.to_string())?;

        let sent = self.client.post(&url).headers(request.headers().clone()).body(form).send().await;
        let answer = sent.map_err(|cause| cause.without_url().to_string())?;
        let status = answer.status();
        let sent = answer.headers().get(DATE).and_then(|date| date.to_str().ok()).map(str::to_owned);
        let text = answer.text().await.map_err(|cause| cause.without_url().to_string())?;
        if status != StatusCode::OK {
            let said = element(&text, "Message").or_else(|| element(&text, "Code")).unwrap_or_default();
            return Err(format!("{status}: {said}"));
        }
        let part = |name: &str| element(&text, name).ok_or_else(|| format!("the answer has no {name}"));
        let credential = AwsCredential {
            key_id: part("AccessKeyId")?,
            secret_key: part("SecretAccessKey")?,
            token: Some(part("SessionToken")?),
        };
        Ok((credential, used(sent.as_deref(), element(&text, "Expiration").as_deref())))
    }
}

#[async_trait]
impl CredentialProvider for AssumedRole {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut current = self.current.lock().await;
        if let Some((credential, until)) = &*current
            && Instant::now() < *until
        {
            return Ok(credential.clone());
        }
        let (assumed, used) = self.assume().await.map_err(|why| object_store::Error::Generic {
            store: "STS",
            source: format!("assume role {}: {why}", self.role.arn).into(),
        })?;
        let assumed = Arc::new(assumed);
        *current = Some((assumed.clone(), Instant::now() + used));
        Ok(assumed)
    }
}

/// How long keys are used of which the service says when it spoke and when they expire, both by its own clock.
fn used(sent: Option<&str>, expires: Option<&str>) -> Duration {
    let sent = sent.and_then(|text| DateTime::parse_from_rfc2822(text).ok());
    let expires = expires.and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    let left = expires.zip(sent).map(|(expires, sent)| (expires - sent).to_std().unwrap_or_default());
    left.map_or(USED, |left| (left * 5 / 6).min(USED))
}

/// A value of a form.
fn encoded(value: &str) -> String {
    let mut out = String::new();
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// The text of the first element of that name; keys and tokens hold nothing that XML would escape.
fn element(text: &str, name: &str) -> Option<String> {
    let (_, after) = text.split_once(&format!("<{name}>"))?;
    Some(after.split_once(&format!("</{name}>"))?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_used_for_less_than_they_live() {
        let sent = Some("Thu, 12 Nov 2026 10:00:00 GMT");
        for (expires, seconds) in [
            (Some("2026-11-12T11:00:00Z"), 600),
            (Some("2026-11-12T10:01:00Z"), 50),
            (Some("2026-11-12T09:00:00Z"), 0),
            (Some("soon"), 600),
            (None, 600),
        ] {
            assert_eq!(used(sent, expires), Duration::from_secs(seconds), "{expires:?}");
        }
        assert_eq!(used(None, Some("2026-11-12T10:01:00Z")), USED);
    }
}
