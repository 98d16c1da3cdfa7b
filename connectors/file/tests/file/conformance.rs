//! The suite that every source must pass.

use std::sync::Arc;
use std::time::Duration;

use aqueduct_api::conformance::source::{self, SourceWorld};
use aqueduct_api::{Position, Result, Source, Stream};
use async_trait::async_trait;
use serde_json::json;

use crate::world::{QUIET, World};

struct Files(World);

#[async_trait]
impl SourceWorld for Files {
    async fn open(&self, positions: Vec<(Arc<Stream>, Position)>) -> Result<Box<dyn Source>> {
        Ok(self.0.open(positions).await)
    }

    async fn put(&self, stream: usize, values: &[Vec<u8>]) {
        for value in values {
            self.0.disk.append(&format!("/l/{stream}.log"), value);
            self.0.disk.append(&format!("/l/{stream}.log"), "\n");
        }
    }

    fn quiet(&self) -> Duration {
        QUIET
    }
}

#[tokio::test(start_paused = true)]
async fn files_are_a_source() {
    source::all(&|| Box::new(Files(World::new(json!({"paths": ["/l/*.log"], "poll": "1ms"}))))).await;
}
