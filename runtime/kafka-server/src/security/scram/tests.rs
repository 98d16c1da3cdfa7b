//! The conversation of RFC 7677, and everything that may be wrong with one.

use super::*;

/// RFC 7677, section 3.
const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";
const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const ANSWER: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const LAST: &str =
    "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const PROOF: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

fn pencil(hash: Hash) -> Stored {
    Stored::of(hash, "pencil", BASE64_STANDARD.decode(SALT).unwrap(), 4096)
}

fn begun() -> Exchange {
    let (exchange, answer) = begin(FIRST.as_bytes(), NONCE, |user| {
        assert_eq!(user, "user");
        pencil(Hash::Sha256)
    })
    .unwrap();
    assert_eq!(answer, ANSWER);
    exchange
}

#[test]
fn the_conversation_of_rfc_7677_is_held() {
    assert_eq!(begun().finish(LAST.as_bytes()), Ok(("user".to_owned(), PROOF.to_owned())));
}

/// What a client of a password answers.
pub(crate) fn last(hash: Hash, password: &str, first: &str, answer: &str) -> String {
    last_that_says(hash, password, first, answer, answer.split(',').next().unwrap())
}

fn last_that_says(hash: Hash, password: &str, first: &str, answer: &str, nonce: &str) -> String {
    let salt = answer.split(',').find_map(|part| part.strip_prefix("s=")).unwrap();
    let salted = hash.salted(password.as_bytes(), &BASE64_STANDARD.decode(salt).unwrap(), 4096);
    let key = hash.hmac(&salted, b"Client Key");
    let without_proof = format!("c=biws,{nonce}");
    let said = format!("{},{answer},{without_proof}", first.strip_prefix("n,,").unwrap());
    let signature = hash.hmac(&hash.hash(&key), said.as_bytes());
    let proof: Vec<u8> = key.iter().zip(&signature).map(|(key, signature)| key ^ signature).collect();
    format!("{without_proof},p={}", BASE64_STANDARD.encode(proof))
}

#[test]
fn a_client_with_the_password_is_known_and_no_other() {
    for hash in [Hash::Sha256, Hash::Sha512] {
        for (password, knows) in [("pencil", true), ("pencils", false), ("", false)] {
            let first = "n,,n=a=2Cb=3D,r=abc";
            let (exchange, answer) = begin(first.as_bytes(), "def", |_| pencil(hash)).unwrap();
            let finished = exchange.finish(last(hash, password, first, &answer).as_bytes());
            assert_eq!(finished.map(|(user, _)| user).ok(), knows.then(|| "a,b=".to_owned()), "{hash:?} {password}");
        }
        let (exchange, answer) = begin(b"n,,n=x,r=abc", "def", |_| Stored::of_nobody(hash, vec![1; 16])).unwrap();
        assert!(exchange.finish(last(hash, "pencil", "n,,n=x,r=abc", &answer).as_bytes()).is_err());
    }
}

#[test]
fn a_client_that_repeats_its_own_nonce_is_known_as_kafka_knows_it() {
    let (exchange, answer) = begin(b"n,,n=x,r=abc", "def", |_| pencil(Hash::Sha512)).unwrap();
    // The proof is of what was said.
    let said = answer.replacen("r=abc", "r=abcabc", 1);
    let last = last_that_says(Hash::Sha512, "pencil", "n,,n=x,r=abc", &answer, said.split(',').next().unwrap());
    assert!(exchange.finish(last.as_bytes()).is_ok());
}

#[test]
fn what_is_no_first_message_is_refused() {
    let cases = [
        "",
        "n",
        "n,,",
        "n,,n=",
        "n,,n=user",
        "n,,n=user,r=",
        "n,,r=abc",
        "p=tls-unique,,n=user,r=abc",
        "n,a=other,n=user,r=abc",
        "n,,n=us=er,r=abc",
        "n,,n=us=2,r=abc",
        "n,,n=user,r=abc,tokenauth=true",
        "m=ext,n=user,r=abc",
    ];
    for first in cases {
        assert!(begin(first.as_bytes(), NONCE, |_| pencil(Hash::Sha256)).is_err(), "{first}");
    }
    assert!(begin(b"n,,n=\xff,r=abc", NONCE, |_| pencil(Hash::Sha256)).is_err());
    assert!(begin(b"n,a=user,n=user,r=abc", NONCE, |_| pencil(Hash::Sha256)).is_ok());
}

#[test]
fn what_is_no_last_message_is_refused() {
    let nonce = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    let proof = "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    let cases = [
        String::new(),
        format!("c=biws,{nonce}"),
        format!("{nonce},{proof}"),
        format!("c=eSws,{nonce},{proof}"),
        format!("c=biws,r=rOprNGfwEbeRWgbNEkqO,{proof}"),
        format!("c=biws,{nonce},p="),
        format!("c=biws,{nonce},p=AAAA"),
        format!("c=biws,{nonce},p=%%%"),
        format!("c=biws,{nonce},x=1,{proof}"),
        LAST.replace("p=d", "p=e"),
    ];
    for last in cases {
        assert!(begun().finish(last.as_bytes()).is_err(), "{last}");
    }
}

#[test]
fn credentials_are_written_as_kafka_writes_them() {
    let stored = pencil(Hash::Sha256);
    let [salt, stored_key, server_key] =
        [&stored.salt, &stored.stored_key, &stored.server_key].map(|bytes| BASE64_STANDARD.encode(bytes));
    let text = format!("salt={salt},stored_key={stored_key},server_key={server_key},iterations=4096");
    assert!(Stored::parse(Hash::Sha256, &text).is_ok_and(|parsed| parsed == stored));
    assert!(stored.is_of("pencil") && !stored.is_of("pen"));
    for wrong in [
        String::new(),
        text.replace("salt=", "pepper="),
        text.replace("4096", "100"),
        text.replace("4096", "4000000000"),
        text.replace("iterations=4096", "iterations=x"),
        text.replace(&stored_key, "AAAA"),
        text.replace(&server_key, "?"),
    ] {
        assert!(Stored::parse(Hash::Sha256, &wrong).is_err(), "{wrong}");
    }
    assert!(Stored::parse(Hash::Sha512, &text).is_err());
}
