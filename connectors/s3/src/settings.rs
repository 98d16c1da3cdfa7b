//! The settings of the sink: their doc comments are its manual.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_api::{ByteSize, Problem, Result, Secret, Settings, Sink, SinkOpening, SinkSettings};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::access::Access;
use crate::address::{Address, absolute};
use crate::bucket::Bucket;
use crate::compressor::Compression;
use crate::csv::CsvStyle;
use crate::folder::Folder;
use crate::format::Format;
use crate::naming::ConfluentLayout;
use crate::protection::{self, Acl, Checksum, Encryption};
use crate::role::Role;
use crate::row::RecordColumns;
use crate::schema::Field;
use crate::sink::ObjectSink;
use crate::store;
use crate::tabular;

/// Objects in S3, any store that speaks its protocol, or a folder.
///
/// Each chunk of a partition becomes one object, or one for each path that its records name. Exactly once: an object is
/// named by topic, partition and offsets, carries its topic's id, becomes visible whole, and is never written over: but where
/// a chunk was given up (`aqueduct sinks unpin`), the objects of what is cut anew take the place of those of the same name,
/// whatever settings and transforms are now. On a store that ignores `If-None-Match`, a request of a killed process that
/// arrives late can still be the last. After `aqueduct sinks rewind` names begin with `run=N/`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct S3Settings {
    /// Where objects go: `s3://bucket/prefix`, or `file:///folder` (`file://./folder` starts at the configuration's
    /// folder). A folder holds nothing but the objects and one hidden folder, `.aqueduct`.
    pub url: String,
    /// Folders under the url, as a template, instead of `layout`: `{topic}/date={timestamp:%Y-%m-%d}`. Placeholders:
    /// `{topic}`, `{partition}`, `{timestamp:FORMAT}` (the record's time as strftime writes it, seconds at the
    /// finest), `{field:a.b}` (a string, number, boolean or null of a JSON value), `{header:name}`, `{key}`. A prefix of
    /// Firehose's does as well, with `!{timestamp:yyyy/MM/dd/HH}` and `!{partitionKeyFromQuery:name}` (the value's field
    /// of that name); so do Hive's folders: `dt={timestamp:%Y-%m-%d}/country={field:country}`. Objects in them are called
    /// `topic+partition+start+end` with the chunk's offsets. Of a value that becomes part of a name only letters, digits, `-`,
    /// `_`, `~` and dots but the first are kept, other bytes are written `%XX`. A record that has no such field, key or
    /// timestamp, or whose name would have an empty part, is a dead letter.
    #[schemars(extend("x-shaping" = true))]
    pub path: Option<String>,
    /// Folders and names as Confluent's S3 sink makes them: `topics/<topic>/partition=0/<topic>+0+0000001234.json`, the
    /// number being the first offset of the object. In place of `partition=0`: `daily` has `year=2026/month=05/day=12`,
    /// `hourly` has `hour=10` after that (the record's time), `{time: FORMAT}` any other time as strftime writes it,
    /// `{fields: [a, b.c]}` has `a=x/b.c=y`.
    /// Default: partition.
    #[serde(default)]
    #[schemars(extend("x-shaping" = true))]
    pub layout: ConfluentLayout,
    /// The field of a JSON value that holds the time of a record, for names: a string as RFC 3339 has it (UTC where it
    /// names no zone), or whole milliseconds since 1970. A record without it is a dead letter. Default: the record's
    /// timestamp counts.
    #[schemars(extend("x-shaping" = true))]
    pub time_field: Option<String>,
    /// How that field is written, as strftime has it: `%d/%b/%Y:%H:%M:%S %z`.
    #[schemars(extend("x-shaping" = true))]
    pub time_format: Option<String>,
    /// Where the times in names are, and those of `time-format` that name no zone: `Europe/Berlin`. The rules of all
    /// zones come with the program. Default: UTC.
    #[schemars(extend("x-shaping" = true))]
    pub time_zone: Option<String>,
    /// What stands in names for a field, header or key that is missing, null or empty: Hive has
    /// `__HIVE_DEFAULT_PARTITION__`. Default: such a record is a dead letter.
    #[schemars(extend("x-shaping" = true))]
    pub missing: Option<String>,
    /// The first folder of `layout`; empty: none. Default: topics.
    #[serde(default = "topics")]
    #[schemars(extend("x-shaping" = true))]
    pub topics_dir: String,
    /// What a record becomes. Default: lines.
    #[serde(default)]
    #[schemars(extend("x-shaping" = true))]
    pub format: Format,
    /// For formats with columns: the fields of the values that become columns, in this order, as in
    /// `[{name: id, type: int64, required: true}]`; others are left out. Types: `boolean`, `int32`, `int64`, `float`,
    /// `double`, `string`, `text` (a string as it is, anything else as its JSON), `bytes` (a string of base64), `date`
    /// (`2026-05-12`), `timestamp` (RFC 3339, or milliseconds since 1970), `{decimal: {precision: 12, scale: 2}}`,
    /// `{list: TYPE}`, `{map: TYPE}`, `{struct: FIELDS}`. A record whose value does not fit is a dead letter that names
    /// the field. Default: each object has the fields that its
    /// own records have, sorted by name. Whole numbers and others make a `double`, any other two types make `text`; what
    /// is null, an empty list or an empty object in all records of an object is left out; numbers that 64 bits do not
    /// hold are `double`s. So the columns of two objects can differ: give a schema to readers who can not unite them.
    #[schemars(extend("x-shaping" = true))]
    pub schema: Option<Vec<Field>>,
    /// For formats with columns: what else of a record becomes a column, by the column's name, as in
    /// `{offset: _offset, timestamp: _time}`. Default: nothing. Of objects whose values have no fields at all the offset
    /// becomes column `_offset`.
    #[serde(default)]
    #[schemars(extend("x-shaping" = true))]
    pub columns: RecordColumns,
    /// How CSV is written.
    #[serde(default)]
    #[schemars(extend("x-shaping" = true))]
    pub csv: CsvStyle,
    /// How large a row group of Parquet is before it is encoded; as much memory is used for each chunk under way, of which
    /// there are so many at once that it is 256 MiB together, and one at least. Default: 16 MiB.
    #[serde(default = "row_group")]
    #[schemars(extend("x-shaping" = true))]
    pub row_group: ByteSize,
    /// How objects are compressed. Parquet and Avro (no lz4) compress their inner parts: with Parquet lz4 is `LZ4_RAW`, with
    /// Avro gzip is `deflate`. Default: none; snappy for Parquet.
    #[schemars(extend("x-shaping" = true))]
    pub compression: Option<Compression>,
    /// How hard: gzip 1 to 9, default 6; zstd 1 to 19, default 1.
    #[schemars(extend("x-shaping" = true))]
    pub compression_level: Option<i32>,
    /// The address of a store other than Amazon's: `https://minio:9000`.
    pub endpoint: Option<String>,
    /// Whether the endpoint may be plain HTTP. Default: false.
    #[serde(default)]
    pub allow_http: bool,
    /// Whether the bucket is part of the path (`https://host/bucket/…`) and not of the host name. Default: true where
    /// `endpoint` is set, else false.
    pub path_style: Option<bool>,
    /// The bucket's region. Default: that of the environment (`AWS_REGION`), else us-east-1.
    pub region: Option<String>,
    /// Who we are. Default: the environment (`AWS_ACCESS_KEY_ID`), a web identity, or the machine's own role.
    pub access_key_id: Option<Secret>,
    /// What proves it.
    pub secret_access_key: Option<Secret>,
    /// Goes with temporary keys.
    pub session_token: Option<Secret>,
    /// The role to assume with those keys, as in `{arn: "arn:aws:iam::123456789012:role/lake-writer"}`. Default: none.
    pub role: Option<Role>,
    /// How the store encrypts objects: `s3` (its own keys), `{kms: {key: ARN, bucket-key: true}}` or
    /// `{dsse-kms: {key: ARN}}`. Default: as the bucket says.
    pub encryption: Option<Encryption>,
    /// The checksum that goes with all bytes that are written, which the store compares and keeps: `sha256` or `crc64nvme`.
    /// Buckets with an Object Lock that holds for all objects ask for one. Default: none, or what `AWS_CHECKSUM_ALGORITHM`
    /// says.
    pub checksum: Option<Checksum>,
    /// The storage class of objects: `STANDARD_IA`, `INTELLIGENT_TIERING`, `GLACIER_IR` … Default: as the store says.
    pub storage_class: Option<String>,
    /// Who may do what with objects beside what the bucket says, as one of S3's canned ACLs: `private`, `public-read`,
    /// `bucket-owner-full-control` … An object has it from its first moment on. Buckets whose owner owns all objects, as
    /// new ones at Amazon's do, take none but `bucket-owner-full-control`. Default: as the store says.
    pub acl: Option<Acl>,
    /// Tags of objects, 10 at most. Default: none.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Objects larger than this are uploaded in parts of this size, at least 5 MiB; three parts a chunk are in memory at
    /// once. A store takes 10,000 parts an object. Default: 8 MiB.
    #[serde(default = "part_size")]
    pub part_size: ByteSize,
}

fn topics() -> String {
    "topics".to_owned()
}

fn row_group() -> ByteSize {
    ByteSize::mib(16)
}

fn part_size() -> ByteSize {
    ByteSize::mib(8)
}

impl Settings for S3Settings {
    const NAME: &'static str = "s3";
    const SUMMARY: &'static str = "writes objects to S3, a store that speaks its protocol, or a folder";

    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Err(why) = Address::parse(&self.url) {
            problems.push(Problem::new("url", why));
        }
        self.name_problems(&mut problems);
        if let Some(level) = self.compression_level {
            let message = match self.compression() {
                Compression::Gzip if !(1..=9).contains(&level) => Some("1 to 9"),
                Compression::Zstd if !(1..=19).contains(&level) => Some("1 to 19"),
                Compression::Gzip | Compression::Zstd => None,
                _ => Some("`compression: gzip` or `compression: zstd` beside it"),
            };
            let message = message.map(|expected| format!("{level} is not a level here, expected {expected}"));
            problems.extend(message.map(|message| Problem::new("compression-level", message)));
        }
        if !(ByteSize::mib(5)..=ByteSize::mib(512)).contains(&self.part_size) {
            let message = format!("{} is out of range, expected 5 MiB to 512 MiB", self.part_size);
            problems.push(Problem::new("part-size", message));
        }
        tabular::problems(self, &mut problems);
        protection::problems(self, &mut problems);
        problems.extend(self.access().problems());
        problems
    }
}

impl S3Settings {
    /// How objects are compressed, where it is not said too.
    pub(crate) fn compression(&self) -> Compression {
        let default = if self.format == Format::Parquet { Compression::Snappy } else { Compression::None };
        self.compression.unwrap_or(default)
    }

    pub(crate) fn address(&self) -> Result<Address> {
        Address::parse(&self.url).map_err(|why| aqueduct_api::Error::fatal(format!("setting url: {why}")))
    }

    pub(crate) fn access(&self) -> Access<'_> {
        Access {
            endpoint: self.endpoint.as_deref(),
            allow_http: self.allow_http,
            path_style: self.path_style,
            region: self.region.as_deref(),
            access_key_id: self.access_key_id.as_ref(),
            secret_access_key: self.secret_access_key.as_ref(),
            session_token: self.session_token.as_ref(),
            role: self.role.as_ref(),
            encryption: self.encryption.as_ref(),
            checksum: self.checksum,
            // A request carries at most a part: a slow line still brings it to its end.
            timeout: Duration::from_secs(60 + (self.part_size.0 >> 20)),
        }
    }

    async fn bucket(&self, opening: &SinkOpening) -> Result<Arc<dyn Bucket>> {
        Ok(match self.address()? {
            Address::Bucket { bucket, prefix } => store::connect(self, &bucket, &prefix)?,
            Address::Folder(path) => {
                let path = absolute(&opening.folder, &path);
                Arc::new(Folder::open(&opening.edge, path, &opening.name).await?)
            }
        })
    }
}

#[async_trait]
impl SinkSettings for S3Settings {
    async fn open(self, opening: SinkOpening) -> Result<Box<dyn Sink>> {
        let bucket = self.bucket(&opening).await?;
        Ok(Box::new(ObjectSink::new(&self, &opening, bucket)?))
    }

    async fn probe(&self, opening: SinkOpening) -> Result<Vec<String>> {
        match self.address()? {
            Address::Bucket { bucket, prefix } => store::probe(self, &bucket, &prefix).await,
            Address::Folder(path) => Folder::probe(&opening.edge, absolute(&opening.folder, &path)).await,
        }
    }

    fn destination(&self, opening: &SinkOpening) -> Option<String> {
        let place = match Address::parse(&self.url).ok()? {
            Address::Bucket { bucket, prefix } => {
                let host = self.endpoint.as_deref().unwrap_or_default().trim_end_matches('/').to_lowercase();
                format!("s3://{bucket}/{prefix} {host}")
            }
            Address::Folder(path) => format!("file://{}", absolute(&opening.folder, &path).display()),
        };
        Some(format!("{place} {} {}", self.template(), self.extension()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn problems(settings: Value) -> Vec<String> {
        let settings: S3Settings = serde_json::from_value(settings).unwrap();
        settings.problems().into_iter().map(|problem| format!("{}: {}", problem.setting, problem.message)).collect()
    }

    #[test]
    fn what_the_manual_shows_is_taken() {
        for settings in [
            json!({"url": "s3://lake/raw"}),
            json!({"url": "s3://lake", "path": "{topic}/date={timestamp:%Y-%m-%d}", "format": "json-lines"}),
            json!({"url": "file:///srv/lake", "layout": "hourly", "compression": "zstd", "compression-level": 3}),
            json!({"url": "file:///srv/lake", "layout": {"fields": ["a", "b.c"]}, "topics-dir": ""}),
            json!({"url": "s3://lake", "endpoint": "http://127.0.0.1:9000", "allow-http": true, "part-size": "5 MiB"}),
            json!({"url": "s3://lake", "checksum": "crc64nvme"}),
            json!({"url": "s3://lake", "access-key-id": "a", "secret-access-key": "b", "region": "eu-central-1"}),
        ] {
            assert_eq!(problems(settings.clone()), [] as [String; 0], "{settings}");
        }
    }

    #[test]
    fn problems_name_the_setting_and_what_would_be_right() {
        for (settings, expected) in [
            (json!({"url": "gs://x"}), "url: unknown scheme `gs`"),
            (
                json!({"url": "s3://x", "path": "{topik}"}),
                "path: unknown placeholder `{topik}`, did you mean `{topic}`?",
            ),
            (
                json!({"url": "s3://x", "path": "{key}", "layout": "daily"}),
                "path: `{key}` and `layout` exclude each other",
            ),
            (json!({"url": "s3://x", "layout": {"fields": []}}), "layout.fields: names no field"),
            (json!({"url": "s3://x", "layout": {"fields": ["a..b"]}}), "layout.fields: `{field:a..b}`"),
            (
                json!({"url": "s3://x", "topics-dir": ".."}),
                "topics-dir: part `..` of the object's name begins with a dot",
            ),
            (json!({"url": "s3://x", "format": "avro", "compression": "lz4"}), "compression: Avro knows no lz4"),
            (json!({"url": "s3://x", "csv": {"header": false}}), "csv: is for `format: csv` alone"),
            (json!({"url": "s3://x", "schema": []}), "schema: is for `format: parquet`"),
            (
                json!({"url": "s3://x", "format": "csv", "columns": {"key": "k", "offset": "k"}}),
                "columns: `k` is no name of one column alone",
            ),
            (json!({"url": "s3://x", "format": "parquet", "row-group": "1 KiB"}), "row-group: 1 KiB is out of range"),
            (json!({"url": "s3://x", "time-zone": "Mars"}), "time-zone: `Mars` is no time zone"),
            (json!({"url": "s3://x", "time-field": "a"}), "time-field: there is no time in the objects' names"),
            (json!({"url": "s3://x", "missing": "x"}), "missing: the objects' names need nothing"),
            (json!({"url": "s3://x", "path": "!{firehose:random-string}/"}), "path: `!{firehose:random-string}`"),
            (json!({"url": "file:///x", "encryption": "s3"}), "encryption: is for buckets"),
            (json!({"url": "file:///x", "checksum": "sha256"}), "checksum: is for buckets"),
            (json!({"url": "s3://x", "storage-class": "cold"}), "storage-class: `cold` is no storage class"),
            (json!({"url": "s3://x", "tags": {"aws:x": "y"}}), "tags: `aws:x`"),
            (
                json!({"url": "s3://x", "compression-level": 3}),
                "compression-level: 3 is not a level here, expected `compression: gzip`",
            ),
            (
                json!({"url": "s3://x", "compression": "gzip", "compression-level": 12}),
                "compression-level: 12 is not a level here, expected 1 to 9",
            ),
            (json!({"url": "s3://x", "part-size": "1 MiB"}), "part-size: 1 MiB is out of range"),
            (json!({"url": "s3://x", "endpoint": "http://x:9000"}), "endpoint: `http://x:9000` is not encrypted"),
            (json!({"url": "s3://x", "endpoint": "minio:9000"}), "endpoint: `minio:9000` is no address"),
            (json!({"url": "s3://x", "access-key-id": "a"}), "secret-access-key: is missing"),
            (json!({"url": "s3://x", "secret-access-key": "a"}), "access-key-id: is missing"),
        ] {
            let found = problems(settings.clone());
            assert!(found.iter().any(|problem| problem.starts_with(expected)), "{settings}: {found:?}");
        }
    }

    fn destination(settings: Value) -> String {
        let edge = aqueduct_api::Edge::real();
        let folder = "/etc/aq".into();
        let opening = SinkOpening { name: "lake".into(), folder, scratch: "/tmp".into(), edge };
        let settings: S3Settings = serde_json::from_value(settings).unwrap();
        settings.destination(&opening).unwrap()
    }

    #[tokio::test]
    async fn sinks_that_would_write_the_same_names_have_one_destination() {
        let base = destination(json!({"url": "file://./lake"}));
        assert_eq!(base, destination(json!({"url": "file:///etc/aq/x/../lake/", "layout": "partition"})));
        assert_eq!(base, destination(json!({"url": "file:/etc/aq/lake", "part-size": "9 MiB"})));
        for other in [
            json!({"url": "file://./lake2"}),
            json!({"url": "file://./lake", "layout": "daily"}),
            json!({"url": "file://./lake", "compression": "gzip"}),
            json!({"url": "file://./lake", "format": "json-lines"}),
            json!({"url": "s3://lake"}),
        ] {
            assert_ne!(base, destination(other));
        }
        assert_eq!(destination(json!({"url": "s3://a/b/"})), destination(json!({"url": "s3://a/b"})));
    }

    #[test]
    fn only_what_makes_names_or_bytes_is_shaping() {
        let schema = schemars::schema_for!(S3Settings);
        let properties = schema.get("properties").unwrap().as_object().unwrap();
        let shaping = |(name, schema): (&String, &Value)| (schema["x-shaping"] == true).then(|| name.clone());
        let mut found: Vec<String> = properties.iter().filter_map(shaping).collect();
        found.sort();
        assert_eq!(
            found,
            [
                "columns",
                "compression",
                "compression-level",
                "csv",
                "format",
                "layout",
                "missing",
                "path",
                "row-group",
                "schema",
                "time-field",
                "time-format",
                "time-zone",
                "topics-dir"
            ]
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        let settings: S3Settings =
            serde_json::from_value(json!({"url": "s3://x", "access-key-id": "AKIA", "secret-access-key": "hush"}))
                .unwrap();
        let shown = format!("{settings:?}");
        assert!(!shown.contains("AKIA") && !shown.contains("hush"), "{shown}");
    }
}
