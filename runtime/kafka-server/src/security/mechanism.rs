//! The ways of SASL to say who one is.

/// A way to say who one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// A name and a password, as they are.
    Plain,
    /// A proof of a password, with SHA-256.
    ScramSha256,
    /// A proof of a password, with SHA-512.
    ScramSha512,
    /// A token.
    OAuthBearer,
}

impl Mechanism {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha512 => "SCRAM-SHA-512",
            Mechanism::OAuthBearer => "OAUTHBEARER",
        }
    }
}
