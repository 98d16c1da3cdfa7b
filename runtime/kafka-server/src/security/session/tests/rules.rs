//! What becomes of sessions when the rule changes by which their clients are known.

use aqueduct_tls::{ClientCertificates, ServerTls};
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;

use super::super::super::oauth::tests::Signer;
use super::super::super::tls::{Naming, Tls};
use super::super::super::users::OTHERS;
use super::*;

/// What holds then, and whom a client is known as that was known before; nothing: it is cut off.
type Case = (&'static str, Security, Option<&'static str>);

/// Each change by itself, of what holds `before`, for a client that shows a certificate or a token.
async fn check(before: &Security, known_as: &str, certified: Option<&str>, token: Option<&str>, cases: Vec<Case>) {
    for (what, after, expected) in cases {
        let current = Current::new(before.clone());
        let session = under(current.clone(), certified);
        if let Some(token) = token {
            assert_eq!(choose(&session, "OAUTHBEARER", 1), 0);
            let told = say(&session, format!("n,,\u{1}auth=Bearer {token}\u{1}\u{1}").as_bytes()).await;
            assert_eq!((told.error_code, &*told.auth_bytes), (0, &b""[..]));
        }
        assert_eq!(session.asks(ApiKey::Fetch).unwrap().name(), known_as, "{what}");
        current.change(after);
        let found = session.asks(ApiKey::Fetch).ok().map(|principal| principal.name().to_owned());
        assert_eq!(found.as_deref(), expected, "{what}");
        if expected == Some("ANONYMOUS") {
            current.change(before.clone());
            assert!(session.asks(ApiKey::Fetch).is_err(), "{what}, and then somebody asks again");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_counts_by_the_rule_under_which_it_was_shown() {
    let (signer, other) = (Signer::new(), Signer::new());
    let until = Edge::real().now() / 1000 + 3600;
    let claims = json!({ "iss": "issuer", "aud": "kafka", "sub": "alice", "mail": "a@b", "exp": until });
    let token = signer.token(&json!({ "alg": "ES256", "kid": "one" }), &claims);
    let others = || Users::new([(OTHERS.to_owned(), user(None)), ("bob".to_owned(), user(Some("hidden")))]).unwrap();
    let of = |mechanisms: &[Mechanism], [issuer, audience, claim]: [&str; 3], signer: &Signer| {
        let oauth = OAuth::new(issuer.into(), audience.into(), claim.into());
        oauth.set_keys(json!({ "keys": [signer.key("one")] }).to_string().as_bytes()).unwrap();
        let users = Some(Arc::new(others()));
        Security { oauth: Some(Arc::new(oauth)), users, mechanisms: mechanisms.to_vec(), ..Security::default() }
    };
    let bearer = [Mechanism::OAuthBearer];
    let before = of(&bearer, ["issuer", "kafka", "sub"], &signer);
    let cases = vec![
        ("the same", of(&ALL, ["issuer", "kafka", "sub"], &signer), Some("alice")),
        ("other keys", of(&bearer, ["issuer", "kafka", "sub"], &other), Some("alice")),
        ("another issuer", of(&bearer, ["other", "kafka", "sub"], &signer), None),
        ("another audience", of(&bearer, ["issuer", "other", "sub"], &signer), None),
        ("another claim", of(&bearer, ["issuer", "kafka", "mail"], &signer), None),
        ("no tokens", of(&[Mechanism::Plain], ["issuer", "kafka", "sub"], &signer), None),
        ("nobody is asked", Security::default(), Some("ANONYMOUS")),
    ];
    check(&before, "alice", None, Some(&token), cases).await;
}

#[tokio::test(start_paused = true)]
async fn a_certificate_counts_by_the_rule_under_which_it_was_shown() {
    let folder = tempfile::tempdir().unwrap();
    let (pem, key) = {
        let key = KeyPair::generate().unwrap();
        (CertificateParams::default().self_signed(&key).unwrap().pem(), key.serialize_pem())
    };
    for (name, content) in [("a.pem", &pem), ("b.pem", &pem), ("a.key", &key)] {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let of = async |certificate: &str, client_ca: Option<&str>, naming| {
        let (certificate, key) = (certificate.to_owned(), "a.key".to_owned());
        let files = ServerTls { certificate, key, client_ca: client_ca.map(str::to_owned) };
        let folder = folder.path().to_owned();
        let tls = Tls::open(files, folder, Edge::real(), ClientCertificates::Required, naming).await.unwrap();
        Security { tls: Some(Arc::new(tls)), ..security(&[], None) }
    };
    let before = of("a.pem", Some("a.pem"), Naming::Subject).await;
    let passwords = [Mechanism::Plain].to_vec();
    let cases = vec![
        ("another certificate of ours", of("b.pem", Some("a.pem"), Naming::Subject).await, Some("certified")),
        ("others whose certificates count", of("a.pem", Some("b.pem"), Naming::Subject).await, Some("certified")),
        ("another name", of("a.pem", Some("a.pem"), Naming::CommonName).await, None),
        (
            "no name",
            Security { mechanisms: passwords.clone(), ..of("a.pem", Some("a.pem"), Naming::Nobody).await },
            None,
        ),
        (
            "certificates count for nothing",
            Security { mechanisms: passwords, ..of("a.pem", None, Naming::Subject).await },
            None,
        ),
        ("nobody is asked", of("a.pem", None, Naming::Subject).await, Some("ANONYMOUS")),
    ];
    check(&before, "certified", Some("certified"), None, cases).await;
}
