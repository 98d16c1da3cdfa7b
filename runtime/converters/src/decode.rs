//! `decode`: JSON of what a converter of another system wrote.

use std::borrow::Cow;

use aqueduct_api::{
    Draft, Error, Problem, Result, Settings, Transform, TransformOpening, TransformSettings, Transformed,
};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::form::{Form, Misfit, Part};
use crate::known::{Known, Schemas};
use crate::plain::{self, Encoding};
use crate::registry::Registry;
use crate::registry_settings::RegistrySettings;
use crate::style::{Style, Written};
use crate::wire::Frame;

/// Makes JSON, or text, of a value or key that is written in another form: Avro, Protobuf or JSON with a schema in a schema
/// registry (Confluent's wire format: a zero, four bytes of the schema's id, the payload), or what Kafka Connect's plain
/// converters write. A null stays null, so a tombstone stays one.
///
/// Bytes that are not in the form become a dead letter with the reason; so does an id that the registry does not know.
/// While the registry is away, answers 429 or 5xx, or takes too long, the source or sink waits and tries again; when it
/// answers 401 or 403, or is no registry, the source or sink stops and says so. A schema is asked for once and kept.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Decode {
    /// The form that it is in. With a schema registry: `avro`, `protobuf`, `json-schema`. Without: `string` (Connect's
    /// `StringConverter`), `connect-json` (its `JsonConverter` with `schemas.enable`: the payload is what is left), `boolean`,
    /// `short`, `integer`, `long`, `float`, `double` (its converters of these names), `base64` (what is left are the bytes).
    pub from: Form,
    /// Which part of the record: `value` or `key`. Default: value.
    #[serde(default)]
    pub part: Part,
    /// The schema registry.
    #[schemars(extend("x-shaping" = false))]
    pub registry: Option<RegistrySettings>,
    /// `avro`: whether decimals become `text` or a `number` of JSON, whose digits few programs keep. Default: text.
    pub decimals: Option<Written>,
    /// `avro`: whether dates and times become `text` (`2026-11-21T12:00:00.000Z`) or the `number` that they are, of days, or of
    /// milli-, micro- or nanoseconds. Default: text.
    pub times: Option<Written>,
    /// `string`: the encoding; the result is UTF-8. Default: utf-8.
    pub encoding: Option<Encoding>,
}

impl Settings for Decode {
    const NAME: &'static str = "decode";
    const SUMMARY: &'static str = "makes JSON of Avro, Protobuf and other forms, with a schema registry or without";

    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut only = |setting: &str, is_set: bool, form: Form, name: &str| {
            if is_set && self.from != form {
                problems.push(Problem::new(setting, format!("is for `from: {name}` alone")));
            }
        };
        only("encoding", self.encoding.is_some(), Form::String, "string");
        only("decimals", self.decimals.is_some(), Form::Avro, "avro");
        only("times", self.times.is_some(), Form::Avro, "avro");
        problems.extend(registry_problems(self.from, self.registry.as_ref()));
        problems
    }
}

/// What is wrong with the registry of a form.
pub(crate) fn registry_problems(form: Form, registry: Option<&RegistrySettings>) -> Vec<Problem> {
    match (form.kind(), registry) {
        (Some(_), None) => vec![Problem::new("registry", "is missing: `registry: { url: … }` says where schemas are")],
        (None, Some(_)) => vec![Problem::new("registry", "is for `avro`, `protobuf` and `json-schema` alone")],
        (_, Some(registry)) => registry.problems(),
        (None, None) => Vec::new(),
    }
}

impl TransformSettings for Decode {
    fn open(self, opening: TransformOpening) -> Result<Box<dyn Transform>> {
        let Decode { from, part, registry, decimals, times, encoding } = self;
        let (Some(kind), Some(settings)) = (from.kind(), registry) else {
            return Ok(Box::new(PlainDecoder { from, part, encoding: encoding.unwrap_or_default() }));
        };
        let registry = Registry::open(&settings, &opening)?;
        let style = Style { decimals: decimals.unwrap_or_default(), times: times.unwrap_or_default() };
        Ok(Box::new(SchemaDecoder { schemas: Schemas::new(registry, kind, settings.cache as usize), style, part }))
    }
}

/// The transform, of what has a schema.
struct SchemaDecoder {
    schemas: Schemas,
    style: Style,
    part: Part,
}

#[async_trait]
impl Transform for SchemaDecoder {
    async fn apply<'a>(&self, drafts: Vec<Draft<'a>>) -> Result<Transformed<'a>> {
        let frames = drafts.iter().filter_map(|draft| Frame::of(self.part.of(draft)?).ok());
        let known = self.schemas.of(frames.map(|frame| frame.id).collect()).await?;
        Ok(self.part.replace_all(drafts, |_, bytes| {
            let Frame { id, payload } = Frame::of(&bytes)?;
            let told = |why: &str| format!("names the schema {id}: {why}");
            match known.get(&id).map(|known| &**known) {
                Some(Known::Schema(decoder)) => {
                    let read = decoder.read(self.style, payload);
                    read.map(|json| Some(Cow::Owned(json))).map_err(|why| format!("{why} (schema {id})").into())
                }
                Some(Known::Unusable(why)) => Err(told(why).into()),
                Some(Known::NotYet(why)) => Err(Misfit::for_now(told(why))),
                None => Err(told("it was not asked for").into()),
            }
        }))
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
    async fn apply<'a>(&self, drafts: Vec<Draft<'a>>) -> Result<Transformed<'a>> {
        if self.from.kind().is_some() {
            return Err(Error::fatal("setting registry: is missing"));
        }
        Ok(self.part.replace_all(drafts, |_, bytes| Ok(self.decoded(bytes)?)))
    }
}

impl PlainDecoder {
    fn decoded<'a>(&self, bytes: Cow<'a, [u8]>) -> Result<Option<Cow<'a, [u8]>>, String> {
        match (self.from, self.from.number()) {
            (_, Some(number)) => number.decode(&bytes).map(|text| Some(Cow::Owned(text))),
            (Form::Base64, _) => plain::from_base64(&bytes).map(|bytes| Some(Cow::Owned(bytes))),
            (Form::ConnectJson, _) => match bytes {
                Cow::Borrowed(bytes) => Ok(plain::open_envelope(bytes)?.map(Cow::Borrowed)),
                Cow::Owned(bytes) => Ok(plain::open_envelope(&bytes)?.map(|payload| Cow::Owned(payload.to_vec()))),
            },
            _ => {
                let text = self.encoding.decode(&bytes)?;
                Ok(Some(text.map_or(bytes, |text| Cow::Owned(text.into_bytes()))))
            }
        }
    }
}
