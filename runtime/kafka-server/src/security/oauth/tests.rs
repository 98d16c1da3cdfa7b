//! Tokens, signed by whoever may and by others.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use serde_json::json;

use super::*;

const NOW: i64 = 1_800_000_000_000;

/// Somebody who signs.
pub(crate) struct Signer(EcdsaKeyPair);

impl Signer {
    pub(crate) fn new() -> Self {
        Signer(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub(crate) fn key(&self, id: &str) -> Value {
        let point = self.0.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..]].map(|part| BASE64.encode(part));
        json!({ "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": id, "x": x, "y": y })
    }

    pub(crate) fn token(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", BASE64.encode(signature))
    }
}

fn header() -> Value {
    json!({ "alg": "ES256", "kid": "one", "typ": "JWT" })
}

fn claims() -> Value {
    json!({ "iss": "https://id.example", "aud": "kafka", "sub": "alice", "exp": NOW / 1000 + 600 })
}

fn known(keys: &[Value]) -> OAuth {
    let known = OAuth::new("https://id.example".into(), "kafka".into(), "sub".into());
    known.set_keys(json!({ "keys": keys }).to_string().as_bytes()).unwrap();
    known
}

#[test]
fn a_token_counts_when_all_of_it_is_right() {
    let (signer, other) = (Signer::new(), Signer::new());
    let known = known(&[signer.key("one"), other.key("two"), json!({ "kty": "later", "kid": "three" })]);
    let changed = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        signer.token(&header(), &claims)
    };
    let bearer = known.verify(&signer.token(&header(), &claims()), NOW);
    assert_eq!(bearer, Ok(Bearer { name: "alice".into(), until: NOW + 600_000 }));
    assert!(known.verify(&changed("aud", json!(["other", "kafka"])), NOW).is_ok());
    assert!(known.verify(&changed("exp", json!(NOW / 1000 - 29)), NOW).is_ok(), "clocks differ a little");

    let symmetric = json!({ "alg": "HS256", "kid": "one" });
    let unsigned = format!("{}.{}.", BASE64.encode(r#"{"alg":"none"}"#), BASE64.encode(claims().to_string()));
    let wrong = [
        ("another's signature", other.token(&header(), &claims())),
        ("a key that is not known", signer.token(&json!({ "alg": "ES256", "kid": "nine" }), &claims())),
        ("no word on which key", signer.token(&json!({ "alg": "ES256" }), &claims())),
        ("another way to sign", signer.token(&json!({ "alg": "RS256", "kid": "one" }), &claims())),
        ("a shared key", signer.token(&symmetric, &claims())),
        ("no signature", unsigned),
        ("another issuer", changed("iss", json!("https://evil.example"))),
        ("another audience", changed("aud", json!("other"))),
        ("no audience", changed("aud", Value::Null)),
        ("its end", changed("exp", json!(NOW / 1000 - 31))),
        ("no end", changed("exp", Value::Null)),
        ("its beginning", changed("nbf", json!(NOW / 1000 + 60))),
        ("no name", changed("sub", json!(""))),
        ("a name that is none", changed("sub", json!(7))),
        ("three parts", "a.b".to_owned()),
        ("anything", String::new()),
    ];
    for (what, token) in wrong {
        assert!(known.verify(&token, NOW).is_err(), "{what}: {token}");
    }
}

#[test]
fn keys_can_change_and_bad_ones_change_nothing() {
    let (first, second) = (Signer::new(), Signer::new());
    let known = known(&[first.key("one")]);
    let token = second.token(&json!({ "alg": "ES256", "kid": "two" }), &claims());
    assert!(known.verify(&token, NOW).is_err());
    for wrong in ["", "[]", "{}", r#"{"keys": []}"#, r#"{"keys": [{"kty": "later"}]}"#] {
        assert!(known.set_keys(wrong.as_bytes()).is_err(), "{wrong}");
    }
    assert!(known.verify(&first.token(&header(), &claims()), NOW).is_ok());
    known.set_keys(json!({ "keys": [second.key("two")] }).to_string().as_bytes()).unwrap();
    assert!(known.verify(&token, NOW).is_ok());
    assert!(known.verify(&first.token(&header(), &claims()), NOW).is_err());
}

/// A message; the token in it, and whom the client acts for.
type Case<'a> = (&'a [u8], Option<(&'a str, Option<&'a str>)>);

#[test]
fn a_message_holds_a_token() {
    let cases: &[Case<'_>] = &[
        (b"n,,\x01auth=Bearer a.b.c\x01\x01", Some(("a.b.c", None))),
        (b"n,a=alice,\x01auth=bearer a.b.c\x01x=y\x01\x01", Some(("a.b.c", Some("alice")))),
        (b"n,,\x01x=y\x01auth=Bearer a.b.c\x01\x01", Some(("a.b.c", None))),
        (b"n,,\x01auth=Basic a.b.c\x01\x01", None),
        (b"n,,\x01auth=Bearer a.b.c\x01", None),
        (b"n,,\x01x=y\x01\x01", None),
        (b"p=x,,\x01auth=Bearer a.b.c\x01\x01", None),
        (b"n,x=y,\x01auth=Bearer a.b.c\x01\x01", None),
        (b"\xff", None),
        (b"", None),
    ];
    for (message, expected) in cases {
        assert_eq!(token(message).ok(), *expected, "{message:?}");
    }
}
