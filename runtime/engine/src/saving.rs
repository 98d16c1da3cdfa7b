//! Saved positions of one run of a source: a cache of what rides in its data, behind which a start need not look.

use std::collections::BTreeMap;
use std::sync::Arc;

use aqueduct_api::fault::{Mutant, mutated, point};
use aqueduct_api::{Error, Result, TopicPartition};
use aqueduct_record::Offset;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::ingest::SourceRun;
use crate::kept::Kept;
use crate::positions::{self, Known, Recovered};

/// What is to be saved, and up to where that makes looking needless.
pub(crate) struct Saving {
    run: Arc<SourceRun>,
    kept: Arc<Kept>,
    unsaved: Save,
    /// Up to where each partition is covered by positions that are saved or in `unsaved`.
    covered: BTreeMap<TopicPartition, Offset>,
    /// Where dead letters are that come before the position of their records, by stream: a start has to find them.
    early: BTreeMap<String, (TopicPartition, Offset)>,
    looks: u32,
}

/// What is saved at once: positions by stream, and how far each partition is covered by them.
#[derive(Default)]
pub(crate) struct Save {
    streams: BTreeMap<String, Known>,
    scanned: BTreeMap<TopicPartition, Offset>,
}

/// A save under way.
pub(crate) type Saved = BoxFuture<'static, (Save, Result<()>)>;

/// How many saves pass until holds follow a topic that only others write to.
const LOOK_EVERY: u32 = 10;

impl Saving {
    /// How many positions are saved at once at the latest.
    pub(crate) const AT: usize = 1000;

    /// Everything that was found is saved with the first save, so that it is not looked for again.
    pub(crate) fn new(
        run: &Arc<SourceRun>,
        kept: &Arc<Kept>,
        found: &Recovered,
        letters: Option<&TopicPartition>,
    ) -> Self {
        let early = found.streams.iter().filter_map(|(id, known)| {
            let place = letters.cloned().zip(known.early.first());
            place.map(|place| (id.clone(), place))
        });
        let positioned = found.streams.iter().filter(|(_, known)| known.position.is_some());
        let streams = positioned.map(|(id, known)| (id.clone(), known.clone())).collect();
        Saving {
            run: run.clone(),
            kept: kept.clone(),
            unsaved: Save { streams, scanned: found.scanned.clone() },
            covered: found.scanned.clone(),
            early: early.collect(),
            looks: 0,
        }
    }

    /// Up to where a partition is covered; `None`: it may have no mark yet.
    pub(crate) fn covered(&self, of: &TopicPartition) -> Option<Offset> {
        self.covered.get(of).copied()
    }

    /// How many positions are not saved.
    pub(crate) fn waiting(&self) -> usize {
        self.unsaved.streams.len()
    }

    /// A batch has its place at `base`: from here on the partition has a mark, which must not be set again past what is
    /// under way.
    pub(crate) fn placed(&mut self, of: &TopicPartition, base: Offset) {
        self.covered.entry(of.clone()).or_insert(base);
    }

    /// Dead letters of a stream have their place before the position of their records has one.
    pub(crate) fn placed_early(&mut self, stream: &str, of: &TopicPartition, base: Offset) {
        self.early.entry(stream.to_owned()).or_insert_with(|| (of.clone(), base));
    }

    /// Something is durable up to `at`, and with it what is known of its stream.
    pub(crate) fn note(&mut self, known: Option<&Known>, at: Option<(&TopicPartition, Offset)>) {
        if let Some(known) = known {
            let id = &known.stream.id;
            self.unsaved.streams.insert(id.clone(), known.clone());
            if let Some((of, _)) = self.early.remove(id) {
                if let Some(covered) = self.covered.get(&of) {
                    self.unsaved.scanned.insert(of.clone(), *covered);
                }
                self.early.extend(known.early.first().map(|first| (id.clone(), (of, first))));
            }
        }
        if let Some((of, next)) = at {
            let covered = self.covered.entry(of.clone()).or_default();
            *covered = (*covered).max(next);
            self.unsaved.scanned.insert(of.clone(), *covered);
        }
    }

    /// Saves positions and, after them, up to where they make a scan needless.
    pub(crate) fn save(&mut self) -> Saved {
        let mut save = std::mem::take(&mut self.unsaved);
        for (of, offset) in &mut save.scanned {
            *offset = self.up_to(of, *offset);
        }
        let (run, kept) = (self.run.clone(), self.kept.clone());
        async move {
            let result = put(&run, &kept, &save).await;
            (save, result)
        }
        .boxed()
    }

    /// Takes over what became of a save.
    pub(crate) fn saved(&mut self, save: Save, result: Result<()>) -> Result<()> {
        match result {
            Ok(()) => {
                for (of, offset) in &save.scanned {
                    self.run.holds.advance(of, *offset);
                }
                Ok(())
            }
            Err(error @ Error::Retry { .. }) => {
                let message = error.context("save positions").to_string();
                tracing::warn!(source = self.run.name, cause = message, "positions are saved later");
                self.run.counters.retried(message);
                for (id, known) in save.streams {
                    self.unsaved.streams.entry(id).or_insert(known);
                }
                for (of, offset) in save.scanned {
                    self.unsaved.scanned.entry(of).or_insert(offset);
                }
                Ok(())
            }
            Err(error) => Err(error.context("save positions")),
        }
    }

    /// While nothing of this source is under way, what others append needs no scan: holds follow it, so that an idle
    /// source does not keep a topic for ever.
    pub(crate) async fn follow_others(&mut self, is_idle: bool) {
        self.looks += 1;
        if !is_idle || !self.unsaved.streams.is_empty() || !self.looks.is_multiple_of(LOOK_EVERY) {
            return;
        }
        let all: Vec<TopicPartition> = self.covered.keys().cloned().collect();
        for of in all {
            // A partition that does not answer now is asked the next time.
            let Ok(bounds) = self.run.host.store.bounds(&of).await else { continue };
            if self.covered.get(&of).is_some_and(|covered| bounds.stable > *covered) {
                self.run.holds.advance(&of, self.up_to(&of, bounds.stable));
                self.unsaved.scanned.insert(of.clone(), bounds.stable);
                self.covered.insert(of, bounds.stable);
            }
        }
    }

    /// Saves what is not saved yet; once, because the next run finds it in the log all the same.
    pub(crate) async fn finish(mut self, under_way: Option<Saved>) -> Result<()> {
        if let Some(under_way) = under_way {
            let (save, result) = under_way.await;
            self.saved(save, result)?;
        }
        if !self.unsaved.streams.is_empty() || !self.unsaved.scanned.is_empty() {
            let (save, result) = self.save().await;
            self.saved(save, result)?;
        }
        Ok(())
    }

    /// `offset` of a partition, or the first early dead letter before it.
    fn up_to(&self, of: &TopicPartition, offset: Offset) -> Offset {
        let early = self.early.values().filter(|(letters, _)| letters == of).map(|(_, first)| *first);
        early.fold(offset, Offset::min)
    }
}

async fn put(run: &SourceRun, kept: &Kept, save: &Save) -> Result<()> {
    let host = &run.host;
    // Whatever the topic's durability was when the run began: it may have been changed since.
    if !mutated(Mutant::PositionAheadOfData) {
        for (of, offset) in &save.scanned {
            let safe = host.store.sync(of).await?;
            if safe < *offset {
                return Err(Error::retry(format!("{of}: only what comes before {safe} is synced yet")));
            }
        }
        kept.check().await?;
    }
    let streams = save.streams.values().map(|known| positions::saved(&run.name, known));
    let mut changes = streams.collect::<Result<Vec<_>>>()?;
    changes.extend(save.scanned.iter().map(|(of, offset)| positions::scan_mark(&run.name, of, *offset)));
    point("position.save");
    host.positions.put(&run.lease, changes).await?;
    point("position.save");
    Ok(())
}
