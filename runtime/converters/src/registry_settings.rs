//! Where a schema registry is and how it is asked.

use std::path::{Path, PathBuf};

use aqueduct_api::disk::Open;
use aqueduct_api::{Edge, Error, Problem, Result, Secret, Span};
use reqwest::Url;
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
        match (&self.username, &self.password, &self.token) {
            (None, None, _) | (Some(_), Some(_), None) => {}
            (Some(_), None, _) => problems.push(Problem::new("registry.password", "is missing beside `username`")),
            (None, Some(_), _) => problems.push(Problem::new("registry.username", "is missing beside `password`")),
            (Some(_), Some(_), Some(_)) => {
                problems.push(Problem::new("registry.token", "and `username` exclude each other"));
            }
        }
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
