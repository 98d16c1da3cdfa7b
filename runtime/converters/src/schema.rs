//! Schemas of all three kinds: their texts, and what reads and writes by them.

use aqueduct_api::Problem;
use jsonschema::Validator;
use prost_reflect::{FileDescriptor, MessageDescriptor};
use serde_json::Value;

use crate::avro_schema::AvroSchema;
use crate::bounds::LARGEST_SCHEMA;
use crate::style::Style;
use crate::wire::{message_way, push_message_way};
use crate::{avro_read, avro_write, json_schema, protobuf};

/// In which language a schema is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Avro,
    Protobuf,
    JsonSchema,
}

/// A schema's text with those of all that it refers to, directly or not.
#[derive(Clone, Debug)]
pub(crate) struct SchemaText {
    pub(crate) kind: Kind,
    pub(crate) text: String,
    /// What is referred to comes before what refers to it.
    pub(crate) referred: Vec<Referred>,
}

/// A schema that another refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Referred {
    /// What the other calls it.
    pub(crate) name: String,
    pub(crate) text: String,
}

/// What is wrong with a schema, and at which line and column.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) message: String,
    pub(crate) at: Option<(usize, usize)>,
}

impl From<String> for Wrong {
    fn from(message: String) -> Self {
        Wrong { message, at: None }
    }
}

impl Wrong {
    /// As the problem of a setting.
    pub(crate) fn problem(self, setting: &str) -> Problem {
        let problem = Problem::new(setting, self.message);
        match self.at {
            Some((line, column)) => problem.at(line, column),
            None => problem,
        }
    }

    /// In one line, with the place.
    pub(crate) fn told(self) -> String {
        match self.at {
            Some((line, column)) => format!("{} (line {line}, column {column})", self.message),
            None => self.message,
        }
    }
}

impl Kind {
    /// What registries call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Avro => "AVRO",
            Kind::Protobuf => "PROTOBUF",
            Kind::JsonSchema => "JSON",
        }
    }

    /// The kind of a registry's name; registries leave Avro's out.
    pub(crate) fn of(name: Option<&str>) -> Option<Kind> {
        let Some(name) = name else { return Some(Kind::Avro) };
        [Kind::Avro, Kind::Protobuf, Kind::JsonSchema].into_iter().find(|kind| kind.name() == name)
    }
}

/// A schema's JSON.
///
/// # Errors
/// Why it is none, and where.
pub(crate) fn json(text: &str) -> Result<Value, Wrong> {
    serde_json::from_str(text).map_err(|cause| {
        let message = cause.to_string();
        // The place has a place of its own.
        let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message).to_owned();
        Wrong { message: format!("is no JSON: {message}"), at: Some((cause.line(), cause.column().max(1))) }
    })
}

/// An Avro schema, as registries keep it: a lone name may stand without quotes.
fn avro(schema: &SchemaText) -> Result<AvroSchema, Wrong> {
    let read = |text: &str| match text.trim() {
        word if !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric()) => Ok(Value::from(word)),
        text => json(text),
    };
    let mut referred = Vec::with_capacity(schema.referred.len());
    for one in &schema.referred {
        let wrong = |wrong: Wrong| Wrong::from(format!("the referred schema {}: {}", one.name, wrong.message));
        referred.push(read(&one.text).map_err(wrong)?);
    }
    Ok(AvroSchema::parse(&referred, &read(&schema.text)?)?)
}

/// Reads payloads that were written by a schema.
pub(crate) enum Decoder {
    Avro(AvroSchema),
    Protobuf(FileDescriptor),
    /// The payload is JSON; that it fits is the writer's affair.
    JsonSchema,
}

impl Decoder {
    /// # Errors
    /// What is wrong with the schema.
    pub(crate) fn compile(schema: &SchemaText) -> Result<Decoder, Wrong> {
        Ok(match schema.kind {
            Kind::Avro => Decoder::Avro(avro(schema)?),
            Kind::Protobuf => Decoder::Protobuf(protobuf::compile(&schema.text, &schema.referred)?),
            Kind::JsonSchema => Decoder::JsonSchema,
        })
    }

    /// The JSON of a payload.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn read(&self, style: Style, mut payload: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Decoder::Avro(schema) => avro_read::read(schema, style, payload),
            Decoder::Protobuf(file) => {
                let way = message_way(&mut payload)?;
                protobuf::read(protobuf::at(file, &way)?, payload)
            }
            Decoder::JsonSchema => {
                let read: Result<serde::de::IgnoredAny, _> = serde_json::from_slice(payload);
                read.map(|_| payload.to_vec()).map_err(|cause| format!("is no JSON: {cause}"))
            }
        }
    }
}

/// Writes payloads by a schema.
pub(crate) enum Encoder {
    Avro(AvroSchema),
    Protobuf(MessageDescriptor, Vec<usize>),
    JsonSchema(Validator),
}

impl Encoder {
    /// `message`: which one of Protobuf's, where it is not the first.
    ///
    /// # Errors
    /// What is wrong with the schema.
    pub(crate) fn compile(schema: &SchemaText, message: Option<&str>) -> Result<Encoder, Wrong> {
        if schema.text.len() > LARGEST_SCHEMA {
            return Err(Wrong::from(format!("is larger than {} MiB", LARGEST_SCHEMA >> 20)));
        }
        Ok(match schema.kind {
            Kind::Avro => Encoder::Avro(avro(schema)?),
            Kind::Protobuf => {
                let (message, way) = protobuf::find(&protobuf::compile(&schema.text, &schema.referred)?, message)?;
                Encoder::Protobuf(message, way)
            }
            Kind::JsonSchema => Encoder::JsonSchema(json_schema::compile(&schema.text, &schema.referred)?),
        })
    }

    /// Adds the payload of JSON.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn write(&self, drop_unknown: bool, json: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        match self {
            Encoder::Avro(schema) => {
                let value = serde_json::from_slice(json).map_err(|cause| format!("is no JSON: {cause}"))?;
                avro_write::write(schema, drop_unknown, &value, out)
            }
            Encoder::Protobuf(message, way) => {
                push_message_way(way, out);
                protobuf::write(message, drop_unknown, json, out)
            }
            Encoder::JsonSchema(validator) => {
                json_schema::check(validator, json)?;
                out.extend_from_slice(json);
                Ok(())
            }
        }
    }
}
