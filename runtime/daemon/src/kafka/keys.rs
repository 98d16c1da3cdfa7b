//! The keys that sign Kafka clients' tokens, read again when they change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aqueduct_api::{Edge, Error, Result};
use aqueduct_kafka_server::OAuth;

/// How often a file is looked at.
const FILE: Duration = Duration::from_secs(5);
/// How often a URL is asked again.
const URL: Duration = Duration::from_secs(300);
/// The shortest time between two questions to a URL, whatever clients send.
const SOONEST: Duration = Duration::from_secs(10);
/// How long a URL may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most bytes of keys.
const LARGEST: usize = 1 << 20;

/// Where the keys are.
pub(super) struct Keys {
    place: Place,
    known: Arc<OAuth>,
}

enum Place {
    File { path: String, edge: Edge, folder: PathBuf },
    Url(String, reqwest::Client),
}

impl Keys {
    /// Reads keys from `place`, a file or a URL. One that does not answer is asked again: until then no token counts.
    pub(super) async fn read(place: &str, known: Arc<OAuth>, edge: &Edge, folder: &Path) -> Result<Keys> {
        let is_url = place.starts_with("https://") || place.starts_with("http://");
        let place = match is_url {
            false => Place::File { path: place.to_owned(), edge: edge.clone(), folder: folder.to_owned() },
            true => {
                let client = reqwest::Client::builder().timeout(PATIENCE).build();
                let client = client.map_err(|cause| Error::fatal(format!("setting oauth.keys: {cause}")))?;
                Place::Url(place.to_owned(), client)
            }
        };
        let keys = Keys { place, known };
        match (keys.renew().await, &keys.place) {
            (Err(why), Place::File { .. }) => Err(Error::fatal(format!("setting oauth.keys: {why}"))),
            (Err(why), Place::Url(..)) => {
                tracing::warn!(%why, "the keys of Kafka clients' tokens can not be had yet: no token counts until then");
                Ok(keys)
            }
            (Ok(()), _) => Ok(keys),
        }
    }

    async fn renew(&self) -> std::result::Result<(), String> {
        let bytes = match &self.place {
            Place::File { path, edge, folder } => {
                let read = aqueduct_tls::read(edge, folder, path, "oauth.keys").await;
                read.map_err(|cause| cause.to_string())?
            }
            Place::Url(url, client) => {
                let told = |cause: reqwest::Error| cause.without_url().to_string();
                let answer = client.get(url).send().await.and_then(reqwest::Response::error_for_status);
                let mut answer = answer.map_err(told)?;
                let mut bytes = Vec::new();
                while let Some(some) = answer.chunk().await.map_err(told)? {
                    if bytes.len() + some.len() > LARGEST {
                        return Err(format!("it is longer than {LARGEST} bytes"));
                    }
                    bytes.extend_from_slice(&some);
                }
                bytes
            }
        };
        self.known.set_keys(&bytes)
    }

    /// Goes by the keys as they are, until dropped.
    pub(super) async fn watch(&self) {
        let mut last = String::new();
        loop {
            match &self.place {
                Place::File { .. } => tokio::time::sleep(FILE).await,
                Place::Url(..) => {
                    tokio::time::sleep(SOONEST).await;
                    tokio::select! {
                        () = tokio::time::sleep(URL) => {}
                        () = self.known.missed() => {}
                    }
                }
            }
            let why = self.renew().await.err().unwrap_or_default();
            if !why.is_empty() && why != last {
                tracing::warn!(%why, "the keys of Kafka clients' tokens can not be read again: those before them stay");
            }
            last = why;
        }
    }
}
