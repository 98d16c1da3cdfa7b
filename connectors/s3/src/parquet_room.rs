//! How much memory the pages of a row group of Parquet take up at once, and what they may become: a little file can claim
//! more than any machine has.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parquet::basic::{Encoding, Type};
use parquet::column::page::Page;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;

use crate::thrift::varint;

/// The room that all columns of a row group share.
#[derive(Debug)]
pub(crate) struct Room {
    most: u64,
    taken: AtomicU64,
}

impl Room {
    /// Room for so many bytes.
    pub(crate) fn new(most: u64) -> Arc<Room> {
        Arc::new(Room { most, taken: AtomicU64::new(0) })
    }

    /// What took up `from` bytes takes up `to`.
    pub(crate) fn change(&self, from: u64, to: u64) -> Result<()> {
        let taken = self.taken.fetch_add(to.wrapping_sub(from), Ordering::Relaxed).wrapping_add(to.wrapping_sub(from));
        match taken > self.most {
            true => Err(self.too_much("the pages of a row group", taken)),
            false => Ok(()),
        }
    }

    /// Whether something that is made for one row fits.
    fn fits(&self, what: &str, bytes: u64) -> Result<()> {
        if bytes > self.most { Err(self.too_much(what, bytes)) } else { Ok(()) }
    }

    fn too_much(&self, what: &str, bytes: u64) -> ParquetError {
        let most = self.most;
        ParquetError::General(format!("{what} may take {bytes} bytes of memory at once, and page-memory is {most}"))
    }
}

/// What one column takes up.
pub(crate) struct Share {
    room: Arc<Room>,
    /// What a value takes up beside its bytes when it is taken out of a dictionary.
    each: u64,
    kind: Type,
    /// How many rows are taken apart at once.
    batch: u64,
    dictionary: u64,
    /// The longest of its values.
    longest: u64,
    /// The pages whose values may still be in use: how many rows begin in each, and its bytes.
    pages: VecDeque<(u64, u64)>,
    taken: u64,
}

impl Share {
    /// Nothing so far.
    pub(crate) fn new(room: &Arc<Room>, column: &ColumnChunkMetaData, batch: usize) -> Share {
        let kind = column.column_descr().physical_type();
        let each = match kind {
            Type::BOOLEAN => 1,
            Type::INT32 | Type::FLOAT => 4,
            Type::INT64 | Type::DOUBLE => 8,
            Type::INT96 => 16,
            Type::BYTE_ARRAY | Type::FIXED_LEN_BYTE_ARRAY => 40,
        };
        let (room, batch) = (room.clone(), batch as u64);
        Share { room, each, kind, batch, dictionary: 0, longest: 0, pages: VecDeque::new(), taken: 0 }
    }

    /// Takes a page in, before a reader makes room for what it claims. So many rows begin in it, and the longest row up to
    /// its end has so many values. The values stand behind so many bytes of levels.
    pub(crate) fn take(&mut self, page: &Page, rows: u64, longest_row: u64, levels: usize) -> Result<()> {
        let (bytes, count) = (page.buffer().len() as u64, u64::from(page.num_values()));
        if let Page::DictionaryPage { buf, .. } = page {
            self.longest = match self.kind {
                Type::BYTE_ARRAY => longest(buf),
                Type::FIXED_LEN_BYTE_ARRAY => bytes / count.max(1),
                _ => 0,
            };
            let before = std::mem::replace(&mut self.dictionary, bytes + count.saturating_mul(self.each));
            return self.room.change(before, self.dictionary);
        }
        let values = page.buffer().get(levels..).unwrap_or_default();
        let mut claimed = 0;
        match page.encoding() {
            Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY if longest_row > 1 => {
                self.room.fits("the values of a row", longest_row.saturating_mul(self.longest))?;
            }
            Encoding::DELTA_LENGTH_BYTE_ARRAY => claimed = delta(values, count)?.0,
            Encoding::DELTA_BYTE_ARRAY => {
                let (prefixes, rest) = delta(values, count)?;
                claimed = prefixes + delta(rest, count)?.0;
                // Each may have the beginning of the one before it, however long that is.
                let at_once = longest_row.max(self.batch.min(count));
                self.room.fits("the values of some rows", at_once.saturating_mul(values.len() as u64))?;
            }
            _ => {}
        }
        self.pages.push_back((rows, bytes + 4 * claimed));
        // Those of a row that began earlier, and of a batch that did.
        while self.pages.iter().skip(1).map(|(rows, _)| rows).sum::<u64>() > self.batch {
            self.pages.pop_front();
        }
        let before = std::mem::replace(&mut self.taken, self.pages.iter().map(|(_, bytes)| bytes).sum());
        self.room.change(before, self.taken)
    }
}

/// The longest of the values of a dictionary, each behind its length.
fn longest(mut bytes: &[u8]) -> u64 {
    let mut longest = 0;
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length);
        longest = longest.max(length);
        bytes = rest.get(length as usize..).unwrap_or_default();
    }
    longest.into()
}

/// How many numbers a run of differences has, no more than `most`; and what stands behind them.
/// <https://parquet.apache.org/docs/file-format/data-pages/encodings/#delta-encoding-delta_binary_packed--5>
fn delta(mut bytes: &[u8], most: u64) -> Result<(u64, &[u8])> {
    if bytes.is_empty() {
        return Ok((0, bytes));
    }
    let wrong = |why: String| ParquetError::General(format!("the differences of a page: {why}"));
    let mut number = || varint(&mut bytes).map_err(wrong);
    let (block, parts, count, _) = (number()?, number()?, number()?, number()?);
    if count > most {
        return Err(wrong(format!("{count} of {most} values")));
    }
    if parts == 0 || parts > block || block > 1 << 20 {
        return Err(wrong(format!("{parts} parts of {block} values")));
    }
    // The first value stands before all blocks.
    let (mut left, each) = (count.saturating_sub(1), block / parts);
    while left > 0 {
        varint(&mut bytes).map_err(wrong)?;
        let (widths, rest) =
            bytes.split_at_checked(parts as usize).ok_or_else(|| wrong("they end early".to_owned()))?;
        bytes = rest;
        for width in widths {
            if left == 0 {
                break;
            }
            let length = (u64::from(*width) * each).div_ceil(8);
            // The last part may end with its last value.
            bytes = bytes.get(length as usize..).unwrap_or_default();
            left = left.saturating_sub(each);
        }
    }
    Ok((count, bytes))
}

#[cfg(test)]
mod tests {
    use parquet::schema::types::{SchemaDescriptor, Type as Column};

    use super::*;

    #[test]
    fn room_is_what_all_share() {
        let room = Room::new(100);
        assert!(room.change(0, 60).is_ok() && room.change(0, 40).is_ok());
        assert!(room.change(40, 41).unwrap_err().to_string().contains("page-memory is 100"));
        assert!(room.change(60, 10).is_ok());
    }

    #[test]
    fn pages_count_as_long_as_a_row_or_a_batch_may_need_them() {
        let column = Column::primitive_type_builder("a", Type::BYTE_ARRAY).build().unwrap();
        let schema = Column::group_type_builder("r").with_fields(vec![Arc::new(column)]).build().unwrap();
        let column = SchemaDescriptor::new(Arc::new(schema)).column(0);
        let column = ColumnChunkMetaData::builder(column).build().unwrap();
        let levels = Encoding::RLE;
        let page = |bytes: usize| Page::DataPage {
            buf: vec![0; bytes].into(),
            num_values: 1,
            encoding: Encoding::PLAIN,
            def_level_encoding: levels,
            rep_level_encoding: levels,
            statistics: None,
        };
        // How many rows begin in each page of 10 bytes, and how many bytes count in the end.
        for (batch, pages, bytes) in [
            (1, &[1, 1, 1][..], 20),
            (1, &[1, 0, 0], 30),
            (1, &[1, 0, 0, 1], 40),
            (1, &[1, 0, 1, 1], 20),
            (3, &[1, 1, 1, 1, 1], 40),
        ] {
            let room = Room::new(1000);
            let mut share = Share::new(&room, &column, batch);
            pages.iter().for_each(|rows| share.take(&page(10), *rows, 1, 0).unwrap());
            assert_eq!((share.taken, room.taken.load(Ordering::Relaxed)), (bytes, bytes), "{batch} {pages:?}");
        }
        let mut share = Share::new(&Room::new(35), &column, 1);
        assert!([1, 0, 0].iter().all(|rows| share.take(&page(10), *rows, 1, 0).is_ok()));
        assert!(share.take(&page(10), 0, 1, 0).is_err());
    }

    #[test]
    fn the_longest_value_is_found_also_where_the_end_is_missing() {
        let value = |length: u32| [&length.to_le_bytes()[..], &vec![7; length as usize]].concat();
        assert_eq!(longest(&[value(3), value(0), value(9), value(1)].concat()), 9);
        assert_eq!(longest(&[value(3), vec![200, 0, 0, 0, 1]].concat()), 200);
        assert_eq!(longest(&[]), 0);
    }

    #[test]
    fn differences_are_counted_and_passed_over() {
        // Blocks of 128 in 4 parts; 1 value, which is 7; nothing behind it. Then 34 values: a part of width 1 and one of 0.
        assert_eq!(delta(&[0x80, 1, 4, 1, 14, 99], 1).unwrap(), (1, &[99][..]));
        let more = [&[0x80, 1, 4, 34, 14, 2, 1, 0, 0, 0][..], &[0; 4], &[99]].concat();
        assert_eq!(delta(&more, 34).unwrap(), (34, &[99][..]));
        assert!(delta(&more, 33).unwrap_err().to_string().contains("34 of 33 values"));
        let endless = [0x80, 0x80, 0x80, 0x80, 8, 1, 5, 0, 0, 0];
        assert_eq!(delta(&[], 5).unwrap(), (0, &[][..]));
        for wrong in [&[0x80][..], &[0x80, 1, 0, 5, 0], &more[..7], &endless] {
            assert!(delta(wrong, 1000).is_err(), "{wrong:?}");
        }
    }
}
