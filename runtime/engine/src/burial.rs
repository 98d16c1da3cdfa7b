//! The making of dead letters out of a chunk's records.

use std::ops::Range;

use aqueduct_api::{At, Content as _, Error, Rejected, Result, TopicPartition};
use aqueduct_record::{Batch, BatchBuilder, Offset};

use crate::content::LogContent;
use crate::dead_letters::{DeadLetters, Original, Reason, Stage};

/// Where dead letters of a chunk come from and go to.
pub(crate) struct Burial<'a> {
    pub(crate) letters: &'a DeadLetters,
    pub(crate) of: &'a TopicPartition,
    pub(crate) content: &'a LogContent,
    /// Milliseconds since 1970.
    pub(crate) now: i64,
}

impl Burial<'_> {
    /// How large batches of dead letters get, where no single one is larger.
    const WELL: usize = 1 << 20;

    /// One dead letter that says which offsets are lost.
    pub(crate) async fn lost(&self, lost: &Range<Offset>) -> Result<()> {
        let message = format!("offsets {} to {} of {} can not be read any more", lost.start, lost.end, self.of);
        let reason = Reason { partition: self.of, offset: Some(lost.start), stage: Stage::Consume, message: &message };
        let mut builder = BatchBuilder::new();
        self.letters.push(&mut builder, Original { timestamp: self.now, ..Original::default() }, &reason);
        self.append(builder).await
    }

    /// Dead letters of records, ascending by offset; how many.
    pub(crate) async fn rejected(&self, rejected: &[&Rejected]) -> Result<u64> {
        let mut waiting = rejected;
        let mut builder = BatchBuilder::new();
        while let Some(first) = waiting.first() {
            let batches = self.content.read(first.offset).await?;
            if batches.is_empty() {
                break;
            }
            for batch in &batches {
                self.add(batch, &mut waiting, &mut builder).await?;
            }
        }
        self.append_rest(builder).await?;
        Ok(rejected.len() as u64)
    }

    /// Dead letters of records of one batch, ascending by offset; how many.
    pub(crate) async fn rejected_of(&self, batch: &Batch, rejected: &[&Rejected]) -> Result<u64> {
        let mut waiting = rejected;
        let mut builder = BatchBuilder::new();
        self.add(batch, &mut waiting, &mut builder).await?;
        self.append_rest(builder).await?;
        Ok(rejected.len() as u64)
    }

    /// Adds the letters of a batch's records, and takes those off that wait.
    async fn add(&self, batch: &Batch, waiting: &mut &[&Rejected], builder: &mut BatchBuilder) -> Result<()> {
        let (of_batch, rest) = waiting.split_at(waiting.partition_point(|next| next.offset < batch.next_offset()));
        // What the batch should have held and does not is past finding.
        *waiting = rest;
        if of_batch.is_empty() {
            return Ok(());
        }
        for record in batch.records().map_err(Error::retry)?.iter() {
            let record = record.map_err(Error::retry)?;
            let Ok(hit) = of_batch.binary_search_by_key(&record.offset, |rejected| rejected.offset) else { continue };
            let hit = of_batch[hit];
            let headers = record.headers.without(aqueduct_api::POSITION_HEADER);
            let original = Original {
                timestamp: record.timestamp,
                key: record.key,
                value: record.value,
                headers: headers.iter().collect(),
            };
            let size = [record.key, record.value].iter().flatten().map(|bytes| bytes.len()).sum::<usize>();
            // Before, not after: a record of the largest size fits a batch only alone.
            if !builder.is_empty() && builder.size() + size > Self::WELL {
                self.append(std::mem::take(builder)).await?;
            }
            self.letters.push(builder, original, &self.reason(hit));
        }
        Ok(())
    }

    async fn append_rest(&self, builder: BatchBuilder) -> Result<()> {
        match builder.is_empty() {
            true => Ok(()),
            false => self.append(builder).await,
        }
    }

    async fn append(&self, builder: BatchBuilder) -> Result<()> {
        self.letters.append(builder.finish(), At::End).await?.durable().await.map(drop)
    }

    fn reason<'r>(&'r self, rejected: &'r Rejected) -> Reason<'r> {
        let stage = self.content.stage(rejected.offset);
        Reason { partition: self.of, offset: Some(rejected.offset), stage, message: &rejected.reason }
    }
}
