//! `encode`: JSON made what a converter of another system reads.

use std::borrow::Cow;
use std::path::PathBuf;

use aqueduct_api::{
    Draft, Error, Problem, Result, Settings, Transform, TransformOpening, TransformSettings, Transformed, Trial,
};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::bounds::LARGEST_SCHEMA;
use crate::decode::registry_problems;
use crate::form::{Form, Part};
use crate::plain::{self, Encoding};
use crate::registry::{Reference, Registry};
use crate::registry_settings::{self, RegistrySettings};
use crate::schema::{self, Encoder, Kind, SchemaText};
use crate::subject::{Given, Missing, SubjectName, Subjects};

/// Writes a value or key that is JSON, or text, in another form: Avro, Protobuf or JSON with a schema in a schema registry
/// (Confluent's wire format), or as Kafka Connect's plain converters do. A null stays null, so a tombstone stays one.
///
/// The schema is what the settings say, never the newest that a registry has: a delivery that is repeated writes the same
/// bytes. It is registered when the first record comes, which changes nothing where it is known already. What does not fit
/// the schema becomes a dead letter with the reason. While the registry is away, answers 429 or 5xx, or takes too long, the
/// source or sink waits and tries again; when it refuses the schema, answers 401 or 403, or is no registry, the source or sink
/// stops and says so.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Encode {
    /// The form that it gets. With a schema registry: `avro`, `protobuf`, `json-schema`. Without: `string`, `connect-json` (an
    /// envelope with the schema that `schema` says), `boolean`, `short`, `integer`, `long`, `float`, `double`, `base64`.
    pub to: Form,
    /// Which part of the record: `value` or `key`. Default: value.
    #[serde(default)]
    pub part: Part,
    /// The schema, in its own language: `.avsc`, `.proto`, JSON Schema, or Kafka Connect's.
    pub schema: Option<String>,
    /// A file with the schema, relative to the configuration's folder, read at start. A schema that changes belongs into a
    /// file of another name: what is delivered again after a crash is written by what the file says then.
    pub schema_file: Option<PathBuf>,
    /// The version of the subject whose schema it is, in place of `schema`.
    pub version: Option<u32>,
    /// What the schema refers to: Avro's types, imports of Protobuf, `$ref` of JSON Schema.
    #[serde(default)]
    pub references: Vec<SchemaReference>,
    /// `protobuf`: the full name of the message. Default: the first of the schema.
    pub message: Option<String>,
    /// The subject; `{topic}` is the record's topic. Default: {topic}-value or {topic}-key.
    pub subject: Option<String>,
    /// Whether the schema is registered where the subject has it not; without, the source or sink stops and says so.
    /// Default: true.
    #[serde(default = "register")]
    #[schemars(extend("x-shaping" = false))]
    pub register: bool,
    /// What happens to fields that the schema has not, with `avro` and `protobuf`: `refuse` (a dead letter) or `drop`. Default:
    /// refuse.
    pub unknown_fields: Option<UnknownFields>,
    /// The schema registry.
    #[schemars(extend("x-shaping" = false))]
    pub registry: Option<RegistrySettings>,
    /// `string`: the encoding. Default: utf-8.
    pub encoding: Option<Encoding>,
}

/// A schema that another refers to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SchemaReference {
    /// What the schema calls it: a full name, the path of an import, a `$ref`.
    pub name: String,
    /// The subject that has it.
    pub subject: String,
    /// Its version there.
    pub version: u32,
}

/// What happens to fields that a schema has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownFields {
    /// The record becomes a dead letter.
    Refuse,
    /// They are left out.
    Drop,
}

fn register() -> bool {
    true
}

impl Settings for Encode {
    const NAME: &'static str = "encode";
    const SUMMARY: &'static str = "writes JSON as Avro, Protobuf and other forms, with a schema registry or without";

    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let kind = self.to.kind();
        let mut only = |setting: &str, is_set: bool, fits: bool, forms: &str| {
            if is_set && !fits {
                problems.push(Problem::new(setting, format!("is for {forms} alone")));
            }
        };
        let (all, has_fields) =
            ("`avro`, `protobuf` and `json-schema`", matches!(self.to, Form::Avro | Form::Protobuf));
        only("encoding", self.encoding.is_some(), self.to == Form::String, "`to: string`");
        only("message", self.message.is_some(), self.to == Form::Protobuf, "`to: protobuf`");
        only("unknown-fields", self.unknown_fields.is_some(), has_fields, "`avro` and `protobuf`");
        only("version", self.version.is_some(), kind.is_some(), all);
        only("subject", self.subject.is_some(), kind.is_some(), all);
        only(
            "references",
            !self.references.is_empty(),
            kind.is_some() && self.version.is_none(),
            "a schema of the settings",
        );
        problems.extend(self.schema_problems());
        if let Err(why) = self.subject() {
            problems.push(Problem::new("subject", why));
        }
        problems.extend(registry_problems(self.to, self.registry.as_ref()));
        problems
    }
}

impl Encode {
    fn schema_problems(&self) -> Option<Problem> {
        let given = [self.schema.is_some(), self.schema_file.is_some(), self.version.is_some()];
        let takes_one = self.to.kind().is_some() || self.to == Form::ConnectJson;
        match (takes_one, given.iter().filter(|given| **given).count()) {
            (false, 0) => None,
            (false, _) => {
                let setting = if self.schema_file.is_some() { "schema-file" } else { "schema" };
                Some(Problem::new(setting, "is for forms with a schema alone"))
            }
            (true, 0) => Some(Problem::new("schema", "is missing: one of `schema`, `schema-file` and `version`")),
            (true, 1) => self.text_problem(self.schema.as_deref()?, "schema"),
            (true, _) => Some(Problem::new("schema", "`schema`, `schema-file` and `version` exclude each other")),
        }
    }

    /// What is wrong with the text of the schema, as far as it can be told without those that it refers to.
    fn text_problem(&self, text: &str, setting: &str) -> Option<Problem> {
        match self.to.kind() {
            None => connect_schema(text).err().map(|wrong| wrong.problem(setting)),
            Some(_) if !self.references.is_empty() => None,
            Some(kind) => {
                let schema = SchemaText { kind, text: text.to_owned(), referred: Vec::new() };
                Encoder::compile(&schema, self.message.as_deref()).err().map(|wrong| wrong.problem(setting))
            }
        }
    }

    fn subject(&self) -> Result<SubjectName, String> {
        let default = format!("{{topic}}-{}", self.part.name());
        SubjectName::parse(self.subject.as_deref().unwrap_or(&default))
    }

    /// The schema's text; `None` where it is a version of the registry.
    fn text(&self, opening: &TransformOpening) -> Result<Option<String>> {
        let Some(path) = &self.schema_file else { return Ok(self.schema.clone()) };
        let path = opening.folder.join(path);
        let bytes = registry_settings::read("schema-file", &path, LARGEST_SCHEMA, &opening.edge)?;
        let text = String::from_utf8(bytes);
        let text = text.map_err(|_| Error::fatal(format!("setting schema-file: {} is not UTF-8", path.display())))?;
        if let Some(problem) = self.text_problem(&text, "schema-file") {
            let place = problem.at.map(|(line, column)| format!(":{line}:{column}")).unwrap_or_default();
            let path = path.display();
            return Err(Error::fatal(format!("setting schema-file: {path}{place}: {}", problem.message)));
        }
        Ok(Some(text))
    }
}

/// Kafka Connect's schema is JSON, and says of which type it is.
fn connect_schema(text: &str) -> Result<(), schema::Wrong> {
    match schema::json(text)?.get("type") {
        Some(serde_json::Value::String(_)) => Ok(()),
        _ => Err("has no `type`, expected for example {\"type\": \"string\"}".to_owned().into()),
    }
}

impl TransformSettings for Encode {
    fn open(self, opening: TransformOpening) -> Result<Box<dyn Transform>> {
        let text = self.text(&opening)?;
        let part = self.part;
        let (Some(kind), Some(settings)) = (self.to.kind(), &self.registry) else {
            let (encoding, schema) = (self.encoding.unwrap_or_default(), text.unwrap_or_default());
            return Ok(Box::new(PlainEncoder { to: self.to, part, encoding, schema }));
        };
        let subject = self.subject().map_err(|why| Error::fatal(format!("setting subject: {why}")))?;
        let registry = Registry::open(settings, &opening)?;
        let given = self.given(kind, text, opening.trial)?;
        let drop_unknown = self.unknown_fields == Some(UnknownFields::Drop);
        Ok(Box::new(SchemaEncoder { subjects: Subjects::new(registry, subject, given), part, drop_unknown }))
    }
}

impl Encode {
    fn given(&self, kind: Kind, text: Option<String>, trial: Option<Trial>) -> Result<Given> {
        let message = self.message.clone();
        match (text, self.version) {
            (Some(text), _) => {
                let references = self.references.iter().map(|one| Reference {
                    name: one.name.clone(),
                    subject: one.subject.clone(),
                    version: one.version,
                });
                let references = references.collect();
                let missing = match (self.register, trial) {
                    (false, _) => Missing::Stop,
                    (true, None) => Missing::Register,
                    (true, Some(trial)) => Missing::Tell(trial),
                };
                Ok(Given::Text { kind, text, references, message, missing })
            }
            (None, Some(version)) => Ok(Given::Version { kind, version, message }),
            (None, None) => Err(Error::fatal("setting schema: is missing")),
        }
    }
}

/// The transform, to what has a schema.
struct SchemaEncoder {
    subjects: Subjects,
    part: Part,
    drop_unknown: bool,
}

#[async_trait]
impl Transform for SchemaEncoder {
    async fn apply<'a>(&self, drafts: Vec<Draft<'a>>) -> Result<Transformed<'a>> {
        let topics = drafts.iter().filter(|draft| self.part.of(draft).is_some()).map(|draft| draft.topic.as_ref());
        let ready = self.subjects.of(topics).await?;
        Ok(self.part.replace_all(drafts, |topic, bytes| {
            let ready = ready.get(topic).ok_or_else(|| format!("is of the topic {topic}, which has no subject"))?;
            Ok(Some(Cow::Owned(ready.write(self.drop_unknown, &bytes)?)))
        }))
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
    async fn apply<'a>(&self, drafts: Vec<Draft<'a>>) -> Result<Transformed<'a>> {
        if self.to.kind().is_some() {
            return Err(Error::fatal("setting registry: is missing"));
        }
        Ok(self.part.replace_all(drafts, |_, bytes| Ok(self.encoded(bytes)?)))
    }
}

impl PlainEncoder {
    fn encoded<'a>(&self, bytes: Cow<'a, [u8]>) -> Result<Option<Cow<'a, [u8]>>, String> {
        let made = match (self.to, self.to.number()) {
            (_, Some(number)) => number.encode(&bytes)?,
            (Form::Base64, _) => plain::to_base64(&bytes),
            (Form::ConnectJson, _) => plain::envelope(&self.schema, &bytes)?,
            _ => match self.encoding.encode(&bytes)? {
                Some(made) => made,
                None => return Ok(Some(bytes)),
            },
        };
        Ok(Some(Cow::Owned(made)))
    }
}
