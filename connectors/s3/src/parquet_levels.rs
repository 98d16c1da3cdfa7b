//! How many values a row of Parquet has, before a reader makes room for them: some bytes can claim billions.

use parquet::basic::Encoding;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};

use crate::parquet_room::Share;

/// The most values that a row may have in one column.
const MOST: u64 = 1 << 21;

/// Pages of a column, none of which brings a row more values than that.
pub(crate) struct Looked<R> {
    pages: R,
    /// How many bits a repetition level takes up; 0: each row has one value.
    bits: u32,
    /// How many values the row has so far that a page has begun and not ended.
    row: u64,
    /// Of the page that was looked at last: how many rows begin in it, and how many values the longest one has so far.
    rows: u64,
    longest: u64,
    /// Whether there are levels that tell what is null.
    is_optional: bool,
    share: Share,
}

impl<R: PageReader> Looked<R> {
    /// Looks at the pages of a column whose values repeat and may be missing on so many levels, and take up a share of
    /// memory.
    pub(crate) fn new(pages: R, repetition: i16, definition: i16, share: Share) -> Self {
        let bits = 16 - repetition.max(0).leading_zeros();
        Looked { pages, bits, row: 0, rows: 0, longest: 0, is_optional: definition > 0, share }
    }

    fn take(&mut self, page: &Page) -> Result<()> {
        (self.rows, self.longest) = (0, self.row);
        self.look(page)?;
        if self.bits == 0 {
            (self.rows, self.longest) = (page.num_values().into(), 1);
        }
        let levels = match page.encoding() {
            Encoding::DELTA_LENGTH_BYTE_ARRAY | Encoding::DELTA_BYTE_ARRAY => self.length_of_levels(page)?,
            // Nobody looks at the values.
            _ => 0,
        };
        self.share.take(page, self.rows, self.longest, levels)
    }

    /// How many bytes stand before the values of a page.
    fn length_of_levels(&self, page: &Page) -> Result<usize> {
        match page {
            Page::DictionaryPage { .. } => Ok(0),
            Page::DataPageV2 { def_levels_byte_len, rep_levels_byte_len, .. } => {
                Ok(*def_levels_byte_len as usize + *rep_levels_byte_len as usize)
            }
            Page::DataPage { buf, .. } => {
                let mut start = 0;
                for _ in 0..usize::from(self.bits > 0) + usize::from(self.is_optional) {
                    let length = buf.get(start..).and_then(|rest| rest.first_chunk::<4>()).ok_or_else(ends)?;
                    start += 4 + u32::from_le_bytes(*length) as usize;
                }
                Ok(start)
            }
        }
    }

    fn look(&mut self, page: &Page) -> Result<()> {
        if self.bits == 0 {
            return Ok(());
        }
        let (levels, count) = match page {
            Page::DataPage { buf, num_values, rep_level_encoding: Encoding::RLE, .. } => {
                let (length, rest) = buf.split_first_chunk::<4>().ok_or_else(ends)?;
                (rest.get(..u32::from_le_bytes(*length) as usize).ok_or_else(ends)?, *num_values)
            }
            Page::DataPageV2 { buf, num_values, rep_levels_byte_len, .. } => {
                (buf.get(..*rep_levels_byte_len as usize).ok_or_else(ends)?, *num_values)
            }
            Page::DictionaryPage { .. } => return Ok(()),
            Page::DataPage { .. } => {
                return Err(ParquetError::NYI("levels that are not run-length encoded".to_owned()));
            }
        };
        self.count_values(levels, u64::from(count))
    }

    /// Runs of equal levels, and packed ones, eight at a time.
    fn count_values(&mut self, mut levels: &[u8], mut left: u64) -> Result<()> {
        while left > 0 {
            let header = varint(&mut levels)?;
            if header & 1 == 0 {
                let value = take(&mut levels, self.bits.div_ceil(8) as usize)?;
                let values = (header >> 1).min(left);
                left -= values;
                match value.iter().any(|byte| *byte != 0) {
                    true => self.row = self.row.saturating_add(values),
                    false => {
                        self.row = 1;
                        self.rows = self.rows.saturating_add(values);
                    }
                }
                self.check()?;
                continue;
            }
            // Some writers leave out the end of the last group.
            let length = (header >> 1).saturating_mul(u64::from(self.bits)).min(levels.len() as u64);
            let packed = take(&mut levels, length as usize)?;
            let values = (length * 8 / u64::from(self.bits)).min(left);
            left -= values;
            for at in 0..values {
                let first = at * u64::from(self.bits);
                let bit = |bit: u64| packed[(bit / 8) as usize] >> (bit % 8) & 1;
                let is_new = (first..first + u64::from(self.bits)).all(|at| bit(at) == 0);
                self.row = if is_new { 1 } else { self.row + 1 };
                self.rows += u64::from(is_new);
                self.check()?;
            }
        }
        Ok(())
    }

    fn check(&mut self) -> Result<()> {
        self.longest = self.longest.max(self.row);
        match self.row > MOST {
            true => Err(ParquetError::General(format!("a row has more than {MOST} values in a column"))),
            false => Ok(()),
        }
    }
}

fn ends() -> ParquetError {
    ParquetError::EOF("the levels of a page end early".to_owned())
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or_else(ends)?;
    *bytes = rest;
    Ok(taken)
}

fn varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..35).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(ends())
}

impl<R: PageReader> Iterator for Looked<R> {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl<R: PageReader> PageReader for Looked<R> {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.pages.get_next_page()?;
        page.iter().try_for_each(|page| self.take(page))?;
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.pages.at_record_boundary()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parquet::basic::Type as Physical;
    use parquet::file::metadata::ColumnChunkMetaData;
    use parquet::schema::types::{SchemaDescriptor, Type};

    use super::*;
    use crate::parquet_room::Room;

    /// A column without pages.
    struct Nothing;

    impl Iterator for Nothing {
        type Item = Result<Page>;

        fn next(&mut self) -> Option<Self::Item> {
            None
        }
    }

    impl PageReader for Nothing {
        fn get_next_page(&mut self) -> Result<Option<Page>> {
            Ok(None)
        }

        fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
            Ok(None)
        }

        fn skip_next_page(&mut self) -> Result<()> {
            Ok(())
        }
    }

    fn looked(levels: i16) -> Looked<Nothing> {
        let column = Type::primitive_type_builder("a", Physical::INT32).build().unwrap();
        let schema = Type::group_type_builder("r").with_fields(vec![Arc::new(column)]).build().unwrap();
        let column = SchemaDescriptor::new(Arc::new(schema)).column(0);
        let column = ColumnChunkMetaData::builder(column).build().unwrap();
        Looked::new(Nothing, levels, 0, Share::new(&Room::new(u64::MAX), &column, 1))
    }

    #[test]
    fn rows_are_counted_across_runs_and_pages() {
        let mut looked = looked(1);
        // A run of three zeros, then eight packed ones: 0 1 1 0 1 1 1 1.
        looked.count_values(&[6, 0, 3, 0b1111_0110], 11).unwrap();
        assert_eq!((looked.row, looked.rows, looked.longest), (5, 5, 5));
        // The page after it goes on with the row.
        looked.count_values(&[20, 1], 10).unwrap();
        assert_eq!(looked.row, 15);
        let endless = [0xfe, 0xff, 0xff, 0xff, 0x0f, 1];
        assert!(looked.count_values(&endless, u64::from(u32::MAX)).unwrap_err().to_string().contains("more than"));
        for wrong in [&[][..], &[2], &[3], &[0, 1], &[1], &[0xff; 20]] {
            assert!(super::tests::looked(1).count_values(wrong, 5).is_err(), "{wrong:?}");
        }
        let levels = [0, 1, 2, 3, 4, 7, 8].map(|levels| super::tests::looked(levels).bits);
        assert_eq!(levels, [0, 1, 2, 2, 3, 3, 4]);
    }
}
