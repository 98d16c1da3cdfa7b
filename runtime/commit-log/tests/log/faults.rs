//! Syncs that fail and disks that are full.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aqueduct_api::conformance::log::{append, batch, read_all};
use aqueduct_api::disk::{Disk, Entry, File, LockError, Metadata, Open, RealDisk, Space};
use aqueduct_api::edge::{Abort, Threads};
use aqueduct_api::fault::{Mutant, mutate};
use aqueduct_api::{
    Appended, At, ByteSize, Committed, Durability, Edge, Error, Groups as _, Log as _, Result, TopicPartition,
    TopicSettings, Topics as _,
};
use aqueduct_commit_log::{CommitLog, DiskLimit, Options, WhenFull};
use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::opened::{Time, edge, fill, filled, killed, of, open, small_segments, value};

/// What is wrong with the disk.
#[derive(Default)]
struct Faults {
    /// So many of the next syncs of files fail.
    syncs: AtomicU64,
    /// So many of the next syncs of folders fail.
    folder_syncs: AtomicU64,
    /// So many of the next syncs of the data folder itself fail.
    root_syncs: AtomicU64,
    /// Syncs of files that were asked for.
    synced: AtomicU64,
    /// Writes find no room, unless the ballast is gone.
    full: AtomicBool,
    /// So many segments have to be synced at once, or nobody gets on.
    together: AtomicU64,
    waiting: (std::sync::Mutex<u64>, std::sync::Condvar),
    /// Nothing can be changed, but for bytes within files that are open.
    read_only: AtomicBool,
    /// After so many files were removed there is room again.
    removals_to_room: AtomicU64,
    /// Percent of the file system that are in use.
    used: AtomicU64,
    /// What else happens while a file is removed or the disk is asked for its room.
    meanwhile: std::sync::Mutex<Option<Box<dyn Fn() + Send>>>,
}

impl Faults {
    /// Returns once as many syncs are under way as there have to be.
    fn meet(&self) {
        let (count, moved) = &self.waiting;
        let mut arrived = count.lock().unwrap();
        *arrived += 1;
        moved.notify_all();
        let is_missing = |arrived: &mut u64| *arrived < self.together.load(Ordering::SeqCst);
        let patience = std::time::Duration::from_secs(10);
        let (_arrived, waited) = moved.wait_timeout_while(arrived, patience, is_missing).unwrap();
        assert!(!waited.timed_out(), "nobody else syncs");
    }

    fn change(&self) -> io::Result<()> {
        match self.read_only.load(Ordering::SeqCst) {
            true => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            false => Ok(()),
        }
    }

    fn happen(&self) {
        let meanwhile = self.meanwhile.lock().unwrap().take();
        if let Some(meanwhile) = meanwhile {
            meanwhile();
        }
    }
}

fn fails(count: &AtomicU64) -> io::Result<()> {
    match count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
        Ok(_) => Err(io::Error::other("no answer from the disk")),
        Err(_) => Ok(()),
    }
}

struct Faulty(Arc<Faults>);

struct FaultyFile {
    file: Arc<dyn File>,
    faults: Arc<Faults>,
    is_segment: bool,
    ballast: std::path::PathBuf,
}

impl Disk for Faulty {
    fn open(&self, path: &Path, open: Open) -> io::Result<Arc<dyn File>> {
        if open == Open::New {
            self.0.change()?;
        }
        let file = RealDisk.open(path, open)?;
        let root = path.ancestors().find(|folder| folder.join("format").exists()).unwrap_or(path);
        let is_segment = path.extension().is_some_and(|extension| extension == "log");
        Ok(Arc::new(FaultyFile { file, faults: self.0.clone(), is_segment, ballast: root.join("ballast") }))
    }
    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>> {
        RealDisk.list(folder)
    }
    fn metadata(&self, path: &Path, follow: bool) -> io::Result<Metadata> {
        RealDisk.metadata(path, follow)
    }
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_folder(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.change()?;
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.happen();
        self.0.change()?;
        if fails(&self.0.removals_to_room).is_err() && self.0.removals_to_room.load(Ordering::SeqCst) == 0 {
            self.0.used.store(10, Ordering::SeqCst);
        }
        RealDisk.remove(path)
    }
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        fails(&self.0.folder_syncs)?;
        if path.join("format").exists() {
            fails(&self.0.root_syncs)?;
        }
        RealDisk.sync_folder(path)
    }
    fn lock(&self, path: &Path, owner: &str) -> Result<Box<dyn Send + Sync>, LockError> {
        RealDisk.lock(path, owner)
    }
    fn space(&self, _: &Path) -> io::Result<Space> {
        self.0.happen();
        let total = 1 << 30;
        Ok(Space { total, available: total / 100 * (100 - self.0.used.load(Ordering::SeqCst)) })
    }
}

impl File for FaultyFile {
    fn read_at(&self, buffer: &mut Vec<u8>, length: usize, offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, length, offset)
    }
    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        if self.faults.full.load(Ordering::SeqCst) && self.ballast.exists() {
            // A part of it finds room.
            self.file.write_at(&parts[..parts.len() / 2], offset)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write_at(parts, offset)
    }
    fn truncate(&self, length: u64) -> io::Result<()> {
        self.faults.change()?;
        self.file.truncate(length)
    }
    fn allocate(&self, length: u64) -> io::Result<()> {
        self.file.truncate(length)
    }
    fn sync(&self) -> io::Result<()> {
        self.faults.synced.fetch_add(1, Ordering::SeqCst);
        fails(&self.faults.syncs)?;
        if self.is_segment && self.faults.together.load(Ordering::SeqCst) > 0 {
            self.faults.meet();
        }
        self.file.sync()
    }
    fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }
}

/// Jobs that run when the test says so, while `held`.
#[derive(Default)]
struct Later {
    is_held: AtomicBool,
    jobs: std::sync::Mutex<Vec<Box<dyn FnOnce() + Send>>>,
}

impl Later {
    fn run(&self) {
        self.is_held.store(false, Ordering::SeqCst);
        let jobs = std::mem::take(&mut *self.jobs.lock().unwrap());
        jobs.into_iter().for_each(|job| job());
    }
}

impl Threads for Later {
    fn blocking(&self, job: Box<dyn FnOnce() + Send>) {
        match self.is_held.load(Ordering::SeqCst) {
            true => self.jobs.lock().unwrap().push(job),
            false => job(),
        }
    }

    fn connector(&self, _: &str, _: BoxFuture<'static, ()>) -> Abort {
        unreachable!("no connector runs here")
    }
}

struct Setup {
    folder: tempfile::TempDir,
    faults: Arc<Faults>,
    later: Arc<Later>,
    log: CommitLog,
}

async fn setup(settings: &TopicSettings, options: Options) -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let (faults, later) = (Arc::new(Faults::default()), Arc::new(Later::default()));
    let edge = Edge { disk: Arc::new(Faulty(faults.clone())), threads: later.clone(), ..edge(&Time::default()) };
    let log = CommitLog::open(edge, folder.path(), options).await.unwrap();
    log.create("t", 1, settings).await.unwrap();
    Setup { folder, faults, later, log }
}

async fn try_append(log: &CommitLog, n: usize) -> Result<i64> {
    append_later(log, n).await?.durable().await
}

async fn append_later(log: &CommitLog, n: usize) -> Result<Appended> {
    log.append(&of(), batch(&[&value(n)], 1000 + n as i64), At::End).await
}

fn settings(durability: Durability) -> TopicSettings {
    TopicSettings { durability, ..small_segments() }
}

#[tokio::test]
async fn appends_that_wait_for_the_same_file_share_a_write_and_a_sync() {
    let Setup { folder: _folder, faults, later, log } = setup(&TopicSettings::default(), Options::default()).await;
    fill(&log, 1).await;
    later.is_held.store(true, Ordering::SeqCst);
    let mut waiting = Vec::new();
    for n in 1..20 {
        waiting.push(append_later(&log, n).await.unwrap());
    }
    let before = faults.synced.load(Ordering::SeqCst);
    assert_eq!(log.bounds(&of()).await.unwrap().stable, 1, "nobody reads what is not synced");
    later.run();
    for (n, appended) in waiting.into_iter().enumerate() {
        assert_eq!(appended.durable().await.unwrap(), n as i64 + 1);
    }
    assert_eq!(faults.synced.load(Ordering::SeqCst) - before, 1);
    assert_eq!(read_all(&log, &of(), 0, 1 << 20).await.0, filled(0..20));
}

/// What holds after a sync failed that covered offsets 4, 5 and 6: they are void, and the next append gets 4.
async fn check_after_failed_sync(setup: Setup, epoch: i32) {
    let Setup { folder, log, .. } = setup;
    let bounds = log.bounds(&of()).await.unwrap();
    assert_eq!((bounds.stable, bounds.end), (4, 4));
    assert_eq!(read_all(&log, &of(), 0, 1 << 20).await, (filled(0..4), vec![]));
    for n in 4..8 {
        assert_eq!(try_append(&log, n).await.unwrap(), n as i64);
    }
    assert_eq!(log.sync(&of()).await.unwrap(), 8);
    assert!(log.bounds(&of()).await.unwrap().leader_epoch > epoch, "offsets are used again only under a new epoch");
    assert_eq!(read_all(&log, &of(), 0, 1 << 20).await, (filled(0..8), vec![]));
    let copy = killed(folder.path());
    let again = open(copy.path()).await;
    assert_eq!(read_all(&again, &of(), 0, 1 << 20).await, (filled(0..8), vec![]));
}

#[tokio::test]
async fn what_a_failed_sync_covered_is_void() {
    for settings in [settings(Durability::Fsync), TopicSettings::default()] {
        let setup = setup(&settings, Options::default()).await;
        fill(&setup.log, 4).await;
        let epoch = setup.log.bounds(&of()).await.unwrap().leader_epoch;
        setup.later.is_held.store(true, Ordering::SeqCst);
        let mut waiting = Vec::new();
        for n in 14..17 {
            waiting.push(append_later(&setup.log, n).await.unwrap());
        }
        setup.faults.syncs.store(1, Ordering::SeqCst);
        setup.later.run();
        for appended in waiting {
            let error = appended.durable().await.unwrap_err();
            assert!(error.is_retry() && error.to_string().contains("could not be synced"), "{error}");
        }
        check_after_failed_sync(setup, epoch).await;
    }
}

#[tokio::test]
async fn what_was_acknowledged_without_a_sync_is_void_when_its_sync_fails() {
    for durability in [Durability::Interval, Durability::Os] {
        let setup = setup(&TopicSettings { durability, ..TopicSettings::default() }, Options::default()).await;
        fill(&setup.log, 4).await;
        assert_eq!(setup.log.sync(&of()).await.unwrap(), 4);
        let epoch = setup.log.bounds(&of()).await.unwrap().leader_epoch;
        for n in 14..17 {
            try_append(&setup.log, n).await.unwrap();
        }
        assert_eq!(setup.log.bounds(&of()).await.unwrap().stable, 7);
        setup.faults.syncs.store(1, Ordering::SeqCst);
        assert!(setup.log.sync(&of()).await.unwrap_err().is_retry());
        check_after_failed_sync(setup, epoch).await;
    }
}

#[tokio::test]
async fn what_was_written_without_a_sync_is_safe_before_a_topic_becomes_a_synced_one() {
    for durability in [Durability::Interval, Durability::Os] {
        let old = TopicSettings { durability, ..TopicSettings::default() };
        let Setup { folder: _folder, faults, log, .. } = setup(&old, Options::default()).await;
        fill(&log, 3).await;
        let before = faults.synced.load(Ordering::SeqCst);
        log.alter("t", 1, &TopicSettings::default()).await.unwrap();
        // One for the records, one for the settings.
        assert_eq!(faults.synced.load(Ordering::SeqCst) - before, 2);
        log.alter("t", 1, &old).await.unwrap();
        try_append(&log, 3).await.unwrap();
        faults.syncs.store(1, Ordering::SeqCst);
        assert!(log.alter("t", 1, &TopicSettings::default()).await.unwrap_err().is_retry());
        let topics = log.topics().await.unwrap();
        let topic = topics.iter().find(|topic| &*topic.name == "t").unwrap();
        assert_eq!(topic.settings.durability, durability, "what could not be synced stays as it was");
        assert_eq!(log.bounds(&of()).await.unwrap().stable, 3, "but for what the failed sync made void");
    }
}

#[tokio::test]
async fn a_sync_that_fails_before_anything_was_synced_voids_the_whole_segment() {
    let setup = setup(&TopicSettings::default(), Options::default()).await;
    setup.faults.syncs.store(1, Ordering::SeqCst);
    assert!(try_append(&setup.log, 9).await.unwrap_err().is_retry());
    assert_eq!(read_all(&setup.log, &of(), 0, 1000).await, (vec![], vec![]));
    fill(&setup.log, 3).await;
    assert_eq!(read_all(&setup.log, &of(), 0, 1000).await.0, filled(0..3));
    let copy = killed(setup.folder.path());
    assert_eq!(read_all(&open(copy.path()).await, &of(), 0, 1000).await.0, filled(0..3));
}

#[tokio::test]
async fn a_topic_that_could_not_be_made_goes_only_after_its_name() {
    for (failures, left) in [(1, 0), (2, 1)] {
        let Setup { folder, faults, log, .. } = setup(&TopicSettings::default(), Options::default()).await;
        faults.root_syncs.store(failures, Ordering::SeqCst);
        assert!(log.create("u", 2, &TopicSettings::default()).await.unwrap_err().is_retry());
        let entries = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap());
        let unfinished: Vec<_> = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with('~')).collect();
        assert_eq!(unfinished.len(), left, "{unfinished:?}");
        for entry in unfinished {
            assert!(
                entry.path().join("0").exists() && entry.path().join("1").exists(),
                "it is whole, as its name may be"
            );
        }
        log.create("u", 2, &TopicSettings::default()).await.unwrap();
        drop(log);
        let log = open(folder.path()).await;
        assert!(
            !folder.path().join("~").exists() && log.topics().await.unwrap().iter().any(|topic| &*topic.name == "u")
        );
    }
}

#[tokio::test]
async fn void_records_that_can_not_be_cut_do_not_come_back_after_a_crash() {
    for durability in [Durability::Fsync, Durability::Os] {
        let topic = TopicSettings { durability, ..TopicSettings::default() };
        let Setup { folder, faults, log, .. } = setup(&topic, Options::default()).await;
        fill(&log, 4).await;
        log.sync(&of()).await.unwrap();
        // The sync fails, and what it made void can be cut at first, or not before the disk can be written to again.
        for (n, read_only) in [(14, false), (15, true)] {
            faults.syncs.store(1, Ordering::SeqCst);
            faults.read_only.store(read_only, Ordering::SeqCst);
            let appended = try_append(&log, n).await;
            assert!(appended.is_err() || durability == Durability::Os && log.sync(&of()).await.is_err());
            assert!(!read_only || try_append(&log, n).await.is_err(), "nothing is taken before the void is settled");
            faults.read_only.store(false, Ordering::SeqCst);
            tokio::time::pause();
            tokio::time::sleep(std::time::Duration::from_secs(2)).await;
            tokio::time::resume();
            let copy = killed(folder.path());
            let again = open(copy.path()).await;
            assert_eq!(read_all(&again, &of(), 0, 1000).await, (filled(0..4), vec![]), "{durability:?} {read_only}");
            assert_eq!(append(&again, &of(), batch(&[&value(4)], 1004)).await, 4);
        }
        assert_eq!(try_append(&log, 4).await.unwrap(), 4);
        assert_eq!(read_all(&log, &of(), 0, 1000).await, (filled(0..5), vec![]));
    }
}

#[tokio::test]
async fn half_written_records_do_not_come_back_after_a_crash() {
    for read_only in [false, true] {
        let Setup { folder, faults, later, log } = setup(&TopicSettings::default(), Options::default()).await;
        fill(&log, 3).await;
        later.is_held.store(true, Ordering::SeqCst);
        let waiting = [append_later(&log, 13).await.unwrap(), append_later(&log, 14).await.unwrap()];
        faults.full.store(true, Ordering::SeqCst);
        faults.read_only.store(read_only, Ordering::SeqCst);
        later.run();
        for appended in waiting {
            assert!(appended.durable().await.unwrap_err().is_retry());
        }
        faults.full.store(false, Ordering::SeqCst);
        faults.read_only.store(false, Ordering::SeqCst);
        tokio::time::pause();
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        tokio::time::resume();
        let copy = killed(folder.path());
        let again = open(copy.path()).await;
        assert_eq!(read_all(&again, &of(), 0, 1000).await, (filled(0..3), vec![]), "{read_only}");
        assert_eq!(try_append(&log, 3).await.unwrap(), 3);
    }
}

#[tokio::test]
async fn a_gap_that_came_to_nothing_is_as_if_it_had_never_been_asked_for() {
    for (before, gap) in [(0, 20), (3, 20), (3, i64::from(i32::MAX) + 20)] {
        for (full, folder_syncs) in [(true, 0), (false, 1)] {
            let Setup { folder, faults, log, .. } = setup(&TopicSettings::default(), Options::default()).await;
            fill(&log, before).await;
            let own = |offset: i64| {
                let mut bytes = batch(&["far"], 0).bytes().to_vec();
                bytes[..8].copy_from_slice(&offset.to_be_bytes());
                aqueduct_record::Batch::split_first(&bytes.into()).unwrap().unwrap().0
            };
            faults.full.store(full, Ordering::SeqCst);
            faults.folder_syncs.store(folder_syncs, Ordering::SeqCst);
            let far = before as i64 + gap;
            let failed = log.append(&of(), own(far), At::OwnOffset).await.unwrap().durable().await;
            faults.full.store(false, Ordering::SeqCst);
            faults.folder_syncs.store(0, Ordering::SeqCst);
            let mut expected = filled(0..before);
            if failed.is_ok() {
                // Within a segment no folder is synced.
                assert!(!full && before > 0 && gap == 20);
                expected.push((far, "far".into()));
            }
            for n in 0..3 {
                let offset = try_append(&log, before + n).await.unwrap();
                expected.push((offset, value(before + n)));
            }
            let end = log.bounds(&of()).await.unwrap().end;
            log.append(&of(), own(end + gap), At::OwnOffset).await.unwrap().durable().await.unwrap();
            expected.push((end + gap, "far".into()));
            let first = expected[0].0;
            assert_eq!(read_all(&log, &of(), first, 1000).await, (expected.clone(), vec![]), "{before} {gap} {full}");
            let copy = killed(folder.path());
            let again = open(copy.path()).await;
            assert_eq!(read_all(&again, &of(), first, 1000).await, (expected, vec![]), "{before} {gap} {full} killed");
        }
    }
}

#[tokio::test]
async fn failures_between_two_segments_lose_nothing_that_was_acknowledged() {
    for folder_too in [false, true] {
        let Setup { folder, faults, log, .. } = setup(&small_segments(), Options::default()).await;
        let mut next = 0;
        let mut failed = 0;
        while next < 30 {
            let (files, folders) = if folder_too { (0, 1) } else { (1, 0) };
            if (next + failed) % 2 == 0 {
                faults.syncs.store(files, Ordering::SeqCst);
                faults.folder_syncs.store(folders, Ordering::SeqCst);
            }
            match try_append(&log, next).await {
                Ok(offset) => {
                    assert_eq!(offset, next as i64);
                    next += 1;
                }
                Err(error) => {
                    assert!(error.is_retry(), "{error}");
                    failed += 1;
                }
            }
            faults.syncs.store(0, Ordering::SeqCst);
            faults.folder_syncs.store(0, Ordering::SeqCst);
        }
        assert!(failed > 5, "{failed}");
        assert_eq!(read_all(&log, &of(), 0, 1000).await, (filled(0..30), vec![]));
        let copy = killed(folder.path());
        assert_eq!(read_all(&open(copy.path()).await, &of(), 0, 1000).await, (filled(0..30), vec![]));
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers_without_a_restart() {
    let Setup { folder, faults, later, log } = setup(&TopicSettings::default(), Options::default()).await;
    fill(&log, 3).await;
    faults.full.store(true, Ordering::SeqCst);
    later.is_held.store(true, Ordering::SeqCst);
    let waiting = [append_later(&log, 3).await.unwrap(), append_later(&log, 4).await.unwrap()];
    later.run();
    for appended in waiting {
        assert!(appended.durable().await.unwrap_err().is_retry());
    }
    assert_eq!(log.bounds(&of()).await.unwrap().end, 3, "the offsets are given back");
    assert_eq!(read_all(&log, &of(), 0, 1000).await, (filled(0..3), vec![]));
    let copy = killed(folder.path());
    assert_eq!(open(copy.path()).await.recovery().cut, [], "nothing half-written stays in the file");

    let token = log.join("g").await.unwrap();
    let offset = Committed { offset: 3, leader_epoch: 0, metadata: String::new() };
    log.commit(&token, vec![(of(), Some(offset))]).await.expect("commits use the room that is reserved for them");
    assert!(!folder.path().join("ballast").exists());

    faults.full.store(false, Ordering::SeqCst);
    assert_eq!(try_append(&log, 3).await.unwrap(), 3);
    log.clean().await.unwrap();
    assert!(folder.path().join("ballast").exists(), "the room is reserved again");
}

#[tokio::test]
async fn appends_are_refused_past_the_limit_but_for_internal_topics() {
    let options = Options { limit: DiskLimit::Percent(80), ..Options::default() };
    let Setup { folder: _folder, faults, log, .. } = setup(&small_segments(), options).await;
    log.create("__internal", 1, &small_segments()).await.unwrap();
    fill(&log, 3).await;
    faults.used.store(90, Ordering::SeqCst);
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    for _ in 0..3 {
        let error = try_append(&log, 3).await.unwrap_err();
        assert!(error.is_retry() && error.to_string().contains("past the limit of 80%"), "{error}");
    }
    assert!(log.usage().full.is_some());
    append(&log, &TopicPartition::new("__internal", 0), batch(&["x"], 0)).await;
    faults.used.store(10, Ordering::SeqCst);
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    assert_eq!(try_append(&log, 3).await.unwrap(), 3);
    assert_eq!(log.usage().full, None);
}

#[tokio::test]
async fn dead_letters_may_use_half_of_what_lies_above_the_limit() {
    let options = Options { limit: DiskLimit::Percent(80), ..Options::default() };
    let Setup { folder: _folder, faults, log, .. } = setup(&TopicSettings::default(), options).await;
    let letters = TopicPartition::new("out.dead-letters", 0);
    let settings = TopicSettings { dead_letters: true, ..TopicSettings::default() };
    log.create(&letters.topic, 1, &settings).await.unwrap();
    tokio::time::pause();
    for (used, data, buried) in [(79, true, true), (85, false, true), (89, false, true), (91, false, false)] {
        faults.used.store(used, Ordering::SeqCst);
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        for _ in 0..2 {
            let appended = log.append(&of(), batch(&["x"], 0), At::End).await;
            let appended = match appended {
                Ok(appended) => appended.durable().await,
                Err(error) => Err(error),
            };
            assert_eq!(appended.is_ok(), data, "{used}");
            let appended = match log.append(&letters, batch(&["x"], 0), At::End).await {
                Ok(appended) => appended.durable().await,
                Err(error) => Err(error),
            };
            assert_eq!(appended.is_ok(), buried, "{used}");
        }
    }
}

#[tokio::test]
async fn the_oldest_go_loudly_where_the_configuration_says_so() {
    let options = Options { limit: DiskLimit::Percent(80), when_full: WhenFull::DropOldest, ..Options::default() };
    let Setup { folder: _folder, faults, log, .. } = setup(&small_segments(), options).await;
    fill(&log, 10).await;
    let _hold = log.hold(&of(), 0, "sink lake").await.unwrap();
    faults.used.store(90, Ordering::SeqCst);
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    // Nothing that is dropped makes this disk emptier, so that all closed segments go.
    assert!(try_append(&log, 10).await.unwrap_err().is_retry());
    let usage = log.usage();
    let start = log.bounds(&of()).await.unwrap().start;
    assert!(start > 0 && usage.dropped_offsets == start as u64 && usage.dropped_bytes > 0, "{usage:?}");
    let (found, lost) = read_all(&log, &of(), 0, 1000).await;
    assert_eq!((found, &lost[..]), (filled(start as usize..10), std::slice::from_ref(&(0..start))));
}

#[tokio::test]
async fn dead_letters_are_the_last_to_go_and_the_log_s_own_topics_stay() {
    let options = Options { limit: DiskLimit::Percent(80), when_full: WhenFull::DropOldest, ..Options::default() };
    let Setup { folder: _folder, faults, log, .. } = setup(&small_segments(), options).await;
    let (letters, own) = (TopicPartition::new("out.dead-letters", 0), TopicPartition::new("__own", 0));
    log.create(&letters.topic, 1, &TopicSettings { dead_letters: true, ..small_segments() }).await.unwrap();
    log.create(&own.topic, 1, &small_segments()).await.unwrap();
    // They are older than the data.
    for n in 0..10 {
        append(&log, &letters, batch(&[&value(n)], n as i64)).await;
        append(&log, &own, batch(&[&value(n)], n as i64)).await;
    }
    fill(&log, 10).await;
    let start = async |of: &TopicPartition| log.bounds(of).await.unwrap().start;
    tokio::time::pause();
    let mut starts = Vec::new();
    // The disk is full until so many files were removed; a segment is three.
    for removed in [3, 1000] {
        faults.used.store(90, Ordering::SeqCst);
        faults.removals_to_room.store(removed, Ordering::SeqCst);
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        assert_eq!(try_append(&log, 10).await.is_ok(), removed == 3);
        starts.push((start(&of()).await, start(&letters).await, start(&own).await));
    }
    assert!(starts[0].0 > 0 && starts[0].1 == 0, "data goes first: {starts:?}");
    assert!(starts[1].0 > starts[0].0 && starts[1].1 > 0, "dead letters go before nothing can be written: {starts:?}");
    assert_eq!(starts[1].2, 0, "{starts:?}");
    assert_eq!(log.usage().dropped_offsets, (starts[1].0 + starts[1].1) as u64);
}

#[tokio::test]
async fn an_unclean_start_syncs_partitions_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path()).await;
    log.create("t", 8, &TopicSettings::default()).await.unwrap();
    for partition in 0..8 {
        append(&log, &TopicPartition::new("t", partition), batch(&["x"], 0)).await;
    }
    let copy = killed(folder.path());
    let faults = Arc::new(Faults::default());
    faults.together.store(8, Ordering::SeqCst);
    let edge = Edge { disk: Arc::new(Faulty(faults)), ..Edge::real() };
    let log = CommitLog::open(edge, copy.path(), Options::default()).await.unwrap();
    assert!(!log.recovery().clean);
    assert_eq!(read_all(&log, &TopicPartition::new("t", 7), 0, 1000).await.0, [(0, "x".to_owned())]);
}

/// The mistakes that tests of the whole can switch on do what their names say.
#[tokio::test]
async fn mutants_break_the_rules_they_are_named_for() {
    let acknowledged = async |mutant| {
        let Setup { folder: _folder, faults, log, .. } = setup(&TopicSettings::default(), Options::default()).await;
        mutate(mutant);
        faults.syncs.store(1, Ordering::SeqCst);
        let appended = try_append(&log, 0).await;
        mutate(None);
        appended.is_ok()
    };
    assert!(!acknowledged(None).await);
    assert!(acknowledged(Some(Mutant::AcknowledgeBeforeSync)).await);
    assert!(acknowledged(Some(Mutant::SyncAgain)).await);

    let Setup { folder, faults, log, .. } = setup(&TopicSettings::default(), Options::default()).await;
    mutate(Some(Mutant::NoFolderSync));
    faults.folder_syncs.store(1, Ordering::SeqCst);
    fill(&log, 1).await;
    assert_eq!(faults.folder_syncs.swap(0, Ordering::SeqCst), 1, "no folder was synced");
    mutate(Some(Mutant::SameEpoch));
    let copy = killed(folder.path());
    assert_eq!(open(copy.path()).await.usage().leader_epoch, log.usage().leader_epoch);
    mutate(Some(Mutant::CommitAfterRevocation));
    let old = log.join("g").await.unwrap();
    log.join("g").await.unwrap();
    log.commit(&old, vec![(of(), None)]).await.expect("the mistake takes a void token");
    mutate(None);
    assert!(matches!(log.commit(&old, vec![(of(), None)]).await, Err(Error::Fatal { .. })));
}

#[tokio::test]
async fn a_batch_that_waits_for_room_keeps_its_turn() {
    let large = TopicSettings { max_batch: ByteSize::mib(40), ..TopicSettings::default() };
    let Setup { folder: _folder, later, log, .. } = setup(&large, Options::default()).await;
    fill(&log, 1).await;
    later.is_held.store(true, Ordering::SeqCst);
    let whole = "x".repeat(33 << 20);
    let first = log.append(&of(), batch(&[&whole], 0), At::End).await.unwrap();
    let (of_second, of_third) = (of(), of());
    let second = log.append(&of_second, batch(&[&whole], 0), At::End);
    let third = log.append(&of_third, batch(&["small"], 0), At::End);
    futures::pin_mut!(second, third);
    assert!(futures::poll!(&mut second).is_pending(), "there is no room for it yet");
    assert!(futures::poll!(&mut third).is_pending(), "nobody overtakes");
    later.run();
    first.durable().await.unwrap();
    let (second, third) = futures::join!(second, third);
    assert_eq!((second.unwrap().base_offset, third.unwrap().base_offset), (2, 3));
}

/// Has `act` done on another thread while the disk is slow, and counts how often that was done in time.
fn while_slow(setup: &Setup, act: impl Fn(&CommitLog) + Clone + Send + 'static) -> Arc<AtomicU64> {
    let done = Arc::new(AtomicU64::new(0));
    let (log, count) = (setup.log.clone(), done.clone());
    let meanwhile = move || {
        let (sender, receiver) = std::sync::mpsc::channel();
        let (log, act) = (log.clone(), act.clone());
        let thread = std::thread::Builder::new().spawn(move || {
            act(&log);
            let _ = sender.send(());
        });
        drop(thread.unwrap());
        receiver.recv_timeout(std::time::Duration::from_secs(5)).expect("it does not wait for the disk");
        count.fetch_add(1, Ordering::SeqCst);
    };
    *setup.faults.meanwhile.lock().unwrap() = Some(Box::new(meanwhile));
    done
}

#[tokio::test]
async fn nobody_waits_while_a_segment_is_removed() {
    let settings = TopicSettings { retention_bytes: Some(ByteSize(1)), ..small_segments() };
    let setup = setup(&settings, Options::default()).await;
    fill(&setup.log, 10).await;
    let done = while_slow(&setup, |log| assert!(log.bounds(&of()).now_or_never().unwrap().is_ok()));
    setup.log.clean().await.unwrap();
    assert_eq!(done.load(Ordering::SeqCst), 1);
    assert!(setup.log.bounds(&of()).await.unwrap().start > 0);
}

#[tokio::test]
async fn nobody_waits_while_the_disk_is_asked_for_its_room() {
    let setup = setup(&TopicSettings::default(), Options::default()).await;
    fill(&setup.log, 1).await;
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    let done = while_slow(&setup, |log| drop(append_later(log, 2).now_or_never().unwrap().unwrap()));
    try_append(&setup.log, 1).await.unwrap();
    assert_eq!(done.load(Ordering::SeqCst), 1);
    setup.log.sync(&of()).await.unwrap();
    assert_eq!(read_all(&setup.log, &of(), 0, 1000).await, (filled(0..3), vec![]));
}
