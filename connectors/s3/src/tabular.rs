//! What makes tables of records: the formats with columns, and which columns an object has.

use std::sync::Arc;

use aqueduct_api::edge::Threads;
use aqueduct_api::{Error, Problem, Result, TopicPartition};
use aqueduct_record::Record;

use crate::S3Settings;
use crate::avro::AvroSheet;
use crate::compressor::Compression;
use crate::csv::{CsvSheet, CsvStyle, as_text};
use crate::encoder::Encoder;
use crate::format::Format;
use crate::infer::Inferred;
use crate::parquet::ParquetSheet;
use crate::row::{RecordColumns, Row};
use crate::rows::Rows;
use crate::schema::{self, Field};
use crate::table::{Sheet, Table};

/// The most fields of all objects that are made of a chunk at once, which bounds memory whatever the records say.
const MOST_FIELDS: usize = 100_000;

/// How a sink makes objects with columns.
pub(crate) struct Tabular {
    format: Format,
    /// The fields of values; `None`: those that an object's own records have.
    fields: Option<Vec<Field>>,
    extra: RecordColumns,
    compression: Compression,
    level: Option<i32>,
    row_group: usize,
    csv: CsvStyle,
}

/// What is known of the objects of a chunk while its records are sorted.
pub(crate) enum Shapes {
    /// Rows, used one at a time, to see whether a value fits the schema.
    Given(Box<Rows>),
    /// What the records of each object have in common.
    Inferred { shapes: Vec<Inferred>, count: usize, guess: Option<Guess> },
}

/// What the first object is made with while its records are still coming.
pub(crate) struct Guess {
    fields: Vec<Field>,
    /// How much was known when it was last looked whether the records fit.
    looked: u64,
    fits: bool,
}

impl Tabular {
    /// What the settings say; `None` where the format has no columns.
    pub(crate) fn new(settings: &S3Settings) -> Option<Self> {
        settings.format.has_columns().then(|| Tabular {
            format: settings.format,
            fields: settings.schema.clone(),
            extra: settings.columns.clone(),
            compression: settings.compression(),
            level: settings.compression_level,
            row_group: settings.row_group.0 as usize,
            csv: settings.csv.clone(),
        })
    }

    /// Whether the fields of values are those of the settings.
    pub(crate) fn is_given(&self) -> bool {
        self.fields.is_some()
    }

    /// Nothing seen so far; of the first object's fields there may be a guess.
    pub(crate) fn shapes(&self, guess: Option<Vec<Field>>) -> Shapes {
        match &self.fields {
            Some(fields) => Shapes::Given(Box::new(Rows::of_values(fields))),
            None => {
                let guess = guess.map(|fields| Guess { fields, looked: 0, fits: true });
                Shapes::Inferred { shapes: Vec::new(), count: 0, guess }
            }
        }
    }

    /// Appends the row of a record that goes to object `path`, or leaves `out` as it is and says why it makes none.
    pub(crate) fn encode(
        &self,
        shapes: &mut Shapes,
        path: u32,
        record: &Record<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        // What makes no row for another reason must not leave its fields behind.
        let row = self.row(record)?;
        shapes.see(path as usize, row.value, &self.extra)?;
        row.write(out);
        Ok(())
    }

    /// Takes in what the value of a record teaches of object `path`.
    pub(crate) fn see(&self, shapes: &mut Shapes, path: usize, record: &Record<'_>) -> Result<(), String> {
        shapes.see(path, self.row(record)?.value, &self.extra)
    }

    /// Adds the row of a record that goes to the first object, whose fields are told, or leaves `rows` as they are and says
    /// why it makes none.
    pub(crate) fn add(&self, shapes: &mut Shapes, record: &Record<'_>, rows: &mut Rows) -> Result<(), String> {
        let row = self.row(record)?;
        match shapes {
            Shapes::Given(_) => rows.add(&row),
            Shapes::Inferred { shapes, count, guess } => {
                let shape = shape_of(shapes, 0);
                let (before, taken) = (shape.count(), self.extra.names());
                let added = rows.add_learning(&row, shape, &taken);
                // The value may be none that a row can be made of, or one that the guess does not know.
                let seen = if added.is_err() { shape.add(row.value, &taken) } else { Ok(()) };
                *count += shape.count() - before;
                if let Some(guess) = guess {
                    guess.look(shape);
                    guess.fits &= added.is_ok() || seen.is_err();
                }
                seen
            }
        }
    }

    fn row<'a>(&self, record: &Record<'a>) -> Result<Row<'a>, String> {
        let value = record.value.ok_or_else(|| format!("the record has no value, which {:?} needs", self.format))?;
        let value = std::str::from_utf8(value).map_err(|cause| format!("the value is not JSON: {cause}"))?;
        self.extra.row(record, value)
    }

    /// What makes object `name` of rows.
    pub(crate) fn encoder(
        &self,
        threads: &Arc<dyn Threads>,
        partition: &TopicPartition,
        name: &str,
        shapes: &mut Shapes,
        path: usize,
    ) -> Result<Encoder> {
        let fields = match (&self.fields, shapes) {
            (Some(fields), _) => fields.clone(),
            (None, shapes) => shapes.fields(path),
        };
        let fields = if self.format == Format::Csv { as_text(&fields) } else { fields };
        let sheet = |fields: &[Field]| self.sheet(fields, name);
        let table = Table::new(partition, &fields, &self.extra, sheet);
        let table = table.map_err(|why| Error::fatal(format!("{name}: {why}")))?;
        let outside = if self.format == Format::Csv { self.compression } else { Compression::None };
        Encoder::table(threads, table, outside, self.level)
    }

    fn sheet(&self, fields: &[Field], name: &str) -> Result<Box<dyn Sheet>, String> {
        Ok(match self.format {
            Format::Avro => Box::new(AvroSheet::new(fields, self.compression, self.level, name)?),
            Format::Csv => Box::new(CsvSheet::new(fields, &self.csv)),
            _ => Box::new(ParquetSheet::new(fields, self.compression, self.level, self.row_group)?),
        })
    }
}

impl Shapes {
    /// Whether object `path` can be written while its records are still coming.
    pub(crate) fn is_told(&self, path: u32) -> bool {
        path == 0 && matches!(self, Shapes::Given(_) | Shapes::Inferred { guess: Some(_), .. })
    }

    /// Whether the first object's records have not, or not all, what was guessed of them; once more where all are seen.
    pub(crate) fn is_wrong(&self, is_all: bool) -> bool {
        let Shapes::Inferred { shapes, guess: Some(guess), .. } = self else { return false };
        !guess.fits || is_all && shapes.first().is_some_and(|shape| shape.fields() != guess.fields)
    }

    /// The fields of the only object where they were inferred.
    pub(crate) fn inferred(&self) -> Option<Vec<Field>> {
        match self {
            Shapes::Inferred { shapes, .. } if shapes.len() == 1 => Some(shapes[0].fields()),
            _ => None,
        }
    }

    /// Whether so much is known of `paths` objects that they have to be made in shares.
    pub(crate) fn is_too_much(&self, paths: usize) -> bool {
        matches!(self, Shapes::Inferred { count, .. } if *count > MOST_FIELDS && paths > 1)
    }

    fn see(&mut self, path: usize, value: &str, extra: &RecordColumns) -> Result<(), String> {
        match self {
            Shapes::Given(rows) => {
                let fits = rows.push(value);
                rows.clear();
                fits
            }
            Shapes::Inferred { shapes, count, guess } => {
                let shape = shape_of(shapes, path);
                let before = shape.count();
                let seen = shape.add(value, &extra.names());
                *count += shape.count() - before;
                if let (0, Some(guess)) = (path, guess) {
                    guess.look(shape);
                }
                seen
            }
        }
    }

    fn fields(&mut self, path: usize) -> Vec<Field> {
        match self {
            Shapes::Inferred { guess: Some(guess), .. } if path == 0 => guess.fields.clone(),
            Shapes::Inferred { shapes, .. } => shapes.get_mut(path).map(std::mem::take).unwrap_or_default().fields(),
            Shapes::Given(_) => Vec::new(),
        }
    }
}

fn shape_of(shapes: &mut Vec<Inferred>, path: usize) -> &mut Inferred {
    if shapes.len() <= path {
        shapes.resize_with(path + 1, Inferred::default);
    }
    &mut shapes[path]
}

impl Guess {
    fn look(&mut self, shape: &Inferred) {
        if self.looked != shape.news() {
            self.looked = shape.news();
            self.fits = shape.is_within(&self.fields);
        }
    }
}

/// What is wrong with the settings that tables have.
pub(crate) fn problems(settings: &S3Settings, problems: &mut Vec<Problem>) {
    let S3Settings { format, schema, columns, csv, row_group, .. } = settings;
    if !format.has_columns() {
        let beside = "is for `format: parquet`, `avro` or `csv`";
        for (setting, is_set) in [("schema", schema.is_some()), ("columns", *columns != RecordColumns::default())] {
            problems.extend(is_set.then(|| Problem::new(setting, beside)));
        }
    }
    if *csv != CsvStyle::default() && *format != Format::Csv {
        problems.push(Problem::new("csv", "is for `format: csv` alone"));
    }
    problems.extend(csv.problems().into_iter().map(|(setting, why)| Problem::new(format!("csv.{setting}"), why)));
    if *format == Format::Avro && settings.compression() == Compression::Lz4 {
        problems.push(Problem::new("compression", "Avro knows no lz4, expected none, gzip, zstd or snappy"));
    }
    for (path, why) in schema.as_deref().map(schema::problems).unwrap_or_default() {
        let setting = if path.is_empty() { "schema".to_owned() } else { format!("schema ({path})") };
        problems.push(Problem::new(setting, why));
    }
    let names = columns.names();
    for (at, name) in names.iter().enumerate() {
        let is_field = schema.iter().flatten().any(|field| field.name == *name);
        if is_field || names[..at].contains(name) || name.is_empty() {
            problems.push(Problem::new("columns", format!("`{name}` is no name of one column alone")));
        }
    }
    if !(1 << 20..=256 << 20).contains(&row_group.0) {
        problems.push(Problem::new("row-group", format!("{row_group} is out of range, expected 1 MiB to 256 MiB")));
    }
}
