//! `encode`: JSON made what a converter of another system reads.

use std::borrow::Cow;

use aqueduct_api::{
    Draft, Problem, Result, Settings, Transform, TransformOpening, TransformSettings, Transformed, Unfit,
};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::form::{Form, Part};
use crate::plain::{self, Encoding};

/// Writes a value or key that is JSON, or text, in another form. A null stays null (a tombstone stays one); what does not fit
/// the form becomes a dead letter with the reason.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Encode {
    /// The form that it gets.
    pub to: Form,
    /// Which part of the record: `value` or `key`. Default: value.
    #[serde(default)]
    pub part: Part,
    /// `string`: the encoding. Default: utf-8.
    pub encoding: Option<Encoding>,
    /// `connect-json`: Kafka Connect's schema.
    pub schema: Option<String>,
}

impl Settings for Encode {
    const NAME: &'static str = "encode";
    const SUMMARY: &'static str = "writes JSON as Avro, Protobuf and other forms, with a schema registry";

    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.encoding.is_some() && self.to != Form::String {
            problems.push(Problem::new("encoding", "is for `to: string` alone"));
        }
        problems
    }
}

impl TransformSettings for Encode {
    fn open(self, _: TransformOpening) -> Result<Box<dyn Transform>> {
        let (encoding, schema) = (self.encoding.unwrap_or_default(), self.schema.unwrap_or_default());
        Ok(Box::new(PlainEncoder { to: self.to, part: self.part, encoding, schema }))
    }
}

/// The transform, to what needs no registry.
struct PlainEncoder {
    to: Form,
    part: Part,
    encoding: Encoding,
    schema: String,
}

#[async_trait]
impl Transform for PlainEncoder {
    async fn apply<'a>(&self, mut drafts: Vec<Draft<'a>>) -> Result<Transformed<'a>> {
        let mut unfit = Vec::new();
        drafts.retain_mut(|draft| match self.part.replace(draft, |bytes| self.encoded(bytes)) {
            Ok(()) => true,
            Err(reason) => {
                unfit.push(Unfit { offset: draft.offset, reason });
                false
            }
        });
        Ok(Transformed { drafts, unfit })
    }
}

impl PlainEncoder {
    fn encoded<'a>(&self, bytes: Cow<'a, [u8]>) -> Result<Option<Cow<'a, [u8]>>, String> {
        let made = match self.to {
            Form::String => match self.encoding.encode(&bytes)? {
                Some(made) => made,
                None => return Ok(Some(bytes)),
            },
            Form::Base64 => plain::to_base64(&bytes),
            Form::ConnectJson => plain::envelope(&self.schema, &bytes)?,
            form => match form.number() {
                Some(number) => number.encode(&bytes)?,
                None => return Err("needs a schema registry".to_owned()),
            },
        };
        Ok(Some(Cow::Owned(made)))
    }
}
