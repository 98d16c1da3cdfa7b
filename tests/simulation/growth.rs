//! One day without dice: a topic grows while a sink that its destination leaves without an answer is being stopped.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aqueduct_api::{At, ByteSize, Durability, Edge, Log as _, TopicPartition};
use aqueduct_commit_log::{CommitLog, Options};
use aqueduct_engine::{Engine, Parts, State};
use aqueduct_record::BatchBuilder;
use tokio::time::sleep;

use crate::dice::{Dice, SimChance};
use crate::disk::SimDisk;
use crate::life::{Life, Time, Trace};
use crate::oracle::LINES;
use crate::pipeline::{self, DATA};
use crate::scenario::{Layout, Place, Scenario, SinkShape, TopicShape};
use crate::store::{Bucket, StoreFaults};
use crate::threads::{SimThreads, Unrest};
use crate::world::LOGS;

const SPARE_NEW: Duration = Duration::from_secs(10);
const SINK: &str = "sink";

#[test]
fn a_partition_made_while_a_sink_is_being_stopped_is_kept_for_it() {
    let (time, trace, life) = (Time::new(), Trace::new(false), Life::new());
    let disk = Arc::new(SimDisk::new(Dice::new(0, "disk"), time.clone(), trace.clone()));
    disk.make_plain_folder(Path::new(LOGS));
    let bucket = Bucket::new(Dice::new(0, "store"), time.clone(), trace.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        time.begin_life();
        let chance = Mutex::new((Dice::new(0, "threads"), Unrest::NONE));
        let edge = Edge {
            disk: disk.mount(life.clone()),
            clock: time.clone(),
            threads: Arc::new(SimThreads { life: life.clone(), time: time.clone(), trace, chance }),
            chance: Arc::new(SimChance::new(Dice::new(0, "chance"))),
        };
        let options = Options { spare_new: SPARE_NEW, ..Options::default() };
        let log = CommitLog::open(edge.clone(), Path::new(DATA), options).await.unwrap();
        let parts = Parts {
            store: Arc::new(log.clone()),
            edge,
            registry: Arc::new(pipeline::registry(bucket.connect(life.clone()), 8 << 20)),
            resolve: Arc::new(|value| Ok(value.clone())),
            scratch: PathBuf::from("/scratch"),
            budget: ByteSize::mib(64),
        };
        let (scenario, sinks) = scenario();
        let engine = Engine::start(parts, pipeline::plan(&scenario, 1, &sinks)).await.unwrap();
        bucket.set_faults(StoreFaults { silent: true, ..StoreFaults::default() });
        fill(&log, 0).await;
        sleep(Duration::from_secs(3)).await;
        let pausing = tokio::spawn({
            let engine = engine.clone();
            async move { engine.pause(SINK).await }
        });
        sleep(Duration::from_secs(1)).await;
        engine.reload(pipeline::plan(&scenario, 2, &sinks)).await.unwrap();
        fill(&log, 1).await;
        sleep(SPARE_NEW + Duration::from_secs(2)).await;
        let status = engine.status().await;
        let sink = status.connectors.iter().find(|connector| connector.name == SINK).unwrap();
        assert_eq!(sink.state, State::Running, "it is still being stopped");
        log.clean().await.unwrap();
        assert_eq!(log.bounds(&TopicPartition::new(LINES, 1)).await.unwrap().start, 0);
        pausing.await.unwrap().unwrap();
    });
}

/// Topics of which nothing is kept that nobody holds.
fn scenario() -> (Scenario, Vec<SinkShape>) {
    let topic =
        TopicShape { partitions: 1, durability: Durability::Fsync, segment_bytes: 1 << 10, retention_bytes: Some(1) };
    let sink = SinkShape {
        name: SINK.into(),
        place: Place::Store,
        format: "lines",
        layout: Layout::Template,
        chunk_bytes: 1 << 10,
        chunk_records: None,
        chunk_age: 100,
    };
    (Scenario { topic, ..Scenario::new(0, None) }, vec![sink])
}

/// Appends a few segments.
async fn fill(log: &CommitLog, partition: i32) {
    let of = TopicPartition::new(LINES, partition);
    for _ in 0..4 {
        let mut batch = BatchBuilder::new();
        batch.push(1_772_323_200_000, None, Some(&[b'x'; 700]), &[]);
        log.append(&of, batch.finish(), At::End).await.unwrap().durable.await.unwrap();
    }
}
