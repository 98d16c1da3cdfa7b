//! TLS whose certificate is read again when its files change.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_api::{Edge, Result};
use aqueduct_tls::{ClientCertificates, Files, ServerTls};
use parking_lot::RwLock;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

use super::subject::Subject;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// What makes connections secure.
pub struct Tls {
    files: ServerTls,
    folder: PathBuf,
    edge: Edge,
    clients: ClientCertificates,
    naming: Naming,
    current: RwLock<Arc<ServerConfig>>,
    /// What the files held when they were last looked at.
    seen: tokio::sync::Mutex<Files>,
}

/// What of a client's certificate is its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Naming {
    /// The whole subject, as Kafka has it.
    #[default]
    Subject,
    /// The common name in it.
    CommonName,
    /// Nothing: who shows one may come in, and says by a mechanism who it is, as over Kafka's SASL_SSL.
    Nobody,
}

impl Tls {
    /// Reads the files, which `files` names from `folder` on.
    ///
    /// # Errors
    /// `Fatal` where one can not be read, or is not what it should be.
    pub async fn open(
        files: ServerTls,
        folder: PathBuf,
        edge: Edge,
        clients: ClientCertificates,
        naming: Naming,
    ) -> Result<Self> {
        let seen = Files::read(&files, &edge, &folder).await?;
        let current = RwLock::new(Arc::new(seen.config(clients)?));
        Ok(Tls { files, folder, edge, clients, naming, current, seen: tokio::sync::Mutex::new(seen) })
    }

    /// Whether clients can be known by certificates.
    pub(crate) fn knows_clients(&self) -> bool {
        self.files.client_ca.is_some() && self.naming != Naming::Nobody
    }

    /// What of a client's certificate is its name.
    pub(crate) fn naming(&self) -> Naming {
        self.naming
    }

    /// Makes a connection secure: who is at the other end, where it has a certificate.
    pub(crate) async fn accept(&self, stream: TcpStream) -> std::io::Result<(TlsStream<TcpStream>, Option<String>)> {
        let config = self.current.read().clone();
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let name = match certificate.map(|certificate| Subject::of(certificate)) {
            None => None,
            Some(subject) => {
                let name = subject.and_then(|subject| match self.naming {
                    Naming::Subject => Some(subject.whole()),
                    Naming::CommonName => subject.common_name().map(str::to_owned),
                    Naming::Nobody => None,
                });
                // A certificate that names nobody is as good as none.
                name.filter(|name| !name.is_empty())
            }
        };
        Ok((stream, name))
    }

    /// Goes by the files' new content whenever it changes; what is of no use is told of, and changes nothing.
    pub(crate) async fn watch(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            self.look().await;
        }
    }

    async fn look(&self) {
        let mut seen = self.seen.lock().await;
        // A file that is not there is about to be: its replacement is not whole yet.
        let Ok(found) = Files::read(&self.files, &self.edge, &self.folder).await else { return };
        if *seen == found {
            return;
        }
        match found.config(self.clients) {
            Ok(config) => {
                *self.current.write() = Arc::new(config);
                tracing::info!("Kafka clients are shown a new certificate");
            }
            Err(cause) => {
                tracing::warn!(%cause, "the certificate for Kafka clients has changed and is of no use: the one before it stays")
            }
        }
        *seen = found;
    }
}
