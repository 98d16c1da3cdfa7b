//! Bad configurations and what is said about each, word by word.

use std::sync::Arc;

use aqueduct_api::{
    ByteSize, Chunk, Outcome, Secret, Settings, Sink, SinkOpening, SinkSettings, Source, SourceOpening, SourceSettings,
};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::*;

/// Settings of every kind, of a connector that does nothing.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Nothing {
    url: String,
    #[serde(default)]
    compression: Option<Compression>,
    #[serde(default)]
    secret_key: Option<Secret>,
    #[serde(default)]
    part_size: Option<ByteSize>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Compression {
    None,
    Zstd,
}

impl Settings for Nothing {
    const NAME: &'static str = "nothing";
    const SUMMARY: &'static str = "does nothing";

    fn problems(&self) -> Vec<aqueduct_api::Problem> {
        let _ = (&self.compression, &self.secret_key, &self.part_size);
        match self.url.starts_with("x://") {
            true => Vec::new(),
            false => vec![aqueduct_api::Problem::new("url", format!("`{}` does not begin with `x://`", self.url))],
        }
    }
}

#[async_trait]
impl SinkSettings for Nothing {
    async fn open(self, _: SinkOpening) -> aqueduct_api::Result<Box<dyn Sink>> {
        Ok(Box::new(Never))
    }

    async fn probe(&self, _: SinkOpening) -> aqueduct_api::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn destination(&self, _: &SinkOpening) -> Option<String> {
        None
    }
}

#[async_trait]
impl SourceSettings for Nothing {
    async fn open(self, _: SourceOpening) -> aqueduct_api::Result<Box<dyn Source>> {
        Ok(Box::new(Never))
    }

    async fn probe(&self, _: SourceOpening) -> aqueduct_api::Result<Vec<String>> {
        Ok(Vec::new())
    }
}

struct Never;

#[async_trait]
impl Sink for Never {
    async fn write(&self, _: &mut [Chunk]) -> aqueduct_api::Result<Outcome> {
        std::future::pending().await
    }
}

#[async_trait]
impl Source for Never {
    async fn read(&mut self) -> aqueduct_api::Result<Option<aqueduct_api::Incoming>> {
        std::future::pending().await
    }
}

fn load_text(text: &str) -> (Result<Loaded, Vec<String>>, Secrets) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _on_it = runtime.enter();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aqueduct.yaml");
    std::fs::write(&path, text).unwrap();
    let registry = Registry::default().source::<Nothing>().sink::<Nothing>();
    let environment: Environment = Arc::new(|name| (name == "KEY").then(|| "hunter2".to_owned()));
    let secrets = Secrets::default();
    let prefix = format!("{}/", folder.path().display());
    let told = |problem: &Problem| {
        let text = problem.to_string();
        secrets.hide(text.lines().next().unwrap_or_default()).replace(&prefix, "")
    };
    let loaded = load(&path, &registry, &environment, &secrets);
    (loaded.map_err(|problems| problems.iter().map(told).collect()), secrets)
}

#[test]
fn a_whole_configuration_is_read() {
    let (loaded, secrets) = load_text(
        r#"
log: { path: ./data, limit: 80%, when-full: drop-oldest }
listen: { http: "127.0.0.1:0" }
memory: 32 MiB
stop-within: 5s
topics:
  nginx: { partitions: 4, durability: fsync, retention.ms: 3d }
sources:
  nginx: { connector: nothing, topic: nginx, settings: { url: "x://in" }, dead-letters: off }
sinks:
  lake:
    connector: nothing
    topics: [nginx, "a.*"]
    chunk: { bytes: 1 MiB, age: 5m }
    settings: { url: "x://out", secret-key: "${env:KEY}", part-size: 5 MiB }
"#,
    );
    let loaded = loaded.unwrap();
    assert!(loaded.config.log.path.is_absolute() && loaded.config.log.path.ends_with("data"));
    assert_eq!(loaded.plan.topics["nginx"].partitions, 4);
    assert_eq!(loaded.plan.sinks["lake"].settings["secret-key"], "${env:KEY}");
    assert_eq!(loaded.references.resolve(&loaded.plan.sinks["lake"].settings).unwrap()["secret-key"], "hunter2");
    assert_eq!(secrets.hide("is hunter2"), "is ***");
}

#[test]
fn an_empty_section_says_nothing() {
    let loaded = load_text("sources:\n  # a: {}\nsinks:\ntopics:\n").0.unwrap();
    assert!(loaded.plan.sources.is_empty());
    assert!(loaded.config.log.path.ends_with("aqueduct-data"));
}

/// A sink that is right but for what comes after it.
const SINK: &str = "sinks:\n  lake:\n    connector: nothing\n    topics: [a]\n";

#[test]
fn each_mistake_is_told_with_place_path_expectation_and_nearest_match() {
    let cases: &[(&str, &[&str])] = &[
        ("snks: {}\n", &["aqueduct.yaml:1:1: snks: unknown key `snks`, did you mean `sinks`?"]),
        (
            "sinks:\n  lake:\n    connector: nothing\n    topics: [a]\n    settings: { url: \"x://\", compresion: zstd }\n",
            &[
                "aqueduct.yaml:5:30: sinks.lake.settings.compresion: unknown key `compresion`, did you mean `compression`?",
            ],
        ),
        (
            "sinks:\n  lake:\n    connector: nothing\n    topics: [a]\n    settings: { url: 5, compression: zst, part-size: big }\n",
            &[
                "aqueduct.yaml:5:22: sinks.lake.settings.url: expected text, found the number `5`: put it in quotes",
                "aqueduct.yaml:5:38: sinks.lake.settings.compression: unknown value `zst`, did you mean `zstd`?",
                "aqueduct.yaml:5:54: sinks.lake.settings.part-size: `big` is not a number of bytes, expected for example `8 MiB` or `500 kB`",
            ],
        ),
        (
            "sinks:\n  lake:\n    connector: nothing\n    topics: [a]\n    settings: { url: \"y://\" }\n",
            &["aqueduct.yaml:5:22: sinks.lake.settings.url: `y://` does not begin with `x://`"],
        ),
        (SINK, &["aqueduct.yaml:2:3: sinks.lake.settings: missing key `url`"]),
        (
            "sources:\n  in: { connector: nothin, topic: a }\n",
            &["aqueduct.yaml:2:20: sources.in.connector: unknown connector `nothin`, did you mean `nothing`?"],
        ),
        (
            "sources:\n  in: { connector: nothing, settings: { url: \"x://\" } }\n  out: { topic: a }\n",
            &[
                "aqueduct.yaml:2:3: sources.in: missing key `topic`",
                "aqueduct.yaml:3:3: sources.out: missing key `connector`",
            ],
        ),
        (
            "topics:\n  a: { partitions: 0, retention.ms: soon, retention.byte: 5 }\n  b: 4\n",
            &[
                "aqueduct.yaml:2:20: topics.a.partitions: expected a number of partitions, 1 or more, found 0",
                "aqueduct.yaml:2:37: topics.a.retention.ms: `soon` is not a length of time, expected for example `200ms`, `5m` or `7d`",
                "aqueduct.yaml:2:43: topics.a.retention.byte: unknown key `retention.byte`, did you mean `retention.bytes`?",
                "aqueduct.yaml:3:6: topics.b: expected a mapping, found the number `4`",
            ],
        ),
        (
            "log: { path: x, limit: 120% }\n",
            &[
                "aqueduct.yaml:1:24: log.limit: `120%` is not a limit of disk, expected a share like `80%` or a number of bytes like `500 GiB`",
            ],
        ),
        (
            "log: { path: x, when-full: drop }\n",
            &["aqueduct.yaml:1:28: log.when-full: unknown value `drop`, did you mean `drop-oldest`?"],
        ),
        ("log: [x]\n", &["aqueduct.yaml:1:1: log: expected a folder, or a mapping with `path`, found a list"]),
        ("log: { kafka: \"b:9092\" }\n", &["aqueduct.yaml:1:8: log.kafka: `kafka` is not supported yet"]),
        (
            "clusters: {}\nmirrors: {}\n",
            &[
                "aqueduct.yaml:1:1: clusters: `clusters` is not supported yet",
                "aqueduct.yaml:2:1: mirrors: `mirrors` is not supported yet",
            ],
        ),
        (
            "listen: { kafka: 0.0.0.0:9092 }\n",
            &[
                "aqueduct.yaml:1:18: listen.kafka: 0.0.0.0:9092 can be reached from other machines, and whoever reaches it \
              can read and write all topics: use 127.0.0.1, say with `users` who may, or say `expose: true` beside it",
            ],
        ),
        (
            "listen: { kafka: { address: 0.0.0.0:9092, mechanisms: [plain], users: { a: { password: x, rights: all } } } }\n",
            &[
                "aqueduct.yaml:1:29: listen.kafka.address: 0.0.0.0:9092 can be reached from other machines, and `plain` sends \
              passwords there as they are: use `tls`, another mechanism, or say `expose: true`",
            ],
        ),
        (
            "listen: { kafka: { address: 127.0.0.1:9092, users: { a: { rights: all } } } }\n",
            &[
                "aqueduct.yaml:1:45: listen.kafka.users: users are known by nothing: give them passwords, or use `oauth` or \
              `tls.client-ca`",
            ],
        ),
        (
            "listen: { kafka: { address: 127.0.0.1:9092, users: { a: { password: x } } } }\n",
            &["aqueduct.yaml:1:54: listen.kafka.users.a: missing key `rights`"],
        ),
        (
            "listen: { kafka: { address: 127.0.0.1:9092, users: { a: { password: x, rights: all, quota: { fetch: 0 B } } } } }\n",
            &[
                "aqueduct.yaml:1:101: listen.kafka.users.a.quota.fetch: 0 bytes a second would hold it back for ever: leave it \
              out for no limit, or take the right away",
            ],
        ),
        (
            "listen: { kafka: { address: 127.0.0.1:9092, mechanisms: [oauthbearer], users: { a: { rights: all } } } }\n",
            &["aqueduct.yaml:1:45: listen.kafka.mechanisms: `oauthbearer` needs `oauth`"],
        ),
        (
            "listen: { kafka: { address: 127.0.0.1:9092, tls: { certificate: c, key: k, client-ca: a, principal: mechanism } } }\n",
            &[
                "aqueduct.yaml:1:101: listen.kafka.tls.principal: there is no mechanism by which clients could say who they \
              are: users have no passwords",
            ],
        ),
        (
            "listen: { kafka: 9092 }\n",
            &[
                "aqueduct.yaml:1:18: listen.kafka: expected an address like `127.0.0.1:9092`, or a mapping with `address`, \
              found the number `9092`",
            ],
        ),
        (
            "listen: { http: 0.0.0.0:8083 }\n",
            &[
                "aqueduct.yaml:1:17: listen.http: 0.0.0.0:8083 can be reached from other machines, and whoever reaches it can \
              read and change everything: use 127.0.0.1, or say `expose: true` beside it",
            ],
        ),
        (
            "listen: { http: here }\n",
            &["aqueduct.yaml:1:17: listen.http: expected an address like `127.0.0.1:8083`, found `here`"],
        ),
        (
            "stop-within: 5 parsecs\n",
            &[
                "aqueduct.yaml:1:14: stop-within: `5 parsecs` is not a length of time, expected for example `200ms`, `5m` or `7d`",
            ],
        ),
        ("log-file: ${env:NOWHERE}\n", &["aqueduct.yaml:1:11: log-file: environment variable `NOWHERE` is not set"]),
        (
            "sources:\n  a: { connector: nothing, topic: t, settings: { url: \"x://${env:NOWHERE}\" } }\n",
            &["aqueduct.yaml:2:55: sources.a.settings.url: environment variable `NOWHERE` is not set"],
        ),
        (
            "sources:\n  a: { connector: nothing, topic: t, settings: { url: \"${env:KEY}\" } }\n",
            &["aqueduct.yaml:2:55: sources.a.settings.url: `***` does not begin with `x://`"],
        ),
    ];
    for (text, expected) in cases {
        match load_text(text).0 {
            Ok(_) => panic!("nothing found wrong with:\n{text}"),
            Err(problems) => assert_eq!(problems, *expected, "in:\n{text}"),
        }
    }
}

#[test]
fn names_are_unique_and_fit_for_file_names() {
    let connector = "{ connector: nothing, topic: t, settings: { url: \"x://\" } }";
    let sink = "{ connector: nothing, topics: [t], settings: { url: \"x://\" } }";
    let text = format!("sources:\n  a: {connector}\n  B/..: {connector}\nsinks:\n  a: {sink}\n");
    let problems = load_text(&text).0.err().unwrap();
    assert_eq!(
        problems[0],
        "aqueduct.yaml:3:3: sources.B/..: `B/..` is not a name, expected at most 200 of `a-z`, `0-9`, `.`, `_`, `-`, the \
         first a letter or a digit"
    );
    assert!(
        problems[1].starts_with("aqueduct.yaml:5:3: sinks.a: `a` is the name of a source too, at "),
        "{problems:?}"
    );
    assert_eq!(problems.len(), 2, "{problems:?}");
}

#[test]
fn secrets_are_in_no_problem() {
    let text = format!(
        "{SINK}    settings: {{ secret-key: open-sesame, secret-kee: shibboleth, url: open-sesame, x: [shibboleth] }}\n"
    );
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _on_it = runtime.enter();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aqueduct.yaml");
    std::fs::write(&path, text).unwrap();
    let registry = Registry::default().sink::<Nothing>();
    let environment: Environment = Arc::new(|_| None);
    let secrets = Secrets::default();
    let problems = load(&path, &registry, &environment, &secrets).err().unwrap();
    let shown: Vec<_> = problems.iter().map(|problem| secrets.hide(&problem.to_string()).into_owned()).collect();
    assert_eq!(shown.len(), 3, "{shown:?}");
    for text in shown {
        assert!(!text.contains("sesame") && !text.contains("shibboleth"), "{text}");
        assert!(text.contains('^'), "{text}");
    }
}
