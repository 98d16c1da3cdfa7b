//! Records that somebody asks to be rid of while everything else goes on in the log: where a partition begins never goes back once
//! that was acknowledged, nothing from there on is lost, and nothing before it is delivered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aqueduct_api::{Isolation, Kept as _, Log as _, Result, TopicPartition};
use aqueduct_commit_log::CommitLog;
use aqueduct_record::Offset;
use tokio::time::sleep;

use crate::dice::Dice;
use crate::life::Trace;

/// What was asked for, by partition.
#[derive(Clone, Default)]
pub(crate) struct Deletions(Arc<Mutex<BTreeMap<TopicPartition, Asked>>>);

#[derive(Clone, Default)]
struct Asked {
    /// All that lies before it is gone for good.
    acknowledged: Offset,
    /// Where a partition may begin after a failure too.
    tried: BTreeSet<Offset>,
}

/// What a partition holds.
pub(crate) struct Left {
    pub(crate) start: Offset,
    pub(crate) values: BTreeMap<Offset, Vec<u8>>,
}

impl Deletions {
    fn of(&self, of: &TopicPartition) -> Asked {
        self.0.lock().unwrap().get(of).cloned().unwrap_or_default()
    }

    fn note(&self, of: &TopicPartition, note: impl FnOnce(&mut Asked)) {
        note(self.0.lock().unwrap().entry(of.clone()).or_default());
    }

    /// Asks again and again until the life ends.
    pub(crate) async fn go_on(self, log: CommitLog, all: Vec<TopicPartition>, mut dice: Dice, trace: Arc<Trace>) {
        loop {
            sleep(Duration::from_millis(dice.between(5, 150))).await;
            let of = dice.pick(&all).clone();
            // What can not be done now may be another time.
            let _ = self.ask(&log, &of, &mut dice, &trace).await;
        }
    }

    /// Asks once; `false`: somebody needs the records still.
    pub(crate) async fn ask(
        &self,
        log: &CommitLog,
        of: &TopicPartition,
        dice: &mut Dice,
        trace: &Trace,
    ) -> Result<bool> {
        let bounds = log.bounds(of).await?;
        // Mostly a few, so that there is something left to delete.
        let least = bounds.start.saturating_sub(2).max(0);
        let most = if dice.one_in(5) { bounds.high_watermark } else { bounds.high_watermark.min(bounds.start + 6) };
        let to = dice.between(least as u64, most.max(least) as u64) as Offset;
        self.note(of, |asked| {
            asked.tried.insert(to);
        });
        let start = match log.delete_before(of, Some(to)).await {
            Err(cause) if cause.to_string().contains("needs its records") => return Ok(false),
            answer => answer?,
        };
        if start < to {
            trace.violated(format!("{of}: was to begin at {to}, and is told to begin at {start}"));
        }
        self.note(of, |asked| asked.acknowledged = asked.acknowledged.max(to));
        Ok(true)
    }

    /// Where a partition begins, and what is there; `is_cut_here`: nothing else moves where it begins.
    pub(crate) async fn check(
        &self,
        log: &CommitLog,
        of: &TopicPartition,
        is_cut_here: bool,
        trace: &Trace,
    ) -> Result<Left> {
        let Asked { acknowledged, .. } = self.of(of);
        let begun = log.bounds(of).await?.start;
        if begun < acknowledged {
            trace.violated(format!("{of}: begins at {begun} again, what is before {acknowledged} was deleted"));
        }
        let values = read_on(log, of, acknowledged, trace).await?;
        let start = log.bounds(of).await?.start;
        if is_cut_here && start != 0 && !self.of(of).tried.contains(&start) {
            trace.violated(format!("{of}: begins at {start}, where nobody cut it"));
        }
        Ok(Left { start, values })
    }
}

/// All that is readable; nothing of it lies before `start`.
async fn read_on(
    log: &CommitLog,
    of: &TopicPartition,
    start: Offset,
    trace: &Trace,
) -> Result<BTreeMap<Offset, Vec<u8>>> {
    let (mut next, mut values) = (0, BTreeMap::new());
    loop {
        let read = log.read(of, next, 8 << 10, Isolation::Uncommitted).await?;
        if let Some(lost) = read.lost {
            next = lost.end;
            continue;
        }
        if read.batches.is_empty() {
            return Ok(values);
        }
        for batch in read.into_batches() {
            let batch = batch.map_err(aqueduct_api::Error::retry)?;
            if batch.next_offset() <= start {
                trace.violated(format!(
                    "{of}: the batch at {} is delivered, and begins at {start}",
                    batch.base_offset()
                ));
            }
            for record in batch.records().map_err(aqueduct_api::Error::retry)?.iter() {
                let record = record.map_err(aqueduct_api::Error::retry)?;
                values.insert(record.offset, record.value.unwrap_or_default().to_vec());
            }
            next = batch.next_offset();
        }
    }
}
