//! What the sink does in a folder: nothing half written is seen, nothing is written over, and nothing is left behind.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod world;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};

use aqueduct_api::conformance::sink::{Script, SinkWorld as _, deliver};
use aqueduct_api::disk::{Entry, LockError, Metadata, Open, RealDisk, Space};
use aqueduct_api::fault::{Mutant, mutate};
use aqueduct_api::{Chunk, Content, Disk, Edge, Error, File, Result, Sink, SinkOpening, SinkSettings as _, TopicId};
use aqueduct_record::{Batch, Offset};
use aqueduct_s3::S3Settings;
use async_trait::async_trait;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::oneshot;

use world::World;

struct Bed {
    folder: TempDir,
    disk: Arc<Watched>,
}

/// The real disk, that notes what is done to names, and fails where it is told to.
#[derive(Default)]
struct Watched {
    steps: Mutex<Vec<(&'static str, PathBuf)>>,
    failing: Mutex<BTreeMap<&'static str, ErrorKind>>,
    /// The next such step says that it was reached, and waits.
    stalled: Mutex<Option<Stalled>>,
}

struct Stalled {
    step: &'static str,
    reached: oneshot::Sender<()>,
    go: mpsc::Receiver<()>,
}

impl Watched {
    fn step(&self, what: &'static str, path: &Path) -> io::Result<()> {
        self.steps.lock().unwrap().push((what, path.to_owned()));
        let is_object = !path.to_string_lossy().contains(".aqueduct");
        let stalled = self.stalled.lock().unwrap().take_if(|stalled| stalled.step == what && is_object);
        if let Some(Stalled { reached, go, .. }) = stalled {
            reached.send(()).unwrap();
            go.recv().unwrap();
        }
        match self.failing.lock().unwrap().get(what) {
            Some(kind) => Err((*kind).into()),
            None => Ok(()),
        }
    }
}

impl Disk for Watched {
    fn open(&self, path: &Path, open: Open) -> io::Result<Arc<dyn File>> {
        if open == Open::New {
            self.step("new", path)?;
        }
        RealDisk.open(path, open)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>> {
        RealDisk.list(folder)
    }

    fn metadata(&self, path: &Path, follow: bool) -> io::Result<Metadata> {
        RealDisk.metadata(path, follow)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.step("folder", path)?;
        RealDisk.create_folder(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step("rename", to)?;
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.step("sync", path)?;
        RealDisk.sync_folder(path)
    }

    fn lock(&self, path: &Path, owner: &str) -> Result<Box<dyn Send + Sync>, LockError> {
        RealDisk.lock(path, owner)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        RealDisk.space(path)
    }
}

impl Bed {
    fn new() -> Self {
        Bed { folder: tempfile::tempdir().unwrap(), disk: Arc::default() }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("deep/lake")
    }

    fn settings(&self) -> S3Settings {
        serde_json::from_value(json!({"url": format!("file://{}", self.root().display()), "path": "{topic}/x"}))
            .unwrap()
    }

    fn opening(&self) -> SinkOpening {
        let edge = Edge { disk: self.disk.clone(), ..Edge::real() };
        SinkOpening { name: "lake/1".into(), folder: "/".into(), scratch: self.folder.path().join("scratch"), edge }
    }

    async fn sink(&self) -> Box<dyn Sink> {
        self.settings().open(self.opening()).await.unwrap()
    }

    fn world(&self) -> World {
        World::new(self.settings(), self.folder.path())
    }

    /// Files under way.
    fn staged(&self) -> Vec<PathBuf> {
        let staging = self.root().join(".aqueduct/staging/lake%2F1");
        std::fs::read_dir(staging).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    /// What was done to names since the last call, below the test's folder.
    fn steps(&self) -> Vec<String> {
        let steps = std::mem::take(&mut *self.disk.steps.lock().unwrap());
        let name = |path: &Path| path.strip_prefix(self.folder.path()).map(|path| path.display().to_string());
        steps.iter().filter_map(|(what, path)| Some(format!("{what} {}", name(path).ok()?))).collect()
    }
}

#[tokio::test]
async fn an_object_counts_only_when_every_folder_up_to_the_url_is_synced() {
    let bed = Bed::new();
    let sink = bed.sink().await;
    let opened = bed.steps();
    for folder in ["deep/lake/.aqueduct/topics", "deep/lake/.aqueduct", "deep/lake", "deep", ""] {
        assert!(opened.contains(&format!("sync {folder}")), "{opened:?}");
    }
    deliver(&*sink, &mut [Script::new("t", 0).batch(0, 3).chunk()]).await;
    let mut steps = bed.steps();
    for staging in [steps.remove(3), steps.remove(0)] {
        assert!(staging.starts_with("new deep/lake/.aqueduct/staging/lake%2F1/"), "{staging}");
    }
    let expected = [
        "rename deep/lake/.aqueduct/topics/t",
        "sync deep/lake/.aqueduct/topics",
        "folder deep/lake/t/x",
        "rename deep/lake/t/x/t+0+00000000000000000000+00000000000000000003.txt",
        "sync deep/lake/t/x",
        "sync deep/lake/t",
        "sync deep/lake",
    ];
    assert_eq!(steps, expected);
}

#[tokio::test]
async fn an_object_that_is_found_is_made_durable_before_it_counts() {
    let bed = Bed::new();
    let script = Script::new("t", 0).batch(0, 3);
    deliver(&*bed.sink().await, &mut [script.chunk()]).await;
    let sink = bed.sink().await;
    bed.steps();
    deliver(&*sink, &mut [script.again()]).await;
    assert_eq!(bed.steps(), ["sync deep/lake/t/x", "sync deep/lake/t", "sync deep/lake"]);
}

#[tokio::test]
async fn the_mistake_of_not_syncing_folders_can_be_made_on_purpose() {
    let bed = Bed::new();
    let sink = bed.sink().await;
    bed.steps();
    mutate(Some(Mutant::NoFolderSync));
    deliver(&*sink, &mut [Script::new("t", 0).batch(0, 3).chunk()]).await;
    mutate(None);
    assert!(!bed.steps().contains(&"sync deep/lake/t/x".to_owned()));
}

/// Settings whose names tell where a chunk ends, and those whose names do not.
fn both(bed: &Bed) -> [S3Settings; 2] {
    [bed.settings(), S3Settings { path: None, ..bed.settings() }]
}

fn anew(script: &Script, given_up: u32) -> Chunk {
    Chunk { given_up, ..script.chunk() }
}

#[tokio::test]
async fn what_a_chunk_that_was_given_up_left_is_replaced_though_it_is_longer_or_ended_where_the_new_one_does() {
    for records in [20, 20_000] {
        let bed = Bed::new();
        for settings in both(&bed) {
            let count = i64::from(records);
            let all = Script::new("t", 0).batch(0, records).batch(count, records).batch(2 * count, records);
            let some = Script::new("t", 0).batch(0, records).batch(2 * count, records);
            let world = World::new(settings.clone(), &bed.opening().scratch);
            let sink = settings.open(bed.opening()).await.unwrap();
            for (given_up, script) in [(0, &all), (1, &some), (2, &all), (3, &some)] {
                let older = Chunk { given_up: given_up.max(1) - 1, ..all.chunk() };
                for chunk in [anew(script, given_up), Chunk { redelivered: true, ..anew(script, given_up) }, older] {
                    // An earlier owner stops, or finds a file there that is not its own any more.
                    let is_older = chunk.given_up < given_up;
                    let written = sink.write(&mut [chunk]).await;
                    assert!(is_older || written.is_ok(), "{written:?}");
                    let is_there = |at: &i64| std::ptr::eq(script, &all) || !(count..2 * count).contains(at);
                    script.expect(&world, (0..3 * count).filter(is_there)).await;
                }
            }
            assert_eq!(bed.staged(), [] as [PathBuf; 0]);
            std::fs::remove_dir_all(bed.root().join("t")).ok();
            std::fs::remove_dir_all(bed.root().join("topics")).ok();
            std::fs::remove_dir_all(bed.root().join(".aqueduct/given-up")).unwrap();
        }
    }
}

#[tokio::test]
async fn a_file_of_a_chunk_that_was_given_up_never_replaces_another_unless_that_mistake_is_made_on_purpose() {
    let bed = Bed::new();
    let (longer, shorter) = (Script::new("t", 0).batch(0, 60), Script::new("t", 0).batch(0, 40));
    let settings = S3Settings { path: None, ..bed.settings() };
    let world = World::new(settings.clone(), &bed.opening().scratch);
    let sink = settings.open(bed.opening()).await.unwrap();
    deliver(&*sink, &mut [anew(&shorter, 1)]).await;
    let stopped = sink.write(&mut [longer.chunk()]).await.unwrap_err();
    assert!(matches!(stopped, Error::Fatal { .. }));
    assert!(stopped.to_string().contains(".aqueduct/given-up/lake%2F1/t+0"), "{stopped}");
    shorter.expect(&world, 0..40).await;
    // What comes behind it, other partitions, and another sink that is not as far, are not concerned.
    let behind = Script::new("t", 0).batch(40, 20);
    deliver(&*sink, &mut [behind.chunk(), Script::new("t", 1).batch(0, 10).chunk()]).await;
    let opening = SinkOpening { name: "other".into(), ..bed.opening() };
    let other = S3Settings { path: Some("{topic}/y".into()), ..bed.settings() }.open(opening).await.unwrap();
    deliver(&*other, &mut [longer.chunk()]).await;
    mutate(Some(Mutant::StaleOverNewer));
    deliver(&*sink, &mut [Chunk { end: 60, ..Script::new("t", 0).batch(0, 30).chunk() }]).await;
    mutate(None);
    let name = bed.root().join("topics/t/partition=0/t+0+0000000000.bin");
    assert_eq!(std::fs::read_to_string(name).unwrap().lines().count(), 30);
}

#[tokio::test]
async fn a_step_of_an_earlier_owner_that_comes_late_changes_nothing() {
    // It is on its way to the look at what was given up, or between that and the new name of its file.
    for step in ["folder", "rename"] {
        let bed = Arc::new(Bed::new());
        let (sink, script) = (bed.sink().await, Script::new("t", 0).batch(0, 40));
        let old = Script::new("t", 0).batch(0, 10);
        let (reached, is_reached) = oneshot::channel();
        let (release, go) = mpsc::channel();
        *bed.disk.stalled.lock().unwrap() = Some(Stalled { step, reached, go });
        let late = tokio::spawn(async move { sink.write(&mut [Chunk { end: 40, ..old.chunk() }]).await.is_ok() });
        is_reached.await.unwrap();
        let newer = bed.sink().await;
        let mut chunk = [anew(&script, 1)];
        let mut write = std::pin::pin!(deliver(&*newer, &mut chunk));
        // Whoever waits for the step that is late waits until it is done.
        let is_done = tokio::time::timeout(std::time::Duration::from_millis(200), &mut write).await.is_ok();
        release.send(()).unwrap();
        if !is_done {
            write.await;
        }
        assert_eq!((step, late.await.unwrap()), (step, step == "rename"));
        script.expect(&bed.world(), 0..40).await;
    }
}

#[tokio::test]
async fn a_longer_chunk_replaces_what_one_that_was_given_up_left_under_its_name() {
    for records in [40, 40_000] {
        let bed = Bed::new();
        let settings = S3Settings { path: None, ..bed.settings() };
        let sink = settings.clone().open(bed.opening()).await.unwrap();
        let world = World::new(settings, &bed.opening().scratch);
        let shorter = Script::new("t", 0).batch(0, records);
        let longer = Script::new("t", 0).batch(0, records).batch(i64::from(records), 20);
        for (chunk, expected) in [(shorter.chunk(), &shorter), (longer.chunk(), &longer), (longer.again(), &longer)] {
            deliver(&*sink, &mut [chunk]).await;
            let count = i64::from(records) + if std::ptr::eq(expected, &longer) { 20 } else { 0 };
            expected.expect(&world, 0..count).await;
            assert_eq!(bed.staged(), [] as [PathBuf; 0]);
        }
    }
}

#[tokio::test]
async fn what_an_earlier_run_left_half_written_is_removed_at_open() {
    let bed = Bed::new();
    drop(bed.sink().await);
    std::fs::write(bed.root().join(".aqueduct/staging/lake%2F1/0123"), "half").unwrap();
    let sink = bed.sink().await;
    assert_eq!(bed.staged(), [] as [PathBuf; 0]);
    deliver(&*sink, &mut [Script::new("t", 0).batch(0, 3).chunk()]).await;
    assert_eq!(bed.staged(), [] as [PathBuf; 0]);
}

#[tokio::test]
async fn a_disk_that_is_full_is_waited_for_and_nothing_is_left_on_it() {
    for step in ["new", "folder", "rename", "sync"] {
        let bed = Bed::new();
        let sink = bed.sink().await;
        let script = Script::new("t", 0).batch(0, 30);
        bed.disk.failing.lock().unwrap().insert(step, ErrorKind::StorageFull);
        let failed = sink.write(&mut [script.chunk()]).await.unwrap_err();
        assert!(failed.is_retry(), "{failed}");
        assert!(failed.to_string().contains("deep/lake"), "{failed} names the path");
        bed.disk.failing.lock().unwrap().clear();
        deliver(&*sink, &mut [script.again()]).await;
        script.expect(&bed.world(), 0..30).await;
        assert_eq!(bed.sink().await.write(&mut []).await.unwrap().unfinished, []);
        assert_eq!(bed.staged(), [] as [PathBuf; 0]);
    }
}

#[tokio::test]
async fn a_folder_that_may_not_be_written_stops_the_sink() {
    let bed = Bed::new();
    let sink = bed.sink().await;
    for kind in [ErrorKind::PermissionDenied, ErrorKind::ReadOnlyFilesystem] {
        bed.disk.failing.lock().unwrap().insert("rename", kind);
        let failed = sink.write(&mut [Script::new("t", 0).batch(0, 3).chunk()]).await;
        assert!(matches!(failed, Err(Error::Fatal { .. })), "{failed:?}");
    }
}

#[tokio::test]
async fn a_folder_that_vanishes_is_not_made_again_behind_somebodys_back() {
    let bed = Bed::new();
    let sink = bed.sink().await;
    std::fs::remove_dir_all(bed.root()).unwrap();
    let script = Script::new("t", 0).batch(0, 3);
    let failed = sink.write(&mut [script.chunk()]).await.unwrap_err();
    assert!(failed.is_retry(), "{failed}");
    assert!(!bed.root().exists());
    deliver(&*bed.sink().await, &mut [script.again()]).await;
    script.expect(&bed.world(), 0..3).await;
}

#[tokio::test]
async fn the_files_of_another_topic_of_the_same_name_are_left_alone() {
    let bed = Bed::new();
    let script = Script::new("t", 0).batch(0, 3);
    let sink = bed.sink().await;
    deliver(&*sink, &mut [script.chunk()]).await;
    let mut other = script.chunk();
    let old = other.topic_id;
    other.topic_id = TopicId(7);
    let stopped = sink.write(&mut [other]).await.unwrap_err();
    assert!(matches!(stopped, Error::Fatal { .. }));
    for part in [old.to_string(), TopicId(7).to_string(), "t/x/t+0+".to_owned()] {
        assert!(stopped.to_string().contains(&part), "{stopped}");
    }
    let mut rewound = script.chunk();
    (rewound.topic_id, rewound.run) = (TopicId(7), 1);
    deliver(&*sink, &mut [rewound]).await;
}

#[tokio::test]
async fn something_in_the_way_of_an_object_is_left_alone() {
    let bed = Bed::new();
    let sink = bed.sink().await;
    let name = bed.root().join("t/x/t+0+00000000000000000000+00000000000000000003.txt");
    std::fs::create_dir_all(&name).unwrap();
    let stopped = sink.write(&mut [Script::new("t", 0).batch(0, 3).chunk()]).await.unwrap_err();
    assert!(stopped.to_string().contains("is in the way"), "{stopped}");
}

#[tokio::test]
async fn a_probe_says_what_would_go_wrong_and_leaves_nothing() {
    let bed = Bed::new();
    let told = bed.settings().probe(bed.opening()).await.unwrap();
    assert_eq!(told, [format!("folder {} will be made", bed.root().display())]);
    assert!(!bed.folder.path().join("deep").exists());
    std::fs::create_dir_all(bed.root()).unwrap();
    assert_eq!(bed.settings().probe(bed.opening()).await.unwrap(), [] as [String; 0]);
    assert_eq!(std::fs::read_dir(bed.root()).unwrap().count(), 0);
    std::fs::remove_dir(bed.root()).unwrap();
    std::fs::write(bed.root(), "a file").unwrap();
    let failed = bed.settings().probe(bed.opening()).await.unwrap_err();
    assert!(failed.to_string().contains("is not a folder"), "{failed}");
    assert!(bed.settings().open(bed.opening()).await.is_err());
}

#[tokio::test]
async fn large_objects_are_written_in_many_steps() {
    let bed = Bed::new();
    let script = Script::new("t", 0).batch(0, 40_000).batch(40_000, 40_000);
    deliver(&*bed.sink().await, &mut [script.chunk()]).await;
    script.expect(&bed.world(), 0..80_000).await;
    assert!(bed.world().written().await.len() == 80_000);
}

/// Opens the sink once more while a chunk is being written.
struct OpensAgain {
    content: Arc<dyn Content>,
    bed: Arc<Bed>,
    staged: Arc<Mutex<Vec<usize>>>,
}

#[async_trait]
impl Content for OpensAgain {
    async fn read(&self, from: Offset) -> Result<Vec<Batch>> {
        if from > 0 {
            drop(self.bed.sink().await);
            self.staged.lock().unwrap().push(self.bed.staged().len());
        }
        self.content.read(from).await
    }

    async fn save_note(&self, note: &str) -> Result<()> {
        self.content.save_note(note).await
    }
}

#[tokio::test]
async fn a_sink_that_is_opened_beside_a_live_one_leaves_its_files_alone() {
    let (bed, staged) = (Arc::new(Bed::new()), Arc::default());
    let sink = bed.sink().await;
    let script = Script::new("t", 0).batch(0, 60_000).batch(60_000, 10);
    let mut chunk = script.chunk();
    chunk.content = Arc::new(OpensAgain { content: chunk.content, bed: bed.clone(), staged: Arc::clone(&staged) });
    deliver(&*sink, &mut [chunk]).await;
    assert_eq!(staged.lock().unwrap().first(), Some(&1), "a file was under way");
    script.expect(&bed.world(), 0..60_010).await;
}
