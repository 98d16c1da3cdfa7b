//! What a configuration may say.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use aqueduct_api::{ByteSize, Span};
use aqueduct_engine::{SinkPlan, SourcePlan, TopicPlan};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
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
    /// `500 GiB`. Default: 95%.
    pub(crate) limit: Limit,
    /// What happens then: `refuse` makes sources wait; `drop-oldest` deletes the oldest records even where a sink has
    /// not delivered them, and counts them. Default: refuse.
    pub(crate) when_full: WhenFull,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig { path: PathBuf::from("aqueduct-data"), limit: Limit::default(), when_full: WhenFull::default() }
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

/// What happens when the file system is as full as it may get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum WhenFull {
    /// Appends are refused, sources wait.
    #[default]
    Refuse,
    /// The oldest records go, delivered or not, and are counted.
    DropOldest,
}

/// How full the file system may get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// A share of it, in percent.
    Percent(u8),
    /// What may be used of it, in bytes.
    Bytes(u64),
}

impl Default for Limit {
    fn default() -> Self {
        Limit::Percent(95)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let expected = "expected a share like `80%` or a number of bytes like `500 GiB`";
        let limit = match text.trim().strip_suffix('%') {
            Some(share) => match share.trim().parse() {
                Ok(share @ 1..=99) => Some(Limit::Percent(share)),
                _ => None,
            },
            None => text.parse::<ByteSize>().ok().map(|size| Limit::Bytes(size.0)),
        };
        limit.ok_or_else(|| de::Error::custom(format!("`{text}` is not a limit, {expected}")))
    }
}

impl JsonSchema for Limit {
    fn schema_name() -> Cow<'static, str> {
        "Limit".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"], "description": "a share, `80%`, or a number of bytes, `500 GiB`" })
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
    /// Names under which browsers and clients may reach it, besides `localhost` and addresses: requests for any other
    /// name are refused, so that a web page cannot reach the daemon through its reader's browser.
    pub(crate) hosts: Vec<String>,
}

impl Default for Listen {
    fn default() -> Self {
        Listen { http: SocketAddr::from(([127, 0, 0, 1], 8083)), expose: false, hosts: Vec::new() }
    }
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    let wrong = || de::Error::custom(format!("expected an address like `127.0.0.1:8083`, found `{text}`"));
    text.replace("localhost:", "127.0.0.1:").parse().map_err(|_| wrong())
}
