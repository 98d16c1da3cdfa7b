//! What is to run, as the configuration says it: topics, sources and sinks by name.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use aqueduct_api::{ByteSize, Span, TopicSettings};
use schemars::JsonSchema;
use serde::de::{self, IntoDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::start::Start;

/// All that one engine runs. Two plans are compared to see what a reload has to change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What relative paths in settings start at: the configuration's folder.
    pub folder: PathBuf,
    /// Topics that are made, or changed, before anything starts.
    pub topics: BTreeMap<String, TopicPlan>,
    /// By name.
    pub sources: BTreeMap<String, SourcePlan>,
    /// By name; no sink has a source's name.
    pub sinks: BTreeMap<String, SinkPlan>,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct TopicPlan {
    /// How many partitions it has; may grow, never shrinks. Default: 1.
    #[schemars(default = "one", range(min = 1))]
    pub partitions: i32,
    /// How it is kept.
    #[serde(flatten)]
    pub settings: TopicSettings,
}

impl Default for TopicPlan {
    fn default() -> Self {
        TopicPlan { partitions: one(), settings: TopicSettings::default() }
    }
}

fn one() -> i32 {
    1
}

/// Reads `partitions` and hands everything else to the settings as it comes, so that what is wrong is told where it is:
/// serde's `flatten` would forget the place.
impl<'de> Deserialize<'de> for TopicPlan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = TopicPlan;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`partitions` and settings of a topic")
            }

            // `name:` with nothing behind it.
            fn visit_unit<E: de::Error>(self) -> Result<TopicPlan, E> {
                Ok(TopicPlan::default())
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<TopicPlan, A::Error> {
                let mut partitions = None;
                let others = Others { map, partitions: &mut partitions };
                let settings = TopicSettings::deserialize(de::value::MapAccessDeserializer::new(others))?;
                Ok(TopicPlan { partitions: partitions.unwrap_or_else(one), settings })
            }
        }

        /// A map without `partitions`.
        struct Others<'a, A> {
            map: A,
            partitions: &'a mut Option<i32>,
        }

        impl<'de, A: de::MapAccess<'de>> de::MapAccess<'de> for Others<'_, A> {
            type Error = A::Error;

            fn next_key_seed<K: de::DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
                while let Some(key) = self.map.next_key::<String>()? {
                    if key != "partitions" {
                        let key: de::value::StringDeserializer<A::Error> = key.into_deserializer();
                        return seed.deserialize(key).map(Some);
                    }
                    if self.partitions.replace(self.map.next_value()?).is_some() {
                        return Err(de::Error::duplicate_field("partitions"));
                    }
                }
                Ok(None)
            }

            fn next_value_seed<V: de::DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
                self.map.next_value_seed(seed)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// A source: what brings records into a topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SourcePlan {
    /// Which kind of source.
    pub connector: String,
    /// Where its records go; made with defaults where it is not there and not declared.
    pub topic: String,
    /// The connector's own settings, references unresolved.
    #[serde(default = "no_settings")]
    pub settings: Value,
    /// What its records go through, in order, on their way to the topic: each `{ NAME: SETTINGS }`. Default: nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transforms: Vec<TransformPlan>,
    /// How failures that may pass are tried again.
    #[serde(default)]
    pub retry: RetryPlan,
    /// Where input goes that can not be a record.
    #[serde(default)]
    pub dead_letters: DeadLetterPlan,
}

/// A sink: what takes records out of topics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SinkPlan {
    /// Which kind of sink.
    pub connector: String,
    /// Names or globs (`orders.*`, `{a,b}`). Globs match neither dead-letter topics nor internal ones.
    pub topics: Vec<String>,
    /// The connector's own settings, references unresolved.
    #[serde(default = "no_settings")]
    pub settings: Value,
    /// What its records go through, in order, on their way to the destination: each `{ NAME: SETTINGS }`. Default: nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transforms: Vec<TransformPlan>,
    /// What makes a chunk ripe to be delivered.
    #[serde(default)]
    pub chunk: ChunkPlan,
    /// How failures that may pass are tried again.
    #[serde(default)]
    pub retry: RetryPlan,
    /// Where records go that the destination will never take.
    #[serde(default)]
    pub dead_letters: DeadLetterPlan,
    /// Where the sink starts in partitions that are there when it first starts. Partitions that come later are delivered
    /// from their beginning. Default: beginning.
    #[serde(default)]
    pub start: Start,
}

/// One transform: `{ NAME: SETTINGS }`.
#[derive(Clone, Debug, PartialEq)]
pub struct TransformPlan {
    /// Which kind of transform.
    pub transform: String,
    /// The transform's own settings, references unresolved.
    pub settings: Value,
}

impl Serialize for TransformPlan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([(&self.transform, &self.settings)])
    }
}

impl<'de> Deserialize<'de> for TransformPlan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = TransformPlan;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one transform as `{ NAME: SETTINGS }`")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<TransformPlan, A::Error> {
                let Some((transform, settings)) = map.next_entry()? else {
                    return Err(de::Error::invalid_length(0, &self));
                };
                match map.next_key::<String>()? {
                    None => Ok(TransformPlan { transform, settings }),
                    Some(_) => Err(de::Error::invalid_length(2, &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for TransformPlan {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TransformPlan".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "One transform: its name, and its settings.",
            "type": "object",
            "minProperties": 1,
            "maxProperties": 1,
        })
    }
}

fn no_settings() -> Value {
    Value::Object(serde_json::Map::new())
}

/// What makes a chunk ripe: whichever comes first. A batch is never divided, so a chunk may be larger by one batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct ChunkPlan {
    /// Bytes as stored. Default: 8 MiB.
    pub bytes: ByteSize,
    /// Records; absent: any number. Default: absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
    /// How long after the engine first saw its first record. Default: 1s.
    pub age: Span,
}

impl Default for ChunkPlan {
    fn default() -> Self {
        ChunkPlan { bytes: ByteSize::mib(8), records: None, age: Span::seconds(1) }
    }
}

/// How a failure that may pass is tried again: after `first`, then after twice as long each time up to `longest`, less a
/// random part of up to a half.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct RetryPlan {
    /// The first wait. Default: 100ms.
    pub first: Span,
    /// The longest wait. Default: 30s.
    pub longest: Span,
    /// How long the same thing is tried before the connector fails. Default: never.
    pub give_up: Span,
}

impl Default for RetryPlan {
    fn default() -> Self {
        RetryPlan { first: Span::millis(100), longest: Span::seconds(30), give_up: Span::FOREVER }
    }
}

/// Where what can not be delivered goes: `{ topic: NAME }`, or `off`, under which it stops the connector.
#[derive(Clone, Debug, PartialEq)]
pub enum DeadLetterPlan {
    /// To a topic of one partition, made when first needed.
    Topic {
        /// Its name. Default: `<connector's name>.dead-letters`.
        topic: Option<String>,
    },
    /// Nowhere: the connector stops with the reason.
    Off,
}

impl DeadLetterPlan {
    /// The topic's name for a connector of that name; `None` when off.
    pub fn topic(&self, connector: &str) -> Option<String> {
        match self {
            DeadLetterPlan::Topic { topic: Some(topic) } => Some(topic.clone()),
            DeadLetterPlan::Topic { topic: None } => Some(format!("{connector}.dead-letters")),
            DeadLetterPlan::Off => None,
        }
    }
}

impl Default for DeadLetterPlan {
    fn default() -> Self {
        DeadLetterPlan::Topic { topic: None }
    }
}

/// `{ topic: NAME }`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DeadLetterTopic {
    /// The topic's name; default: `<connector's name>.dead-letters`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
}

impl Serialize for DeadLetterPlan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            DeadLetterPlan::Topic { topic } => DeadLetterTopic { topic: topic.clone() }.serialize(serializer),
            DeadLetterPlan::Off => serializer.serialize_str("off"),
        }
    }
}

impl<'de> Deserialize<'de> for DeadLetterPlan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = DeadLetterPlan;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`off` or `{ topic: NAME }`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<DeadLetterPlan, E> {
                match text {
                    "off" => Ok(DeadLetterPlan::Off),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }

            // YAML 1.1 reads a bare `off` as false.
            fn visit_bool<E: de::Error>(self, on: bool) -> Result<DeadLetterPlan, E> {
                match on {
                    false => Ok(DeadLetterPlan::Off),
                    true => Err(E::invalid_value(de::Unexpected::Bool(on), &self)),
                }
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<DeadLetterPlan, A::Error> {
                let read = DeadLetterTopic::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(DeadLetterPlan::Topic { topic: read.topic })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for DeadLetterPlan {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "DeadLetterPlan".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "Where what can not be delivered goes: a topic (default `<name>.dead-letters`), or `off`, under which it stops the connector.",
            "anyOf": [{ "const": "off" }, generator.subschema_for::<DeadLetterTopic>()],
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_sink_is_declared_by_little() {
        let plan: SinkPlan = serde_json::from_value(json!({"connector": "s3", "topics": ["*"]})).unwrap();
        assert_eq!(plan.chunk, ChunkPlan { bytes: ByteSize::mib(8), records: None, age: Span::seconds(1) });
        assert_eq!(plan.retry.give_up, Span::FOREVER);
        assert_eq!(plan.dead_letters.topic("lake"), Some("lake.dead-letters".into()));
        assert_eq!(plan.start, Start::Beginning);
        assert_eq!(plan.settings, json!({}));
    }

    #[test]
    fn a_transform_is_one_name_with_its_settings() {
        let read = |value: Value| serde_json::from_value::<TransformPlan>(value).map_err(|error| error.to_string());
        let plan = read(json!({"vrl": ". = 1"})).unwrap();
        assert_eq!(plan, TransformPlan { transform: "vrl".into(), settings: json!(". = 1") });
        assert_eq!(serde_json::to_value(&plan).unwrap(), json!({"vrl": ". = 1"}));
        assert!(read(json!({})).unwrap_err().contains("expected one transform as `{ NAME: SETTINGS }`"));
        assert!(read(json!({"a": 1, "b": 2})).unwrap_err().contains("expected one transform"));
        let sink: SinkPlan = serde_json::from_value(json!({"connector": "s3", "topics": ["*"]})).unwrap();
        assert_eq!(sink.transforms, []);
        assert_eq!(serde_json::to_value(&sink).unwrap().get("transforms"), None);
    }

    #[test]
    fn dead_letters_are_a_topic_or_off() {
        let read = |value: Value| serde_json::from_value::<DeadLetterPlan>(value).map_err(|error| error.to_string());
        assert_eq!(read(json!("off")), Ok(DeadLetterPlan::Off));
        assert_eq!(read(json!(false)), Ok(DeadLetterPlan::Off));
        assert_eq!(read(json!({})), Ok(DeadLetterPlan::Topic { topic: None }));
        assert_eq!(read(json!({"topic": "x"})).unwrap().topic("y"), Some("x".into()));
        assert!(read(json!("on")).unwrap_err().contains("expected `off` or `{ topic: NAME }`"));
        assert!(read(json!({"topics": "x"})).unwrap_err().contains("unknown field `topics`"));
        for plan in [DeadLetterPlan::Off, DeadLetterPlan::Topic { topic: Some("x".into()) }] {
            assert_eq!(read(serde_json::to_value(&plan).unwrap()), Ok(plan));
        }
    }

    #[test]
    fn unknown_topic_settings_are_refused() {
        let topic: TopicPlan = serde_json::from_value(json!({"partitions": 4, "retention.ms": "7d"})).unwrap();
        assert_eq!(topic, TopicPlan { partitions: 4, settings: TopicSettings::default() });
        let unknown = serde_json::from_value::<TopicPlan>(json!({"partition": 4})).unwrap_err();
        assert!(unknown.to_string().contains("unknown field `partition`"), "{unknown}");
        assert_eq!(serde_json::from_value::<TopicPlan>(json!(null)).unwrap(), TopicPlan::default());
        let schema = schemars::schema_for!(TopicPlan);
        assert_eq!(schema.pointer("/properties/partitions/minimum"), Some(&json!(1)));
        assert!(schema.pointer("/properties/retention.ms").is_some(), "{schema:?}");
    }
}
