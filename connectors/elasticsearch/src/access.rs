//! Who we are to the cluster: a header of every request, or a signature of it.

use std::sync::Arc;

use aqueduct_api::{Error, Result, Secret};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use object_store::CredentialProvider;
use object_store::aws::{AmazonS3Builder, AwsAuthorizer, AwsCredential};
use object_store::client::{HttpRequest, HttpRequestBody};
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;

/// Amazon's signatures.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AwsSettings {
    /// The domain's region. Default: that of the environment (`AWS_REGION`).
    pub region: Option<String>,
    /// `es` for a domain of Amazon OpenSearch Service, `aoss` for OpenSearch Serverless. Default: es.
    #[serde(default)]
    pub service: AwsService,
    /// Who we are. Default: the environment (`AWS_ACCESS_KEY_ID`), a web identity, or the machine's own role.
    pub access_key_id: Option<Secret>,
    /// What proves it.
    pub secret_access_key: Option<Secret>,
    /// Goes with temporary keys.
    pub session_token: Option<Secret>,
}

/// What a request is signed for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AwsService {
    /// A domain.
    #[default]
    Es,
    /// A serverless collection.
    Aoss,
}

impl AwsService {
    fn name(self) -> &'static str {
        match self {
            AwsService::Es => "es",
            AwsService::Aoss => "aoss",
        }
    }
}

/// How requests say who we are.
pub(crate) enum Access {
    /// Not at all, or by a client certificate.
    Open,
    /// By a header that is always the same.
    Header(HeaderValue),
    /// By a signature.
    Signed(Signer),
}

impl Access {
    /// User name and password.
    pub(crate) fn basic(username: &str, password: &Secret) -> Result<Self> {
        header("password", format!("Basic {}", STANDARD.encode(format!("{username}:{}", password.reveal()))))
    }

    /// An API key: `id:key`, or both as the cluster encoded them.
    pub(crate) fn api_key(key: &Secret) -> Result<Self> {
        let key = key.reveal();
        let encoded = if key.contains(':') { STANDARD.encode(key) } else { key.to_owned() };
        header("api-key", format!("ApiKey {encoded}"))
    }

    /// A token.
    pub(crate) fn bearer(token: &Secret) -> Result<Self> {
        header("bearer-token", format!("Bearer {}", token.reveal()))
    }

    /// Amazon's signatures.
    pub(crate) fn aws(settings: &AwsSettings) -> Result<Self> {
        Signer::new(settings).map(Access::Signed)
    }

    /// Adds what says who we are.
    pub(crate) async fn add(&self, method: &Method, url: &str, headers: &mut HeaderMap, body: &Bytes) -> Result<()> {
        match self {
            Access::Open => Ok(()),
            Access::Header(value) => {
                headers.insert(AUTHORIZATION, value.clone());
                Ok(())
            }
            Access::Signed(signer) => signer.sign(method, url, headers, body).await,
        }
    }
}

fn header(setting: &str, text: String) -> Result<Access> {
    let told = |_| Error::fatal(format!("setting {setting}: holds what no header can carry, a line end perhaps"));
    let mut value = HeaderValue::try_from(text).map_err(told)?;
    value.set_sensitive(true);
    Ok(Access::Header(value))
}

/// Signs requests by AWS Signature Version 4. The object store crate does it for S3, and its signature is the same for
/// every service whose paths need no escapes.
pub(crate) struct Signer {
    credentials: Arc<dyn CredentialProvider<Credential = AwsCredential>>,
    service: &'static str,
    region: String,
}

impl Signer {
    fn new(settings: &AwsSettings) -> Result<Self> {
        // The bucket is never spoken to: its client knows all the ways to credentials.
        let mut builder = AmazonS3Builder::from_env().with_bucket_name("none");
        if let Some(region) = &settings.region {
            builder = builder.with_region(region);
        }
        if let Some(key) = &settings.access_key_id {
            builder = builder.with_access_key_id(key.reveal());
        }
        if let Some(secret) = &settings.secret_access_key {
            builder = builder.with_secret_access_key(secret.reveal());
        }
        if let Some(token) = &settings.session_token {
            builder = builder.with_token(token.reveal());
        }
        let region = builder.get_config_value(&object_store::aws::AmazonS3ConfigKey::Region);
        let region = region.ok_or_else(|| Error::fatal("setting aws.region: is missing, and so is AWS_REGION"))?;
        let client = builder.build().map_err(|cause| Error::fatal(format!("setting aws: {cause}")))?;
        Ok(Signer { credentials: client.credentials().clone(), service: settings.service.name(), region })
    }

    async fn sign(&self, method: &Method, url: &str, headers: &mut HeaderMap, body: &Bytes) -> Result<()> {
        let credential = self.credentials.get_credential().await;
        let credential = credential.map_err(|cause| Error::retry(format!("get credentials: {cause}")))?;
        let mut request = HttpRequest::new(HttpRequestBody::from(body.clone()));
        *request.method_mut() = method.clone();
        *request.uri_mut() = url.parse().map_err(|cause| Error::fatal(format!("setting url: {cause}")))?;
        *request.headers_mut() = headers.clone();
        let authorizer = AwsAuthorizer::new(&credential, self.service, &self.region);
        authorizer
            .try_authorize(&mut request, None)
            .map_err(|cause| Error::fatal(format!("sign a request: {cause}")))?;
        *headers = std::mem::take(request.headers_mut());
        Ok(())
    }
}
