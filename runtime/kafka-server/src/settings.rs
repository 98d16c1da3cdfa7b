//! How a topic is kept, in the words of Kafka's configuration: every value a text.

use aqueduct_api::{ByteSize, CleanupPolicy, Durability, Span, TopicSettings};
use aqueduct_record::Compression;
use kafka_protocol::error::ResponseError;

use crate::call::Wrong;

/// One setting of a topic.
struct Setting {
    name: &'static str,
    kind: Kind,
    what: &'static str,
    get: fn(&TopicSettings) -> String,
    set: fn(&mut TopicSettings, &str) -> Option<()>,
}

/// What a value is, as Kafka counts its types.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Boolean = 1,
    Text = 2,
    Int = 3,
    Long = 5,
    List = 7,
}

const SETTINGS: &[Setting] = &[
    Setting {
        name: "cleanup.policy",
        kind: Kind::List,
        what: "Whether old segments go, or the last record of each key stays.",
        get: |settings| match settings.cleanup {
            CleanupPolicy::Delete => "delete".to_owned(),
            CleanupPolicy::Compact => "compact".to_owned(),
        },
        set: |settings, value| {
            settings.cleanup = match value {
                "delete" => CleanupPolicy::Delete,
                "compact" => CleanupPolicy::Compact,
                _ => return None,
            };
            Some(())
        },
    },
    Setting {
        name: "compression.type",
        kind: Kind::Text,
        what: "What sources compress batches with; those of Kafka clients are stored as they come.",
        get: |settings| match settings.compression {
            Compression::None => "producer".to_owned(),
            codec => codec.to_string(),
        },
        set: |settings, value| {
            settings.compression = match value {
                "producer" | "uncompressed" => Compression::None,
                codec => codec.parse().ok()?,
            };
            Some(())
        },
    },
    Setting {
        name: "delete.retention.ms",
        kind: Kind::Long,
        what: "How long a tombstone outlives compaction.",
        get: |settings| millis(settings.tombstone_retention),
        set: |settings, value| span(value).map(|span| settings.tombstone_retention = span),
    },
    Setting {
        name: "durability",
        kind: Kind::Text,
        what: "When an append counts as safe: fsync, interval or os.",
        get: |settings| match settings.durability {
            Durability::Fsync => "fsync".to_owned(),
            Durability::Interval => "interval".to_owned(),
            Durability::Os => "os".to_owned(),
        },
        set: |settings, value| {
            settings.durability = match value {
                "fsync" => Durability::Fsync,
                "interval" => Durability::Interval,
                "os" => Durability::Os,
                _ => return None,
            };
            Some(())
        },
    },
    Setting {
        name: "max.message.bytes",
        kind: Kind::Int,
        what: "The largest batch that is taken, as stored.",
        get: |settings| settings.max_batch.0.to_string(),
        set: |settings, value| bytes(value).map(|size| settings.max_batch = size),
    },
    Setting {
        name: "message.timestamp.type",
        kind: Kind::Text,
        what: "Whose time a record has: always its producer's, CreateTime.",
        get: |_| "CreateTime".to_owned(),
        set: |_, value| (value == "CreateTime").then_some(()),
    },
    Setting {
        name: "retention.bytes",
        kind: Kind::Long,
        what: "How many bytes a partition may keep; -1: no limit.",
        get: |settings| settings.retention_bytes.map_or_else(|| "-1".to_owned(), |size| size.0.to_string()),
        set: |settings, value| {
            settings.retention_bytes = match value {
                "-1" => None,
                size => Some(bytes(size)?),
            };
            Some(())
        },
    },
    Setting {
        name: "retention.ms",
        kind: Kind::Long,
        what: "How old a record may get before its segment goes; -1: for ever.",
        get: |settings| millis(settings.retention),
        set: |settings, value| {
            settings.retention = match value {
                "-1" => Span::FOREVER,
                value => span(value)?,
            };
            Some(())
        },
    },
    Setting {
        name: "segment.bytes",
        kind: Kind::Int,
        what: "How large a segment gets before the next begins.",
        get: |settings| settings.segment_bytes.0.to_string(),
        set: |settings, value| bytes(value).map(|size| settings.segment_bytes = size),
    },
    Setting {
        name: "segment.ms",
        kind: Kind::Long,
        what: "How old a segment gets before the next begins.",
        get: |settings| millis(settings.segment_age),
        set: |settings, value| span(value).map(|span| settings.segment_age = span),
    },
];

/// A setting with its value, for clients.
pub(crate) struct Described {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    pub(crate) default: String,
    pub(crate) kind: i8,
    pub(crate) what: &'static str,
    /// Where the value comes from, as Kafka counts.
    pub(crate) source: i8,
    /// Whether no client may change it.
    pub(crate) is_fixed: bool,
}

/// Where a value comes from, as Kafka counts: the topic, the broker's configuration, or nobody.
const OF_THE_TOPIC: i8 = 1;
pub(crate) const OF_THE_BROKER: i8 = 4;
pub(crate) const DEFAULT: i8 = 5;

/// All settings, by name.
pub(crate) fn described(settings: &TopicSettings) -> impl Iterator<Item = Described> + use<> {
    let (settings, default) = (settings.clone(), TopicSettings::default());
    SETTINGS.iter().map(move |setting| {
        let (value, default) = ((setting.get)(&settings), (setting.get)(&default));
        let source = if value == default { DEFAULT } else { OF_THE_TOPIC };
        let (name, kind, what) = (setting.name, setting.kind as i8, setting.what);
        Described { name, value, default, kind, what, source, is_fixed: false }
    })
}

/// Sets one.
pub(crate) fn set(settings: &mut TopicSettings, name: &str, value: &str) -> Result<(), Wrong> {
    let setting = find(name)?;
    (setting.set)(settings, value).ok_or_else(|| {
        Wrong::new(ResponseError::InvalidConfig, format!("`{name}` can not be `{value}`: {}", setting.what))
    })
}

/// Takes one back to its default.
pub(crate) fn reset(settings: &mut TopicSettings, name: &str) -> Result<(), Wrong> {
    let default = (find(name)?.get)(&TopicSettings::default());
    set(settings, name, &default)
}

/// Takes all back to their defaults.
pub(crate) fn reset_all(settings: &mut TopicSettings) -> Result<(), Wrong> {
    SETTINGS.iter().try_for_each(|setting| reset(settings, setting.name))
}

fn find(name: &str) -> Result<&'static Setting, Wrong> {
    SETTINGS.iter().find(|setting| setting.name == name).ok_or_else(|| {
        let known: Vec<_> = SETTINGS.iter().map(|setting| setting.name).collect();
        let why = format!("`{name}` is not a setting of topics here; there are {}", known.join(", "));
        Wrong::new(ResponseError::InvalidConfig, why)
    })
}

fn millis(span: Span) -> String {
    span.duration().map_or_else(|| "-1".to_owned(), |span| span.as_millis().to_string())
}

/// Milliseconds, and nothing else: what Kafka's tools send.
fn span(value: &str) -> Option<Span> {
    value.parse().ok().map(Span::millis)
}

fn bytes(value: &str) -> Option<ByteSize> {
    value.parse().ok().map(ByteSize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_can_be_told_and_set_again() {
        let default = TopicSettings::default();
        let mut copy = default.clone();
        for setting in described(&default) {
            set(&mut copy, setting.name, &setting.value).unwrap();
            assert_eq!(setting.source, DEFAULT, "{}", setting.name);
        }
        assert_eq!(copy, default);
    }

    #[test]
    fn a_value_is_what_kafka_s_tools_send() {
        let cases = [
            ("retention.ms", "-1", Ok("-1")),
            ("retention.ms", "86400000", Ok("86400000")),
            ("retention.ms", "7d", Err(())),
            ("retention.bytes", "-1", Ok("-1")),
            ("retention.bytes", "-2", Err(())),
            ("cleanup.policy", "compact", Ok("compact")),
            ("cleanup.policy", "compact,delete", Err(())),
            ("compression.type", "zstd", Ok("zstd")),
            ("compression.type", "uncompressed", Ok("producer")),
            ("max.message.bytes", "1048588", Ok("1048588")),
            ("message.timestamp.type", "CreateTime", Ok("CreateTime")),
            ("message.timestamp.type", "LogAppendTime", Err(())),
            ("min.insync.replicas", "1", Err(())),
        ];
        for (name, value, expected) in cases {
            let mut settings = TopicSettings::default();
            let told =
                set(&mut settings, name, value).map_err(|wrong| assert_eq!(wrong.error, ResponseError::InvalidConfig));
            let found = described(&settings).find(|setting| setting.name == name).map(|setting| setting.value);
            let told = told.map(|()| found.unwrap());
            assert_eq!(told.as_deref().map_err(|_| ()), expected, "{name}={value}");
        }
    }
}
