//! The making of dead letters out of a chunk's records.

use std::ops::Range;

use aqueduct_api::{At, Content as _, Error, Rejected, Result, TopicPartition};
use aqueduct_record::{BatchBuilder, Offset};

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
        let mut waiting = rejected.iter().peekable();
        let mut builder = BatchBuilder::new();
        while let Some(first) = waiting.peek() {
            let batches = self.content.read(first.offset).await?;
            if batches.is_empty() {
                break;
            }
            for batch in &batches {
                if waiting.peek().is_none_or(|next| next.offset >= batch.next_offset()) {
                    continue;
                }
                for record in batch.records().map_err(Error::retry)?.iter() {
                    let record = record.map_err(Error::retry)?;
                    while waiting.peek().is_some_and(|next| next.offset < record.offset) {
                        waiting.next();
                    }
                    let Some(hit) = waiting.next_if(|next| next.offset == record.offset) else { continue };
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
                        self.append(std::mem::take(&mut builder)).await?;
                    }
                    self.letters.push(&mut builder, original, &self.reason(hit));
                }
                // What the batch should have held and does not is past finding.
                while waiting.next_if(|next| next.offset < batch.next_offset()).is_some() {}
            }
        }
        if !builder.is_empty() {
            self.append(builder).await?;
        }
        Ok(rejected.len() as u64)
    }

    async fn append(&self, builder: BatchBuilder) -> Result<()> {
        self.letters.append(builder.finish(), At::End).await?.durable().await.map(drop)
    }

    fn reason<'r>(&'r self, rejected: &'r Rejected) -> Reason<'r> {
        let stage = self.content.stage(rejected.offset);
        Reason { partition: self.of, offset: Some(rejected.offset), stage, message: &rejected.reason }
    }
}
