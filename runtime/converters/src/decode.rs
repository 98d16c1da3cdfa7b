//! `decode`: JSON of what a converter of another system wrote.

use std::borrow::Cow;

use aqueduct_api::{
    Draft, Problem, Result, Settings, Transform, TransformOpening, TransformSettings, Transformed, Unfit,
};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::form::{Form, Part};
use crate::plain::{self, Encoding};

/// Makes JSON, or text, of a value or key that is written in another form. A null stays null (a tombstone stays one); bytes
/// that are not in the form become a dead letter with the reason.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Decode {
    /// The form that it is in.
    pub from: Form,
    /// Which part of the record: `value` or `key`. Default: value.
    #[serde(default)]
    pub part: Part,
    /// `string`: the encoding; the result is UTF-8. Default: utf-8.
    pub encoding: Option<Encoding>,
}

impl Settings for Decode {
    const NAME: &'static str = "decode";
    const SUMMARY: &'static str = "makes JSON of Avro, Protobuf and other forms, with a schema registry";

    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.encoding.is_some() && self.from != Form::String {
            problems.push(Problem::new("encoding", "is for `from: string` alone"));
        }
        problems
    }
}

impl TransformSettings for Decode {
    fn open(self, _: TransformOpening) -> Result<Box<dyn Transform>> {
        Ok(Box::new(PlainDecoder { from: self.from, part: self.part, encoding: self.encoding.unwrap_or_default() }))
    }
}

/// The transform, of what needs no schema.
struct PlainDecoder {
    from: Form,
    part: Part,
    encoding: Encoding,
}

#[async_trait]
impl Transform for PlainDecoder {
    async fn apply<'a>(&self, mut drafts: Vec<Draft<'a>>) -> Result<Transformed<'a>> {
        let mut unfit = Vec::new();
        drafts.retain_mut(|draft| match self.part.replace(draft, |bytes| self.decoded(bytes)) {
            Ok(()) => true,
            Err(reason) => {
                unfit.push(Unfit { offset: draft.offset, reason });
                false
            }
        });
        Ok(Transformed { drafts, unfit })
    }
}

impl PlainDecoder {
    fn decoded<'a>(&self, bytes: Cow<'a, [u8]>) -> Result<Option<Cow<'a, [u8]>>, String> {
        match self.from {
            Form::String => {
                let text = self.encoding.decode(&bytes)?;
                Ok(Some(text.map_or(bytes, |text| Cow::Owned(text.into_bytes()))))
            }
            Form::Base64 => plain::from_base64(&bytes).map(|bytes| Some(Cow::Owned(bytes))),
            Form::ConnectJson => match bytes {
                Cow::Borrowed(bytes) => Ok(plain::open_envelope(bytes)?.map(Cow::Borrowed)),
                Cow::Owned(bytes) => Ok(plain::open_envelope(&bytes)?.map(|payload| Cow::Owned(payload.to_vec()))),
            },
            form => match form.number() {
                Some(number) => number.decode(&bytes).map(|text| Some(Cow::Owned(text))),
                None => Err("needs a schema registry".to_owned()),
            },
        }
    }
}
