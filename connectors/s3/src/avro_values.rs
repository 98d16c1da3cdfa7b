//! Values of Avro's binary encoding.

use crate::avro_schema::{AvroSchema, AvroType};
use crate::cells::{Cell, Name};
use crate::instant::{self, Instant};

/// How deep values may lie in each other: JSON readers take not much more.
const DEEPEST: usize = 100;

/// What a value takes up beside its bytes.
const CELL: usize = 32;

/// How many values of no bytes at all a row may have.
const STEPS: usize = 1 << 24;

/// What is wrong with bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// There are too few.
    Ends,
    /// They are not what they should be.
    Damaged(String),
}

/// Reads the next row; `None` where it unfolds to more than some multiple of `longest` bytes, and is passed over.
pub(crate) fn row(schema: &AvroSchema, input: &mut &[u8], longest: usize) -> Result<Option<Cell>, Wrong> {
    let room = longest.saturating_mul(8).saturating_add(1 << 16);
    let mut walk = Walk { schema, room: Some(room), steps: STEPS + input.len() };
    let cell = walk.cell(schema.root(), input, 0)?;
    Ok(walk.room.map(|_| cell))
}

#[derive(Debug)]
struct Walk<'a> {
    schema: &'a AvroSchema,
    /// How many bytes more the row may take up; `None` when it has had more, and nothing is kept any more.
    room: Option<usize>,
    steps: usize,
}

impl Walk<'_> {
    fn take_room(&mut self, bytes: usize) {
        self.room = self.room.and_then(|room| room.checked_sub(bytes));
    }

    fn cell(&mut self, kind: usize, input: &mut &[u8], depth: usize) -> Result<Cell, Wrong> {
        if depth > DEEPEST {
            return Err(Wrong::Damaged(format!("a value nests more than {DEEPEST} levels")));
        }
        let steps = self.steps.checked_sub(1);
        self.steps = steps.ok_or_else(|| Wrong::Damaged("a row has more values than bytes".to_owned()))?;
        self.take_room(CELL);
        Ok(match self.schema.get(kind) {
            AvroType::Null => Cell::Null,
            AvroType::Boolean => Cell::Boolean(take(input, 1)?[0] != 0),
            AvroType::Int | AvroType::Long => Cell::Int(long(input)?),
            AvroType::Float => Cell::Float(f32::from_le_bytes(array(input)?)),
            AvroType::Double => Cell::Double(f64::from_le_bytes(array(input)?)),
            AvroType::Bytes => self.bytes(bytes(input)?),
            AvroType::Text => self.text(bytes(input)?)?,
            AvroType::Fixed(size) => self.bytes(take(input, *size)?),
            AvroType::Date => date(long(input)?),
            AvroType::TimeOfDay(unit) => {
                let count = long(input)?;
                instant::time_of_day(count, *unit).map_or(Cell::Int(count), Cell::Text)
            }
            AvroType::Instant(unit, is_utc) => {
                Cell::Instant(Instant { count: long(input)?, unit: *unit, is_utc: *is_utc })
            }
            AvroType::Decimal(size, scale) => {
                let number = match size {
                    Some(size) => take(input, *size)?,
                    None => bytes(input)?,
                };
                let text = instant::decimal(number, *scale);
                Cell::Text(text.ok_or_else(|| Wrong::Damaged("a decimal is too long".to_owned()))?)
            }
            AvroType::Uuid => Cell::Text(instant::uuid(array(input)?)),
            AvroType::Duration => duration(input)?,
            AvroType::Enum(symbols) => {
                let symbol = usize::try_from(long(input)?).ok().and_then(|at| symbols.get(at));
                let symbol = symbol.ok_or_else(|| Wrong::Damaged("an enum has no such symbol".to_owned()))?;
                self.text(symbol.as_bytes())?
            }
            nesting => self.nested(nesting, input, depth + 1)?,
        })
    }

    /// A value of several others.
    fn nested(&mut self, kind: &AvroType, input: &mut &[u8], depth: usize) -> Result<Cell, Wrong> {
        Ok(match kind {
            AvroType::Union(kinds) => {
                let kind = usize::try_from(long(input)?).ok().and_then(|at| kinds.get(at));
                let kind = kind.ok_or_else(|| Wrong::Damaged("a union has no such type".to_owned()))?;
                self.cell(*kind, input, depth)?
            }
            AvroType::List(kind) => {
                let mut items = Vec::new();
                self.items(input, |walk, input| {
                    let item = walk.cell(*kind, input, depth)?;
                    if walk.room.is_some() {
                        items.push(item);
                    }
                    Ok(())
                })?;
                Cell::List(items)
            }
            AvroType::Map(kind) => {
                let mut entries = Vec::new();
                self.items(input, |walk, input| {
                    let name = text(bytes(input)?)?;
                    walk.take_room(CELL + name.len());
                    let value = walk.cell(*kind, input, depth)?;
                    if walk.room.is_some() {
                        entries.push((Name::from(name), value));
                    }
                    Ok(())
                })?;
                Cell::Fields(entries)
            }
            AvroType::Record(fields) => {
                let mut cells = Vec::with_capacity(fields.len());
                for (name, kind) in fields {
                    cells.push((name.clone(), self.cell(*kind, input, depth)?));
                }
                Cell::Fields(cells)
            }
            _ => Cell::Null,
        })
    }

    /// The items of a list or map: blocks, each with how many it has, the last one empty.
    fn items(
        &mut self,
        input: &mut &[u8],
        mut each: impl FnMut(&mut Self, &mut &[u8]) -> Result<(), Wrong>,
    ) -> Result<(), Wrong> {
        loop {
            let count = match long(input)? {
                0 => return Ok(()),
                count if count < 0 => {
                    // How many bytes they are, for those who pass over them.
                    long(input)?;
                    count.unsigned_abs()
                }
                count => count.unsigned_abs(),
            };
            for _ in 0..count {
                each(self, input)?;
            }
        }
    }

    fn bytes(&mut self, bytes: &[u8]) -> Cell {
        self.take_room(bytes.len());
        self.room.map_or(Cell::Null, |_| Cell::Bytes(bytes.to_vec()))
    }

    fn text(&mut self, bytes: &[u8]) -> Result<Cell, Wrong> {
        self.take_room(bytes.len());
        let text = text(bytes)?;
        Ok(self.room.map_or(Cell::Null, |_| Cell::Text(text.to_owned())))
    }
}

fn date(days: i64) -> Cell {
    let text = i32::try_from(days).ok().and_then(instant::date);
    text.map_or(Cell::Int(days), Cell::Text)
}

fn duration(input: &mut &[u8]) -> Result<Cell, Wrong> {
    let mut part = |name: &str| Ok((Name::from(name), Cell::Int(i64::from(u32::from_le_bytes(array(input)?)))));
    Ok(Cell::Fields(vec![part("months")?, part("days")?, part("milliseconds")?]))
}

fn text(bytes: &[u8]) -> Result<&str, Wrong> {
    std::str::from_utf8(bytes).map_err(|cause| Wrong::Damaged(format!("a string is not UTF-8: {cause}")))
}

fn array<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], Wrong> {
    let (taken, rest) = input.split_first_chunk::<N>().ok_or(Wrong::Ends)?;
    *input = rest;
    Ok(*taken)
}

/// So many bytes.
pub(crate) fn take<'a>(input: &mut &'a [u8], length: usize) -> Result<&'a [u8], Wrong> {
    let (taken, rest) = input.split_at_checked(length).ok_or(Wrong::Ends)?;
    *input = rest;
    Ok(taken)
}

/// Bytes with their length before them.
pub(crate) fn bytes<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], Wrong> {
    let length = long(input)?;
    let length = usize::try_from(length).map_err(|_| Wrong::Damaged(format!("something has {length} bytes")))?;
    take(input, length)
}

/// A number in zigzag, seven bits a byte.
pub(crate) fn long(input: &mut &[u8]) -> Result<i64, Wrong> {
    let mut bits = 0_u64;
    for shift in (0..70).step_by(7) {
        let [byte] = array(input)?;
        bits |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok((bits >> 1) as i64 ^ -((bits & 1) as i64));
        }
    }
    Err(Wrong::Damaged("a number is too long".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(schema: &str, mut input: &[u8], longest: usize) -> Result<Option<String>, Wrong> {
        let schema = AvroSchema::parse(schema.as_bytes()).unwrap();
        let cell = row(&schema, &mut input, longest)?;
        assert!(input.is_empty());
        Ok(cell.map(|cell| {
            let mut out = Vec::new();
            cell.write(&mut out);
            String::from_utf8(out).unwrap()
        }))
    }

    fn of(logical: &str) -> String {
        let (kind, rest) = logical.split_once(' ').unwrap();
        format!(r#"{{"type":"{kind}","name":"n","logicalType":{rest}}}"#)
    }

    #[test]
    fn values_become_json() {
        for (schema, input, expected) in [
            (r#""boolean""#.to_owned(), &[1][..], "true"),
            (
                r#""long""#.to_owned(),
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
                "-9223372036854775808",
            ),
            (r#""float""#.to_owned(), &0.1_f32.to_le_bytes(), "0.1"),
            (r#""bytes""#.to_owned(), &[4, 0xff, 0], r#""/wA=""#),
            (r#"["null","string"]"#.to_owned(), &[2, 2, b'a'], r#""a""#),
            (r#"{"type":"array","items":"int"}"#.to_owned(), &[3, 4, 2, 4, 2, 6, 0], "[1,2,3]"),
            (r#"{"type":"map","values":"int"}"#.to_owned(), &[2, 2, b'k', 1, 0], r#"{"k":-1}"#),
            (of(r#"int "date""#), &[1], r#""1969-12-31""#),
            (of(r#"long "time-micros""#), &[2], r#""00:00:00.000001""#),
            (of(r#"long "local-timestamp-nanos""#), &[2], r#""1970-01-01T00:00:00.000000001""#),
            (of(r#"bytes "decimal","scale":2"#), &[4, 0xff, 0x9c], r#""-1.00""#),
            (of(r#"fixed "decimal","scale":1,"size":2"#), &[0, 15], r#""1.5""#),
            (of(r#"fixed "uuid","size":16"#), &[0x11; 16], r#""11111111-1111-1111-1111-111111111111""#),
            (
                of(r#"fixed "duration","size":12"#),
                &[1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0],
                r#"{"months":1,"days":2,"milliseconds":3}"#,
            ),
            (of(r#"enum "","symbols":["A","B"]"#), &[2], r#""B""#),
        ] {
            assert_eq!(read(&schema, input, 1000), Ok(Some(expected.to_owned())), "{schema}");
        }
    }

    #[test]
    fn what_claims_too_much_is_refused_without_room_for_it() {
        let nulls = r#"{"type":"array","items":"null"}"#;
        let endless = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert!(matches!(read(nulls, &endless, 1 << 20), Err(Wrong::Damaged(why)) if why.contains("more values")));
        assert_eq!(read(r#""string""#, &endless, 1 << 20), Err(Wrong::Ends));
        assert!(matches!(read(r#""string""#, &[1], 10), Err(Wrong::Damaged(_))));
        assert!(matches!(read(r#"["null"]"#, &[2], 10), Err(Wrong::Damaged(_))));
        let node = r#"{"type":"record","name":"n","fields":[{"name":"n","type":["null","n"]}]}"#;
        assert!(matches!(read(node, &[2; 1_000_000], 10), Err(Wrong::Damaged(why)) if why.contains("levels")));
        let many = [&[0x80, 0x89, 0x7a][..], &[0; 1_000_000], &[0]].concat();
        assert_eq!(read(r#"{"type":"array","items":"int"}"#, &many, 1000), Ok(None));
    }
}
