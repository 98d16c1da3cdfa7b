//! How a connector is declared: a struct of settings that opens its source or sink.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::{ByteSize, Edge, Position, Result, Sink, Source, Stream, Transform};

/// The settings of a connector. Doc comments of the fields are its manual. A field that shapes the names or the bytes of
/// what a sink writes carries `#[schemars(extend("x-shaping" = true))]`: a chunk that was pinned under one value is
/// finished under it. Secrets are of type [`Secret`](crate::Secret).
pub trait Settings: DeserializeOwned + JsonSchema + Send + Sync + 'static {
    /// What people write after `connector:`.
    const NAME: &'static str;

    /// One sentence on what it reads or writes.
    const SUMMARY: &'static str;

    /// What is wrong with values that each have the right type; each problem names its setting.
    fn problems(&self) -> Vec<Problem> {
        Vec::new()
    }
}

/// Something wrong with a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The setting, as a path from the connector's settings: `paths[2]`.
    pub setting: String,
    /// What is wrong and what would be right.
    pub message: String,
    /// Where in the setting's own text, where that is a program: line and column, from 1.
    pub at: Option<(usize, usize)>,
}

impl Problem {
    /// Something wrong with `setting`.
    pub fn new(setting: impl Into<String>, message: impl Into<String>) -> Self {
        Problem { setting: setting.into(), message: message.into(), at: None }
    }

    /// The same problem, at a line and a column of the setting's text.
    pub fn at(self, line: usize, column: usize) -> Self {
        Problem { at: Some((line, column)), ..self }
    }
}

/// Settings that open a source.
#[async_trait]
pub trait SourceSettings: Settings {
    /// Opens the source at its saved positions.
    async fn open(self, opening: SourceOpening) -> Result<Box<dyn Source>>;

    /// Goes as far as trying permissions and credentials without reading or changing anything; answers with what people
    /// should know.
    async fn probe(&self, opening: SourceOpening) -> Result<Vec<String>>;
}

/// By what a sink names what it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedBy {
    /// By chunk (an object): it gets one chunk at a time, always whole.
    Chunk,
    /// By record (a document, a request): it gets ripe chunks of several partitions in one call, and parts of a chunk when
    /// the engine looks for the record that was refused.
    Record,
}

/// Settings that open a sink.
#[async_trait]
pub trait SinkSettings: Settings {
    /// By what the sink names what it writes.
    const NAMED_BY: NamedBy = NamedBy::Chunk;

    /// Opens the sink.
    async fn open(self, opening: SinkOpening) -> Result<Box<dyn Sink>>;

    /// Goes as far as trying permissions and credentials without changing anything that stays.
    async fn probe(&self, opening: SinkOpening) -> Result<Vec<String>>;

    /// Where it writes under which names, normalised: two sinks of one answer would write the same names, and are
    /// refused. `None` where names can not meet.
    fn destination(&self, opening: &SinkOpening) -> Option<String>;
}

/// Settings that open a transform. All of them shape records but those that carry `#[schemars(extend("x-shaping" = false))]`:
/// where a remote is, and how it is asked. A chunk that was pinned under one value of the others is finished under it.
pub trait TransformSettings: Settings {
    /// Opens the transform: a program is compiled here, once. [`Settings::problems`] says first what is wrong with it.
    fn open(self, opening: TransformOpening) -> Result<Box<dyn Transform>>;
}

/// What a transform gets from the engine.
#[derive(Clone)]
pub struct TransformOpening {
    /// What relative paths start at: the configuration's folder.
    pub folder: PathBuf,
    /// Disk, clock, threads and chance.
    pub edge: Edge,
    /// Where it is only tried: nothing may be changed anywhere, and what would have been is told.
    pub trial: Option<Trial>,
}

/// What a transform that is only tried would have changed elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Trial(Arc<Mutex<Vec<String>>>);

impl Trial {
    /// Says what would have been changed, and what stands in its place, for people.
    pub fn tell(&self, what: impl Into<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(what.into());
    }

    /// What was told since the last call.
    pub fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a source gets from the engine.
#[derive(Clone)]
pub struct SourceOpening {
    /// The source's name in the configuration.
    pub name: String,
    /// What relative paths start at: the configuration's folder.
    pub folder: PathBuf,
    /// Disk, clock, threads and chance.
    pub edge: Edge,
    /// Saved positions of this source's streams.
    pub positions: Vec<(Arc<Stream>, Position)>,
    /// How large a batch may get: one larger record still makes a batch of its own.
    pub batch: ByteSize,
    /// The largest batch that the topic takes.
    pub largest: ByteSize,
}

/// What a sink gets from the engine.
#[derive(Clone)]
pub struct SinkOpening {
    /// The sink's name in the configuration.
    pub name: String,
    /// What relative paths start at: the configuration's folder.
    pub folder: PathBuf,
    /// Where temporary files may go; emptied at start.
    pub scratch: PathBuf,
    /// Disk, clock, threads and chance.
    pub edge: Edge,
}
