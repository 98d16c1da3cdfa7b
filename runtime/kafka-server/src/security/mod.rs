//! Who is at the other end of a connection, and what it may do.
//!
//! ```text
//! door ─ tls ─ session ─┬─ scram, oauth: who it says that it is
//!                       └─ users ─ principal ─ rights, quotas: what it may do, and how much
//! ```
//!
//! All of it is [`current`]: a session looks again, with its next request, when it has changed.

pub(crate) mod current;
pub(crate) mod door;
pub(crate) mod mechanism;
pub(crate) mod oauth;
pub(crate) mod principal;
pub(crate) mod quotas;
pub(crate) mod rights;
pub(crate) mod scram;
pub(crate) mod session;
pub(crate) mod stream;
pub(crate) mod subject;
pub(crate) mod tls;
pub(crate) mod users;

use std::sync::Arc;
use std::time::Duration;

use mechanism::Mechanism;
use oauth::{OAuth, Tokens};
use principal::Principal;
use tls::{Naming, Tls};
use users::Users;

/// How clients come to be known. Nothing said: nobody is asked, and everybody may do everything.
#[derive(Clone, Default)]
pub struct Security {
    /// What makes connections secure.
    pub tls: Option<Arc<Tls>>,
    /// By which of SASL's mechanisms clients may say who they are.
    pub mechanisms: Vec<Mechanism>,
    /// Who is known.
    pub users: Option<Arc<Users>>,
    /// Whose tokens count.
    pub oauth: Option<Arc<OAuth>>,
    /// After how long a client has to say again who it is.
    pub session: Option<Duration>,
}

/// The rule by which somebody is known. Under another one a name means somebody else.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rule<'a> {
    /// Nobody is asked.
    Unasked,
    /// A certificate, and what of it is the name.
    Certificate(Naming),
    /// A password, by one of the mechanisms that ask for one.
    Password(Mechanism),
    /// A token, and which of them count.
    Token(&'a Tokens),
}

impl Security {
    /// Whether clients must say who they are.
    pub(crate) fn asks(&self) -> bool {
        !self.mechanisms.is_empty() || self.knows_certificates()
    }

    /// Whether clients can be known by certificates.
    pub(crate) fn knows_certificates(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.knows_clients())
    }

    /// By which rule somebody is known who says so by a mechanism, or by a certificate; nothing where it can not be known so.
    pub(crate) fn rule(&self, by: Option<Mechanism>) -> Option<Rule<'_>> {
        match by {
            _ if !self.asks() => Some(Rule::Unasked),
            None => self.tls.as_ref().filter(|tls| tls.knows_clients()).map(|tls| Rule::Certificate(tls.naming())),
            Some(by) if !self.mechanisms.contains(&by) => None,
            Some(Mechanism::OAuthBearer) => self.oauth.as_ref().map(|oauth| Rule::Token(oauth.tokens())),
            Some(by) => Some(Rule::Password(by)),
        }
    }

    /// Who somebody is that has proved its name by a mechanism.
    pub(crate) fn proved(&self, name: &str, by: Mechanism) -> Option<Principal> {
        let users = self.users.as_ref().filter(|_| self.mechanisms.contains(&by))?;
        match by {
            Mechanism::OAuthBearer => Some(users.principal(name)),
            Mechanism::Plain | Mechanism::ScramSha256 | Mechanism::ScramSha512 => users.with_password(name),
        }
    }

    /// Who somebody is that has shown a certificate of a name.
    pub(crate) fn certified(&self, name: &str) -> Option<Principal> {
        Some(self.users.as_ref()?.principal(name))
    }
}

impl std::fmt::Debug for Security {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Security").field("mechanisms", &self.mechanisms).finish_non_exhaustive()
    }
}
