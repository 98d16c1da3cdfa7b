//! What readers must find of transactions, by what is known of them.

use std::collections::{BTreeMap, BTreeSet};

use aqueduct_api::{CleanupPolicy, Error, Isolation, Log as _, Result};
use aqueduct_commit_log::CommitLog;
use aqueduct_record::Offset;

use super::{Name, PARTITIONS, Part, Transaction, TransactionRun, key, of};

/// The transactions of each producer, in their order.
type Known = BTreeMap<i64, Vec<Transaction>>;

/// What two readers found of a partition.
struct Found {
    /// Where it begins: what was there before was deleted.
    start: Offset,
    stable: Offset,
    all: Vec<(Offset, Name)>,
    committed: Vec<(Offset, Name)>,
}

impl TransactionRun {
    /// Looks at all that is there.
    pub(super) async fn check(&self, log: &CommitLog) -> Result<()> {
        for partition in 0..PARTITIONS {
            // What is known before the log is asked holds when it answers.
            let before = self.known();
            let stable = log.bounds(&of(partition)).await?.stable;
            let all = read(log, partition, Isolation::Uncommitted).await?;
            let committed = read(log, partition, Isolation::Committed).await?;
            let start = self.deletions.check(log, &of(partition), true, &self.machine.trace).await?.start;
            let (after, found) = (self.known(), Found { start, stable, all, committed });
            self.check_acknowledged(partition, (&before, &after), &found);
            self.check_committed(partition, (&before, &after), &found);
        }
        Ok(())
    }

    /// All transactions, by producer.
    fn known(&self) -> Known {
        let clients = self.clients.iter().map(|client| client.lock().unwrap());
        clients.filter_map(|client| Some((client.id?, client.transactions.clone()))).collect()
    }

    /// What was acknowledged is there once, as far as it must be.
    fn check_acknowledged(&self, partition: i32, (before, after): (&Known, &Known), found: &Found) {
        let mut places: BTreeMap<Name, Vec<Offset>> = BTreeMap::new();
        found.all.iter().for_each(|(offset, name)| places.entry(*name).or_default().push(*offset));
        let may_be_gone = self.may_be_gone(partition, after);
        for (id, transactions) in before {
            for (number, part) in parts(transactions).filter(|(_, part)| part.partition == partition) {
                let Some(at) = part.at else { continue };
                for (record, offset) in part.records.clone().zip(at..) {
                    let name = (*id, number, record);
                    let there = places.get(&name);
                    let is_gone = there.is_none() && (offset < found.start || may_be_gone(offset, name));
                    if there != Some(&vec![offset]) && !is_gone {
                        self.machine.trace.violated(format!(
                            "{partition}: record {record} of transaction {number} of producer {id} was acknowledged at \
                             {offset}, and is at {there:?}"
                        ));
                    }
                }
            }
        }
    }

    /// Which records compaction may have removed by now: those of aborted transactions, and those that a later one of the same key
    /// may have replaced.
    fn may_be_gone(&self, partition: i32, known: &Known) -> impl Fn(Offset, Name) -> bool {
        let is_compacted = self.settings.cleanup == CleanupPolicy::Compact;
        let (mut last, mut aborted) = (BTreeMap::new(), BTreeSet::new());
        for (id, transactions) in known {
            for (number, part) in parts(transactions).filter(|(_, part)| part.partition == partition) {
                let is_aborted = transactions[number].outcome == Some(false);
                for (record, delta) in part.records.clone().zip(0..) {
                    let name = (*id, number, record);
                    match is_aborted {
                        true => drop(aborted.insert(name)),
                        false => {
                            // Where it is not known, it may be anywhere.
                            let at = part.at.map_or(Offset::MAX, |at| at + delta);
                            let latest = last.entry(key(name)).or_insert(at);
                            *latest = at.max(*latest);
                        }
                    }
                }
            }
        }
        move |offset, name| {
            let is_replaced = || last.get(&key(name)).is_some_and(|last| *last > offset);
            is_compacted && (aborted.contains(&name) || is_replaced())
        }
    }

    /// What is seen was committed, whole, and nothing stable is open.
    fn check_committed(&self, partition: i32, (before, after): (&Known, &Known), found: &Found) {
        let Found { start, stable, committed, .. } = found;
        for (offset, name) in committed {
            let (id, number, _) = *name;
            let transaction = after.get(&id).and_then(|transactions| transactions.get(number));
            if transaction.and_then(|transaction| transaction.outcome) != Some(true) {
                let outcome = transaction.map(|transaction| transaction.outcome);
                self.machine
                    .trace
                    .violated(format!("{partition}: {name:?} is seen at {offset}, its outcome: {outcome:?}"));
            }
        }
        let seen: BTreeSet<Name> = committed.iter().map(|(_, name)| *name).collect();
        let may_be_gone = self.may_be_gone(partition, after);
        for (id, transactions) in before {
            for (number, part) in parts(transactions).filter(|(_, part)| part.partition == partition) {
                let transaction = &transactions[number];
                let is_open = after.get(id).is_some_and(|transactions| transactions[number].outcome.is_none());
                // Where records were deleted, readers may stand within a batch.
                let Some(at) = part.at.filter(|at| at < stable) else { continue };
                let records = || part.records.clone().zip(at..).filter(|(_, offset)| (start..stable).contains(&offset));
                if is_open && records().next().is_some() {
                    self.machine.trace.violated(format!(
                        "{partition}: stable up to {stable}, but transaction {number} of producer {id} is open: {at}"
                    ));
                }
                // Its marker is acknowledged, and so is every marker before: what is below the stable offset is seen.
                let is_marked = transaction.outcome == Some(true) && !transaction.unmarked.contains(&partition);
                let is_missing = |(record, offset)| {
                    let name = (*id, number, record);
                    !seen.contains(&name) && !may_be_gone(offset, name)
                };
                if is_marked && records().any(is_missing) {
                    self.machine.trace.violated(format!(
                        "{partition}: transaction {number} of producer {id} was committed, but not all of it is seen"
                    ));
                }
            }
        }
    }
}

fn parts(transactions: &[Transaction]) -> impl Iterator<Item = (usize, &Part)> {
    let numbered = transactions.iter().enumerate();
    numbered.flat_map(|(number, transaction)| transaction.parts.iter().map(move |part| (number, part)))
}

async fn read(log: &CommitLog, partition: i32, isolation: Isolation) -> Result<Vec<(Offset, Name)>> {
    let (mut next, mut found) = (0, Vec::new());
    loop {
        let read = log.read(&of(partition), next, 8 << 10, isolation).await?;
        if let Some(lost) = read.lost {
            next = lost.end;
            continue;
        }
        if read.batches.is_empty() {
            return Ok(found);
        }
        for batch in read.into_batches() {
            let batch = batch.map_err(Error::retry)?;
            for record in batch.records().map_err(Error::retry)?.iter() {
                let record = record.map_err(Error::retry)?;
                found.push((record.offset, serde_json::from_slice(record.value.unwrap_or_default()).unwrap()));
            }
            next = batch.next_offset();
        }
    }
}
