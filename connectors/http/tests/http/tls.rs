//! Certificates: the right ones, and all the wrong ones.

use std::sync::Arc;
use std::time::Duration;

use aqueduct_api::conformance::sink::Script;
use aqueduct_api::{Error, Result};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

use crate::server::Server;
use crate::sink::{self, script};
use crate::world::{Log, World};

/// Files of PEM: for `ours` and `others`, each a `.ca`, a `.server`, a `.client`, an `.expired` and one for `.elsewhere`,
/// with a `.key` each.
struct Certificates(TempDir);

impl Certificates {
    fn new() -> Certificates {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: String, pem: String| std::fs::write(folder.path().join(name), pem).unwrap();
        for who in ["ours", "others"] {
            let mut ca = CertificateParams::new(Vec::new()).unwrap();
            ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            ca.distinguished_name.push(rcgen::DnType::CommonName, who);
            let key = KeyPair::generate().unwrap();
            write(format!("{who}.ca"), ca.self_signed(&key).unwrap().pem());
            let issuer = Issuer::new(ca, key);
            for (what, host, ends) in [
                ("server", "127.0.0.1", 2999),
                ("client", "client.example", 2999),
                ("expired", "127.0.0.1", 2020),
                ("elsewhere", "elsewhere.example", 2999),
            ] {
                let mut of = CertificateParams::new(vec![host.to_owned()]).unwrap();
                of.not_before = date_time_ymd(2010, 1, 1);
                of.not_after = date_time_ymd(ends, 1, 1);
                let key = KeyPair::generate().unwrap();
                write(format!("{who}.{what}"), of.signed_by(&key, &issuer).unwrap().pem());
                write(format!("{who}.{what}.key"), key.serialize_pem());
            }
        }
        write("junk".to_owned(), "no certificate".to_owned());
        Certificates(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// A server with a certificate, for clients that have one of `client_ca` where that is given.
    fn acceptor(&self, certificate: &str, client_ca: Option<&str>) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let builder = match client_ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(&self.read(ca)).unwrap()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let chain = vec![CertificateDer::from_pem_slice(&self.read(certificate)).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(&self.read(&format!("{certificate}.key"))).unwrap();
        TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()))
    }

    /// A client that trusts `ca` and has a certificate, or none.
    fn client(&self, ca: &str, certificate: Option<&str>) -> reqwest::Client {
        let trusted = reqwest::Certificate::from_pem_bundle(&self.read(ca)).unwrap();
        let mut builder = reqwest::Client::builder().tls_certs_only(trusted).timeout(Duration::from_secs(20));
        if let Some(name) = certificate {
            let pem = [self.read(name), b"\n".to_vec(), self.read(&format!("{name}.key"))].concat();
            builder = builder.identity(reqwest::Identity::from_pem(&pem).unwrap());
        }
        builder.build().unwrap()
    }
}

/// All that a failure says.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[tokio::test]
async fn a_source_takes_from_clients_with_the_right_certificate_alone() {
    let files = Certificates::new();
    let tls = |client_ca: &str| json!({"tls": {"certificate": files.path("ours.server"), "key": files.path("ours.server.key"), "client-ca": files.path(client_ca)}});
    let world = World::new(Log::Takes, tls("others.ca")).await;
    let url = world.url("/").replace("http:", "https:");
    for (ca, certificate, expected) in [
        ("ours.ca", Some("others.client"), Ok(200)),
        ("ours.ca", None, Err("CertificateRequired")),
        // Signed by somebody else.
        ("ours.ca", Some("ours.client"), Err("fatal alert")),
        ("ours.ca", Some("others.expired"), Err("CertificateExpired")),
        ("others.ca", Some("others.client"), Err("UnknownIssuer")),
        ("ours.ca", Some("others.client"), Ok(200)),
    ] {
        let answer = files.client(ca, certificate).post(&url).body("x").send().await;
        match (answer.map(|answer| answer.status().as_u16()), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            // What is written to a connection that is closed already can be told before why it was.
            (Err(error), Err(part)) => {
                let text = told(&error);
                assert!(
                    text.contains(part) || text.contains("Broken pipe") || text.contains("reset"),
                    "{part}: {text}"
                );
            }
            (found, _) => panic!("{ca}, {certificate:?}: {found:?}"),
        }
    }
    assert!(world.raw(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nx").await.find("200").is_none());
    assert_eq!(world.values(), ["x", "x"]);
}

#[tokio::test]
async fn a_source_with_files_that_can_not_be_used_says_which() {
    let files = Certificates::new();
    for (certificate, key, client_ca, expected) in [
        ("nowhere", "ours.server.key", "ours.ca", "setting tls.certificate: read "),
        ("junk", "ours.server.key", "ours.ca", "setting tls.certificate: the file holds no certificate"),
        ("ours.server", "junk", "ours.ca", "setting tls.key: holds no key"),
        ("ours.server", "others.server.key", "ours.ca", "setting tls.certificate: "),
        ("ours.server", "ours.server.key", "junk", "setting tls.client-ca: the file holds no certificate"),
    ] {
        let tls =
            json!({"certificate": files.path(certificate), "key": files.path(key), "client-ca": files.path(client_ca)});
        let settings = json!({"listen": "127.0.0.1:0", "tls": tls});
        let failed = crate::world::open(settings).await.map(drop).unwrap_err();
        assert!(matches!(failed, Error::Fatal { .. }) && failed.to_string().contains(expected), "{expected}: {failed}");
    }
}

/// What comes of one write to a server.
async fn write(
    files: &Certificates,
    server: (&str, Option<&str>),
    ca: &str,
    own: Option<&str>,
) -> (Result<()>, Vec<String>) {
    let server = Server::secure(files.acceptor(server.0, server.1)).await;
    let mut tls = json!({"ca": files.path(ca)});
    if let Some(own) = own {
        tls["certificate"] = Value::String(files.path(own));
        tls["key"] = Value::String(files.path(&format!("{own}.key")));
    }
    let sink = sink::sink(&server, json!({"tls": tls, "timeout": "20s"})).await;
    let of: Script = script("t", 3);
    let written = sink.write(&mut [of.chunk()]).await.map(drop);
    (written, server.taken().iter().map(|seen| seen.text()).collect())
}

#[tokio::test]
async fn a_sink_proves_who_it_is_to_a_server_that_it_knows() {
    let files = Certificates::new();
    for (client_ca, own) in [(None, None), (Some("others.ca"), Some("others.client"))] {
        let (written, taken) = write(&files, ("ours.server", client_ca), "ours.ca", own).await;
        written.unwrap();
        assert_eq!(taken, ["0\n1\n2\n"]);
    }
}

#[tokio::test]
async fn a_sink_says_what_is_wrong_with_certificates_and_tries_again() {
    let files = Certificates::new();
    for (server, client_ca, ca, own, expected) in [
        ("ours.server", None, "others.ca", None, "see `tls.ca`"),
        ("ours.expired", None, "ours.ca", None, "certificate expired"),
        ("ours.elsewhere", None, "ours.ca", None, "not valid for name"),
        ("ours.server", Some("others.ca"), "ours.ca", None, "see `tls.certificate`"),
        ("ours.server", Some("others.ca"), "ours.ca", Some("ours.client"), "fatal alert"),
        ("ours.server", Some("others.ca"), "ours.ca", Some("others.expired"), "our certificate has expired"),
    ] {
        let mut texts = Vec::new();
        // What is written to a connection that is closed already can be told before why it was: not always.
        for _ in 0..20 {
            let (written, taken) = write(&files, (server, client_ca), ca, own).await;
            assert!(taken.is_empty(), "{server}: {taken:?}");
            let Err(error) = written else { panic!("{server} is taken") };
            assert!(error.is_retry(), "{error}");
            texts.push(error.to_string());
            if error.to_string().contains(expected) {
                break;
            }
        }
        assert!(texts.last().is_some_and(|text| text.contains(expected)), "{expected}: {texts:?}");
    }
}

#[tokio::test]
async fn a_sink_with_files_that_can_not_be_used_says_which() {
    let files = Certificates::new();
    for (tls, expected) in [
        (json!({"ca": files.path("nowhere")}), "setting tls.ca: read "),
        (json!({"ca": files.path("junk")}), "setting tls.ca: "),
        (json!({"certificate": files.path("junk"), "key": files.path("ours.client.key")}), "setting tls.certificate: "),
        (json!({"certificate": files.path("ours.client"), "key": files.path("others.client.key")}), "setting tls"),
    ] {
        let failed = sink::open(json!({"url": "https://127.0.0.1:9/", "tls": tls})).await.map(drop).unwrap_err();
        assert!(matches!(failed, Error::Fatal { .. }) && failed.to_string().contains(expected), "{expected}: {failed}");
    }
}
