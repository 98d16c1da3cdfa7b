//! The forms that a part of a record can be in.

use std::borrow::Cow;

use aqueduct_api::{Draft, Transformed, Unfit};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::plain::Number;
use crate::schema::Kind;

/// The form of a part of a record. Those with a schema registry are Confluent's: a zero, the schema's id, the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// Avro, with a schema registry.
    Avro,
    /// Protobuf, with a schema registry.
    Protobuf,
    /// JSON with a schema in a schema registry.
    JsonSchema,
    /// Text in some encoding (Connect's `StringConverter`).
    String,
    /// Base64: decoded it is the bytes that it stands for.
    Base64,
    /// `{"schema": …, "payload": …}` (Connect's `JsonConverter` with `schemas.enable`).
    ConnectJson,
    /// A byte, 0 or 1 (Connect's `BooleanConverter`).
    Boolean,
    /// Two bytes (`ShortConverter`).
    Short,
    /// Four bytes (`IntegerConverter`).
    Integer,
    /// Eight bytes (`LongConverter`).
    Long,
    /// Four bytes (`FloatConverter`).
    Float,
    /// Eight bytes (`DoubleConverter`).
    Double,
}

/// A part of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The value.
    #[default]
    Value,
    /// The key.
    Key,
}

impl Form {
    /// The kind of its schema, if a registry has it.
    pub(crate) fn kind(self) -> Option<Kind> {
        match self {
            Form::Avro => Some(Kind::Avro),
            Form::Protobuf => Some(Kind::Protobuf),
            Form::JsonSchema => Some(Kind::JsonSchema),
            _ => None,
        }
    }

    /// The number that it is, if it is one.
    pub(crate) fn number(self) -> Option<Number> {
        match self {
            Form::Boolean => Some(Number::Boolean),
            Form::Short => Some(Number::Short),
            Form::Integer => Some(Number::Integer),
            Form::Long => Some(Number::Long),
            Form::Float => Some(Number::Float),
            Form::Double => Some(Number::Double),
            _ => None,
        }
    }
}

impl Part {
    /// What people call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Part::Value => "value",
            Part::Key => "key",
        }
    }

    /// What a draft has there.
    pub(crate) fn of<'d>(self, draft: &'d Draft<'_>) -> Option<&'d [u8]> {
        match self {
            Part::Value => draft.value.as_deref(),
            Part::Key => draft.key.as_deref(),
        }
    }

    /// Makes of each draft's part what `made` makes of it; null stays null. Those of which it makes nothing are unfit.
    pub(crate) fn replace_all<'a>(
        self,
        mut drafts: Vec<Draft<'a>>,
        mut made: impl FnMut(&str, Cow<'a, [u8]>) -> Result<Option<Cow<'a, [u8]>>, Misfit>,
    ) -> Transformed<'a> {
        let mut unfit = Vec::new();
        drafts.retain_mut(|draft| {
            let place = match self {
                Part::Value => &mut draft.value,
                Part::Key => &mut draft.key,
            };
            let Some(bytes) = place.take() else { return true };
            match made(&draft.topic, bytes) {
                Ok(bytes) => {
                    *place = bytes;
                    true
                }
                Err(Misfit { why, for_now }) => {
                    unfit.push(Unfit { offset: draft.offset, reason: format!("the {} {why}", self.name()), for_now });
                    false
                }
            }
        });
        Transformed { drafts, unfit }
    }
}

/// Why nothing is made of a part.
pub(crate) struct Misfit {
    why: String,
    for_now: bool,
}

impl Misfit {
    /// Another answer may come later.
    pub(crate) fn for_now(why: String) -> Self {
        Misfit { why, for_now: true }
    }
}

impl From<String> for Misfit {
    fn from(why: String) -> Self {
        Misfit { why, for_now: false }
    }
}
