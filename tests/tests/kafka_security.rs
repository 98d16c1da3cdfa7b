//! Apache Kafka's own tools against an endpoint that asks who they are: who is known, who is not, and who may do what.
//!
//! Needs Java 17 and Maven, see `services/kafka.sh`.

#![allow(clippy::unwrap_used, reason = "tests are the outside")]

use std::cell::RefCell;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aqueduct_tests::daemon::{Daemon, PATIENCE};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair, PKCS_ED25519,
    SigningKey as _,
};
use serde_json::json;
use tokio::io::AsyncReadExt as _;

const PROGRAM: &str = env!("CARGO_BIN_EXE_aqueduct-with-faults");

/// Whose certificates somebody trusts.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn trusted(&self, path: &Path) {
        fs::write(path, self.0.pem()).unwrap();
    }

    /// A certificate and its key, in a file each and in one file together, as Java has them.
    fn issue(&self, folder: &Path, file: &str, name: &str) {
        let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Example");
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap().pem();
        fs::write(folder.join(format!("{file}.pem")), &certificate).unwrap();
        fs::write(folder.join(format!("{file}.key")), key.serialize_pem()).unwrap();
        fs::write(folder.join(format!("{file}.both.pem")), key.serialize_pem() + &certificate).unwrap();
    }
}

/// A daemon whose endpoint for Kafka clients is declared by `kafka`, and the endpoint's address.
struct Case {
    daemon: Daemon,
    address: String,
}

impl Case {
    async fn new(kafka: &str, topics: &str, prepare: impl FnOnce(&Path)) -> Case {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let daemon = Daemon::new(PROGRAM, topics);
        let mut case = Case { daemon, address };
        case.declare("", kafka);
        prepare(case.daemon.folder());
        case.daemon.started().await;
        case
    }

    /// Declares the endpoint otherwise.
    fn declare(&self, before: &str, kafka: &str) {
        let of = |kafka: &str| format!("listen: {{ kafka: {{ address: \"{}\", {kafka} }},", self.address);
        let before = if before.is_empty() { "listen: {".to_owned() } else { of(before) };
        let file = self.daemon.path("aqueduct.yaml");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(&before), "{text}");
        fs::write(&file, text.replacen(&before, &of(kafka), 1)).unwrap();
    }

    /// What a reload says.
    async fn reload(&self) -> String {
        let answer = reqwest::Client::new().post(format!("{}/reload", self.daemon.url())).send().await.unwrap();
        answer.text().await.unwrap()
    }

    /// Starts one of Kafka's tools, which writes to a file.
    fn started(&self, tool: &str, client: &str, arguments: &[&str], into: &str) -> Child {
        let mut command = Command::new("bash");
        let script = format!("exec bash \"$0\" \"$@\" > '{}' 2>&1", self.daemon.path(into).display());
        command.arg("-c").arg(script).arg(concat!(env!("CARGO_MANIFEST_DIR"), "/services/kafka.sh")).arg(tool);
        command.args(["--bootstrap-server", &self.address, "--command-config", client]).args(arguments);
        command.stdin(Stdio::null()).spawn().unwrap()
    }

    /// Writes a client's configuration.
    fn client(&self, name: &str, lines: &str) -> String {
        let path = self.daemon.path(name);
        let folder = self.daemon.folder().display().to_string();
        fs::write(&path, lines.replace("FOLDER", &folder)).unwrap();
        path.display().to_string()
    }

    /// Whether one of Kafka's tools succeeds under a client's configuration, and what it prints.
    fn tool(&self, tool: &str, client: &str, arguments: &[&str], input: &str) -> (bool, String) {
        let mut command = Command::new("bash");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/services/kafka.sh")).arg(tool);
        // Where Java may read tokens from.
        let token =
            format!("-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=file://{}", self.daemon.path("token").display());
        command.env("JDK_JAVA_OPTIONS", token);
        command.args(["--bootstrap-server", &self.address, "--command-config", client]).args(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let told = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&told).into_owned())
    }

    fn check(&self, what: &str, client: &str, (tool, arguments): (&str, &[&str]), expected: Result<&str, &str>) {
        let (succeeded, told) = self.tool(tool, client, arguments, "a line\n");
        match expected {
            Ok(word) => assert!(succeeded && told.contains(word), "{what}: {told}\n{}", self.daemon.log()),
            // Console tools log what went wrong, and succeed nevertheless.
            Err(why) => assert!(told.contains(why), "{what}: {succeeded} {told}\n{}", self.daemon.log()),
        }
    }

    /// A counter of the daemon.
    async fn counted(&self, name: &str) -> u64 {
        let page = self.daemon.get("/metrics").await.unwrap();
        let value = page.lines().find_map(|line| line.strip_prefix(&format!("aqueduct_{name}{{}} ")));
        value.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
    }
}

const TRUST: &str = "ssl.truststore.type=PEM\nssl.truststore.location=FOLDER/ca.pem\n";

fn sasl(mechanism: &str, password: &str) -> String {
    let module = if mechanism == "PLAIN" { "plain.PlainLoginModule" } else { "scram.ScramLoginModule" };
    format!(
        "security.protocol=SASL_SSL\n{TRUST}sasl.mechanism={mechanism}\nsasl.jaas.config=org.apache.kafka.common.security.{module} \
         required username=\"alice\" password=\"{password}\";\n"
    )
}

/// A client that shows the token in the file `token`.
fn bearer() -> String {
    format!(
        "security.protocol=SASL_SSL\n{TRUST}sasl.mechanism=OAUTHBEARER\n\
         sasl.login.callback.handler.class=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler\n\
         sasl.oauthbearer.token.endpoint.url=file://FOLDER/token\n\
         sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;\n"
    )
}

/// Signs tokens.
struct Signer(KeyPair);

impl Signer {
    fn new() -> Self {
        Signer(KeyPair::generate_for(&PKCS_ED25519).unwrap())
    }

    fn keys(&self) -> String {
        let x = BASE64.encode(self.0.public_key_raw());
        json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "one", "x": x }] })
            .to_string()
    }

    fn token(&self, name: &str, audience: &str) -> String {
        let now = chrono::Utc::now().timestamp();
        let header = json!({ "alg": "EdDSA", "kid": "one", "typ": "JWT" });
        let claims = json!({
            "iss": "https://id.example", "aud": audience, "sub": name, "iat": now, "exp": now + 3600, "scope": "kafka",
        });
        let signed = [header, claims].map(|part| BASE64.encode(part.to_string())).join(".");
        let signature = self.0.sign(signed.as_bytes()).unwrap();
        format!("{signed}.{}", BASE64.encode(signature))
    }
}

const LIST: (&str, &[&str]) = ("topics", &["--list"]);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_known_by_passwords_tokens_and_certificates_and_not_without() {
    let (ours, others, signer) = (Authority::new("ours"), Authority::new("others"), Signer::new());
    let kafka = "tls: { certificate: server.pem, key: server.key, client-ca: ca.pem, client-certificates: wanted }, \
                 mechanisms: [plain, scram-sha-256, scram-sha-512, oauthbearer], \
                 oauth: { keys: keys.json, issuer: \"https://id.example\", audience: kafka }, \
                 users: { alice: { password: secret, rights: all }, \"CN=reports,O=Example\": { rights: all } }";
    let case = Case::new(kafka, "topics:\n  known: {}\n", |folder| {
        ours.trusted(&folder.join("ca.pem"));
        others.trusted(&folder.join("other-ca.pem"));
        ours.issue(folder, "server", "localhost");
        ours.issue(folder, "client", "reports");
        others.issue(folder, "stranger", "reports");
        fs::write(folder.join("keys.json"), signer.keys()).unwrap();
        fs::write(folder.join("token"), signer.token("alice", "kafka")).unwrap();
    })
    .await;
    let write = ("console-producer", &["--topic", "known"][..]);
    let read =
        ("console-consumer", &["--topic", "known", "--group", "g", "--from-beginning", "--max-messages", "1"][..]);
    let refused = Err("SaslAuthenticationException");
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let known = case.client("known.properties", &sasl(mechanism, "secret"));
        case.check(mechanism, &known, LIST, Ok("known"));
        let unknown = case.client("unknown.properties", &sasl(mechanism, "wrong"));
        case.check(mechanism, &unknown, LIST, refused);
    }
    assert!(case.counted("kafka_not_known_total").await >= 3);
    let scram = case.client("scram.properties", &sasl("SCRAM-SHA-512", "secret"));
    case.check("a producer", &scram, write, Ok(""));
    case.check("a consumer", &scram, read, Ok("a line"));
    let mistrusts = sasl("SCRAM-SHA-512", "secret").replace("ca.pem", "other-ca.pem");
    case.check(
        "another authority",
        &case.client("mistrusts.properties", &mistrusts),
        LIST,
        Err("SslAuthenticationException"),
    );

    let token = case.client("token.properties", &bearer());
    case.check("a token", &token, LIST, Ok("known"));
    fs::write(case.daemon.path("token"), signer.token("alice", "others")).unwrap();
    case.check("a token for somebody else", &token, LIST, refused);
    fs::write(case.daemon.path("token"), Signer::new().token("alice", "kafka")).unwrap();
    case.check("a token of somebody else", &token, LIST, refused);

    let shows = |file: &str| {
        let store = format!("ssl.keystore.type=PEM\nssl.keystore.location=FOLDER/{file}.both.pem\n");
        case.client(&format!("{file}.properties"), &format!("security.protocol=SSL\n{TRUST}{store}"))
    };
    case.check("a certificate", &shows("client"), LIST, Ok("known"));
    let told = case.tool(LIST.0, &shows("stranger"), LIST.1, "").1;
    assert!(told.contains("Ssl") || told.contains("TimeoutException"), "a stranger's certificate: {told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_lets_in_and_a_password_says_who_it_is() {
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    let kafka = "tls: { certificate: server.pem, key: server.key, client-ca: ca.pem, principal: mechanism }, \
                 users: { alice: { password: secret, rights: { topics: { known: [read] } } }, \
                 \"CN=reports,O=Example\": { rights: all } }";
    let case = Case::new(kafka, "topics:\n  known: {}\n  hidden: {}\n", |folder| {
        ours.trusted(&folder.join("ca.pem"));
        ours.issue(folder, "server", "localhost");
        ours.issue(folder, "client", "reports");
        others.issue(folder, "stranger", "reports");
    })
    .await;
    let soon = "default.api.timeout.ms=4000\nrequest.timeout.ms=2000\n";
    let shown = |file: &str| format!("ssl.keystore.type=PEM\nssl.keystore.location=FOLDER/{file}.both.pem\n{soon}");
    let scram = |password: &str| sasl("SCRAM-SHA-512", password);
    let certificate_alone = format!("security.protocol=SSL\n{TRUST}{}", shown("client"));
    let cases = [
        ("both", scram("secret") + &shown("client"), Ok("known")),
        ("a wrong password", scram("wrong") + &shown("client"), Err("SaslAuthenticationException")),
        ("a password alone", scram("secret") + soon, Err("Exception")),
        ("a certificate alone", certificate_alone, Err("TimeoutException")),
        ("a stranger's certificate", scram("secret") + &shown("stranger"), Err("Exception")),
    ];
    for (what, lines, expected) in cases {
        let client = case.client("client.properties", &lines);
        case.check(what, &client, LIST, expected);
        let (_, listed) = case.tool(LIST.0, &client, LIST.1, "");
        assert!(!listed.contains("hidden"), "{what}: the password says what it may see, not the certificate: {listed}");
        assert_eq!(listed.lines().any(|line| line == "known"), expected.is_ok(), "{what}: {listed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_do_something_is_told_so() {
    let kafka = "users: { alice: { password: secret, rights: { topics: { \"open-*\": [read], \"mine-*\": [write] }, \
                 groups: { \"g-*\": [read] } } }, bob: { password: secret, rights: all } }";
    let case = Case::new(kafka, "topics:\n  open-1: {}\n  mine-1: {}\n  hidden: {}\n", |_| {}).await;
    let plain = |user: &str| {
        let lines = sasl("SCRAM-SHA-256", "secret").replace("SASL_SSL", "SASL_PLAINTEXT").replace("alice", user);
        case.client(&format!("{user}.properties"), &lines)
    };
    let (alice, bob) = (plain("alice"), plain("bob"));
    case.check("everything", &bob, ("topics", &["--describe", "--topic", "hidden"]), Ok("PartitionCount"));
    let (_, listed) = case.tool("topics", &alice, &["--list"], "");
    let seen: Vec<_> = listed.lines().filter(|line| ["open-1", "mine-1", "hidden"].contains(line)).collect();
    assert_eq!(seen, ["mine-1", "open-1"], "{listed}");
    case.check("mine", &alice, ("console-producer", &["--topic", "mine-1"]), Ok(""));
    case.check("open", &bob, ("console-producer", &["--topic", "open-1"]), Ok(""));
    let once = ["--from-beginning", "--max-messages", "1", "--timeout-ms", "20000"];
    let read = |topic: &'static str, group: &'static str| [&["--topic", topic, "--group", group][..], &once].concat();
    case.check("its group", &alice, ("console-consumer", &read("open-1", "g-1")), Ok("a line"));
    let (topic, group) = (Err("TopicAuthorizationException"), Err("GroupAuthorizationException"));
    let of_hidden = ["--entity-type", "topics", "--entity-name", "open-1"];
    let cases: &[(&str, Vec<&str>, Result<&str, &str>)] = &[
        ("topics", vec!["--create", "--topic", "mine-2"], topic),
        ("topics", vec!["--delete", "--topic", "open-1"], topic),
        ("topics", vec!["--alter", "--topic", "open-1", "--partitions", "3"], topic),
        ("topics", vec!["--describe", "--topic", "hidden"], Err("does not exist")),
        ("configs", [&["--alter", "--add-config", "retention.ms=1000"][..], &of_hidden].concat(), topic),
        ("get-offsets", vec!["--topic", "hidden"], Err("Could not match any topic-partitions")),
        ("console-producer", vec!["--topic", "open-1"], topic),
        ("console-producer", vec!["--topic", "hidden"], topic),
        ("console-producer", vec!["--topic", "mine-2"], topic),
        ("console-consumer", read("hidden", "g-1"), topic),
        ("console-consumer", read("mine-1", "g-1"), topic),
        ("console-consumer", read("open-1", "other"), group),
        ("consumer-groups", vec!["--describe", "--group", "other"], group),
        ("consumer-groups", vec!["--delete", "--group", "g-1"], group),
        (
            "producer-perf",
            vec![
                "--topic",
                "mine-1",
                "--num-records",
                "1",
                "--record-size",
                "1",
                "--throughput",
                "-1",
                "--transactional-id",
                "t",
                "--transaction-duration-ms",
                "1",
            ],
            Err("TransactionalIdAuthorizationException"),
        ),
    ];
    for (tool, arguments, expected) in cases {
        case.check(&format!("{tool} {arguments:?}"), &alice, (tool, arguments), *expected);
    }
    let (_, listed) = case.tool("topics", &bob, &["--list"], "");
    assert!(!listed.contains("mine-2") && listed.contains("open-1"), "nothing of it was done: {listed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_exchanged_while_clients_are_served() {
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let kafka =
        "tls: { certificate: server.pem, key: server.key }, users: { alice: { password: secret, rights: all } }";
    let case = Case::new(kafka, "topics:\n  known: {}\n", |folder| {
        first.trusted(&folder.join("ca.pem"));
        second.trusted(&folder.join("second-ca.pem"));
        first.issue(folder, "server", "localhost");
    })
    .await;
    let old = case.client("old.properties", &sasl("SCRAM-SHA-256", "secret"));
    let new = case.client("new.properties", &sasl("SCRAM-SHA-256", "secret").replace("ca.pem", "second-ca.pem"));
    case.check("before", &old, LIST, Ok("known"));
    case.check("before", &new, LIST, Err("SslAuthenticationException"));
    fs::write(case.daemon.path("server.key"), "no key").unwrap();
    case.daemon.until("it notices that the key is none", async |daemon| daemon.log().contains("is of no use")).await;
    case.check("with a bad key", &old, LIST, Ok("known"));
    second.issue(case.daemon.folder(), "server", "localhost");
    case.daemon.until("it has the new one", async |daemon| daemon.log().contains("are shown a new certificate")).await;
    case.check("after", &new, LIST, Ok("known"));
    case.check("after", &old, LIST, Err("SslAuthenticationException"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_come_and_go_while_clients_are_served() {
    let of = |users: &str| format!("users: {{ {users} }}");
    let alice = "alice: { password: secret, rights: all }";
    let first = of(alice);
    let case = Case::new(&first, "topics:\n  known: {}\n", |_| {}).await;
    let client = |user: &str| {
        let lines = sasl("SCRAM-SHA-256", "secret").replace("SASL_SSL", "SASL_PLAINTEXT").replace("alice", user);
        case.client(&format!("{user}.properties"), &lines)
    };
    let (alice_s, bob_s) = (client("alice"), client("bob"));
    let write = ("console-producer", &["--topic", "known"][..]);
    let follow = ["--topic", "known", "--from-beginning"];
    let reader = RefCell::new(case.started("console-consumer", &alice_s, &follow, "read"));
    let lines = || fs::read_to_string(case.daemon.path("read")).unwrap_or_default();
    let count = |text: &str| text.matches("a line").count();
    case.check("alice", &alice_s, write, Ok(""));
    case.daemon.until("alice has read a line", async |_| count(&lines()) == 1).await;
    case.check("nobody knows bob", &bob_s, LIST, Err("SaslAuthenticationException"));

    let both = of(&format!("{alice}, bob: {{ password: secret, rights: {{ topics: {{ known: [write] }} }} }}"));
    case.declare(&first, &both);
    let told = case.reload().await;
    assert!(told.contains("`listen.kafka.users` has changed, and holds for Kafka clients now"), "{told}");
    case.check("bob writes", &bob_s, write, Ok(""));
    case.daemon.until("alice reads on", async |_| count(&lines()) == 2).await;
    assert!(!lines().contains("Exception"), "and was not told of anything: {}", lines());
    assert_eq!(case.counted("kafka_broken_total").await, 0, "nobody was cut off");

    let last = of("bob: { password: secret, rights: all }");
    case.declare(&both, &last);
    case.reload().await;
    case.daemon.until("alice is gone", async |_| reader.borrow_mut().try_wait().unwrap().is_some()).await;
    assert!(lines().contains("SaslAuthenticationException"), "{}", lines());
    case.check("bob may do more now", &bob_s, ("topics", &["--create", "--topic", "more"]), Ok("Created topic"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_who_say_nothing_cost_little_and_are_gone_soon() {
    const SILENT: u64 = 1000;
    let kafka = "users: { alice: { password: secret, rights: all } }";
    let case = Case::new(kafka, "topics:\n  known: {}\n", |_| {}).await;
    let client = sasl("SCRAM-SHA-256", "secret").replace("SASL_SSL", "SASL_PLAINTEXT");
    let alice = case.client("alice.properties", &client);
    let memory = || {
        let status = fs::read_to_string(format!("/proc/{}/status", case.daemon.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    case.check("before", &alice, LIST, Ok("known"));
    let (before, begun) = (memory(), Instant::now());
    let mut silent = Vec::new();
    for number in 0..SILENT {
        let mut stream = tokio::net::TcpStream::connect(&case.address).await.unwrap();
        if number % 2 == 0 {
            // A frame of 32 KiB that never comes.
            tokio::io::AsyncWriteExt::write_all(&mut stream, &[0, 0, 0x80, 0, 1]).await.unwrap();
        }
        silent.push(stream);
    }
    let grown = memory().saturating_sub(before);
    assert!(grown < 64 * SILENT, "{grown} KiB for {SILENT} connections");
    case.check("meanwhile", &alice, LIST, Ok("known"));
    for stream in &mut silent {
        let mut byte = [0];
        let ended = tokio::time::timeout(PATIENCE, stream.read(&mut byte)).await.expect("nobody stays unknown");
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    }
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(4), "they were let say who they are: {took:?}");
    assert!(case.counted("kafka_silent_total").await >= SILENT);
    case.check("afterwards", &alice, LIST, Ok("known"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_holds_a_producer_and_a_consumer_back() {
    let kafka = "users: { alice: { password: secret, rights: all, quota: { produce: 200 KiB, fetch: 200 KiB } } }";
    let case = Case::new(kafka, "topics:\n  held: {}\n", |_| {}).await;
    let client = sasl("SCRAM-SHA-256", "secret").replace("SASL_SSL", "SASL_PLAINTEXT");
    let alice = case.client("alice.properties", &client);
    let how =
        ["--topic", "held", "--num-records", "1000", "--record-size", "1000", "--throughput", "-1", "--print-metrics"];
    let (succeeded, told) = case.tool("producer-perf", &alice, &how, "");
    assert!(succeeded && told.contains("1000 records sent"), "{told}");
    let line = told.lines().find(|line| line.contains("produce-throttle-time-max")).unwrap_or_else(|| panic!("{told}"));
    let most: f64 = line.rsplit(':').next().unwrap().trim().parse().unwrap();
    assert!(most > 0.0, "{line}");
    let written = case.counted("kafka_throttled_total").await;
    assert!(written > 0);
    let read = ["--topic", "held", "--from-beginning", "--max-messages", "1000", "--timeout-ms", "60000"];
    let (succeeded, told) = case.tool("console-consumer", &alice, &read, "");
    assert!(succeeded && told.contains("Processed a total of 1000 messages"), "{told}");
    assert!(case.counted("kafka_throttled_total").await > written, "what it read counts too");
}
