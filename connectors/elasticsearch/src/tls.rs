//! Certificates: whose signature a node's must carry, and which one is ours.

use std::path::{Path, PathBuf};

use aqueduct_api::disk::Open;
use aqueduct_api::{Edge, Error, Result};
use schemars::JsonSchema;
use serde::Deserialize;

/// Certificates of one's own.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TlsSettings {
    /// A file with the certificates (PEM) of whoever signs the nodes' certificates, in place of those that the machine
    /// trusts.
    pub ca: Option<PathBuf>,
    /// A file with our certificate (PEM), where the cluster asks for one.
    pub certificate: Option<PathBuf>,
    /// A file with the key of our certificate (PEM).
    pub key: Option<PathBuf>,
}

/// What the files hold.
pub(crate) struct Tls {
    ca: Option<Vec<u8>>,
    identity: Option<Vec<u8>>,
}

impl Tls {
    /// Reads the files; relative paths start at `folder`.
    pub(crate) async fn read(settings: &TlsSettings, folder: &Path, edge: &Edge) -> Result<Self> {
        let ca = match &settings.ca {
            Some(path) => Some(read("tls.ca", &folder.join(path), edge).await?),
            None => None,
        };
        let identity = match (&settings.certificate, &settings.key) {
            (Some(certificate), Some(key)) => {
                let mut pem = read("tls.certificate", &folder.join(certificate), edge).await?;
                pem.push(b'\n');
                pem.extend(read("tls.key", &folder.join(key), edge).await?);
                Some(pem)
            }
            _ => None,
        };
        Ok(Tls { ca, identity })
    }

    /// An HTTP client that goes by them.
    pub(crate) fn certified(&self, mut builder: reqwest::ClientBuilder) -> Result<reqwest::ClientBuilder> {
        let told = |setting: &str, cause: reqwest::Error| Error::fatal(format!("setting {setting}: {cause}"));
        if let Some(pem) = &self.ca {
            let certificates = reqwest::Certificate::from_pem_bundle(pem).map_err(|cause| told("tls.ca", cause))?;
            if certificates.is_empty() {
                return Err(Error::fatal("setting tls.ca: the file holds no certificate"));
            }
            builder = builder.tls_certs_only(certificates);
        }
        if let Some(pem) = &self.identity {
            let identity = reqwest::Identity::from_pem(pem).map_err(|cause| told("tls.certificate", cause))?;
            builder = builder.identity(identity);
        }
        Ok(builder)
    }
}

async fn read(setting: &'static str, path: &Path, edge: &Edge) -> Result<Vec<u8>> {
    /// More than any chain of certificates.
    const LARGEST: usize = 1 << 20;
    let (disk, path) = (edge.disk.clone(), path.to_owned());
    let read = move || {
        let mut bytes = Vec::new();
        let read = disk.open(&path, Open::Read).and_then(|file| file.read_at(&mut bytes, LARGEST, 0));
        read.map(|_| bytes)
            .map_err(|cause| Error::fatal(format!("setting {setting}: read {}: {cause}", path.display())))
    };
    edge.blocking(read).await?
}
