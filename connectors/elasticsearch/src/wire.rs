//! How a request travels to a node and its answer back, of which no more is kept than an answer to that request can have.

use aqueduct_api::{Error, Result, add_causes};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use reqwest::header::HeaderMap;
use reqwest::{Method, Url};

use crate::tls::Tls;

/// Where requests go through: HTTP, or what a simulation puts in its place.
#[async_trait]
pub trait Wire: Send + Sync {
    /// Sends a request and waits for the whole answer; whoever asks bounds the time.
    ///
    /// # Errors
    /// Why there is no answer: the request may have been carried out all the same.
    async fn exchange(&self, call: Call) -> Result<Reply, String>;
}

/// A request.
#[derive(Clone, Debug)]
pub struct Call {
    /// What is to be done.
    pub method: Method,
    /// With whom, and with what.
    pub url: Url,
    /// Headers, among them those that say who we are.
    pub headers: HeaderMap,
    /// The body, as it travels.
    pub body: Bytes,
    /// The most bytes that an answer to it can have: what is longer is none.
    pub room: usize,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// The body, whole.
    pub body: Bytes,
}

/// HTTP.
pub(crate) struct Http(reqwest::Client);

impl Http {
    pub(crate) fn new(tls: Option<&Tls>) -> Result<Self> {
        // A redirect is for browsers: a login page in front of the cluster must not be taken for it.
        let builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let builder = match tls {
            Some(tls) => tls.certified(builder)?,
            None => builder,
        };
        Ok(Http(builder.build().map_err(|cause| Error::fatal(format!("setting tls: {}", chain(&cause))))?))
    }
}

#[async_trait]
impl Wire for Http {
    async fn exchange(&self, call: Call) -> Result<Reply, String> {
        let Call { method, url, headers, body, room } = call;
        let sent = self.0.request(method, url).headers(headers).body(body).send().await;
        let mut response = sent.map_err(told)?;
        let mut body = BytesMut::new();
        while let Some(part) = response.chunk().await.map_err(told)? {
            if body.len() + part.len() > room {
                return Err(format!("an answer of more than {room} bytes is none"));
            }
            body.extend_from_slice(&part);
        }
        Ok(Reply {
            status: response.status().as_u16(),
            headers: std::mem::take(response.headers_mut()),
            body: body.freeze(),
        })
    }
}

/// A failure without the address, which is told by whoever knows what may be shown of it.
fn told(cause: reqwest::Error) -> String {
    chain(&cause.without_url())
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    add_causes(error, &mut text);
    text
}
