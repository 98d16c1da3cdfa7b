//! What makes a server's connections secure: certificates and keys, from files of PEM.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use aqueduct_api::{Edge, Error, Result, disk::Open};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use schemars::JsonSchema;
use serde::Deserialize;

/// The most bytes of a file of certificates: system bundles have some 200 KiB.
const LARGEST: usize = 4 << 20;

/// Files of PEM, relative to the configuration's folder.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ServerTls {
    /// The certificate, with those between it and its root.
    pub certificate: String,
    /// The certificate's key, unencrypted.
    pub key: String,
    /// Whose certificates clients must have; absent: they need none.
    pub client_ca: Option<String>,
}

/// Whether clients come with certificates, where there is an authority for these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClientCertificates {
    /// All of them.
    #[default]
    Required,
    /// Who has none is served as well.
    Wanted,
}

/// What the files hold.
#[derive(PartialEq, Eq)]
pub struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Files {
    /// Reads them.
    ///
    /// # Errors
    /// `Fatal` where one can not be read.
    pub async fn read(tls: &ServerTls, edge: &Edge, folder: &Path) -> Result<Self> {
        let certificate = read(edge, folder, &tls.certificate, "tls.certificate").await?;
        let key = read(edge, folder, &tls.key, "tls.key").await?;
        let client_ca = match &tls.client_ca {
            Some(path) => Some(read(edge, folder, path, "tls.client-ca").await?),
            None => None,
        };
        Ok(Files { certificate, key, client_ca })
    }

    /// What a server goes by.
    ///
    /// # Errors
    /// `Fatal` where a file holds something else than it should, or the key is another certificate's.
    pub fn config(&self, clients: ClientCertificates) -> Result<ServerConfig> {
        let chain = certificates(&self.certificate, "certificate")?;
        let key = PrivateKeyDer::from_pem_slice(&self.key);
        let key = key.map_err(|cause| wrong("key", &format!("holds no key: {cause:?}")))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|cause| wrong("certificate", &cause))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(authorities) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(authorities, "client-ca")? {
                    roots.add(certificate).map_err(|cause| wrong("client-ca", &cause))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = match clients {
                    ClientCertificates::Required => verifier,
                    ClientCertificates::Wanted => verifier.allow_unauthenticated(),
                };
                builder.with_client_cert_verifier(verifier.build().map_err(|cause| wrong("client-ca", &cause))?)
            }
        };
        builder.with_single_cert(chain, key).map_err(|cause| wrong("certificate", &cause))
    }
}

fn wrong(setting: &str, cause: &dyn Display) -> Error {
    Error::fatal(format!("setting tls.{setting}: {cause}"))
}

fn certificates(pem: &[u8], setting: &str) -> Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(wrong(setting, &"the file holds no certificate")),
        Err(cause) => Err(wrong(setting, &format!("no PEM: {cause:?}"))),
    }
}

/// Reads a file that a setting names, relative to the configuration's folder.
///
/// # Errors
/// `Fatal` where it can not be read.
pub async fn read(edge: &Edge, folder: &Path, path: &str, setting: &'static str) -> Result<Vec<u8>> {
    let path = folder.join(path);
    let disk = edge.disk.clone();
    let shown = path.clone();
    let read = move || {
        let file = disk.open(&path, Open::Read)?;
        let mut bytes = Vec::new();
        file.read_at(&mut bytes, LARGEST, 0)?;
        Ok::<_, std::io::Error>(bytes)
    };
    let bytes = edge.blocking(read).await?;
    bytes.map_err(|cause| Error::fatal(format!("setting {setting}: read {}: {cause}", shown.display())))
}
