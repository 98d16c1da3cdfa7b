//! Schemas by their ids, asked for once and kept.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use aqueduct_api::Result;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::bounds::LARGEST_KEPT;
use crate::references;
use crate::registry::{Answer, Registered, Registry};
use crate::schema::{Decoder, Kind, SchemaText};

/// How many requests run at once.
const CONCURRENCY: usize = 8;

/// How long a registry is not asked again for an id that it did not know.
const UNKNOWN_FOR: Duration = Duration::from_secs(10);

/// The most ids that are remembered as unknown.
const MOST_UNKNOWN: usize = 10_000;

/// What is known of an id.
pub(crate) enum Known {
    /// Its schema.
    Schema(Decoder),
    /// Why it can not be used: never.
    Unusable(String),
    /// Why it can not be used, which may be otherwise at the next start, or sooner.
    NotYet(String),
}

/// The schemas of a registry.
pub(crate) struct Schemas {
    registry: Registry,
    kind: Kind,
    /// How many are kept.
    most: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    known: HashMap<u32, (Arc<Known>, usize)>,
    /// In the order in which they came.
    order: VecDeque<u32>,
    /// Of their texts.
    bytes: usize,
    /// Until when.
    unknown: HashMap<u32, (Arc<Known>, Instant)>,
}

impl Schemas {
    /// Those of one kind; an id of another kind can not be used.
    pub(crate) fn new(registry: Registry, kind: Kind, most: usize) -> Self {
        Schemas { registry, kind, most, kept: Mutex::default() }
    }

    /// What is known of each of some ids.
    pub(crate) async fn of(&self, mut ids: Vec<u32>) -> Result<HashMap<u32, Arc<Known>>> {
        ids.sort_unstable();
        ids.dedup();
        let mut found = HashMap::with_capacity(ids.len());
        ids.retain(|id| match self.kept(*id) {
            Some(known) => {
                found.insert(*id, known);
                false
            }
            None => true,
        });
        let asked = ids.into_iter().map(|id| async move { self.fetch(id).await.map(|known| (id, known)) });
        let asked: Vec<_> = stream::iter(asked).buffer_unordered(CONCURRENCY).try_collect().await?;
        found.extend(asked);
        Ok(found)
    }

    fn kept(&self, id: u32) -> Option<Arc<Known>> {
        let mut kept = self.kept.lock();
        if let Some((known, _)) = kept.known.get(&id) {
            return Some(known.clone());
        }
        let (known, until) = kept.unknown.get(&id)?;
        if *until > Instant::now() {
            return Some(known.clone());
        }
        kept.unknown.remove(&id);
        None
    }

    async fn fetch(&self, id: u32) -> Result<Arc<Known>> {
        match self.registry.schema(id).await? {
            Answer::Not(why) => {
                let known = Arc::new(Known::NotYet(format!("the schema registry does not know it ({why})")));
                let mut kept = self.kept.lock();
                if kept.unknown.len() >= MOST_UNKNOWN {
                    kept.unknown.clear();
                }
                kept.unknown.insert(id, (known.clone(), Instant::now() + UNKNOWN_FOR));
                Ok(known)
            }
            Answer::TooLarge => Ok(self.keep(id, Known::Unusable("it is too large".to_owned()), 0)),
            Answer::Is(registered) => {
                let (compiled, bytes) = self.compile(registered).await?;
                Ok(self.keep(id, compiled, bytes))
            }
        }
    }

    /// What a schema becomes, and the bytes of its texts.
    async fn compile(&self, registered: Registered) -> Result<(Known, usize)> {
        let Registered { schema, kind, references, id: _ } = registered;
        if Kind::of(kind.as_deref()) != Some(self.kind) {
            let is = kind.as_deref().unwrap_or(Kind::Avro.name());
            return Ok((Known::Unusable(format!("it is of type {is}, expected {}", self.kind.name())), 0));
        }
        let references = references.unwrap_or_default();
        let referred = match self.kind {
            // Nothing is checked against it.
            Kind::JsonSchema => Vec::new(),
            _ => match references::fetch(&self.registry, &references).await? {
                Ok(referred) => referred,
                Err(why) => return Ok((Known::NotYet(format!("it {why}")), 0)),
            },
        };
        let bytes = schema.len() + referred.iter().map(|one| one.text.len()).sum::<usize>();
        let schema = SchemaText { kind: self.kind, text: schema, referred };
        let known = match Decoder::compile(&schema) {
            Ok(decoder) => Known::Schema(decoder),
            Err(wrong) => Known::Unusable(format!("it can not be read: {}", wrong.told())),
        };
        Ok((known, bytes))
    }

    fn keep(&self, id: u32, known: Known, bytes: usize) -> Arc<Known> {
        let known = Arc::new(known);
        let mut kept = self.kept.lock();
        if kept.known.insert(id, (known.clone(), bytes)).is_none() {
            kept.order.push_back(id);
            kept.bytes += bytes;
        }
        while kept.known.len() > self.most || kept.bytes > LARGEST_KEPT {
            let Some((_, bytes)) = kept.order.pop_front().and_then(|id| kept.known.remove(&id)) else { break };
            kept.bytes -= bytes;
        }
        known
    }
}
