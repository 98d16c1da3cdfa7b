//! Opening a partition: as it was left by a clean stop, or batch by batch after any other end.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aqueduct_api::disk::{File, Open};
use aqueduct_api::fault::{self, Mutant};
use aqueduct_api::{Error, Result, TopicPartition};
use aqueduct_record::Offset;
use futures::{StreamExt as _, stream};
use serde::Serialize;

use crate::deletion::start_of;
use crate::folder::{at, remove_if_there, sync_parent};
use crate::index::Index;
use crate::mark::{CleanMark, PartitionMark};
use crate::names::{self, ABORTED, INDEX, LOG, Named, TIME_INDEX};
use crate::partition::Found;
use crate::producers::Producers;
use crate::rebuild::{Rebuild, replay};
use crate::segment::{Extent, Segment};
use crate::shared::Shared;
use crate::snapshots::Snapshots;
use crate::walk::Window;
use crate::writer::{Active, Writer};

/// How many partitions are opened at once: a disk syncs that many files together about as fast as it ever does.
const AT_ONCE: usize = 16;

/// What was found when a data folder was opened.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Recovery {
    /// Whether the log was closed before, or is new; else it was read again from its recovery points on.
    pub clean: bool,
    /// How long opening took, in ms.
    pub millis: u64,
    /// Torn tails that were cut: none of it was acknowledged on a topic with `durability: fsync`.
    pub cut: Vec<Cut>,
    /// Segments whose files are gone, with their offsets.
    pub missing: Vec<Missing>,
    /// Files and folders that are not the log's; they are left alone.
    pub foreign: Vec<PathBuf>,
}

/// A torn tail that was cut off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cut {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The first offset that was cut: the next append gets it.
    pub from: Offset,
    /// How many bytes were cut.
    pub bytes: u64,
}

/// A segment whose file is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// The file that was expected.
    pub file: PathBuf,
    /// The first offset that is lost.
    pub from: Offset,
    /// The offset after the last that is lost.
    pub to: Offset,
}

/// Opens partitions, many at once, since a recovered one is read and synced; what was found is in their order. All that was
/// begun has ended when it returns.
pub(crate) async fn open_partitions(
    shared: &Arc<Shared>,
    partitions: Vec<TopicPartition>,
    mark: Option<&Arc<CleanMark>>,
    report: &mut Recovery,
) -> Result<Vec<Found>> {
    let open = |of: TopicPartition| {
        let (shared, mark) = (shared.clone(), mark.cloned());
        let edge = shared.edge.clone();
        async move {
            let open = move || {
                let mark = mark.as_ref().and_then(|mark| mark.topics.get(&of.topic)?.get(of.partition as usize));
                let (folder, mut report) = (shared.folder.of(&of), Recovery::default());
                let found = Opening { shared: &shared, of: &of, folder: &folder, report: &mut report }.open(mark)?;
                Ok((found, report))
            };
            edge.blocking(open).await.flatten()
        }
    };
    let opened: Vec<Result<_>> = stream::iter(partitions).map(open).buffered(AT_ONCE).collect().await;
    let mut all = Vec::with_capacity(opened.len());
    for opened in opened {
        let (found, of_one) = opened?;
        report.cut.extend(of_one.cut);
        report.missing.extend(of_one.missing);
        report.foreign.extend(of_one.foreign);
        all.push(found);
    }
    Ok(all)
}

/// Opens one partition.
struct Opening<'a> {
    shared: &'a Shared,
    of: &'a TopicPartition,
    folder: &'a Path,
    report: &'a mut Recovery,
}

impl Opening<'_> {
    /// Opens the partition; `mark` is what a clean stop noted of it.
    fn open(mut self, mark: Option<&PartitionMark>) -> Result<Found> {
        let entries = self.shared.disk().list(self.folder).map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound => Error::fatal(format!(
                "folder {} is missing: put it back from a backup, or make an empty folder of that name to go on without \
                 the records of {}",
                self.folder.display(),
                self.of
            )),
            _ => at(self.folder)(cause),
        })?;
        let mut names: Vec<(Named, PathBuf)> = Vec::with_capacity(entries.len());
        for entry in entries {
            let named = entry.name.to_str().map_or(Named::Foreign, Named::parse);
            names.push((named, self.folder.join(entry.name)));
        }
        names.sort();
        let logs: Vec<Offset> = names.iter().filter_map(|(named, _)| named.log()).collect();
        let is_as_marked = |(mark, _): &(&PartitionMark, Producers)| {
            let is_marked = |base: &Offset| mark.segments.binary_search_by_key(base, |(base, _)| *base).is_ok();
            logs.iter().all(is_marked) && !names.iter().any(|(named, _)| named.needs_recovery())
        };
        self.note_foreign(&names);
        let snapshots = |last: Option<Offset>| {
            let bases = names.iter().filter_map(|(named, _)| named.producers());
            bases.filter(|base| last.is_some_and(|last| *base <= last)).collect::<Vec<_>>()
        };
        let mark = mark.and_then(|mark| Some((mark, mark.producers()?)));
        let mut found = match mark.filter(is_as_marked) {
            Some((mark, producers)) => self.reopen(mark, &logs, (producers, snapshots(logs.last().copied())))?,
            None => {
                let bases = self.tidy(&names)?;
                let snapshots = snapshots(bases.last().copied());
                self.recover(&bases, snapshots)?
            }
        };
        if !fault::mutated(Mutant::StartForgotten) {
            let starts: Vec<_> = names.iter().filter_map(|(named, _)| named.start()).collect();
            found.floor = start_of(self.shared.disk(), self.folder, &starts, found.writer.written)?;
        }
        if fault::mutated(Mutant::ProducersForgotten) {
            found.producers = Producers::default();
        }
        Ok(found)
    }

    fn note_foreign(&mut self, names: &[(Named, PathBuf)]) {
        for (_, path) in names.iter().filter(|(named, _)| *named == Named::Foreign) {
            tracing::warn!(path = %path.display(), "this is no file of the log: it is left alone");
            self.report.foreign.push(path.clone());
        }
    }

    /// The partition as a clean stop left it: nothing is read before somebody asks.
    fn reopen(
        &mut self,
        mark: &PartitionMark,
        logs: &[Offset],
        (producers, snapshots): (Producers, Vec<Offset>),
    ) -> Result<Found> {
        let bounds = mark.segments.iter().skip(1).map(|(base, _)| *base).chain([mark.end]);
        let mut segments = BTreeMap::new();
        let mut active = None;
        for ((base, size), bound) in mark.segments.iter().zip(bounds) {
            let segment = if logs.contains(base) {
                let (extent, is_exact) = (Extent { size: *size, bound }, !mark.unread.contains(base));
                let segment = Arc::new(Segment::closed(self.shared, self.folder, *base, extent, is_exact));
                let is_last = mark.segments.last().is_some_and(|(last, _)| last == base);
                if is_last {
                    self.cut_void(*base, *size)?;
                }
                active = is_last.then(|| Active {
                    segment: segment.clone(),
                    size: *size,
                    synced_size: *size,
                    born: mark.born,
                });
                segment
            } else {
                self.miss(*base, bound)
            };
            segments.insert(*base, segment);
        }
        let mut writer = Writer::at_end(active, mark.end);
        let are_due = !producers.is_empty() || !snapshots.is_empty();
        writer.snapshots = Snapshots { bases: snapshots, are_due };
        Ok(Found { segments, writer, producers, floor: 0 })
    }

    /// Cuts what a failed sync made void and could not be cut before the stop: a recovery after the next crash would take
    /// it for data, though others have gone on as if it were not there.
    fn cut_void(&self, base: Offset, size: u64) -> Result<()> {
        let (path, disk) = (names::path(self.folder, base, LOG), &self.shared.edge.disk);
        if disk.metadata(&path, true).map_err(at(&path))?.length <= size {
            return Ok(());
        }
        let file = disk.open(&path, Open::Write).map_err(at(&path))?;
        file.truncate(size).and_then(|()| file.sync()).map_err(at(&path))
    }

    fn miss(&mut self, base: Offset, bound: Offset) -> Arc<Segment> {
        let file = names::path(self.folder, base, LOG);
        tracing::error!(
            file = %file.display(),
            from = base,
            to = bound,
            "segment file is missing: its offsets are lost; stop, put it back from a backup and start again to have them"
        );
        self.report.missing.push(Missing { file, from: base, to: bound });
        Arc::new(Segment::missing(self.shared, self.folder, base, bound))
    }

    /// The partition after a crash: closed segments were synced when they were closed; of the last one, batches count up
    /// to the first that is not whole.
    fn recover(&mut self, bases: &[Offset], mut snapshots: Vec<Offset>) -> Result<Found> {
        let Some((last, closed)) = bases.split_last() else {
            let (segments, producers) = (BTreeMap::new(), Producers::default());
            return Ok(Found { segments, writer: Writer::empty(), producers, floor: 0 });
        };
        let mut segments = BTreeMap::new();
        for (base, bound) in closed.iter().zip(&bases[1..]) {
            let path = names::path(self.folder, *base, LOG);
            let size = self.shared.disk().metadata(&path, true).map_err(at(&path))?.length;
            let extent = Extent { size, bound: *bound };
            segments.insert(*base, Arc::new(Segment::closed(self.shared, self.folder, *base, extent, false)));
        }
        let rebuild = Rebuild { shared: self.shared, folder: self.folder, closed: &segments, base: *last };
        let mut producers = rebuild.known_before(&mut snapshots)?;
        let (mut are_due, was_known) = (!producers.is_empty(), !snapshots.is_empty());
        let active = self.recover_last(*last, &mut producers)?;
        if !producers.is_empty() && !was_known && !closed.is_empty() {
            // The file that should be there was removed.
            producers = rebuild.known_anew(&mut snapshots)?;
            are_due = !producers.is_empty();
            let aborted = replay(self.shared, &active.segment, Offset::MIN, &mut producers)?;
            active.segment.change_index(self.shared, |index| index.set_aborted(Some(aborted)))?;
        }
        let end = active.segment.extent().bound;
        segments.insert(*last, active.segment.clone());
        let mut writer = Writer::at_end(Some(active), end);
        writer.snapshots = Snapshots { bases: snapshots, are_due };
        Ok(Found { segments, writer, producers, floor: 0 })
    }

    /// Finishes or removes what was under way, and returns the segments' base offsets.
    fn tidy(&mut self, names: &[(Named, PathBuf)]) -> Result<Vec<Offset>> {
        let disk = self.shared.disk();
        let mut bases: Vec<Offset> = names.iter().filter_map(|(named, _)| named.log()).collect();
        for (named, path) in names {
            match named {
                Named::Unfinished => remove_if_there(disk, path).map_err(at(path))?,
                Named::Swap(base, bound) => {
                    swap_in(self.shared, self.folder, *base, *bound, &bases).map_err(at(path))?;
                    bases.retain(|other| other < base || other >= bound);
                    bases.push(*base);
                }
                Named::Suspect(base) if bases.contains(base) => remove_if_there(disk, path).map_err(at(path))?,
                Named::Suspect(base) => {
                    let file = disk.open(path, Open::Read).map_err(at(path))?;
                    let size = file.metadata().map_err(at(path))?.length;
                    self.copy(&*file, size, *base).map_err(at(path))?;
                    remove_if_there(disk, path).map_err(at(path))?;
                    bases.push(*base);
                }
                Named::Index(base) if !bases.contains(base) => remove_if_there(disk, path).map_err(at(path))?,
                Named::Log(_) | Named::Index(_) | Named::Producers(_) | Named::Start(_) | Named::Foreign => {}
            }
        }
        bases.sort_unstable();
        for (named, path) in names {
            if named.producers().is_some_and(|base| bases.last().is_none_or(|last| base > *last)) {
                remove_if_there(disk, path).map_err(at(path))?;
            }
        }
        disk.sync_folder(self.folder).map_err(at(self.folder))?;
        Ok(bases)
    }

    /// Reads the last segment batch by batch, cuts what is torn, and syncs what is kept before it is served.
    fn recover_last(&mut self, base: Offset, producers: &mut Producers) -> Result<Active> {
        let path = names::path(self.folder, base, LOG);
        let file = self.shared.disk().open(&path, Open::Write).map_err(at(&path))?;
        let found = file.metadata().map_err(at(&path))?;
        let now = self.shared.edge.now();
        let (mut index, mut size, mut end, mut epoch) = (Index::new(), 0, base, i32::MIN);
        let mut window = Window::over_all(file.clone(), found.length);
        while let Some(header) = window.checked_header(size).map_err(at(&path))? {
            // A batch of an older epoch than the one before it is what a failed write left behind, and void.
            let is_next = header.base_offset >= end
                && header.base_offset - base <= i64::from(u32::MAX)
                && header.leader_epoch >= epoch;
            if !is_next {
                break;
            }
            index.add(base, &header, header.base_offset, size);
            let marker = window.marker(size, &header).map_err(at(&path))?;
            let aborted = producers.replay(&header, marker.as_ref(), now);
            aborted
                .into_iter()
                .filter(|_| !fault::mutated(Mutant::AbortedForgotten))
                .for_each(|it| index.add_aborted(it));
            size += header.size() as u64;
            (end, epoch) = (header.next_offset(), header.leader_epoch);
        }
        if size < found.length {
            self.cut(end, found.length - size);
            file.truncate(size).map_err(at(&path))?;
        }
        // A sync that failed before the kill has marked bytes clean that are on the disk or not: a sync now would not mind
        // them, so they are written again.
        write_all(&*file, &*file, size).map_err(at(&path))?;
        if let Err(cause) = file.sync() {
            // The bytes that could not be synced may be lost though they can be read: only a copy makes them safe.
            tracing::warn!(segment = %path.display(), %cause, "sync failed: the segment is copied");
            self.copy(&*file, size, base).map_err(|cause| {
                let _ = self.shared.disk().rename(&path, &path.with_extension("suspect"));
                at(&path)(cause)
            })?;
        }
        let segment = Segment::live(self.shared, self.folder, base, Extent { size, bound: end }, index);
        let born = found.modified.min(self.shared.edge.now());
        Ok(Active { segment: Arc::new(segment), size, synced_size: size, born })
    }

    fn cut(&mut self, from: Offset, bytes: u64) {
        tracing::warn!(
            topic = %self.of.topic,
            partition = self.of.partition,
            from,
            bytes,
            "cut a tail that was not written whole"
        );
        let (topic, partition) = (self.of.topic.clone(), self.of.partition);
        self.report.cut.push(Cut { topic, partition, from, bytes });
    }

    /// Makes a durable segment file of the first `size` bytes of another file.
    fn copy(&self, from: &dyn File, size: u64, base: Offset) -> io::Result<()> {
        let disk = self.shared.disk();
        let fresh = names::path(self.folder, base, "fresh");
        let path = names::path(self.folder, base, LOG);
        remove_if_there(disk, &fresh)?;
        let to = disk.open(&fresh, Open::New)?;
        write_all(from, &*to, size)?;
        to.sync()?;
        disk.rename(&fresh, &path)?;
        sync_parent(disk, &path)
    }
}

/// Writes the first `size` bytes of a file to another one, or to itself.
fn write_all(from: &dyn File, to: &dyn File, size: u64) -> io::Result<()> {
    const PIECE: usize = 1 << 20;
    let mut position = 0;
    let mut piece = Vec::new();
    while position < size {
        piece.clear();
        let length = (size - position).min(PIECE as u64) as usize;
        if from.read_at(&mut piece, length, position)? == 0 {
            break;
        }
        to.write_at(&[IoSlice::new(&piece)], position)?;
        position += piece.len() as u64;
    }
    Ok(())
}

/// Puts what compaction made in the place of the segments that it was made of. May be done again after any failure: the old
/// files are gone for good before the new one takes its name.
pub(crate) fn swap_in(shared: &Shared, folder: &Path, base: Offset, bound: Offset, bases: &[Offset]) -> io::Result<()> {
    let disk = shared.disk();
    for other in bases.iter().filter(|other| **other >= base && **other < bound) {
        for extension in [LOG, INDEX, TIME_INDEX, ABORTED] {
            if (*other, extension) != (base, LOG) {
                remove_if_there(disk, &names::path(folder, *other, extension))?;
            }
        }
    }
    disk.sync_folder(folder)?;
    disk.rename(&swap_path(folder, base, bound), &names::path(folder, base, LOG))?;
    disk.sync_folder(folder)
}

/// Where compaction's result is while it takes the place of the segments from `base` to `bound`.
pub(crate) fn swap_path(folder: &Path, base: Offset, bound: Offset) -> PathBuf {
    folder.join(format!("{base:020}-{bound:020}.swap"))
}
