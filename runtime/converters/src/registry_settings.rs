//! Where a schema registry is and how it is asked.

use std::path::{Path, PathBuf};

use aqueduct_api::disk::Open;
use aqueduct_api::{Edge, Error, Problem, Result, Secret, Span};
use aqueduct_http_client::OAuth2;
use reqwest::Url;
use reqwest::header::HeaderValue;
use schemars::JsonSchema;
use serde::Deserialize;

/// The most bytes of a file with certificates.
const LARGEST_FILE: usize = 4 << 20;

/// A schema registry with Confluent's API: Confluent's own, Apicurio's (`/apis/ccompat/v7`), Karapace, Redpanda's.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RegistrySettings {
    /// The registry's address, `https://registry:8081`, or a list of several: they are asked in turn, beginning with the one
    /// that answered last.
    pub url: Urls,
    /// User name, with `password`. Confluent Cloud: the API key.
    pub username: Option<String>,
    /// Password. Confluent Cloud: the API key's secret.
    pub password: Option<Secret>,
    /// A bearer token, in place of user name and password.
    pub token: Option<Secret>,
    /// OAuth2 client credentials, in place of user name and password: a token is fetched, kept, and fetched anew before it
    /// expires or when the registry does not take it any more.
    pub oauth2: Option<OAuth2>,
    /// Goes with a token, of Confluent Cloud: the registry's logical cluster, `lsrc-abc123`, as `target-sr-cluster`.
    pub logical_cluster: Option<String>,
    /// Goes with a token, of Confluent Cloud: the identity pool, or several with commas between, `pool-xyz`, as
    /// `Confluent-Identity-Pool-Id`.
    pub identity_pool: Option<String>,
    /// Certificates of one's own.
    pub tls: Option<TlsSettings>,
    /// How long an answer may take. Default: 10s.
    #[serde(default = "timeout")]
    pub timeout: Span,
    /// How many schemas are kept in memory. Default: 1000.
    #[serde(default = "cache")]
    pub cache: u32,
}

/// One address or several.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Urls {
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

/// Certificates of ours and of whom we trust; files of PEM, relative to the configuration's folder.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TlsSettings {
    /// Whom we trust, in place of those whom the machine trusts.
    pub ca: Option<PathBuf>,
    /// Our own certificate, with those between it and its root.
    pub certificate: Option<PathBuf>,
    /// The certificate's key, unencrypted.
    pub key: Option<PathBuf>,
}

fn timeout() -> Span {
    Span::millis(10_000)
}

fn cache() -> u32 {
    1000
}

impl Urls {
    /// All of them.
    pub(crate) fn all(&self) -> &[String] {
        match self {
            Urls::One(url) => std::slice::from_ref(url),
            Urls::Several(urls) => urls,
        }
    }
}

impl RegistrySettings {
    /// What is wrong with them.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        match self.url.all() {
            [] => problems.push(Problem::new("registry.url", "names no registry")),
            urls => {
                problems.extend(urls.iter().filter_map(|url| Some(Problem::new("registry.url", address(url).err()?))));
            }
        }
        problems.extend(self.credential_problems());
        match &self.tls {
            Some(TlsSettings { certificate: Some(_), key: None, .. }) => {
                problems.push(Problem::new("registry.tls.key", "is missing beside `certificate`"));
            }
            Some(TlsSettings { certificate: None, key: Some(_), .. }) => {
                problems.push(Problem::new("registry.tls.certificate", "is missing beside `key`"));
            }
            _ => {}
        }
        let millis = self.timeout.duration().map_or(0, |it| it.as_millis());
        if !(1..=3_600_000).contains(&millis) {
            problems.push(Problem::new("registry.timeout", "expected 1ms to 1h"));
        }
        if !(1..=100_000).contains(&self.cache) {
            problems.push(Problem::new("registry.cache", "expected 1 to 100000"));
        }
        problems
    }
}

impl RegistrySettings {
    /// What is wrong with what proves who we are.
    fn credential_problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut add = |setting: &str, is_wrong: bool, why: &str| {
            if is_wrong {
                problems.push(Problem::new(format!("registry.{setting}"), why));
            }
        };
        add("password", self.username.is_some() && self.password.is_none(), "is missing beside `username`");
        add("username", self.password.is_some() && self.username.is_none(), "is missing beside `password`");
        let (has_name, has_token) = (self.username.is_some(), self.token.is_some());
        add("token", has_token && has_name, "and `username` exclude each other");
        add("oauth2", self.oauth2.is_some() && has_name, "and `username` exclude each other");
        add("oauth2", self.oauth2.is_some() && has_token, "and `token` exclude each other");
        let goes_with_none = self.oauth2.is_none() && !has_token;
        for (setting, value) in [("logical-cluster", &self.logical_cluster), ("identity-pool", &self.identity_pool)] {
            let Some(value) = value else { continue };
            add(setting, goes_with_none, "goes with `oauth2` or `token` alone");
            add(setting, HeaderValue::from_str(value).is_err(), "holds what no header can hold");
        }
        if let Some(Err((setting, why))) = self.oauth2.as_ref().map(OAuth2::check) {
            problems.push(Problem::new(format!("registry.oauth2.{setting}"), why));
        }
        problems
    }
}

impl TlsSettings {
    /// An HTTP client that goes by them.
    pub(crate) fn certified(
        &self,
        mut builder: reqwest::ClientBuilder,
        folder: &Path,
        edge: &Edge,
    ) -> Result<reqwest::ClientBuilder> {
        let told =
            |setting: &str, cause: reqwest::Error| Error::fatal(format!("setting registry.tls.{setting}: {cause}"));
        if let Some(path) = &self.ca {
            let pem = read("registry.tls.ca", &folder.join(path), LARGEST_FILE, edge)?;
            let trusted = reqwest::Certificate::from_pem_bundle(&pem).map_err(|cause| told("ca", cause))?;
            if trusted.is_empty() {
                let path = path.display();
                return Err(Error::fatal(format!("setting registry.tls.ca: {path} holds no certificate")));
            }
            builder = builder.tls_certs_only(trusted);
        }
        if let (Some(certificate), Some(key)) = (&self.certificate, &self.key) {
            let mut pem = read("registry.tls.certificate", &folder.join(certificate), LARGEST_FILE, edge)?;
            pem.push(b'\n');
            pem.extend(read("registry.tls.key", &folder.join(key), LARGEST_FILE, edge)?);
            let identity = reqwest::Identity::from_pem(&pem).map_err(|cause| told("certificate", cause))?;
            builder = builder.identity(identity);
        }
        Ok(builder)
    }
}

/// Reads a small file that a setting names; it is read once, when the transform opens.
pub(crate) fn read(setting: &str, path: &Path, most: usize, edge: &Edge) -> Result<Vec<u8>> {
    let wrong = |cause: String| Error::fatal(format!("setting {setting}: read {}: {cause}", path.display()));
    let file = edge.disk.open(path, Open::Read).map_err(|cause| wrong(cause.to_string()))?;
    let mut bytes = Vec::new();
    file.read_at(&mut bytes, most + 1, 0).map_err(|cause| wrong(cause.to_string()))?;
    match bytes.len() > most {
        true => Err(wrong(format!("is larger than {} KiB", most >> 10))),
        false => Ok(bytes),
    }
}

/// A registry's address; paths of requests are joined to it, so it ends as a folder does.
pub(crate) fn address(text: &str) -> Result<Url, String> {
    let mut url = Url::parse(text).map_err(|cause| format!("`{text}` is no address: {cause}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("user and password stand in settings of their own: `username`, `password`".to_owned());
    }
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(format!("`{text}` is no address, expected for example `https://registry:8081`"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("`{text}` says more than a place"));
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}
