//! Topics: their names, their folders, and how they are made, changed and deleted.
//!
//! A topic is a folder of its name with `topic.json` and a folder for each partition. It is made under another name,
//! whole, and then renamed; it is renamed before it is deleted; so a crash leaves it there or not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aqueduct_api::disk::Kind;
use aqueduct_api::{ByteSize, Durability, Error, Result, Topic, TopicId, TopicPartition, TopicSettings};
use parking_lot::{Mutex, MutexGuard, RwLock};
use serde::{Deserialize, Serialize};

use crate::folder::{self, OWN_FILES, at, read_whole, remove_all};
use crate::mark::{CleanMark, PartitionMark};
use crate::partition::{Found, Partition, Stopped};
use crate::producers::Producers;
use crate::shared::Shared;
use crate::writer::Writer;

const TOPIC_FILE: &str = "topic.json";
/// Begins the names of folders that no topic can have.
const NOT_A_TOPIC: char = '~';
const LONGEST_NAME: usize = 249;
/// Internal topics are compacted, and only closed segments are.
const INTERNAL_SEGMENT: ByteSize = ByteSize::mib(4);
const LARGEST_SEGMENT: u64 = u32::MAX as u64;
const LARGEST_BATCH: u64 = i32::MAX as u64;

/// A topic with its partitions.
pub(crate) struct OpenTopic {
    pub(crate) topic: Topic,
    pub(crate) partitions: Vec<Arc<Partition>>,
}

/// All topics of a data folder.
pub(crate) struct Registry {
    pub(crate) shared: Arc<Shared>,
    topics: RwLock<BTreeMap<Arc<str>, Arc<OpenTopic>>>,
    /// One change at a time.
    changing: Mutex<Changes>,
}

/// Whether topics can be made, changed and deleted.
#[derive(PartialEq)]
enum Changes {
    Taken,
    /// The log was closed.
    Refused,
}

/// What `topic.json` says.
#[derive(Serialize, Deserialize)]
struct TopicFile {
    id: TopicId,
    partitions: i32,
    settings: TopicSettings,
}

/// The topics of the folder, after what was left half made or half deleted is removed; and what is not the log's. Blocks.
pub(crate) fn find(shared: &Shared, clean: bool) -> Result<(Vec<Topic>, Vec<PathBuf>)> {
    let root = &shared.folder.path;
    let mut entries = shared.disk().list(root).map_err(at(root))?;
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let (mut topics, mut foreign) = (Vec::new(), Vec::new());
    for entry in entries {
        let path = root.join(&entry.name);
        let name = entry.name.to_string_lossy();
        match entry.kind {
            Kind::Folder if name.starts_with(NOT_A_TOPIC) => remove_all(shared.disk(), &path).map_err(at(&path))?,
            Kind::Folder if name != "lost+found" => match load(shared, &name, &path, clean)? {
                Some(topic) => topics.push(topic),
                None => foreign.push(path),
            },
            _ if folder::is_unfinished(&name) => shared.disk().remove(&path).map_err(at(&path))?,
            _ if OWN_FILES.contains(&&*name) || name == "lost+found" => {}
            _ => foreign.push(path),
        }
    }
    for path in &foreign {
        tracing::warn!(path = %path.display(), "this is nothing of the log: it is left alone, and better moved elsewhere");
    }
    Ok((topics, foreign))
}

impl Registry {
    /// All topics with their partitions, as they were found, in that order.
    pub(crate) fn new(shared: Arc<Shared>, topics: Vec<Topic>, found: Vec<Found>) -> Self {
        let mut found = found.into_iter();
        let open = topics.into_iter().map(|topic| {
            let settings = Arc::new(topic.settings.clone());
            let partitions = topic.all_partitions().zip(&mut found).map(|(of, found)| {
                let folder = shared.folder.of(&of);
                Partition::new(&shared, of, folder, settings.clone(), found)
            });
            let partitions = partitions.collect();
            (topic.name.clone(), Arc::new(OpenTopic { topic, partitions }))
        });
        let topics = RwLock::new(open.collect());
        Registry { shared, topics, changing: Mutex::new(Changes::Taken) }
    }

    pub(crate) fn all(&self) -> Vec<Arc<OpenTopic>> {
        self.topics.read().values().cloned().collect()
    }

    pub(crate) fn partitions(&self) -> Vec<Arc<Partition>> {
        self.topics.read().values().flat_map(|topic| topic.partitions.clone()).collect()
    }

    pub(crate) fn topic(&self, name: &str) -> Result<Arc<OpenTopic>> {
        let topics = self.topics.read();
        topics.get(name).cloned().ok_or_else(|| Error::refused(format!("unknown topic `{name}`")))
    }

    pub(crate) fn topic_of(&self, id: TopicId) -> Option<Arc<OpenTopic>> {
        self.topics.read().values().find(|open| open.topic.id == id).cloned()
    }

    pub(crate) fn partition(&self, of: &TopicPartition) -> Result<Arc<Partition>> {
        let topic = self.topic(&of.topic)?;
        let found = usize::try_from(of.partition).ok().and_then(|partition| topic.partitions.get(partition));
        found.cloned().ok_or_else(|| {
            Error::refused(format!(
                "topic `{}` has no partition {}: its {} partitions are counted from 0",
                of.topic, of.partition, topic.topic.partitions
            ))
        })
    }

    /// The turn to change topics.
    fn change(&self) -> Result<MutexGuard<'_, Changes>> {
        let changing = self.changing.lock();
        match *changing {
            Changes::Taken => Ok(changing),
            Changes::Refused => Err(Error::retry("the log is closed")),
        }
    }

    /// Finishes all partitions for good, whichever of them fails; `false` where that was done before. Blocks.
    pub(crate) fn finish(&self) -> Result<bool> {
        if std::mem::replace(&mut *self.changing.lock(), Changes::Refused) == Changes::Refused {
            return Ok(false);
        }
        let finished = self.partitions().into_iter().map(|partition| partition.finish());
        finished.fold(Ok(()), Result::and).map(|()| true)
    }

    /// Makes a topic. Blocks.
    pub(crate) fn create(&self, name: &str, partitions: i32, settings: &TopicSettings) -> Result<Topic> {
        check_name(name)?;
        let settings = checked(name, partitions, settings)?;
        let _changing = self.change()?;
        if self.topics.read().contains_key(name) {
            return Err(Error::refused(format!("topic `{name}` exists already")));
        }
        let id = self.new_id();
        let topic = Topic { name: name.into(), id, partitions, settings };
        let path = self.shared.folder.path.join(name);
        let making = self.shared.folder.path.join(format!("{NOT_A_TOPIC}creating-{id}"));
        let made = if topic.is_internal() {
            self.shared.room.or_on_ballast(|| self.make_folder(&topic, &making, &path))
        } else {
            self.make_folder(&topic, &making, &path)
        };
        if let Err(cause) = made {
            // Its parts go once it has durably lost the topic's name, or after a power failure half a topic would have it; what
            // stays is removed at the next start.
            let disk = self.shared.disk();
            let _ = disk.sync_folder(&self.shared.folder.path).and_then(|()| remove_all(disk, &making));
            return Err(match self.shared.disk().metadata(&path, false) {
                Ok(_) => Error::refused(format!("topic `{name}`: {} is there and is not a topic", path.display())),
                Err(_) => at(&path)(cause).context(format!("topic `{name}` not made")),
            });
        }
        let open = OpenTopic { partitions: self.new_partitions(&topic, 0), topic: topic.clone() };
        self.topics.write().insert(topic.name.clone(), Arc::new(open));
        Ok(topic)
    }

    fn make_folder(&self, topic: &Topic, making: &Path, path: &Path) -> std::io::Result<()> {
        let disk = self.shared.disk();
        disk.create_folder(making)?;
        for partition in 0..topic.partitions {
            disk.create_folder(&making.join(partition.to_string()))?;
        }
        // Writing the file syncs the folder with its name and those of the partitions.
        folder::write_state(disk, &making.join(TOPIC_FILE), &topic_file(topic))?;
        disk.rename(making, path)?;
        folder::sync_parent(disk, path).inspect_err(|_| {
            let _ = disk.rename(path, making);
        })
    }

    fn new_partitions(&self, topic: &Topic, from: i32) -> Vec<Arc<Partition>> {
        let settings = Arc::new(topic.settings.clone());
        let new = |partition: i32| {
            let of = TopicPartition::new(topic.name.clone(), partition);
            let folder = self.shared.folder.of(&of);
            let producers = Producers::default();
            let found = Found { segments: BTreeMap::new(), writer: Writer::empty(), producers, floor: 0 };
            let partition = Partition::new(&self.shared, of, folder, settings.clone(), found);
            partition.spare();
            partition
        };
        (from..topic.partitions).map(new).collect()
    }

    fn new_id(&self) -> TopicId {
        let edge = &self.shared.edge;
        TopicId(u128::from(edge.random()) << 64 | u128::from(edge.random()))
    }

    /// Changes a topic's settings, or makes it grow. Blocks.
    pub(crate) fn alter(&self, name: &str, partitions: i32, settings: &TopicSettings) -> Result<Topic> {
        let settings = checked(name, partitions, settings)?;
        let _changing = self.change()?;
        let old = self.topic(name)?;
        if partitions < old.topic.partitions {
            return Err(Error::refused(format!(
                "topic `{name}` has {} partitions and can not shrink to {partitions}",
                old.topic.partitions
            )));
        }
        let topic = Topic { partitions, settings, ..old.topic.clone() };
        let disk = self.shared.disk();
        let path = self.shared.folder.path.join(name);
        for partition in old.topic.partitions..partitions {
            let path = path.join(partition.to_string());
            disk.create_folder(&path).map_err(at(&path))?;
        }
        // Nothing is written between the sync and the new settings: on an `fsync` topic all that readers see is safe.
        let mut writers: Vec<_> = old.partitions.iter().map(|partition| partition.writer.lock()).collect();
        if topic.settings.durability == Durability::Fsync {
            for (partition, writer) in old.partitions.iter().zip(&mut writers) {
                partition.sync_file(writer)?;
            }
        }
        let file = path.join(TOPIC_FILE);
        folder::write_state(disk, &file, &topic_file(&topic)).map_err(at(&file))?;
        let settings = Arc::new(topic.settings.clone());
        old.partitions.iter().for_each(|partition| partition.change_settings(settings.clone()));
        drop(writers);
        let mut all = old.partitions.clone();
        all.extend(self.new_partitions(&topic, old.topic.partitions));
        let open = OpenTopic { topic: topic.clone(), partitions: all };
        self.topics.write().insert(topic.name.clone(), Arc::new(open));
        Ok(topic)
    }

    /// Deletes a topic and its records. Blocks.
    pub(crate) fn delete(&self, name: &str, force: bool) -> Result<()> {
        let _changing = self.change()?;
        let open = self.topic(name)?;
        if name == crate::groups::TOPIC {
            return Err(Error::refused(format!("topic `{name}` is the log's own and stays")));
        }
        let holders: Vec<_> = open.partitions.iter().flat_map(|partition| partition.holds.holders()).collect();
        if let (Some(holder), false) = (holders.first(), force) {
            return Err(Error::refused(format!("topic `{name}` is held by {holder}: stop that first, or force it")));
        }
        let disk = self.shared.disk();
        let root = &self.shared.folder.path;
        let doomed = root.join(format!("{NOT_A_TOPIC}deleted-{}", open.topic.id));
        open.partitions.iter().for_each(|partition| partition.stop(Stopped::Deleted));
        // Nobody cleans or writes any more once these locks were free.
        open.partitions.iter().for_each(|partition| drop(partition.cleaning.lock()));
        open.partitions.iter().for_each(|partition| drop(partition.writer.lock()));
        let path = root.join(name);
        if let Err(cause) = disk.rename(&path, &doomed) {
            open.partitions.iter().for_each(|partition| partition.revive());
            return Err(at(&path)(cause));
        }
        self.topics.write().remove(name);
        for partition in &open.partitions {
            drop(partition.take_work());
            partition.segments.read().values().for_each(|segment| segment.retire(&self.shared));
        }
        disk.sync_folder(root).map_err(at(root))?;
        if let Err(cause) = remove_all(disk, &doomed) {
            tracing::warn!(path = %doomed.display(), %cause, "a deleted topic's files are removed at the next start");
        }
        self.shared.room.ask_again();
        Ok(())
    }

    /// What a clean stop notes, once all partitions are finished.
    pub(crate) fn mark(&self) -> CleanMark {
        let topics = self.topics.read();
        let mark_of = |topic: &Arc<OpenTopic>| topic.partitions.iter().map(|of| PartitionMark::of(of)).collect();
        CleanMark { topics: topics.iter().map(|(name, topic)| (name.clone(), mark_of(topic))).collect() }
    }
}

/// What a folder says of its topic; `None` when it is none.
fn load(shared: &Shared, name: &str, path: &Path, clean: bool) -> Result<Option<Topic>> {
    let file = path.join(TOPIC_FILE);
    let Some(content) = read_whole(shared.disk(), &file).map_err(at(&file))? else {
        let has_partition = shared.disk().metadata(&path.join("0"), true).is_ok();
        return match has_partition && check_name(name).is_ok() {
            true => Err(Error::fatal(format!(
                "{} is missing: put it back from a backup, or move the folder away to go on without topic `{name}`",
                file.display()
            ))),
            false => Ok(None),
        };
    };
    let TopicFile { id, partitions, settings } = serde_json::from_slice(&content).map_err(|cause| {
        Error::fatal(format!("{} can not be read: {cause}; put it back from a backup", file.display()))
    })?;
    check_name(name)?;
    if !clean {
        // Their names may have been made by a process that was killed before it synced them.
        shared.disk().sync_folder(path).map_err(at(path))?;
    }
    Ok(Some(Topic { name: name.into(), id, partitions, settings }))
}

fn topic_file(topic: &Topic) -> Vec<u8> {
    let file = TopicFile { id: topic.id, partitions: topic.partitions, settings: topic.settings.clone() };
    let mut content = serde_json::to_vec_pretty(&file).expect("a topic has only texts and numbers");
    content.push(b'\n');
    content
}

/// Whether a topic holds the runtime's own state.
pub(crate) fn is_internal(name: &str) -> bool {
    name.starts_with("__")
}

/// Refuses names that Kafka refuses; what is left can not lead out of the folder.
fn check_name(name: &str) -> Result<()> {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let fits = (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(is_legal);
    match fits && name != "." && name != ".." {
        true if OWN_FILES.contains(&name) => {
            Err(Error::refused(format!("no topic can be named `{name}`: the data folder has a file of that name")))
        }
        true => Ok(()),
        false => Err(Error::refused(format!(
            "{name:?} is not a topic's name: expected 1 to {LONGEST_NAME} of a-z, A-Z, 0-9, `.`, `_` and `-`, and not `.` or \
             `..`"
        ))),
    }
}

/// The settings that a topic gets, when they can be kept.
fn checked(name: &str, partitions: i32, settings: &TopicSettings) -> Result<TopicSettings> {
    let wrong = |what: String| Err(Error::refused(format!("topic `{name}`: {what}")));
    if partitions < 1 {
        return wrong(format!("{partitions} partitions, expected at least 1"));
    }
    if settings.segment_bytes.0 > LARGEST_SEGMENT || settings.segment_bytes.0 == 0 {
        return wrong(format!("`segment.bytes` is {}, expected 1 to {LARGEST_SEGMENT}", settings.segment_bytes));
    }
    if settings.max_batch.0 > LARGEST_BATCH {
        return wrong(format!("`max.message.bytes` is {}, expected at most {LARGEST_BATCH}", settings.max_batch));
    }
    let mut settings = settings.clone();
    if is_internal(name) {
        settings.durability = Durability::Fsync;
        settings.segment_bytes = settings.segment_bytes.min(INTERNAL_SEGMENT);
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_kafka_s_names_are_taken() {
        for name in ["a", "nginx.access-2_x", "__consumer_offsets", "...", &"x".repeat(249)] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", ".", "..", "a/b", "../x", "a b", "ä", "~creating", "a\0", &"x".repeat(250)] {
            assert!(check_name(name).unwrap_err().to_string().contains("is not a topic's name"), "{name}");
        }
    }

    #[test]
    fn internal_topics_are_always_synced() {
        let asked = TopicSettings { durability: Durability::Os, ..TopicSettings::default() };
        assert_eq!(checked("__x", 1, &asked).unwrap().durability, Durability::Fsync);
        assert_eq!(checked("x", 1, &asked).unwrap(), asked);
        assert!(checked("x", 0, &asked).unwrap_err().to_string().contains("0 partitions"));
    }
}
