//! SCRAM (RFC 5802, RFC 7677): a client proves that it knows a password, and the server that it knew it, unsaid.

use std::num::NonZeroU32;

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2, rand};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// How often a password is hashed, where that is not said: as in Kafka.
pub(crate) const ITERATIONS: u32 = 4096;
/// The most that may be said.
const MOST_ITERATIONS: u32 = 1_000_000;
/// The longest message that a client has to send.
const LONGEST: usize = 8 << 10;

/// Which function hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Hash {
    fn digest(self) -> &'static digest::Algorithm {
        match self {
            Hash::Sha256 => &digest::SHA256,
            Hash::Sha512 => &digest::SHA512,
        }
    }

    /// A message's code under a key.
    pub(crate) fn hmac(self, key: &[u8], message: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Hash::Sha256 => hmac::HMAC_SHA256,
            Hash::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), message).as_ref().to_vec()
    }

    fn hash(self, bytes: &[u8]) -> Vec<u8> {
        digest::digest(self.digest(), bytes).as_ref().to_vec()
    }

    fn length(self) -> usize {
        self.digest().output_len()
    }

    fn salted(self, password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
        let algorithm = match self {
            Hash::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Hash::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        };
        let mut salted = vec![0; self.length()];
        pbkdf2::derive(algorithm, NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN), salt, password, &mut salted);
        salted
    }
}

/// What is kept of a password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    hash: Hash,
    salt: Vec<u8>,
    iterations: u32,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
}

impl Stored {
    /// Of a password.
    pub(crate) fn of(hash: Hash, password: &str, salt: Vec<u8>, iterations: u32) -> Self {
        let salted = hash.salted(password.as_bytes(), &salt, iterations);
        let stored_key = hash.hash(&hash.hmac(&salted, b"Client Key"));
        let server_key = hash.hmac(&salted, b"Server Key");
        Stored { hash, salt, iterations, stored_key, server_key }
    }

    /// Of nobody: no password is its.
    pub(crate) fn of_nobody(hash: Hash, salt: Vec<u8>) -> Self {
        let (stored_key, server_key) = (random(hash.length()), random(hash.length()));
        Stored { hash, salt, iterations: ITERATIONS, stored_key, server_key }
    }

    /// As Kafka writes it: `salt=…,stored_key=…,server_key=…,iterations=…`, in any order.
    pub(crate) fn parse(hash: Hash, text: &str) -> Result<Self, String> {
        let part = |name: &str| {
            let found = text.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
            found.ok_or_else(|| format!("it has no `{name}=`"))
        };
        let bytes =
            |name: &str| BASE64_STANDARD.decode(part(name)?).map_err(|cause| format!("`{name}` is no base64: {cause}"));
        let iterations = part("iterations")?.parse().ok();
        let iterations = iterations.filter(|iterations| (ITERATIONS..=MOST_ITERATIONS).contains(iterations));
        let iterations = iterations.ok_or_else(|| format!("`iterations` is {ITERATIONS} to {MOST_ITERATIONS}"))?;
        let stored = Stored {
            hash,
            iterations,
            salt: bytes("salt")?,
            stored_key: bytes("stored_key")?,
            server_key: bytes("server_key")?,
        };
        match stored.stored_key.len() == hash.length() && stored.server_key.len() == hash.length() {
            true => Ok(stored),
            false => Err(format!("its keys are not {} bytes long", hash.length())),
        }
    }

    #[cfg(test)]
    pub(crate) fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// Whether a password is the one. Takes as long whatever is wrong.
    pub(crate) fn is_of(&self, password: &str) -> bool {
        let other = Stored::of(self.hash, password, self.salt.clone(), self.iterations);
        constant_time::verify_slices_are_equal(&other.stored_key, &self.stored_key).is_ok()
    }
}

/// So many bytes that nobody can guess.
pub(crate) fn random(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    rand::fill(&mut bytes).expect("AWS-LC ends the process itself where the system has no randomness");
    bytes
}

/// A conversation after its first two messages.
pub(crate) struct Exchange {
    user: String,
    stored: Stored,
    /// `n,,`, or with another name, as base64: what the client must repeat.
    channel: String,
    nonce: String,
    /// The first two messages.
    said: String,
}

/// Takes a client's first message: answers it with `nonce` added to the client's, for the user that `find` knows.
pub(crate) fn begin(
    message: &[u8],
    nonce: &str,
    find: impl FnOnce(&str) -> Stored,
) -> Result<(Exchange, String), String> {
    let text = text(message)?;
    let malformed = || "a SCRAM client's first message is malformed".to_owned();
    let mut parts = text.splitn(3, ',');
    let (flag, other, bare) = (parts.next(), parts.next(), parts.next());
    let (Some("n" | "y"), Some(other), Some(bare)) = (flag, other, bare) else { return Err(malformed()) };
    let mut attributes = bare.split(',');
    let user = attributes.next().and_then(|part| part.strip_prefix("n=")).and_then(unescaped).ok_or_else(malformed)?;
    let of_client = attributes.next().and_then(|part| part.strip_prefix("r=")).filter(|nonce| !nonce.is_empty());
    let of_client = of_client.ok_or_else(malformed)?;
    if attributes.any(|part| part.starts_with("tokenauth=")) {
        return Err("there are no delegation tokens here".to_owned());
    }
    let other = other.strip_prefix("a=").map(unescaped);
    if other.is_some_and(|other| other.as_deref() != Some(&*user)) {
        return Err("a client is who it says it is, not somebody else".to_owned());
    }
    let stored = find(&user);
    let nonce = format!("{of_client}{nonce}");
    let answer = format!("r={nonce},s={},i={}", BASE64_STANDARD.encode(&stored.salt), stored.iterations);
    let channel = BASE64_STANDARD.encode(&text[..text.len() - bare.len()]);
    let said = format!("{bare},{answer}");
    Ok((Exchange { user, stored, channel, nonce, said }, answer))
}

impl Exchange {
    /// Whether what it is about is what `find` knows to be kept of the user's password.
    pub(crate) fn is_about(&self, find: impl FnOnce(Hash, &str) -> Stored) -> bool {
        find(self.stored.hash, &self.user) == self.stored
    }

    /// Takes a client's last message: who it is, and the server's proof.
    pub(crate) fn finish(self, message: &[u8]) -> Result<(String, String), String> {
        let Exchange { user, stored, channel, nonce, said } = self;
        let text = text(message)?;
        let wrong = || "invalid credentials".to_owned();
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or_else(wrong)?;
        let mut parts = without_proof.split(',');
        let repeats_channel = parts.next().and_then(|part| part.strip_prefix("c=")) == Some(&*channel);
        // librdkafka before 2.6 says its own nonce twice, and Kafka, too, looks at the end alone.
        let repeats_nonce =
            parts.next().and_then(|part| part.strip_prefix("r=")).is_some_and(|said| said.ends_with(&nonce));
        if !repeats_channel || !repeats_nonce {
            return Err(wrong());
        }
        let proof = BASE64_STANDARD.decode(proof).map_err(|_| wrong())?;
        let said = format!("{said},{without_proof}");
        let signature = stored.hash.hmac(&stored.stored_key, said.as_bytes());
        if proof.len() != signature.len() {
            return Err(wrong());
        }
        let key: Vec<u8> = proof.iter().zip(&signature).map(|(proof, signature)| proof ^ signature).collect();
        constant_time::verify_slices_are_equal(&stored.hash.hash(&key), &stored.stored_key).map_err(|_| wrong())?;
        let of_server = stored.hash.hmac(&stored.server_key, said.as_bytes());
        Ok((user, format!("v={}", BASE64_STANDARD.encode(of_server))))
    }
}

fn text(message: &[u8]) -> Result<&str, String> {
    let text = std::str::from_utf8(message).ok().filter(|text| text.len() <= LONGEST);
    text.ok_or_else(|| "a SCRAM client's message is no text".to_owned())
}

/// A name, in which `,` and `=` were written as `=2C` and `=3D`.
fn unescaped(name: &str) -> Option<String> {
    let mut parts = name.split('=');
    let mut whole = parts.next()?.to_owned();
    for part in parts {
        let (letter, rest) = part.split_at_checked(2)?;
        whole.push(match letter {
            "2C" => ',',
            "3D" => '=',
            _ => return None,
        });
        whole.push_str(rest);
    }
    (!whole.is_empty()).then_some(whole)
}

#[cfg(test)]
pub(crate) mod tests;
