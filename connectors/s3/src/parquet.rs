//! Objects in the Parquet format.

use std::sync::Arc;

use bytes::Bytes as Shared;
use parquet::basic::{Compression as Codec, GzipLevel, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel};
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, DoubleType, FixedLenByteArray, FixedLenByteArrayType, FloatType,
    Int32Type, Int64Type,
};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::{Type, TypePtr};

use crate::columns::{Bytes, Column, Values};
use crate::compressor::Compression;
use crate::levels::{Leaf, LeafValues, Levels, leaves};
use crate::schema::{Field, Kind};
use crate::table::Sheet;

/// Of how many rows levels are made at once.
const ROWS: usize = 4096;

/// What the objects say who wrote them: no version, so that another build writes the same.
const WRITER: &str = "aqueduct";

/// An object under construction: what is written at once becomes a row group.
pub(crate) struct ParquetSheet {
    writer: SerializedFileWriter<Vec<u8>>,
    row_group: usize,
}

impl ParquetSheet {
    /// An object without rows, whose row groups have `row_group` bytes in memory.
    pub(crate) fn new(
        fields: &[Field],
        compression: Compression,
        level: Option<i32>,
        row_group: usize,
    ) -> Result<Self, String> {
        let schema = schema(fields).map_err(told)?;
        let properties = WriterProperties::builder()
            .set_created_by(WRITER.to_owned())
            .set_compression(codec(compression, level).map_err(told)?)
            .build();
        let writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).map_err(told)?;
        Ok(ParquetSheet { writer, row_group })
    }
}

impl Sheet for ParquetSheet {
    fn room(&self) -> usize {
        self.row_group
    }

    fn write(&mut self, columns: &[(&Field, &Column)], rows: usize) -> Result<(), String> {
        let mut group = self.writer.next_row_group().map_err(told)?;
        for leaf in columns.iter().flat_map(|(field, column)| leaves(field, column)) {
            let column = group.next_column().map_err(told)?;
            let mut column = column.ok_or("the schema has fewer columns than the rows")?;
            for start in (0..rows).step_by(ROWS) {
                let levels = leaf.levels(start..rows.min(start + ROWS));
                write(&mut column, &leaf, &levels).map_err(told)?;
            }
            column.close().map_err(told)?;
        }
        group.close().map_err(told)?;
        self.writer.flush().map_err(|cause| told(cause.into()))
    }

    fn output(&mut self) -> &mut Vec<u8> {
        self.writer.inner_mut()
    }

    fn finish(&mut self) -> Result<(), String> {
        self.writer.finish().map_err(told)?;
        self.writer.flush().map_err(|cause| told(cause.into()))
    }
}

fn told(cause: ParquetError) -> String {
    format!("parquet: {cause}")
}

fn codec(compression: Compression, level: Option<i32>) -> Result<Codec, ParquetError> {
    Ok(match compression {
        Compression::None => Codec::UNCOMPRESSED,
        Compression::Snappy => Codec::SNAPPY,
        Compression::Lz4 => Codec::LZ4_RAW,
        Compression::Gzip => Codec::GZIP(GzipLevel::try_new(level.unwrap_or(6).unsigned_abs())?),
        Compression::Zstd => Codec::ZSTD(ZstdLevel::try_new(level.unwrap_or(1))?),
    })
}

fn schema(fields: &[Field]) -> Result<TypePtr, ParquetError> {
    let fields = fields.iter().map(|field| node(&field.name, &field.kind, repetition(field.required)));
    let fields = fields.collect::<Result<_, _>>()?;
    Ok(Arc::new(Type::group_type_builder("record").with_fields(fields).build()?))
}

fn repetition(required: bool) -> Repetition {
    if required { Repetition::REQUIRED } else { Repetition::OPTIONAL }
}

fn node(name: &str, kind: &Kind, repetition: Repetition) -> Result<TypePtr, ParquetError> {
    let group = |logical: Option<LogicalType>, fields: Vec<TypePtr>| {
        let group = Type::group_type_builder(name).with_repetition(repetition);
        group.with_logical_type(logical).with_fields(fields).build().map(Arc::new)
    };
    let repeated = |name: &str, fields: Vec<TypePtr>| {
        let group = Type::group_type_builder(name).with_repetition(Repetition::REPEATED).with_fields(fields);
        group.build().map(Arc::new)
    };
    let (physical, logical) = match kind {
        Kind::List(inner) => {
            let element = node("element", inner, Repetition::OPTIONAL)?;
            return group(Some(LogicalType::List), vec![repeated("list", vec![element])?]);
        }
        Kind::Map(inner) => {
            let key = node("key", &Kind::String, Repetition::REQUIRED)?;
            let value = node("value", inner, Repetition::OPTIONAL)?;
            return group(Some(LogicalType::Map), vec![repeated("key_value", vec![key, value])?]);
        }
        Kind::Struct(fields) => {
            let fields = fields.iter().map(|field| node(&field.name, &field.kind, self::repetition(field.required)));
            return group(None, fields.collect::<Result<_, _>>()?);
        }
        Kind::Decimal { precision, scale } => {
            let (precision, scale) = (i32::from(*precision), i32::from(*scale));
            let leaf = Type::primitive_type_builder(name, Physical::FIXED_LEN_BYTE_ARRAY).with_length(16);
            let leaf = leaf.with_precision(precision).with_scale(scale).with_repetition(repetition);
            return leaf.with_logical_type(Some(LogicalType::decimal(scale, precision))).build().map(Arc::new);
        }
        Kind::Boolean => (Physical::BOOLEAN, None),
        Kind::Int32 => (Physical::INT32, None),
        Kind::Int64 => (Physical::INT64, None),
        Kind::Float => (Physical::FLOAT, None),
        Kind::Double => (Physical::DOUBLE, None),
        Kind::String | Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Kind::Bytes => (Physical::BYTE_ARRAY, None),
        Kind::Date => (Physical::INT32, Some(LogicalType::Date)),
        Kind::Timestamp => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MICROS))),
    };
    let leaf = Type::primitive_type_builder(name, physical).with_repetition(repetition);
    leaf.with_logical_type(logical).build().map(Arc::new)
}

/// Writes some values of a leaf.
fn write(column: &mut SerializedColumnWriter<'_>, leaf: &Leaf<'_>, levels: &Levels) -> Result<(), ParquetError> {
    match leaf.values {
        LeafValues::Names(names) => put::<ByteArrayType>(column, texts(names, levels), levels),
        LeafValues::Column(values) => match values {
            Values::Boolean(all) => put::<BoolType>(column, some(all, levels), levels),
            Values::Int32(all) | Values::Date(all) => put::<Int32Type>(column, some(all, levels), levels),
            Values::Int64(all) | Values::Timestamp(all) => put::<Int64Type>(column, some(all, levels), levels),
            Values::Float(all) => put::<FloatType>(column, some(all, levels), levels),
            Values::Double(all) => put::<DoubleType>(column, some(all, levels), levels),
            Values::Bytes(all) => put::<ByteArrayType>(column, texts(all, levels), levels),
            Values::Decimal(all) => {
                let number = |at: &usize| FixedLenByteArray::from(all[*at].to_be_bytes().to_vec());
                put::<FixedLenByteArrayType>(column, levels.present.iter().map(number).collect(), levels)
            }
            Values::List(..) | Values::Map(..) | Values::Struct(_) => Ok(()),
        },
    }
}

fn some<T: Copy>(all: &[T], levels: &Levels) -> Vec<T> {
    levels.present.iter().map(|at| all[*at]).collect()
}

fn texts(all: &Bytes, levels: &Levels) -> Vec<ByteArray> {
    // One allocation for all of them: each is a part of it.
    let (Some(first), Some(last)) = (levels.present.first(), levels.present.last()) else { return Vec::new() };
    let (start, end) = (all.ends.range(*first).start, all.ends.range(*last).end);
    let shared = Shared::copy_from_slice(&all.bytes[start..end]);
    let part = |at: &usize| {
        let range = all.ends.range(*at);
        ByteArray::from(shared.slice(range.start - start..range.end - start))
    };
    levels.present.iter().map(part).collect()
}

fn put<T: DataType>(
    column: &mut SerializedColumnWriter<'_>,
    values: Vec<T::T>,
    levels: &Levels,
) -> Result<(), ParquetError> {
    let (definition, repetition) = (&levels.definition[..], &levels.repetition[..]);
    let definition = Some(definition).filter(|levels| !levels.is_empty());
    let repetition = Some(repetition).filter(|levels| !levels.is_empty());
    column.typed::<T>().write_batch(&values, definition, repetition).map(drop)
}
