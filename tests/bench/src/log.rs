//! The embedded log against bare writes and reads.

use std::path::Path;
use std::time::{Duration, Instant};

use aqueduct_api::{At, ByteSize, Durability, Edge, Log, TopicPartition, TopicSettings, Topics};
use aqueduct_commit_log::{CommitLog, Options};
use aqueduct_record::{Batch, BatchBuilder};
use futures::StreamExt;
use futures::stream::FuturesOrdered;

use crate::floor::{self, MIB};
use crate::meter::{Cost, measured};
use crate::table::Table;

/// All measurements of the log.
pub(crate) fn measure(folder: &Path, table: &mut Table) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let log = CommitLog::open(Edge::real(), &folder.join("log"), Options::default()).await.expect("a new log");
        append_large(&log, folder, table).await;
        append_small(&log, table).await;
        many_partitions(&log, folder, table).await;
        log.close().await.expect("a log that closes");
    });
    floor::remove(&folder.join("log"));
}

/// Fills a topic of a new log with so many batches of 1 MiB, and closes it.
pub(crate) fn fill(folder: &Path, name: &str, batches: usize) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let log = CommitLog::open(Edge::real(), folder, Options::default()).await.expect("a new log");
        topic(&log, name, 1, Durability::Os).await;
        append(&log, &TopicPartition::new(name, 0), &batch(1023), batches, 4).await;
        log.close().await.expect("a log that closes");
    });
}

/// How many synced appends of 1 KiB a second so many appenders reach together that wait for each.
pub(crate) fn waiting_appends(folder: &Path, appenders: usize) -> f64 {
    const EACH: usize = 2000;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let log = CommitLog::open(Edge::real(), folder, Options::default()).await.expect("a new log");
        topic(&log, "bare", 1, Durability::Fsync).await;
        let (to, small) = (TopicPartition::new("bare", 0), batch(1));
        append(&log, &to, &small, 200, 1).await;
        let start = Instant::now();
        futures::future::join_all((0..appenders).map(|_| append(&log, &to, &small, EACH, 1))).await;
        let rate = (appenders * EACH) as f64 / start.elapsed().as_secs_f64();
        log.close().await.expect("a log that closes");
        rate
    })
}

async fn topic(log: &CommitLog, name: &str, partitions: i32, durability: Durability) {
    let settings = TopicSettings { durability, ..TopicSettings::default() };
    log.create(name, partitions, &settings).await.expect("a new topic");
}

fn batch(records: usize) -> Batch {
    let value = vec![b'x'; 1016];
    let mut builder = BatchBuilder::with_capacity(records * 1024 + 61);
    for _ in 0..records {
        builder.push(0, None, Some(&value), &[]);
    }
    builder.finish()
}

/// Appends `count` batches with `in_flight` waiting for durability at once.
async fn append(log: &CommitLog, to: &TopicPartition, batch: &Batch, count: usize, in_flight: usize) {
    let mut waiting = FuturesOrdered::new();
    for _ in 0..count {
        let appended = log.append(to, batch.clone(), At::End).await.expect("an append");
        waiting.push_back(appended.durable);
        if waiting.len() >= in_flight {
            waiting.next().await.expect("one waits").expect("a durable append");
        }
    }
    while let Some(durable) = waiting.next().await {
        durable.expect("a durable append");
    }
}

async fn metered<F: Future<Output = ()>>(work: F) -> Cost {
    let (start, cpu) = (Instant::now(), crate::meter::cpu_of("self"));
    work.await;
    Cost { elapsed: start.elapsed(), cpu: crate::meter::cpu_of("self").saturating_sub(cpu) }
}

/// How large batches are appended.
struct Take {
    what: &'static str,
    durability: Durability,
    segment: ByteSize,
    in_flight: usize,
}

const TAKES: [Take; 5] = [
    Take { what: "os, one at a time", durability: Durability::Os, segment: ByteSize::mib(256), in_flight: 1 },
    Take { what: "os, 4 in flight", durability: Durability::Os, segment: ByteSize::mib(256), in_flight: 4 },
    Take { what: "os, all in one segment", durability: Durability::Os, segment: ByteSize::mib(4000), in_flight: 1 },
    Take { what: "fsync, one at a time", durability: Durability::Fsync, segment: ByteSize::mib(256), in_flight: 1 },
    Take { what: "fsync, 4 in flight", durability: Durability::Fsync, segment: ByteSize::mib(256), in_flight: 4 },
];

async fn append_large(log: &CommitLog, folder: &Path, table: &mut Table) {
    let large = batch(1023);
    for take in TAKES {
        let count = if take.durability == Durability::Fsync { 512 } else { 1536 };
        let bytes = (count * large.size()) as u64;
        // The floors and ours take turns, since the disk's speed drifts: the better of three of each is told. Each begins
        // without files of the one before, so that neither pays for the other's dirty pages.
        let floors: &[(&str, u64, &str)] = match take.durability {
            Durability::Fsync => &[("write + fdatasync", 1, "≥ 0.8")],
            // A full segment is synced before the next one begins: the second tells what that alone costs.
            _ => &[("write + CRC-32C", u64::MAX, "≥ 0.7"), ("the same, synced every 256 MiB", 256 << 20, "")],
        };
        let mut bare = vec![None; floors.len()];
        let mut ours = None;
        let better = |kept: Option<Cost>, new: Cost| kept.filter(|kept| kept.elapsed < new.elapsed).or(Some(new));
        for _ in 0..3 {
            for (best, (_, sync_every, _)) in bare.iter_mut().zip(floors) {
                *best = better(*best, floor::write_and_checksum(folder, large.bytes(), count, *sync_every));
            }
            let settings =
                TopicSettings { durability: take.durability, segment_bytes: take.segment, ..TopicSettings::default() };
            log.create("large", 1, &settings).await.expect("a new topic");
            let to = TopicPartition::new("large", 0);
            append(log, &to, &large, 16, 1).await;
            ours = better(ours, metered(append(log, &to, &large, count, take.in_flight)).await);
            log.delete("large", true).await.expect("a topic that goes");
        }
        let Some(ours) = ours else { return };
        for (floor, (call, _, target)) in bare.iter().flatten().zip(floors) {
            table.row(
                &format!("append 1 MiB batches, durability {}", take.what),
                ours.tell(bytes),
                format!("{call}: {}", floor.tell(bytes)),
                Some(ours.rate(bytes) / floor.rate(bytes)),
                target,
            );
        }
    }
    topic(log, "read", 1, Durability::Os).await;
    let from = TopicPartition::new("read", 0);
    append(log, &from, &large, 1024, 1).await;
    read(log, &from, folder, table).await;
}

async fn read(log: &CommitLog, from: &TopicPartition, folder: &Path, table: &mut Table) {
    let path = folder.join("log").join(&*from.topic).join("0");
    let mut segments: Vec<_> =
        std::fs::read_dir(path).expect("a partition").filter_map(|entry| Some(entry.ok()?.path())).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    segments.sort();
    let mut best: [Option<(Cost, u64)>; 2] = [None; 2];
    let better = |kept: Option<(Cost, u64)>, new: (Cost, u64)| {
        kept.filter(|kept| kept.0.rate(kept.1) > new.0.rate(new.1)).or(Some(new))
    };
    for _ in 0..5 {
        best[0] = better(best[0], floor::read_and_checksum(&segments[0]));
        let (mut bytes, mut from_offset) = (0, 0);
        let cost = metered(async {
            // All four segments: a tick of the clock of processor time is a tenth of one of them.
            while bytes < 1000 * MIB as u64 {
                let read = log
                    .read(from, from_offset, MIB + 4096, aqueduct_api::Isolation::Uncommitted)
                    .await
                    .expect("a read");
                let mut rest = read.batches;
                bytes += rest.len() as u64;
                while let Some((batch, after)) = Batch::split_checked(&rest).expect("a good batch") {
                    from_offset = batch.next_offset();
                    rest = after;
                }
            }
        });
        let cost = cost.await;
        best[1] = better(best[1], (cost, bytes));
    }
    let [Some((floor, floor_bytes)), Some((cost, bytes))] = best else { return };
    table.row(
        "read, cached, every batch's CRC checked",
        cost.tell(bytes),
        format!("pread + CRC-32C: {}", floor.tell(floor_bytes)),
        Some(cost.rate(bytes) / floor.rate(floor_bytes)),
        "≥ 0.7",
    );
}

async fn append_small(log: &CommitLog, table: &mut Table) {
    topic(log, "small", 1, Durability::Fsync).await;
    let to = TopicPartition::new("small", 0);
    let small = batch(1);
    append(log, &to, &small, 200, 1).await;
    let one = metered(append(log, &to, &small, 2000, 1)).await.elapsed.as_secs_f64() / 2000.0;
    let each = 2000;
    let many = metered(async {
        let appenders = (0..64).map(|_| append(log, &to, &small, each, 1));
        futures::future::join_all(appenders).await;
    })
    .await;
    let (single, shared) = (1.0 / one, (64 * each) as f64 / many.elapsed.as_secs_f64());
    table.row(
        "64 appenders of 1 KiB, fsync",
        format!("{shared:.0}/s"),
        format!("one appender: {single:.0}/s"),
        Some(shared / single),
        "≥ 20",
    );
}

async fn many_partitions(log: &CommitLog, folder: &Path, table: &mut Table) {
    let (partitions, rounds) = (1000, 60);
    topic(log, "many", partitions, Durability::Fsync).await;
    let small = batch(1);
    let floor = synced_files(folder, partitions as usize, small.bytes());
    let start = Instant::now();
    let cost = metered(async {
        let writers = (0..partitions).map(|partition| {
            let (to, small) = (TopicPartition::new("many", partition), small.clone());
            async move {
                for round in 0..rounds {
                    // 20 appends a second each, spread over the 50 milliseconds.
                    let due = Duration::from_millis(50 * round + (partition as u64 * 7919) % 50);
                    tokio::time::sleep_until((start + due).into()).await;
                    append(log, &to, &small, 1, 1).await;
                }
            }
        });
        futures::future::join_all(writers).await;
    })
    .await;
    let rate = f64::from(partitions) * rounds as f64 / cost.elapsed.as_secs_f64();
    table.row(
        "1,000 partitions × 20 synced appends/s of 1 KiB",
        format!("{rate:.0}/s with {:.2} of a core", cost.cpu.as_secs_f64() / cost.elapsed.as_secs_f64()),
        floor,
        None,
        "20,000/s, ≤ 1 core",
    );
}

/// 16 threads that append and sync 1 KiB to files of their own share, as fast as they can.
#[expect(clippy::disallowed_types, reason = "the floor is the operating system itself")]
fn synced_files(folder: &Path, files: usize, block: &[u8]) -> String {
    use std::os::unix::fs::FileExt;
    let open = |n: usize| std::fs::File::create(folder.join(format!("synced-{n}"))).expect("a new file");
    let files: Vec<_> = (0..files).map(open).collect();
    let (cost, ()) = measured(|| {
        std::thread::scope(|scope| {
            for share in files.chunks(files.len().div_ceil(16)) {
                scope.spawn(move || {
                    for round in 0..30u64 {
                        for file in share {
                            file.write_all_at(block, round * block.len() as u64).expect("room on the disk");
                            file.sync_data().expect("a disk that syncs");
                        }
                    }
                });
            }
        });
    });
    let total = files.len() as f64 * 30.0;
    let cores = cost.cpu.as_secs_f64() / cost.elapsed.as_secs_f64();
    format!("write + fdatasync on 16 threads: {:.0}/s with {cores:.2} of a core", total / cost.elapsed.as_secs_f64())
}
