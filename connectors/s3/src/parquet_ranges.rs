//! The parts of a Parquet file that its reader asks for, none of them larger than a page or a read-ahead.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf as _, Bytes};
use flate2::read::MultiGzDecoder;
use parquet::basic::{Compression, Encoding};
use parquet::bloom_filter::Sbbf;
use parquet::column::page::PageReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length, RowGroupReader};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::record::reader::RowIter;
use parquet::schema::types::Type;
use tokio::sync::mpsc::Sender;

use crate::parquet_levels::Looked;
use crate::parquet_read::Told;
use crate::parquet_room::{Room, Share};
use crate::thrift;

/// The most bytes of a page, stored and inflated.
const LARGEST_PAGE: u64 = 64 << 20;
/// How much is read ahead of all columns together.
const AHEAD: usize = 16 << 20;
/// How much of one column at least, and at most.
const LEAST_AHEAD: usize = 64 << 10;
const MOST_AHEAD: usize = 4 << 20;
/// A row group of so many bytes comes at once.
const SMALL: u64 = 8 << 20;
/// The most bytes of a page's header.
const HEADER: u64 = 1 << 20;

/// Asks for parts of the object; the answers come from the other side of a channel.
pub(crate) struct Ranges {
    tell: Sender<Told>,
    size: u64,
    /// The end of the file, which most readers look at first.
    tail: Mutex<Window>,
}

/// A part that is here.
#[derive(Clone, Default)]
struct Window {
    start: u64,
    bytes: Bytes,
    /// How much room was asked for it.
    charged: u64,
}

impl Window {
    fn get(&self, range: &Range<u64>) -> Option<Bytes> {
        let start = usize::try_from(range.start.checked_sub(self.start)?).ok()?;
        let end = usize::try_from(range.end.checked_sub(self.start)?).ok()?;
        (start <= end && end <= self.bytes.len()).then(|| self.bytes.slice(start..end))
    }
}

impl Ranges {
    /// Parts of an object of `size` bytes, for which `tell` asks.
    pub(crate) fn new(tell: Sender<Told>, size: u64) -> Ranges {
        Ranges { tell, size, tail: Mutex::default() }
    }

    /// How many bytes the object has.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Keeps the last bytes.
    pub(crate) fn read_tail(&self, length: u64) -> Result<()> {
        let start = self.size.saturating_sub(length);
        let bytes = self.get(start..self.size)?;
        *self.tail.lock().unwrap_or_else(PoisonError::into_inner) = Window { start, bytes, charged: 0 };
        Ok(())
    }

    /// A part of the object.
    pub(crate) fn get(&self, range: Range<u64>) -> Result<Bytes> {
        if range.end > self.size || range.start > range.end {
            return Err(ParquetError::EOF(format!("there is no byte {} in {} bytes", range.end, self.size)));
        }
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        if let Some(bytes) = self.tail.lock().unwrap_or_else(PoisonError::into_inner).get(&range) {
            return Ok(bytes);
        }
        let (answer, answered): (SyncSender<Bytes>, _) = sync_channel(1);
        let asked = self.tell.blocking_send(Told::Want(range, answer));
        // Whoever has dropped the object does not hear this either.
        let gone = || ParquetError::General("nobody reads the object any more".to_owned());
        asked.map_err(|_| gone())?;
        answered.recv().map_err(|_| gone())
    }
}

/// A row group.
pub(crate) struct Group {
    ranges: Arc<Ranges>,
    metadata: RowGroupMetaData,
    ahead: usize,
    /// All of it, where it is small.
    whole: Window,
    room: Arc<Room>,
}

impl Group {
    /// A row group whose columns are read as they are needed, and whose pages take so many bytes of memory at most.
    pub(crate) fn open(ranges: &Arc<Ranges>, metadata: &RowGroupMetaData, most: u64) -> Result<Group> {
        let columns = metadata.columns();
        let parts = columns.iter().map(|column| {
            let (start, length) = column.byte_range();
            (start, start.saturating_add(length))
        });
        let start = parts.clone().map(|(start, _)| start).min().unwrap_or(0);
        let end = parts.map(|(_, end)| end).max().unwrap_or(0);
        let is_small = end.saturating_sub(start) <= SMALL;
        let bytes = if is_small { ranges.get(start..end)? } else { Bytes::new() };
        let ahead = (AHEAD / columns.len().max(1)).clamp(LEAST_AHEAD, MOST_AHEAD);
        Ok(Group {
            ranges: ranges.clone(),
            metadata: metadata.clone(),
            ahead,
            whole: Window { start, bytes, charged: 0 },
            room: Room::new(most),
        })
    }

    /// How many rows are taken apart at once, so that few values and bytes wait however many a row has.
    pub(crate) fn batch(&self) -> usize {
        let columns = || self.metadata.columns().iter();
        let rows = self.metadata.num_rows().max(1);
        let most = |of: fn(&ColumnChunkMetaData) -> i64| columns().map(of).max().unwrap_or(0).max(0) / rows;
        let values = 16_384 / most(ColumnChunkMetaData::num_values).clamp(1, 16_384);
        let bytes = (4 << 20) / most(ColumnChunkMetaData::uncompressed_size).clamp(1, 4 << 20);
        // Of these each may be made of all those before it.
        let is_delta = columns().any(|column| column.encodings_mask().is_set(Encoding::DELTA_BYTE_ARRAY));
        values.min(bytes).clamp(1, if is_delta { 16 } else { 1024 }) as usize
    }
}

impl RowGroupReader for Group {
    fn metadata(&self) -> &RowGroupMetaData {
        &self.metadata
    }

    fn num_columns(&self) -> usize {
        self.metadata.num_columns()
    }

    fn get_column_page_reader(&self, index: usize) -> Result<Box<dyn PageReader>> {
        let column = self.metadata.column(index);
        let (start, length) = column.byte_range();
        let chunk = Chunk {
            ranges: self.ranges.clone(),
            end: start.saturating_add(length).min(self.ranges.size),
            ahead: self.ahead,
            window: Arc::new(Mutex::new(self.whole.clone())),
            is_gzip: matches!(column.compression(), Compression::GZIP(_)),
            room: self.room.clone(),
        };
        let rows = usize::try_from(self.metadata.num_rows()).unwrap_or(0);
        let pages = SerializedPageReader::new(Arc::new(chunk), column, rows, None)?;
        let share = Share::new(&self.room, column, self.batch());
        let levels = column.column_descr();
        Ok(Box::new(Looked::new(pages, levels.max_rep_level(), levels.max_def_level(), share)))
    }

    fn get_column_bloom_filter(&self, _: usize) -> Option<&Sbbf> {
        None
    }

    fn get_row_iter(&self, _: Option<Type>) -> Result<RowIter<'_>> {
        Err(ParquetError::NYI("rows come from the tree of readers".to_owned()))
    }
}

/// The pages of one column of a row group.
#[derive(Clone)]
struct Chunk {
    ranges: Arc<Ranges>,
    end: u64,
    ahead: usize,
    window: Arc<Mutex<Window>>,
    is_gzip: bool,
    room: Arc<Room>,
}

impl Chunk {
    /// The bytes from `start` on, at least `least` of them where there are as many.
    fn at(&self, start: u64, least: u64) -> Result<Bytes> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let end = (window.start + window.bytes.len() as u64).min(self.end);
        let least = start.saturating_add(least).min(self.end).max(start);
        if let Some(bytes) = window.get(&(start..least)) {
            return Ok(window.get(&(start..end)).unwrap_or(bytes));
        }
        let end = start.saturating_add(self.ahead as u64).min(self.end).max(least);
        self.room.change(window.charged, end - start)?;
        let bytes = self.ranges.get(start..end)?;
        *window = Window { start, bytes: bytes.clone(), charged: end - start };
        Ok(bytes)
    }
}

impl Length for Chunk {
    fn len(&self) -> u64 {
        self.ranges.size
    }
}

impl ChunkReader for Chunk {
    type T = Header;

    /// A page's header.
    fn get_read(&self, start: u64) -> Result<Header> {
        let mut bytes = self.at(start, 1)?;
        let sizes = thrift::page_sizes(&bytes).or_else(|_| {
            bytes = self.at(start, HEADER)?;
            thrift::page_sizes(&bytes).map_err(|why| ParquetError::General(format!("the header of a page: {why}")))
        });
        let (inflated, stored) = sizes?;
        if inflated.max(stored) > LARGEST_PAGE {
            return Err(ParquetError::General(format!("a page claims {} bytes", inflated.max(stored))));
        }
        Ok(Header(bytes))
    }

    /// A page.
    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        if length as u64 > LARGEST_PAGE {
            return Err(ParquetError::General(format!("a page claims {length} bytes")));
        }
        let bytes = self.at(start, length as u64)?;
        if bytes.len() < length {
            return Err(ParquetError::EOF("a page ends early".to_owned()));
        }
        let page = bytes.slice(..length);
        // The reader inflates all that there is.
        if self.is_gzip && length as u64 * MOST_OF_GZIP > LARGEST_PAGE {
            let inflated = io::copy(&mut MultiGzDecoder::new(&page[..]).take(LARGEST_PAGE + 1), &mut io::sink())?;
            if inflated > LARGEST_PAGE {
                return Err(ParquetError::General(format!("a page has more than {LARGEST_PAGE} bytes")));
            }
        }
        Ok(page)
    }
}

/// How many bytes gzip makes of one, at most.
const MOST_OF_GZIP: u64 = 1032;

/// The bytes of a page's header and some more.
pub(crate) struct Header(Bytes);

impl Read for Header {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = out.len().min(self.0.len());
        self.0.copy_to_slice(&mut out[..length]);
        Ok(length)
    }
}
