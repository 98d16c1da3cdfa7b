//! The log of a store in memory.

use std::time::Duration;

use aqueduct_api::{Appended, At, Bounds, Error, Isolation, Limit, Log, Measured, Read, Result, TopicPartition};
use aqueduct_record::{Batch, Offset};
use async_trait::async_trait;
use bytes::BytesMut;
use futures::FutureExt;

use super::store::Memory;

#[async_trait]
impl Log for Memory {
    async fn append(&self, to: &TopicPartition, batch: Batch, at: At) -> Result<Appended> {
        if self.faults.full.is_on() && !to.topic.starts_with("__") {
            return Err(Error::retry("disk is full"));
        }
        if self.faults.not_started.is_on() && batch.bytes().windows(8).any(|bytes| bytes == b"started-") {
            return Err(Error::retry("disk is full"));
        }
        let largest = self.state.lock().topics.get(&*to.topic).map(|(topic, _)| topic.settings.max_batch.0);
        if largest.is_some_and(|largest| batch.size() as u64 > largest) {
            return Err(Error::refused(format!("batch of {} bytes is too large", batch.size())));
        }
        let (base_offset, next_offset, failures) = self.with(to, |part, epoch| {
            if matches!(at, At::EndSince(failures) if failures != part.failures) {
                return Err(Error::retry("an append before this one has failed"));
            }
            let batch = batch.at(part.end, epoch);
            let (base, next) = (batch.base_offset(), batch.next_offset());
            part.batches.push(batch);
            part.end = next;
            Ok((base, next, part.failures))
        })??;
        if self.with(to, |part, _| part.lazy)? {
            self.tell();
            return Ok(Appended {
                base_offset,
                next_offset,
                given_back: failures,
                duplicate: None,
                durable: futures::future::ready(Ok(())).boxed(),
            });
        }
        let (memory, of) = (self.clone(), to.clone());
        let durable = async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            while memory.faults.stuck.is_on() && !of.topic.starts_with("__") {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let waits = memory.with(&of, |part, _| part.synced < next_offset)?;
            if waits && memory.faults.sync_fails.is_on() && !of.topic.starts_with("__") {
                memory.faults.sync_fails.off();
                memory.with(&of, |part, _| {
                    part.batches.retain(|batch| batch.base_offset() < base_offset);
                    part.end = base_offset.min(part.end);
                    part.failures += 1;
                })?;
            }
            let failed = memory.with(&of, |part, _| {
                let failed = part.failures != failures;
                if !failed {
                    part.synced = part.synced.max(next_offset);
                }
                failed
            })?;
            memory.tell();
            match failed {
                true => Err(Error::retry("sync failed")),
                false => Ok(()),
            }
        };
        Ok(Appended { base_offset, next_offset, given_back: failures, duplicate: None, durable: durable.boxed() })
    }

    async fn bounds(&self, of: &TopicPartition) -> Result<Bounds> {
        self.with(of, |part, epoch| Bounds {
            start: part.start,
            stable: part.stable(),
            high_watermark: part.stable(),
            end: part.end,
            leader_epoch: epoch,
            given_back: part.failures,
        })
    }

    async fn find(&self, of: &TopicPartition, timestamp: i64) -> Result<Offset> {
        self.with(of, |part, _| {
            let found = part.batches.iter().find(|batch| batch.header().max_timestamp >= timestamp);
            found.map_or(part.end, Batch::base_offset)
        })
    }

    async fn measure(&self, of: &TopicPartition, from: Offset, limit: Limit) -> Result<Measured> {
        self.with(of, |part, _| {
            let mut measured = Measured { end: from, bytes: 0, full: false };
            for batch in part.batches.iter().filter(|batch| batch.next_offset() > from) {
                if measured.full || batch.next_offset() > part.stable() {
                    break;
                }
                measured.end = batch.next_offset();
                measured.bytes += batch.size() as u64;
                let records = (measured.end - from) as u64;
                measured.full = measured.bytes >= limit.bytes || records >= limit.records;
            }
            measured
        })
    }

    async fn read(&self, of: &TopicPartition, from: Offset, max_bytes: usize, _: Isolation) -> Result<Read> {
        self.with(of, |part, _| {
            if let Some(lost) = part.lost.iter().find(|lost| lost.contains(&from)).cloned() {
                return Read { lost: Some(lost), ..Read::default() };
            }
            let mut bytes = BytesMut::new();
            for batch in part.batches.iter().filter(|batch| batch.next_offset() > from) {
                let is_lost = part.lost.iter().any(|lost| lost.contains(&batch.base_offset()));
                let is_full = !bytes.is_empty() && bytes.len() + batch.size() > max_bytes;
                if batch.next_offset() > part.stable() || is_lost || is_full {
                    break;
                }
                bytes.extend_from_slice(batch.bytes());
            }
            Read { batches: bytes.freeze(), ..Read::default() }
        })
    }

    async fn grown(&self, of: &TopicPartition, offset: Offset, _: Isolation) -> Result<()> {
        let mut changed = self.changed.subscribe();
        while self.with(of, |part, _| part.stable())? <= offset {
            changed.changed().await.map_err(Error::retry)?;
        }
        Ok(())
    }

    async fn sync(&self, of: &TopicPartition) -> Result<Offset> {
        if self.faults.syncs_hang.is_on() && !of.topic.starts_with("__") {
            std::future::pending::<()>().await;
        }
        let synced = self.with(of, |part, _| {
            part.synced = part.end;
            part.synced
        });
        self.tell();
        synced
    }
}
