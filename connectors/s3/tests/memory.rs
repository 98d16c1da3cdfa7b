//! What a large chunk with many paths costs: alone in its process, because it looks at the most that was ever resident.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;

use aqueduct_api::{Chunk, Content, Edge, Result, SinkOpening, SinkSettings as _, TopicId, TopicPartition};
use aqueduct_record::{Batch, BatchBuilder, Offset};
use aqueduct_s3::S3Settings;
use async_trait::async_trait;
use serde_json::json;

const PATHS: i64 = 1000;
const RECORDS: i64 = 500;
const BATCHES: i64 = 280;

/// Batches that are made when they are read: 128 MiB of log lines, each for another path than the one before it.
struct Lines;

#[async_trait]
impl Content for Lines {
    async fn read(&self, from: Offset) -> Result<Vec<Batch>> {
        let mut builder = BatchBuilder::new();
        let start = from - from % RECORDS;
        for offset in start..start + RECORDS {
            let (path, padding) = (offset * 7 % PATHS, "x".repeat(900));
            let value = format!("{{\"path\":\"p{path}\",\"n\":{offset},\"text\":\"{padding}\"}}");
            builder.push(1_778_581_800_000, None, Some(value.as_bytes()), &[]);
        }
        Ok(vec![builder.finish().at(start, 0)])
    }

    async fn save_note(&self, _: &str) -> Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_chunk_of_a_thousand_paths_stays_below_150_mb() {
    let inferred = json!({"format": "parquet", "compression": "zstd"});
    let fields = ["path", "n", "text"].map(|name| json!({"name": name, "type": "text"}));
    let given = json!({"format": "parquet", "schema": fields});
    for shape in [json!({"format": "json-lines", "compression": "zstd"}), inferred, given] {
        let most = most_for(&shape).await;
        println!("{shape}: {most} kB resident at most");
        assert!(most < 150_000, "{shape}: {most} kB");
    }
}

/// Writes the chunk and says how many kB were resident at most so far.
async fn most_for(shape: &serde_json::Value) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = json!({
        "url": format!("file://{}/lake", folder.path().display()),
        "path": "{topic}/{timestamp:%H}/{field:path}",
    });
    settings.as_object_mut().unwrap().extend(shape.as_object().unwrap().clone());
    let settings: S3Settings = serde_json::from_value(settings).unwrap();
    let scratch = folder.path().join("scratch");
    let opening = SinkOpening { name: "lake".into(), folder: "/".into(), scratch, edge: Edge::real() };
    let sink = settings.open(opening).await.unwrap();
    let end = RECORDS * BATCHES;
    let chunk = Chunk {
        partition: TopicPartition::new("t", 0),
        topic_id: TopicId(1),
        start: 0,
        end,
        run: 0,
        given_up: 0,
        incarnation: 1,
        redelivered: false,
        ranges: vec![0..end; 1],
        note: None,
        content: Arc::new(Lines),
    };
    assert!(sink.write(&mut [chunk]).await.unwrap().rejected.is_empty());
    assert_eq!(std::fs::read_dir(folder.path().join("lake/t/10")).unwrap().count(), PATHS as usize);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    most.trim().trim_end_matches(" kB").parse().unwrap()
}
