//! What a configuration may say.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use aqueduct_api::{ByteSize, Span};
use aqueduct_commit_log::{DiskLimit, WhenFull};
use aqueduct_engine::{SinkPlan, SourcePlan, TopicPlan};
use schemars::{JsonSchema, Schema, json_schema};
use serde::de::IntoDeserializer as _;
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

/// Where Kafka clients are answered.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", remote = "Self")]
#[schemars(transform = or_address)]
pub(crate) struct KafkaListen {
    /// The address. Whoever can reach it can read and write all topics, so it must be an address of this machine alone
    /// unless `expose` is true.
    #[serde(deserialize_with = "address")]
    #[schemars(with = "String")]
    pub(crate) address: SocketAddr,
    /// Lets `address` be one that other machines can reach: it asks for no password. Default: false.
    #[serde(default)]
    pub(crate) expose: bool,
    /// The host that clients are told to connect to, where that is not the address itself. Default: the address, or
    /// `localhost` where it stands for all addresses of the machine.
    #[serde(default)]
    pub(crate) advertise: Option<String>,
    /// Whether a topic that does not exist is made when a client asks for it. Default: true.
    #[serde(default = "yes")]
    pub(crate) auto_create: bool,
    /// How groups of clients are coordinated.
    #[serde(default)]
    pub(crate) groups: KafkaGroups,
}

/// How groups of Kafka clients are coordinated.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct KafkaGroups {
    /// How long the first members of an empty group wait for more, as Kafka's `group.initial.rebalance.delay.ms`.
    /// Default: 3s.
    pub(crate) initial_delay: Span,
    /// How many members a group may have, as Kafka's `group.max.size`. Default: 2147483647.
    pub(crate) max_size: u32,
    /// How long the offsets of a group without members are kept, as Kafka's `offsets.retention.minutes`. Default: 7d.
    pub(crate) retention: Span,
}

impl Default for KafkaGroups {
    fn default() -> Self {
        KafkaGroups { initial_delay: Span::seconds(3), max_size: i32::MAX as u32, retention: Span::days(7) }
    }
}

fn yes() -> bool {
    true
}

/// The schema of a mapping, or of an address alone.
fn or_address(schema: &mut Schema) {
    let mapping = std::mem::take(schema);
    *schema = json_schema!({ "anyOf": [{ "type": "string" }, mapping] });
}

/// An address alone, or a mapping.
impl<'de> Deserialize<'de> for KafkaListen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = KafkaListen;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address like `127.0.0.1:9092`, or a mapping with `address`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<KafkaListen, E> {
                let address = address(text.into_deserializer())?;
                let groups = KafkaGroups::default();
                Ok(KafkaListen { address, expose: false, advertise: None, auto_create: true, groups })
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<KafkaListen, A::Error> {
                KafkaListen::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    let wrong = || de::Error::custom(format!("expected an address like `127.0.0.1:8083`, found `{text}`"));
    text.replace("localhost:", "127.0.0.1:").parse().map_err(|_| wrong())
}
