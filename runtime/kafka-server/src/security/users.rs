//! Who is known, by what, and what it may do.

use std::collections::BTreeMap;
use std::sync::Arc;

use aqueduct_api::Secret;

use super::principal::Principal;
use super::quotas::{Quota, Used};
use super::rights::Rights;
use super::scram::{Hash, ITERATIONS, Stored, random};

/// The name under which all others are meant that are known by a certificate or a token.
pub const OTHERS: &str = "*";
/// Bytes of a salt.
const SALT: usize = 16;

/// Somebody who may be known.
#[derive(Clone, Debug)]
pub struct User {
    /// By what it is known, besides a certificate or a token of that name.
    pub credentials: Credentials,
    /// What it may do.
    pub rights: Rights,
    /// How much of it.
    pub quota: Quota,
}

/// By what a user is known.
#[derive(Clone, Debug, Default)]
pub enum Credentials {
    /// By no password.
    #[default]
    None,
    /// By a password.
    Password(Secret),
    /// By what is kept of a password, as Kafka writes it, for each of the two functions that may hash it.
    Scram {
        /// For SCRAM-SHA-256.
        sha_256: Option<Secret>,
        /// For SCRAM-SHA-512.
        sha_512: Option<Secret>,
    },
}

/// Who is known.
pub struct Users {
    known: BTreeMap<String, Known>,
    /// What salts are made of: of those who are not known too, who must look like others.
    pepper: Vec<u8>,
}

struct Known {
    principal: Principal,
    sha_256: Option<Stored>,
    sha_512: Option<Stored>,
}

impl Users {
    /// All of them, by name. Passwords are hashed here, which takes a few milliseconds for each.
    ///
    /// # Errors
    /// Which credentials are malformed, for people.
    pub fn new(users: impl IntoIterator<Item = (String, User)>) -> Result<Self, String> {
        Users { known: BTreeMap::new(), pepper: random(32) }.changed(users)
    }

    /// All of them from now on. Who was among them before still owes what it has used; and nobody learns from a change who is.
    ///
    /// # Errors
    /// Which credentials are malformed, for people.
    pub fn changed(&self, users: impl IntoIterator<Item = (String, User)>) -> Result<Self, String> {
        let mut known = BTreeMap::new();
        for (name, User { credentials, rights, quota }) in users {
            let parse =
                |hash, secret: Option<&Secret>| secret.map(|secret| Stored::parse(hash, secret.reveal())).transpose();
            let of = |hash, password: &Secret| Stored::of(hash, password.reveal(), self.salt(&name), ITERATIONS);
            let (sha_256, sha_512) = match &credentials {
                Credentials::None => (None, None),
                Credentials::Password(password) => (Some(of(Hash::Sha256, password)), Some(of(Hash::Sha512, password))),
                Credentials::Scram { sha_256, sha_512 } => {
                    let wrong = |cause| format!("users.{name}: {cause}");
                    let sha_256 = parse(Hash::Sha256, sha_256.as_ref()).map_err(wrong)?;
                    (sha_256, parse(Hash::Sha512, sha_512.as_ref()).map_err(wrong)?)
                }
            };
            let used = match self.known.get(&name) {
                Some(before) => before.principal.used().under(quota),
                None => Used::new(quota),
            };
            let principal = Principal::new(&name, Arc::new(rights), used);
            known.insert(name, Known { principal, sha_256, sha_512 });
        }
        Ok(Users { known, pepper: self.pepper.clone() })
    }

    /// The same for a name each time, whether somebody has it or not.
    fn salt(&self, name: &str) -> Vec<u8> {
        let mut salt = Hash::Sha256.hmac(&self.pepper, name.as_bytes());
        salt.truncate(SALT);
        salt
    }

    /// Somebody whose name was proved.
    pub(crate) fn principal(&self, name: &str) -> Principal {
        match (self.known.get(name), self.known.get(OTHERS)) {
            (Some(known), _) => known.principal.clone(),
            (None, Some(others)) => others.principal.called(name),
            (None, None) => Principal::new(name, Arc::default(), Arc::default()),
        }
    }

    /// Somebody who has a password.
    pub(crate) fn with_password(&self, name: &str) -> Option<Principal> {
        let known = self.known.get(name).filter(|known| known.sha_256.is_some() || known.sha_512.is_some());
        known.map(|known| known.principal.clone())
    }

    /// What is kept of a user's password; of nobody's, where there is none.
    pub(crate) fn stored(&self, hash: Hash, name: &str) -> Stored {
        let known = self.known.get(name);
        let stored = known.and_then(|known| match hash {
            Hash::Sha256 => known.sha_256.clone(),
            Hash::Sha512 => known.sha_512.clone(),
        });
        stored.unwrap_or_else(|| Stored::of_nobody(hash, self.salt(name)))
    }

    /// What a plain password is compared with.
    pub(crate) fn stored_of_any(&self, name: &str) -> Stored {
        let has_512_alone = self.known.get(name).is_some_and(|it| it.sha_256.is_none() && it.sha_512.is_some());
        self.stored(if has_512_alone { Hash::Sha512 } else { Hash::Sha256 }, name)
    }
}
