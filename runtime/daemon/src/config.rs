//! What a configuration may say.

pub(crate) mod kafka;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use aqueduct_api::{ByteSize, Span};
use aqueduct_commit_log::{DiskLimit, WhenFull};
use aqueduct_engine::{SinkPlan, SourcePlan, TopicPlan};
use kafka::KafkaListen;
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, de};

/// A configuration of Aqueduct.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Config {
    /// The embedded log: its folder, or a mapping. Default: `aqueduct-data`.
    pub(crate) log: LogConfig,
    /// Where the daemon listens.
    pub(crate) listen: Listen,
    /// How much memory the chunks and batches in flight share. Default: 64 MiB.
    pub(crate) memory: ByteSize,
    /// How long a stop may take to finish what is in flight. Default: 30s.
    pub(crate) stop_within: Span,
    /// Where the daemon writes its own log as JSON lines, besides the standard error output; at 10 MiB it is renamed to
    /// `NAME.1`. Default: nowhere.
    pub(crate) log_file: Option<PathBuf>,
    /// Topics by name. One that is not named here is made when first needed, with 1 partition.
    pub(crate) topics: BTreeMap<String, TopicPlan>,
    /// Sources by name.
    pub(crate) sources: BTreeMap<String, SourcePlan>,
    /// Sinks by name.
    pub(crate) sinks: BTreeMap<String, SinkPlan>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            log: LogConfig::default(),
            listen: Listen::default(),
            memory: ByteSize::mib(64),
            stop_within: Span::seconds(30),
            log_file: None,
            topics: BTreeMap::new(),
            sources: BTreeMap::new(),
            sinks: BTreeMap::new(),
        }
    }
}

/// The embedded log.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case", remote = "Self")]
pub(crate) struct LogConfig {
    /// Its folder. Default: `aqueduct-data`.
    pub(crate) path: PathBuf,
    /// How full its file system may get before appends are refused, as a share or as what may be used of it: `80%`,
    /// `500 GiB`. Default: 95%, or all but 1 GiB where that is more.
    pub(crate) limit: DiskLimit,
    /// What happens then: `refuse` makes sources wait; `drop-oldest` deletes the oldest records even where a sink has
    /// not delivered them, and counts them. Default: refuse.
    pub(crate) when_full: WhenFull,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig { path: PathBuf::from("aqueduct-data"), limit: DiskLimit::default(), when_full: WhenFull::default() }
    }
}

/// A folder alone, or a mapping.
impl<'de> Deserialize<'de> for LogConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = LogConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a folder, or a mapping with `path`")
            }

            fn visit_str<E: de::Error>(self, path: &str) -> Result<LogConfig, E> {
                Ok(LogConfig { path: PathBuf::from(path), ..LogConfig::default() })
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<LogConfig, A::Error> {
                LogConfig::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Where the daemon listens.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Listen {
    /// For status, metrics and commands. Whoever can reach it can read and change everything, so it must be an address
    /// of this machine alone unless `expose` is true. Default: 127.0.0.1:8083.
    #[serde(deserialize_with = "address")]
    #[schemars(with = "String")]
    pub(crate) http: SocketAddr,
    /// Lets `http` be an address that other machines can reach: it asks for no password. Default: false.
    pub(crate) expose: bool,
    /// For Kafka clients: an address like `127.0.0.1:9092`, or a mapping. Default: nowhere.
    pub(crate) kafka: Option<KafkaListen>,
    /// Names under which browsers and clients may reach it, besides `localhost` and addresses: requests for any other
    /// name are refused, so that a web page cannot reach the daemon through its reader's browser.
    pub(crate) hosts: Vec<String>,
}

impl Default for Listen {
    fn default() -> Self {
        Listen { http: SocketAddr::from(([127, 0, 0, 1], 8083)), expose: false, kafka: None, hosts: Vec::new() }
    }
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    let wrong = || de::Error::custom(format!("expected an address like `127.0.0.1:8083`, found `{text}`"));
    text.replace("localhost:", "127.0.0.1:").parse().map_err(|_| wrong())
}
