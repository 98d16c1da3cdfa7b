//! The settings of the source: their doc comments are its manual.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_api::{ByteSize, Error, Problem, Result, Secret, Settings, Source, SourceOpening, SourceSettings, Span};
use async_trait::async_trait;
use globset::{GlobBuilder, GlobMatcher};
use object_store::aws::AmazonS3;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::access::{self, Access};
use crate::address::Address;
use crate::answers;
use crate::cells::TakenColumns;
use crate::listing::Selection;
use crate::source::ObjectSource;

/// Objects in S3 or any store that speaks its protocol.
///
/// Objects are read in the order of the times that the store gave them, each version once: one that is written anew is
/// read again. Exactly once also across restarts: how far reading has come is saved with the records, and takes up less
/// than 4 KiB however many objects there are. What is gone or written anew while it is being read becomes a dead letter
/// that says how far reading came. So does what can not be asked for: objects of which a part of the key is `.` or `..`. Empty
/// objects, which stand for folders or say that something is done, are passed over.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct S3SourceSettings {
    /// Where objects are: `s3://bucket/folder`. All objects whose keys begin with `folder/` are read.
    pub url: String,
    /// Which of them, as a glob on the rest of the key: `**/*.json.gz`. `*` and `?` stop at slashes, `**` does not.
    /// Default: all.
    pub pattern: Option<String>,
    /// What an object is made of. Lines compressed with gzip, zstd, snappy or lz4 (both in their frame formats) are inflated,
    /// whatever the object is called; an object compressed with bzip2, xz or zip is a dead letter. Of Parquet and Avro, dates
    /// and times become text as RFC 3339 has it (without a zone where they are not UTC), decimals
    /// and UUIDs text, bytes base64, numbers that are not finite `"NaN"`, `"Infinity"` and `"-Infinity"`; a union becomes
    /// the value that it holds. Of Parquet's old timestamps of 96 bits (INT96, of Spark's and Impala's making) milliseconds are
    /// kept, finer parts are cut off, and they count as UTC. Default: lines.
    #[serde(default)]
    pub format: ObjectFormat,
    /// How CSV is written.
    #[serde(default)]
    pub csv: Csv,
    /// For `parquet` and `avro`: which columns are not fields of the value, by name, as in
    /// `{timestamp: _time, key: _key, headers: _headers}`. Default: all are.
    #[serde(default)]
    pub columns: TakenColumns,
    /// Where to begin when the source starts for the very first time: `beginning`, `end` (objects that are not there yet), or a
    /// time such as `2026-11-20T08:00:00Z` (objects from then on). Default: beginning.
    #[serde(default = "beginning")]
    pub start: String,
    /// Whether the source is done once it has read what is there. Default: false.
    #[serde(default)]
    pub once: bool,
    /// How often new objects are looked for. A list of the whole folder is made for that: where it takes longer than a
    /// tenth of this, it is made less often. Default: 30s.
    #[serde(default = "poll")]
    pub poll: Span,
    /// For how long after the time that the store gives an object it may still appear, as an upload in parts does, which
    /// bears the time of its beginning; by the times of the newest objects there, not by our clock. Default: 1h.
    #[serde(default = "late")]
    pub late: Span,
    /// The longest line or row. A longer one becomes a dead letter with the object's key, its byte range and CRC-32C, or its row.
    /// Default: 16 MiB.
    #[serde(default = "max_record")]
    pub max_record: ByteSize,
    /// For `parquet`: how much memory the pages of a row group take up at once, of all columns together and dictionaries
    /// included. An object that needs more, be it so wide or made to do harm, becomes a dead letter that says how much it
    /// may take. Default: 512 MiB.
    #[serde(default = "page_memory")]
    pub page_memory: ByteSize,
    /// How many bytes of the objects that come next are fetched while one is read, 16 objects at most; 0: none. Default: 16 MiB.
    #[serde(default = "read_ahead")]
    pub read_ahead: ByteSize,
    /// What becomes of an object that is in an archive, such as Glacier: `dead-letter` tells of it and goes on, and it is read
    /// once it was restored and copied onto itself; `wait` reads nothing else before it is restored, and tells of it meanwhile.
    /// Default: dead-letter.
    #[serde(default)]
    pub archived: Archived,
    /// Headers that each record gets: `bucket`, `key`, `etag`. Default: none.
    #[serde(default)]
    pub headers: Vec<ObjectHeader>,
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
}

/// What an object is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectFormat {
    /// Each line is the value of a record, whatever its bytes are.
    #[default]
    Lines,
    /// Each line is a JSON value; empty lines are passed over, others are dead letters.
    JsonLines,
    /// What the sink writes as `records`: key, value, headers and timestamp come back as they were.
    Records,
    /// Each line (with line breaks in quotes, RFC 4180) becomes a JSON object of strings by the names of the columns. A name
    /// that comes again gets a number: `a`, `a_2`. An object whose first line names no columns is a dead letter.
    Csv,
    /// Each row of a Parquet file becomes a JSON object.
    Parquet,
    /// Each value of an Avro container file becomes a JSON value, a record an object.
    Avro,
}

impl ObjectFormat {
    /// Whether objects have columns with types.
    pub(crate) fn has_columns(self) -> bool {
        matches!(self, ObjectFormat::Parquet | ObjectFormat::Avro)
    }

    /// What tells how far an object has been read.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            ObjectFormat::Parquet => "row group",
            _ => "byte",
        }
    }
}

/// What becomes of an object that is in an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Archived {
    /// It is a dead letter.
    #[default]
    DeadLetter,
    /// The source waits for it.
    Wait,
}

/// How CSV is written.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Csv {
    /// The names of the columns. Default: the first line of each object names them.
    pub columns: Option<Vec<String>>,
    /// What separates fields, one ASCII character. Default: `,`.
    pub delimiter: char,
}

impl Default for Csv {
    fn default() -> Self {
        Csv { columns: None, delimiter: ',' }
    }
}

/// What a record can be told about its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectHeader {
    /// The bucket.
    Bucket,
    /// The object's whole key.
    Key,
    /// The version that the store's `ETag` names.
    Etag,
}

fn beginning() -> String {
    "beginning".to_owned()
}

fn poll() -> Span {
    Span::seconds(30)
}

fn late() -> Span {
    Span::seconds(3600)
}

fn max_record() -> ByteSize {
    ByteSize::mib(16)
}

fn page_memory() -> ByteSize {
    ByteSize::mib(512)
}

fn read_ahead() -> ByteSize {
    ByteSize::mib(16)
}

/// Where the source starts for the very first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// With all that is there.
    Beginning,
    /// With what comes.
    End,
    /// With objects of a time, in ms since 1970, or later.
    Time(i64),
}

impl Settings for S3SourceSettings {
    const NAME: &'static str = "s3";
    const SUMMARY: &'static str = "reads objects from S3 or a store that speaks its protocol";

    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Err(why) = self.bucket() {
            problems.push(Problem::new("url", why));
        }
        if let Err(why) = self.glob() {
            problems.push(Problem::new("pattern", why));
        }
        if let Err(why) = self.first() {
            problems.push(Problem::new("start", why));
        }
        if !self.csv.delimiter.is_ascii() || matches!(self.csv.delimiter, '"' | '\n' | '\r') {
            let message = format!("{:?} can not separate fields, expected an ASCII character", self.csv.delimiter);
            problems.push(Problem::new("csv.delimiter", message));
        }
        if self.csv != Csv::default() && self.format != ObjectFormat::Csv {
            problems.push(Problem::new("csv", "is for `format: csv` alone"));
        }
        let columns = self.csv.columns.as_deref();
        if columns.is_some_and(<[String]>::is_empty) {
            problems.push(Problem::new("csv.columns", "names no column"));
        }
        let mut names = HashSet::new();
        if let Some(name) = columns.unwrap_or_default().iter().find(|name| !names.insert(name.as_str())) {
            problems.push(Problem::new("csv.columns", format!("names `{name}` twice")));
        }
        if self.columns != TakenColumns::default() && !self.format.has_columns() {
            problems.push(Problem::new("columns", "is for `format: parquet` and `avro`"));
        }
        if self.page_memory < ByteSize::mib(1) {
            problems.push(Problem::new(
                "page-memory",
                format!("{} is out of range, expected 1 MiB or more", self.page_memory),
            ));
        }
        if self.poll < Span::millis(100) || self.poll == Span::FOREVER {
            problems.push(Problem::new("poll", format!("{} is out of range, expected 100ms or more", self.poll)));
        }
        if self.late == Span::FOREVER {
            problems.push(Problem::new("late", "must end: what is read within it is remembered"));
        }
        problems.extend(self.access().problems());
        problems
    }
}

impl S3SourceSettings {
    pub(crate) fn access(&self) -> Access<'_> {
        Access {
            endpoint: self.endpoint.as_deref(),
            allow_http: self.allow_http,
            path_style: self.path_style,
            region: self.region.as_deref(),
            access_key_id: self.access_key_id.as_ref(),
            secret_access_key: self.secret_access_key.as_ref(),
            session_token: self.session_token.as_ref(),
            role: None,
            encryption: None,
            checksum: None,
            // A whole object comes in one answer, as slowly as the log takes it.
            timeout: Duration::from_secs(24 * 3600),
        }
    }

    fn store(&self, bucket: &str) -> Result<AmazonS3> {
        let client = access::client(&self.access(), bucket)?;
        access::reading(&self.access(), bucket, &client)
    }

    /// Bucket and prefix.
    pub(crate) fn bucket(&self) -> Result<(String, String), String> {
        match Address::parse(&self.url)? {
            Address::Bucket { bucket, prefix } => Ok((bucket, prefix)),
            Address::Folder(_) => Err(format!("`{}` is a folder: the source `file` reads files", self.url)),
        }
    }

    fn glob(&self) -> Result<Option<GlobMatcher>, String> {
        let Some(pattern) = &self.pattern else { return Ok(None) };
        let glob = GlobBuilder::new(pattern).literal_separator(true).build();
        glob.map(|glob| Some(glob.compile_matcher())).map_err(|cause| cause.to_string())
    }

    pub(crate) fn selection(&self) -> Result<Selection, String> {
        Ok(Selection { prefix: self.bucket()?.1, pattern: self.glob()? })
    }

    pub(crate) fn first(&self) -> Result<Start, String> {
        match self.start.as_str() {
            "beginning" => Ok(Start::Beginning),
            "end" => Ok(Start::End),
            time => chrono::DateTime::parse_from_rfc3339(time)
                .map(|time| Start::Time(time.timestamp_millis()))
                .map_err(|_| format!("`{time}` is not `beginning`, `end` or a time such as `2026-11-20T08:00:00Z`")),
        }
    }
}

#[async_trait]
impl SourceSettings for S3SourceSettings {
    async fn open(self, opening: SourceOpening) -> Result<Box<dyn Source>> {
        let (bucket, _) = self.bucket().map_err(Error::fatal)?;
        let store = self.store(&bucket)?;
        Ok(Box::new(ObjectSource::open(self, opening, Arc::new(store))?))
    }

    async fn probe(&self, _: SourceOpening) -> Result<Vec<String>> {
        let (bucket, _) = self.bucket().map_err(Error::fatal)?;
        let store = self.store(&bucket)?;
        let selection = self.selection().map_err(Error::fatal)?;
        match selection.first(&store).await.map_err(|cause| answers::told(&cause, &bucket, &self.url))? {
            Some(_) => Ok(Vec::new()),
            None => Ok(vec![format!("{} holds no object that is meant", self.url)]),
        }
    }
}
