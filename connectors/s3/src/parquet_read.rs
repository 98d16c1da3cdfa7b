//! Parquet files on their way in: a thread takes them apart, and asks for the parts that it needs.

use std::collections::VecDeque;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use aqueduct_api::Edge;
use async_trait::async_trait;
use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::record::reader::TreeBuilder;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::arriving::Stored;
use crate::cells::TakenColumns;
use crate::decode::Decoded;
use crate::parquet_cells;
use crate::parquet_ranges::{Group, Ranges};
use crate::reading::{Content, Failure, Next, Progress};
use crate::source_settings::S3SourceSettings;
use crate::thrift;

/// How much of the end of a file is asked for first: all of a small one.
const TAIL: u64 = 256 << 10;
/// The most bytes of a footer.
const LARGEST_FOOTER: u64 = 64 << 20;
/// How many rows are handed over at once, and of how many bytes.
const ROWS: usize = 1024;
const BYTES: usize = 1 << 20;

/// What the thread tells.
pub(crate) enum Told {
    /// It needs a part of the object.
    Want(Range<u64>, SyncSender<Bytes>),
    /// Some rows.
    Rows(Vec<Row>),
    /// Nothing more will come, for this reason.
    Lost(String),
    /// There are no more rows.
    End,
}

/// What a row became, and the progress behind it.
pub(crate) struct Row {
    record: Result<Decoded<'static>, String>,
    next: Progress,
}

/// An object that is a Parquet file.
pub(crate) struct ParquetContent {
    stored: Stored,
    told: Receiver<Told>,
    /// What the thread waits for.
    wanted: Option<(Range<u64>, SyncSender<Bytes>)>,
    rows: VecDeque<Row>,
    is_ended: bool,
}

impl ParquetContent {
    /// Begins to read an object, or goes on at a row of a row group. When it is dropped, the thread ends.
    pub(crate) fn open(
        edge: &Edge,
        stored: &Stored,
        progress: Progress,
        settings: &S3SourceSettings,
        longest: usize,
    ) -> ParquetContent {
        let (tell, told) = channel(2);
        let file = File { tell, columns: settings.columns.clone(), longest, page_memory: settings.page_memory.0 };
        let size = stored.object.size;
        edge.threads.blocking(Box::new(move || file.read(size, progress)));
        ParquetContent { stored: stored.clone(), told, wanted: None, rows: VecDeque::new(), is_ended: false }
    }
}

#[async_trait]
impl Content for ParquetContent {
    async fn fill(&mut self, _: &mut Progress) -> Result<(), Failure> {
        if self.wanted.is_none() {
            match self.told.recv().await {
                Some(Told::Want(range, answer)) => self.wanted = Some((range, answer)),
                Some(Told::Rows(rows)) => self.rows.extend(rows),
                Some(Told::End) => self.is_ended = true,
                Some(Told::Lost(reason)) => return Err(Failure::Lost(reason)),
                None => return Err(Failure::Lost("can not be read: its reader has ended".to_owned())),
            }
        }
        if let Some((range, _)) = &self.wanted {
            let bytes = self.stored.part(range).await?;
            if let Some((_, answer)) = self.wanted.take() {
                // Whoever asked has ended: what it told last is read next.
                let _ = answer.send(bytes);
            }
        }
        Ok(())
    }

    fn next<'a>(&'a mut self, progress: &mut Progress) -> Next<'a> {
        match self.rows.pop_front() {
            Some(Row { record, next }) => {
                let place = format!("{} of row group {}", next.row - 1, next.at);
                *progress = next;
                match record {
                    Ok(decoded) => Next::Record(decoded),
                    Err(reason) => Next::Unfit { told: vec![("row", place)], value: None, reason },
                }
            }
            None if self.is_ended => Next::End,
            None => Next::More,
        }
    }
}

/// A file that is taken apart.
struct File {
    tell: Sender<Told>,
    columns: TakenColumns,
    longest: usize,
    page_memory: u64,
}

impl File {
    fn read(self, size: u64, start: Progress) {
        let ranges = Arc::new(Ranges::new(self.tell.clone(), size));
        // A file of another's making can make the library panic: that is the file's fault and ends its reading alone.
        let read = catch_unwind(AssertUnwindSafe(|| self.rows(&ranges, start)));
        let last = match read {
            Ok(Ok(())) => Told::End,
            Ok(Err(why)) => Told::Lost(format!("is damaged or asks too much: {why}")),
            Err(_) => Told::Lost("is damaged: its reader panicked".to_owned()),
        };
        // Nobody may want to know any more.
        let _ = self.tell.blocking_send(last);
    }

    fn rows(&self, ranges: &Arc<Ranges>, start: Progress) -> Result<(), String> {
        let metadata = footer(ranges)?;
        let schema = metadata.file_metadata().schema_descr_ptr();
        let shape = parquet_cells::Shape::of(schema.root_schema());
        let groups = metadata.num_row_groups();
        for index in usize::try_from(start.at).unwrap_or(groups)..groups {
            let group = metadata.row_group(index);
            if group.num_rows() == 0 {
                continue;
            }
            if group.num_columns() == 0 {
                return Err(format!("row group {index} has no columns"));
            }
            let done = if index as u64 == start.at { start.row } else { 0 };
            let group = Group::open(ranges, group, self.page_memory).map_err(told)?;
            let readers = TreeBuilder::new().with_batch_size(group.batch());
            let rows = readers.as_iter(schema.clone(), &group).map_err(told)?;
            let (mut ready, mut bytes) = (Vec::new(), 0);
            for (row, found) in (0_u64..).zip(rows) {
                let found = found.map_err(told)?;
                if row < done {
                    continue;
                }
                let record = self.columns.record(shape.row(found), self.longest);
                bytes += record.as_ref().map_or(0, |record| record.value.as_ref().map_or(0, |value| value.len()));
                ready.push(Row { record, next: Progress { at: index as u64, row: row + 1, is_plain: false } });
                if ready.len() >= ROWS || bytes >= BYTES {
                    bytes = 0;
                    self.hand_over(std::mem::take(&mut ready))?;
                }
            }
            self.hand_over(ready)?;
        }
        Ok(())
    }

    fn hand_over(&self, rows: Vec<Row>) -> Result<(), String> {
        self.tell.blocking_send(Told::Rows(rows)).map_err(|_| "nobody reads it any more".to_owned())
    }
}

fn told(cause: ParquetError) -> String {
    match cause {
        ParquetError::General(text) | ParquetError::EOF(text) | ParquetError::NYI(text) => text,
        other => other.to_string(),
    }
}

/// What stands at the end of a file.
fn footer(ranges: &Ranges) -> Result<ParquetMetaData, String> {
    ranges.read_tail(TAIL).map_err(told)?;
    let size = ranges.size();
    let start = size.checked_sub(8).filter(|start| *start >= 4).ok_or("it is too short for a Parquet file")?;
    let end = ranges.get(start..size).map_err(told)?;
    let (length, magic) = end.split_first_chunk::<4>().ok_or("it is too short for a Parquet file")?;
    match magic {
        b"PAR1" => {}
        b"PARE" => return Err("its footer is encrypted".to_owned()),
        _ => return Err("it is no Parquet file: it does not end in PAR1".to_owned()),
    }
    let length = u64::from(u32::from_le_bytes(*length));
    let begin = start.checked_sub(length).filter(|begin| *begin >= 4 && length <= LARGEST_FOOTER);
    let begin = begin.ok_or_else(|| format!("its footer claims {length} bytes"))?;
    let bytes = ranges.get(begin..start).map_err(told)?;
    thrift::look_at_footer(&bytes).map_err(|why| format!("its footer: {why}"))?;
    let metadata = ParquetMetaDataReader::decode_metadata(&bytes).map_err(told)?;
    let columns = metadata.row_groups().iter().flat_map(|group| group.columns());
    match columns.filter_map(|column| column.file_path()).next() {
        Some(path) => Err(format!("a column of it is in another file, {path}")),
        None => Ok(metadata),
    }
}
