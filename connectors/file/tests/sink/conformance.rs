//! The sinks' suite over folders, in every format, compression and kind of name.

use std::path::Path;
use std::sync::Arc;

use aqueduct_api::conformance::sink;
use serde_json::json;

use crate::disk::CrashDisk;
use crate::world::World;

fn shapes() -> Vec<serde_json::Value> {
    vec![
        json!({"path": "all.log"}),
        json!({"path": "out/{topic}/{partition}.log", "format": "json-lines", "compression": "gzip"}),
        json!({"path": "out/{topic}-{timestamp:%S}", "format": "records", "compression": "zstd"}),
        json!({"path": "{topic}.log", "format": "records", "roll": {"records": 25}}),
        json!({"path": "{field:partition}/{timestamp:%H}/{key}.gz", "compression": "gzip", "roll": {"bytes": "100 B"}}),
    ]
}

#[tokio::test]
async fn a_folder_is_written_as_every_sink_must() {
    for shape in shapes().into_iter().take(3) {
        println!("{shape}");
        let folder = tempfile::tempdir().unwrap();
        sink::all(&World::real(shape, &folder.path().join("deep/out"))).await;
    }
}

#[tokio::test]
async fn a_folder_in_memory_is_written_as_every_sink_must() {
    for shape in shapes() {
        println!("{shape}");
        sink::all(&World::on(shape, Path::new("/out"), Arc::new(CrashDisk::default()))).await;
    }
}
