//! One object on its way in.

use std::fmt;

use aqueduct_api::Edge;
use async_trait::async_trait;
use object_store::Error as StoreError;
use serde::{Deserialize, Serialize};

use crate::arriving::Stored;
use crate::avro_read::AvroContent;
use crate::decode::Decoded;
use crate::lines::LineContent;
use crate::listing::Listed;
use crate::parquet_read::ParquetContent;
use crate::source_settings::{ObjectFormat, S3SourceSettings};

/// How far an object has been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Of lines: how many bytes are done with, as they are when nothing is compressed any more. Of Avro: where the block
    /// begins. Of Parquet: which row group it is.
    pub(crate) at: u64,
    /// How many rows of the block or row group are done with.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) row: u64,
    /// Whether these are its bytes as they are stored, so that reading can begin there.
    #[serde(default, rename = "plain", skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_plain: bool,
}

impl Progress {
    /// Whether anything is done with.
    pub(crate) fn has_begun(self) -> bool {
        self.at > 0 || self.row > 0
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// For people, who know what the object is made of.
impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Progress { at, row: 0, .. } => write!(f, "{at}"),
            Progress { at, row, .. } => write!(f, "{at}, row {row}"),
        }
    }
}

/// An object that is being read.
pub(crate) struct Reading {
    pub(crate) object: Listed,
    pub(crate) progress: Progress,
    content: Box<dyn Content>,
    /// What [`Progress::at`] counts.
    unit: &'static str,
}

/// What an object is made of.
#[async_trait]
pub(crate) trait Content: Send {
    /// Waits for more of the object. May be dropped.
    async fn fill(&mut self, progress: &mut Progress) -> Result<(), Failure>;

    /// The next record of what has come. Progress becomes where the next one begins.
    fn next<'a>(&'a mut self, progress: &mut Progress) -> Next<'a>;
}

/// What comes next of an object.
pub(crate) enum Next<'a> {
    /// A record.
    Record(Decoded<'a>),
    /// Something that no record can be made of: where it is, its bytes unless it is too long, and why.
    Unfit { told: Vec<(&'static str, String)>, value: Option<&'a [u8]>, reason: String },
    /// Nothing, before more of the object has come.
    More,
    /// The end.
    End,
}

/// Why an object can not be read on.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing of it will come: it is gone, it was changed, it is damaged.
    Lost(String),
    /// The store failed.
    Store(StoreError),
}

impl Reading {
    /// Begins to read an object, or goes on. The version that was listed is read, no other.
    pub(crate) async fn open(
        edge: &Edge,
        stored: Stored,
        progress: Progress,
        settings: &S3SourceSettings,
        longest: usize,
    ) -> Result<Reading, Failure> {
        let unit = settings.format.unit();
        let content: Box<dyn Content> = match settings.format {
            ObjectFormat::Avro => {
                let content = AvroContent::open(&stored, progress, &settings.columns, longest).await;
                Box::new(content.map_err(|failure| failure.at(unit, progress))?)
            }
            ObjectFormat::Parquet => Box::new(ParquetContent::open(edge, &stored, progress, settings, longest)),
            _ => {
                let content = LineContent::open(&stored, progress, settings, longest).await;
                Box::new(content.map_err(|failure| failure.at(unit, progress))?)
            }
        };
        Ok(Reading { object: stored.object, progress, content, unit })
    }

    /// Waits for more of the object. May be dropped.
    pub(crate) async fn fill(&mut self) -> Result<(), Failure> {
        self.content.fill(&mut self.progress).await.map_err(|failure| failure.at(self.unit, self.progress))
    }

    /// The next record of what has come. Progress is where the next one begins.
    pub(crate) fn next(&mut self) -> Next<'_> {
        self.content.next(&mut self.progress)
    }
}

impl Failure {
    /// Says how far reading came.
    fn at(self, unit: &str, progress: Progress) -> Failure {
        match self {
            Failure::Lost(reason) => Failure::Lost(format!("{reason}: it was read up to {unit} {progress}")),
            failure @ Failure::Store(_) => failure,
        }
    }
}
