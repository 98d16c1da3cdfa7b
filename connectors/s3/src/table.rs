//! An object with columns under construction: rows in, bytes of the object out.

use aqueduct_api::TopicPartition;

use crate::columns::Column;
use crate::row::{RecordColumns, Row};
use crate::rows::Rows;
use crate::schema::Field;

/// How often it is looked whether there are enough rows, in rows.
const EVERY: usize = 16;

/// How columns are written. The bytes depend on the columns alone.
pub(crate) trait Sheet: Send {
    /// How many bytes of columns are best written at once.
    fn room(&self) -> usize;

    /// Appends some more rows.
    fn write(&mut self, columns: &[(&Field, &Column)], rows: usize) -> Result<(), String>;

    /// What is written so far and not taken yet: the caller takes it.
    fn output(&mut self) -> &mut Vec<u8>;

    /// Writes the end of the object.
    fn finish(&mut self) -> Result<(), String>;
}

/// An object with columns.
pub(crate) struct Table {
    rows: Rows,
    sheet: Box<dyn Sheet>,
    /// The beginning of a row whose end has yet to come.
    tail: Vec<u8>,
}

impl Table {
    /// An object of `partition` without rows; `fields` are those of values.
    pub(crate) fn new(
        partition: &TopicPartition,
        fields: &[Field],
        extra: &RecordColumns,
        sheet: impl FnOnce(&[Field]) -> Result<Box<dyn Sheet>, String>,
    ) -> Result<Self, String> {
        let extra = if fields.is_empty() { extra.at_least_one() } else { extra.clone() };
        let rows = Rows::new(fields, &extra, partition);
        let sheet = sheet(&[fields, &extra.fields()].concat())?;
        Ok(Table { rows, sheet, tail: Vec::new() })
    }

    /// Rows to be filled elsewhere and brought in by [`Table::extend`].
    pub(crate) fn empty_rows(&self) -> Rows {
        self.rows.another()
    }

    /// Takes in rows that were made elsewhere, and are of the columns of [`Table::empty_rows`].
    pub(crate) fn extend(&mut self, more: &Rows) -> Result<(), String> {
        let mut taken = 0;
        while taken < more.len() {
            let left = more.len() - taken;
            // It is looked at the same rows whether there are enough, however they come: the bytes depend on rows alone.
            let is_little = self.rows.size() + more.size() < self.sheet.room();
            let some = if is_little { left } else { left.min(EVERY - self.rows.len() % EVERY) };
            self.rows.extend(more, taken..taken + some)?;
            taken += some;
            self.flush_full()?;
        }
        Ok(())
    }

    /// Takes in rows as [`Row::write`] writes them, the last one perhaps not whole.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut kept = std::mem::take(&mut self.tail);
        kept.extend_from_slice(bytes);
        let mut rest = &kept[..];
        while let Some((row, after)) = Row::read(rest) {
            self.add(&row)?;
            rest = after;
        }
        let used = kept.len() - rest.len();
        kept.drain(..used);
        self.tail = kept;
        Ok(())
    }

    fn add(&mut self, row: &Row<'_>) -> Result<(), String> {
        self.rows.add(row).map_err(|why| format!("row of offset {}: {why}", row.offset))?;
        self.flush_full()
    }

    fn flush_full(&mut self) -> Result<(), String> {
        let is_full = self.rows.len().is_multiple_of(EVERY) && self.rows.size() >= self.sheet.room();
        if is_full { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), String> {
        self.sheet.write(&self.rows.columns(), self.rows.len())?;
        self.rows.clear();
        Ok(())
    }

    /// What is written so far and not taken yet.
    pub(crate) fn output(&mut self) -> &mut Vec<u8> {
        self.sheet.output()
    }

    /// Writes the end of the object.
    pub(crate) fn finish(&mut self) -> Result<(), String> {
        if !self.tail.is_empty() {
            return Err("the last row is not whole".to_owned());
        }
        if self.rows.len() > 0 {
            self.flush()?;
        }
        self.sheet.finish()
    }
}
