//! The header that proves who we are.

use std::sync::Arc;

use aqueduct_api::{Error, Result, Secret};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};

use crate::oauth2::{OAuth2, Token, Tokens};

/// Where the header comes from that proves who we are.
pub enum Credentials {
    /// Nobody asks.
    None,
    /// Always the same.
    Fixed(HeaderName, HeaderValue),
    /// From a server.
    Token(Box<Tokens>),
}

/// A header to send, and the token in it, if there is one.
pub type Header = (HeaderName, HeaderValue, Option<Arc<Token>>);

impl Credentials {
    /// A header of any name. `setting` says where the value comes from, for messages.
    ///
    /// # Errors
    /// `Fatal` where no header can hold the value.
    pub fn fixed(setting: &str, name: HeaderName, value: &str) -> Result<Self> {
        Ok(Credentials::Fixed(name, sensitive(setting, value)?))
    }

    /// A user name and a password.
    ///
    /// # Errors
    /// As [`Credentials::fixed`].
    pub fn basic(setting: &str, username: &str, password: &Secret) -> Result<Self> {
        Credentials::fixed(setting, AUTHORIZATION, &basic_header(username, password.reveal()))
    }

    /// A token that was given to us.
    ///
    /// # Errors
    /// As [`Credentials::fixed`].
    pub fn bearer(setting: &str, token: &Secret) -> Result<Self> {
        Credentials::fixed(setting, AUTHORIZATION, &format!("Bearer {}", token.reveal()))
    }

    /// Tokens that `client` fetches. `setting` is where `settings` stand.
    pub fn oauth2(setting: &'static str, settings: &OAuth2, client: &reqwest::Client) -> Self {
        Credentials::Token(Box::new(Tokens::new(setting, settings, client)))
    }

    /// The header to send; `refused` is a token that a server did not take.
    ///
    /// # Errors
    /// As [`OAuth2`] says, where a token has to be fetched.
    pub async fn header(&self, refused: Option<&Arc<Token>>) -> Result<Option<Header>> {
        match self {
            Credentials::None => Ok(None),
            Credentials::Fixed(name, value) => Ok(Some((name.clone(), value.clone(), None))),
            Credentials::Token(tokens) => {
                let token = tokens.token(refused).await.map_err(|error| error.context("get a token"))?;
                Ok(Some((AUTHORIZATION, token.header().clone(), Some(token))))
            }
        }
    }
}

pub(crate) fn basic_header(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

fn sensitive(setting: &str, text: &str) -> Result<HeaderValue> {
    let value = HeaderValue::from_str(text);
    let mut value = value.map_err(|_| Error::fatal(format!("setting {setting}: holds what no header can hold")))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn fixed_headers_hide_their_values_and_hold_what_a_header_can() {
        let secret = |text: &str| serde_json::from_value::<Secret>(text.into()).unwrap();
        let basic = Credentials::basic("s", "a", &secret("b:c")).unwrap();
        let (name, value, token) = basic.header(None).await.unwrap().unwrap();
        assert_eq!((name, value.to_str().unwrap(), token.is_none()), (AUTHORIZATION, "Basic YTpiOmM=", true));
        assert!(value.is_sensitive());
        let error = Credentials::bearer("registry.token", &secret("a\nb")).err().unwrap().to_string();
        assert_eq!(error, "setting registry.token: holds what no header can hold");
        assert!(Credentials::None.header(None).await.unwrap().is_none());
    }
}
