//! The forms that a part of a record can be in.

use std::borrow::Cow;

use aqueduct_api::Draft;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::plain::Number;

/// The form of a part of a record. Those with a schema registry are Confluent's: a zero, the schema's id, the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
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

    /// Puts in its place what `made` makes of it; null stays null.
    ///
    /// # Errors
    /// Why nothing can be made of it, with the part's name; the draft is of no more use.
    pub(crate) fn replace<'a>(
        self,
        draft: &mut Draft<'a>,
        made: impl FnOnce(Cow<'a, [u8]>) -> Result<Option<Cow<'a, [u8]>>, String>,
    ) -> Result<(), String> {
        let place = match self {
            Part::Value => &mut draft.value,
            Part::Key => &mut draft.key,
        };
        if let Some(bytes) = place.take() {
            *place = made(bytes).map_err(|why| format!("the {} {why}", self.name()))?;
        }
        Ok(())
    }
}
