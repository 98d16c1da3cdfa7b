//! JSON of Avro's binary encoding, written as it is read: nothing is allocated that was only promised.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::avro_schema::{AvroSchema, Field, Node, Union};
use crate::bounds::{DEEPEST, LARGEST};
use crate::plain;
use crate::scalar_text;
use crate::style::{Style, Written};
use crate::wire::take_number;

/// The JSON of a payload.
///
/// # Errors
/// Why there is none, for people.
pub(crate) fn read(schema: &AvroSchema, style: Style, payload: &[u8]) -> Result<Vec<u8>, String> {
    let out = Vec::with_capacity(payload.len().saturating_mul(2));
    let mut reader = Reader { schema, style, rest: payload, out, depth: 0 };
    reader.value(schema.root())?;
    match reader.rest.len() {
        0 => Ok(reader.out),
        more => Err(format!("{more} bytes are left behind its end: it is not of the schema that it names")),
    }
}

struct Reader<'s, 'b> {
    schema: &'s AvroSchema,
    style: Style,
    rest: &'b [u8],
    out: Vec<u8>,
    depth: usize,
}

impl<'s, 'b> Reader<'s, 'b> {
    fn value(&mut self, at: usize) -> Result<(), String> {
        // Some types take no bytes, so a few bytes can promise any number of them.
        if self.out.len() > LARGEST {
            return Err(format!("becomes more than {} MiB of JSON", LARGEST >> 20));
        }
        match self.schema.node(at) {
            Node::Null => self.push("null"),
            Node::Boolean => match self.take(1)? {
                [0] => self.push("false"),
                [1] => self.push("true"),
                other => return Err(format!("a boolean is {other:?}, expected 0 or 1")),
            },
            Node::Int => {
                let number = self.int()?;
                self.push(&number.to_string());
            }
            Node::Long => {
                let number = take_number(&mut self.rest)?;
                self.push(&number.to_string());
            }
            Node::Float => {
                let number = f32::from_le_bytes(self.array()?);
                self.push(&plain::float(number));
            }
            Node::Double => {
                let number = f64::from_le_bytes(self.array()?);
                self.push(&plain::double(number));
            }
            Node::Bytes => {
                let bytes = self.counted()?;
                self.base64(bytes);
            }
            Node::Fixed { size, .. } => {
                let bytes = self.take(*size)?;
                self.base64(bytes);
            }
            Node::String => {
                let text = self.text()?;
                self.quoted(text)?;
            }
            Node::Enum { name, symbols } => {
                let number = self.int()?;
                let symbol = usize::try_from(number).ok().and_then(|number| symbols.get(number));
                let symbol = symbol.ok_or_else(|| format!("the enum `{name}` has no symbol {number}"))?;
                self.quoted(symbol)?;
            }
            Node::Date | Node::Time(..) | Node::Timestamp(..) => self.time(at)?,
            Node::Decimal(decimal) => {
                let bytes = match &decimal.fixed {
                    Some((_, size)) => self.take(*size)?,
                    None => self.counted()?,
                };
                let digits = scalar_text::decimal(bytes, decimal.scale)?;
                match self.style.decimals {
                    Written::Number => self.push(&digits),
                    Written::Text => self.push(&format!("\"{digits}\"")),
                }
            }
            Node::Uuid(_) => {
                let text = scalar_text::uuid(self.take(16)?);
                self.quoted(&text)?;
            }
            Node::Array(_) | Node::Map(_) | Node::Union(_) | Node::Record { .. } => self.nested(at)?,
        }
        Ok(())
    }

    fn nested(&mut self, at: usize) -> Result<(), String> {
        match self.schema.node(at) {
            Node::Union(union) => self.union(union),
            Node::Array(items) => self.deeper(|this| this.items(*items)),
            Node::Map(values) => self.deeper(|this| this.entries(*values)),
            Node::Record { fields, .. } => self.deeper(|this| this.record(fields)),
            _ => Ok(()),
        }
    }

    fn deeper(&mut self, read: impl FnOnce(&mut Self) -> Result<(), String>) -> Result<(), String> {
        if self.depth == DEEPEST {
            return Err(format!("is nested more than {DEEPEST} levels deep"));
        }
        self.depth += 1;
        read(self)?;
        self.depth -= 1;
        Ok(())
    }

    fn record(&mut self, fields: &'s [Field]) -> Result<(), String> {
        self.push("{");
        for (number, field) in fields.iter().enumerate() {
            if number > 0 {
                self.push(",");
            }
            self.quoted(&field.name)?;
            self.push(":");
            self.value(field.node).map_err(|why| format!("field `{}`: {why}", field.name))?;
        }
        self.push("}");
        Ok(())
    }

    fn union(&mut self, union: &'s Union) -> Result<(), String> {
        let number = take_number(&mut self.rest)?;
        let branch = usize::try_from(number).ok().filter(|number| *number < union.branches.len());
        let branch = branch.ok_or_else(|| format!("a union has no branch {number}"))?;
        let at = union.branches[branch];
        if union.null == Some(branch) || union.only == Some(branch) {
            return self.value(at);
        }
        self.deeper(|this| {
            this.push("{");
            this.quoted(this.schema.branch_name(at))?;
            this.push(":");
            this.value(at)?;
            this.push("}");
            Ok(())
        })
    }

    fn items(&mut self, items: usize) -> Result<(), String> {
        self.push("[");
        let mut first = true;
        while let Some(count) = self.block()? {
            for _ in 0..count {
                if !std::mem::take(&mut first) {
                    self.push(",");
                }
                self.value(items)?;
            }
        }
        self.push("]");
        Ok(())
    }

    fn entries(&mut self, values: usize) -> Result<(), String> {
        self.push("{");
        let mut names = HashSet::new();
        while let Some(count) = self.block()? {
            for _ in 0..count {
                let name = self.text()?;
                if !names.insert(name) {
                    return Err(format!("a map has `{}` twice", scalar_text::shortened(name)));
                }
                if names.len() > 1 {
                    self.push(",");
                }
                self.quoted(name)?;
                self.push(":");
                self.value(values)?;
            }
        }
        self.push("}");
        Ok(())
    }

    /// How many items the next block has; `None` where there is none.
    fn block(&mut self) -> Result<Option<u64>, String> {
        match take_number(&mut self.rest)? {
            0 => Ok(None),
            // Behind a negative count stands how many bytes the block has, for who wants to skip it.
            negative @ ..0 => {
                take_number(&mut self.rest)?;
                Ok(Some(negative.unsigned_abs()))
            }
            count => Ok(Some(count.unsigned_abs())),
        }
    }

    fn time(&mut self, at: usize) -> Result<(), String> {
        let number = match self.schema.node(at) {
            Node::Date | Node::Time(_, false) => self.int()?.into(),
            _ => take_number(&mut self.rest)?,
        };
        let text = match (self.style.times, self.schema.node(at)) {
            (Written::Text, Node::Date) => scalar_text::date(number as i32)?,
            (Written::Text, Node::Time(unit, _)) => scalar_text::time(*unit, number)?,
            (Written::Text, Node::Timestamp(unit, utc)) => scalar_text::timestamp(*unit, number, *utc)?,
            _ => {
                self.push(&number.to_string());
                return Ok(());
            }
        };
        self.quoted(&text)
    }

    fn int(&mut self) -> Result<i32, String> {
        let number = take_number(&mut self.rest)?;
        i32::try_from(number).map_err(|_| format!("{number} is no int of 32 bits"))
    }

    fn take(&mut self, count: usize) -> Result<&'b [u8], String> {
        match self.rest.split_at_checked(count) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(format!("ends {} bytes too early", count - self.rest.len())),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn counted(&mut self) -> Result<&'b [u8], String> {
        let count = take_number(&mut self.rest)?;
        let count = usize::try_from(count).map_err(|_| format!("something has {count} bytes"))?;
        self.take(count)
    }

    fn text(&mut self) -> Result<&'b str, String> {
        std::str::from_utf8(self.counted()?).map_err(|_| "a string is not UTF-8".to_owned())
    }

    fn push(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn base64(&mut self, bytes: &[u8]) {
        let text = STANDARD.encode(bytes);
        self.push("\"");
        self.push(&text);
        self.push("\"");
    }

    fn quoted(&mut self, text: &str) -> Result<(), String> {
        serde_json::to_writer(&mut self.out, text).map_err(|cause| cause.to_string())
    }
}
