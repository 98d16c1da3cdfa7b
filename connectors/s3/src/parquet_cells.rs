//! What the rows of Parquet hold, by the logical types of their columns.

use parquet::basic::{ConvertedType, LogicalType, Repetition, TimeUnit};
use parquet::data_type::Decimal;
use parquet::record::{Field, Row};
use parquet::schema::types::{Type, TypePtr};

use crate::cells::{Cell, Name};
use crate::instant::{self, Instant, Unit};

/// What is to be known of a type beside what its values tell.
pub(crate) struct Shape {
    name: Name,
    logical: Option<LogicalType>,
    /// Of a structure its fields; of a list its elements' type; of a map those of its keys and values.
    inner: Vec<Shape>,
    /// Whether it stands for a list of itself, as what is repeated outside of lists does.
    is_repeated: bool,
}

impl Shape {
    /// The shape of a type.
    pub(crate) fn of(kind: &Type) -> Shape {
        let info = kind.get_basic_info();
        let is_repeated = info.has_repetition() && info.repetition() == Repetition::REPEATED;
        Shape { is_repeated, ..Shape::item(kind) }
    }

    /// The shape of one of several.
    fn item(kind: &Type) -> Shape {
        let logical = kind.get_basic_info().logical_type_ref().cloned();
        let inner = match kind {
            Type::PrimitiveType { .. } => Vec::new(),
            Type::GroupType { fields, .. } if is_list(kind) => {
                fields.iter().map(|repeated| Shape::item(element(repeated))).collect()
            }
            Type::GroupType { fields, .. } if is_map(kind) => {
                let entries = fields.first().filter(|entries| entries.is_group());
                let parts: &[TypePtr] = entries.map_or(&[], |entries| entries.get_fields());
                parts.iter().map(|part| Shape::of(part)).collect()
            }
            Type::GroupType { fields, .. } => fields.iter().map(|field| Shape::of(field)).collect(),
        };
        Shape { name: kind.name().into(), logical, inner, is_repeated: false }
    }

    /// A row.
    pub(crate) fn row(&self, row: Row) -> Cell {
        let columns = row.into_columns().into_iter().enumerate();
        let fields = columns.map(|(at, (name, field))| match self.inner.get(at) {
            Some(shape) if *shape.name == name => (shape.name.clone(), shape.cell(field)),
            _ => (name.into(), Shape::nothing().cell(field)),
        });
        Cell::Fields(fields.collect())
    }

    /// What is known where the file's types are put together in a way that we do not know.
    fn nothing() -> Shape {
        Shape { name: "".into(), logical: None, inner: Vec::new(), is_repeated: false }
    }

    fn part(&self, at: usize, field: &Field) -> Cell {
        match self.inner.get(at) {
            _ if self.is_repeated => self.cell(field.clone()),
            Some(shape) => shape.cell(field.clone()),
            None => Shape::nothing().cell(field.clone()),
        }
    }

    fn cell(&self, field: Field) -> Cell {
        match field {
            Field::Null => Cell::Null,
            Field::Bool(value) => Cell::Boolean(value),
            Field::Byte(value) => Cell::Int(value.into()),
            Field::Short(value) => Cell::Int(value.into()),
            Field::Int(value) => self.number(i64::from(value), &value.to_be_bytes()),
            Field::Long(value) => self.number(value, &value.to_be_bytes()),
            Field::UByte(value) => Cell::Int(value.into()),
            Field::UShort(value) => Cell::Int(value.into()),
            Field::UInt(value) => Cell::Int(value.into()),
            Field::ULong(value) => unsigned(value),
            Field::Float16(value) => Cell::Float(value.to_f32()),
            Field::Float(value) => Cell::Float(value),
            Field::Double(value) => Cell::Double(value),
            Field::Decimal(value) => decimal_of(&value),
            Field::Str(text) => Cell::Text(text),
            Field::Bytes(bytes) => self.bytes(bytes.data()),
            Field::Date(days) => date(days),
            Field::TimeMillis(count) => time_of_day(count.into(), Unit::Millis),
            Field::TimeMicros(count) => time_of_day(count, Unit::Micros),
            Field::TimestampMillis(count) => self.instant(count, Unit::Millis),
            Field::TimestampMicros(count) => self.instant(count, Unit::Micros),
            Field::Group(row) => self.row(row),
            Field::ListInternal(list) => Cell::List(list.elements().iter().map(|field| self.part(0, field)).collect()),
            Field::MapInternal(map) => {
                let entries = map.entries().iter().map(|(key, value)| {
                    let key = match self.part(0, key) {
                        Cell::Text(text) => text,
                        other => {
                            let mut out = Vec::new();
                            other.write(&mut out);
                            String::from_utf8_lossy(&out).trim_matches('"').to_owned()
                        }
                    };
                    (Name::from(key), self.part(1, value))
                });
                Cell::Fields(entries.collect())
            }
        }
    }

    /// A number that the older of the two ways to tell a type tells nothing more of.
    fn number(&self, number: i64, bytes: &[u8]) -> Cell {
        match &self.logical {
            Some(LogicalType::Timestamp(kind)) => {
                Cell::Instant(Instant { count: number, unit: unit(kind.unit), is_utc: kind.is_adjusted_to_u_t_c })
            }
            Some(LogicalType::Time(kind)) => time_of_day(number, unit(kind.unit)),
            Some(LogicalType::Date) => i32::try_from(number).map_or(Cell::Int(number), date),
            Some(LogicalType::Decimal(kind)) => decimal(bytes, kind.scale),
            Some(LogicalType::Integer(kind)) if !kind.is_signed && bytes.len() == 4 => Cell::Int(number & 0xffff_ffff),
            Some(LogicalType::Integer(kind)) if !kind.is_signed => unsigned(number as u64),
            _ => Cell::Int(number),
        }
    }

    fn bytes(&self, bytes: &[u8]) -> Cell {
        let text = || std::str::from_utf8(bytes).map(str::to_owned);
        match &self.logical {
            Some(LogicalType::Uuid) => match bytes.try_into() {
                Ok(bytes) => Cell::Text(instant::uuid(bytes)),
                Err(_) => Cell::Bytes(bytes.to_vec()),
            },
            Some(LogicalType::String | LogicalType::Enum | LogicalType::Json) => {
                text().map_or_else(|_| Cell::Bytes(bytes.to_vec()), Cell::Text)
            }
            Some(LogicalType::Decimal(kind)) => decimal(bytes, kind.scale),
            _ => Cell::Bytes(bytes.to_vec()),
        }
    }

    fn instant(&self, count: i64, unit: Unit) -> Cell {
        let is_utc = !matches!(&self.logical, Some(LogicalType::Timestamp(kind)) if !kind.is_adjusted_to_u_t_c);
        Cell::Instant(Instant { count, unit, is_utc })
    }
}

fn is_list(kind: &Type) -> bool {
    kind.is_group() && kind.get_basic_info().converted_type() == ConvertedType::LIST && kind.get_fields().len() == 1
}

fn is_map(kind: &Type) -> bool {
    let converted = kind.get_basic_info().converted_type();
    matches!(converted, ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE) && kind.get_fields().len() == 1
}

/// The type of a list's elements: what is repeated, or the one field of it, as the format's rules for older files say.
fn element(repeated: &Type) -> &Type {
    let fields = match repeated {
        Type::GroupType { fields, .. } => fields,
        Type::PrimitiveType { .. } => return repeated,
    };
    let is_element = |field: &TypePtr| {
        let is_nested = is_list(repeated) || field.get_basic_info().repetition() == Repetition::REPEATED;
        !is_nested && (repeated.name() == "array" || repeated.name().ends_with("_tuple"))
    };
    match &fields[..] {
        [only] if !is_element(only) => only,
        _ => repeated,
    }
}

fn unit(unit: TimeUnit) -> Unit {
    match unit {
        TimeUnit::MILLIS => Unit::Millis,
        TimeUnit::MICROS => Unit::Micros,
        TimeUnit::NANOS => Unit::Nanos,
    }
}

fn unsigned(number: u64) -> Cell {
    i64::try_from(number).map_or(Cell::Large(number), Cell::Int)
}

fn date(days: i32) -> Cell {
    instant::date(days).map_or(Cell::Int(days.into()), Cell::Text)
}

fn time_of_day(count: i64, unit: Unit) -> Cell {
    instant::time_of_day(count, unit).map_or(Cell::Int(count), Cell::Text)
}

fn decimal_of(value: &Decimal) -> Cell {
    decimal(value.data(), value.scale())
}

fn decimal(bytes: &[u8], scale: i32) -> Cell {
    let text = usize::try_from(scale).ok().and_then(|scale| instant::decimal(bytes, scale));
    text.map_or_else(|| Cell::Bytes(bytes.to_vec()), Cell::Text)
}
