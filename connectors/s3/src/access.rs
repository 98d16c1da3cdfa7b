//! How a store is reached.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_api::{Error, Problem, Result, Secret};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::keys::AnyKey;
use crate::protection::{Acl, Checksum, Encryption, checked, encrypted};
use crate::role::{AssumedRole, Role};

/// How a store is reached: what the settings of source and sink say alike.
pub(crate) struct Access<'a> {
    pub(crate) endpoint: Option<&'a str>,
    pub(crate) allow_http: bool,
    pub(crate) path_style: Option<bool>,
    pub(crate) region: Option<&'a str>,
    pub(crate) access_key_id: Option<&'a Secret>,
    pub(crate) secret_access_key: Option<&'a Secret>,
    pub(crate) session_token: Option<&'a Secret>,
    /// The role that is assumed.
    pub(crate) role: Option<&'a Role>,
    /// How what is written is encrypted.
    pub(crate) encryption: Option<&'a Encryption>,
    /// What goes with the bytes that are written.
    pub(crate) checksum: Option<Checksum>,
    /// How long one request may take.
    pub(crate) timeout: Duration,
}

impl Access<'_> {
    /// What is wrong with it.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Some(endpoint) = self.endpoint {
            let message = match endpoint.split_once("://") {
                Some(("http", host)) if !host.is_empty() => (!self.allow_http)
                    .then(|| format!("`{endpoint}` is not encrypted: use https, or say `allow-http: true`")),
                Some(("https", host)) if !host.is_empty() => None,
                _ => Some(format!("`{endpoint}` is no address, expected for example `https://minio:9000`")),
            };
            problems.extend(message.map(|message| Problem::new("endpoint", message)));
        }
        match (&self.access_key_id, &self.secret_access_key) {
            (Some(_), None) => problems.push(Problem::new("secret-access-key", "is missing beside `access-key-id`")),
            (None, Some(_)) => problems.push(Problem::new("access-key-id", "is missing beside `secret-access-key`")),
            _ => {}
        }
        problems
    }
}

/// A client of the store that the settings name.
pub(crate) fn client(settings: &Access<'_>, bucket: &str) -> Result<AmazonS3> {
    let builder = builder(settings, bucket).with_client_options(options(settings));
    let store = built(builder.clone(), bucket)?;
    let Some(role) = settings.role else { return Ok(store) };
    let role = AssumedRole::new(role, region(settings, &builder), store.credentials().clone());
    let role = role.map_err(|why| told(bucket, &why))?;
    built(builder.with_credentials(Arc::new(role)), bucket)
}

/// A client with the credentials of `client` for requests that make an object or begin one. `object_store` knows no ACL,
/// but signs a client's own headers with each request; other requests must not have this one.
pub(crate) fn creating(settings: &Access<'_>, bucket: &str, client: &AmazonS3, acl: Acl) -> Result<AmazonS3> {
    let headers = HeaderMap::from_iter([(ACL, HeaderValue::from_static(acl.name()))]);
    let options = options(settings).with_default_headers(headers);
    let builder = builder(settings, bucket).with_credentials(client.credentials().clone());
    built(builder.with_client_options(options), bucket)
}

/// A client with the credentials of `client` that lists and reads objects whatever their keys are, by names of ours.
pub(crate) fn reading(settings: &Access<'_>, bucket: &str, client: &AmazonS3) -> Result<AmazonS3> {
    let credentials = client.credentials().clone();
    let builder = builder(settings, bucket).with_client_options(options(settings));
    let keys = AnyKey { credentials: credentials.clone(), region: region(settings, &builder) };
    built(builder.with_credentials(credentials).with_http_connector(keys), bucket)
}

const ACL: HeaderName = HeaderName::from_static("x-amz-acl");

fn region(settings: &Access<'_>, builder: &AmazonS3Builder) -> String {
    let region = settings.region.map(str::to_owned).or_else(|| builder.get_config_value(&AmazonS3ConfigKey::Region));
    region.unwrap_or_else(|| "us-east-1".to_owned())
}

fn options(settings: &Access<'_>) -> ClientOptions {
    ClientOptions::new()
        .with_connect_timeout(Duration::from_secs(5))
        .with_timeout(settings.timeout)
        .with_allow_http(settings.allow_http)
}

fn builder(settings: &Access<'_>, bucket: &str) -> AmazonS3Builder {
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    if let Some(endpoint) = settings.endpoint {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/')).with_allow_http(settings.allow_http);
    }
    if let Some(region) = settings.region {
        builder = builder.with_region(region);
    }
    if let (Some(id), Some(key)) = (settings.access_key_id, settings.secret_access_key) {
        builder = builder.with_access_key_id(id.reveal()).with_secret_access_key(key.reveal());
    }
    if let Some(token) = settings.session_token {
        builder = builder.with_token(token.reveal());
    }
    if let Some(encryption) = settings.encryption {
        builder = encrypted(builder, encryption);
    }
    if let Some(checksum) = settings.checksum {
        builder = checked(builder, checksum);
    }
    let path_style = settings.path_style.unwrap_or(settings.endpoint.is_some());
    // The engine retries whole chunks; these only bridge a hiccup.
    let backoff = BackoffConfig { init_backoff: Duration::from_millis(100), ..BackoffConfig::default() };
    let retry = RetryConfig { backoff, max_retries: 2, retry_timeout: Duration::from_secs(30) };
    builder.with_virtual_hosted_style_request(!path_style).with_retry(retry)
}

fn built(builder: AmazonS3Builder, bucket: &str) -> Result<AmazonS3> {
    builder.build().map_err(|cause| told(bucket, &cause))
}

fn told(bucket: &str, cause: &dyn fmt::Display) -> Error {
    Error::fatal(format!("s3://{bucket}: {cause}"))
}
