//! Subjects of a registry: under which id a topic's records are written.

use std::collections::HashMap;
use std::sync::Arc;

use aqueduct_api::{Error, Result, Trial};
use parking_lot::Mutex;

use crate::references;
use crate::registry::{self, Answer, Reference, Registered, Registry};
use crate::schema::{Encoder, Kind, SchemaText};
use crate::wire;

/// The most subjects that are kept in memory.
const MOST: usize = 10_000;

const TOPIC: &str = "{topic}";

/// What a record's schema is.
pub(crate) enum Given {
    /// What the settings say.
    Text { kind: Kind, text: String, references: Vec<Reference>, message: Option<String>, missing: Missing },
    /// A version of the subject.
    Version { kind: Kind, version: u32, message: Option<String> },
}

/// What happens where a subject has not the schema of the settings.
pub(crate) enum Missing {
    /// It is registered.
    Register,
    /// The source or sink stops.
    Stop,
    /// It is told that it would be registered.
    Tell(Trial),
}

/// What stands in a frame for the id that a schema would get.
const PLACEHOLDER: u32 = 0;

/// The name of a subject, in which `{topic}` stands for a topic.
#[derive(Debug)]
pub(crate) struct SubjectName(String);

impl SubjectName {
    /// # Errors
    /// Why it is none.
    pub(crate) fn parse(text: &str) -> Result<SubjectName, String> {
        let rest = text.replace(TOPIC, "");
        match text.is_empty() || rest.contains(['{', '}']) {
            true => Err(format!("`{text}` is no subject: it may be made of `{TOPIC}` and text alone")),
            false => Ok(SubjectName(text.to_owned())),
        }
    }

    fn of(&self, topic: &str) -> String {
        self.0.replace(TOPIC, topic)
    }
}

/// A subject that records can be written for.
pub(crate) struct Ready {
    id: u32,
    encoder: Arc<Encoder>,
}

/// The subjects of topics.
pub(crate) struct Subjects {
    registry: Registry,
    subject: SubjectName,
    given: Given,
    ready: Mutex<HashMap<String, Arc<Ready>>>,
    /// That of a schema of the settings: the same for all subjects.
    encoder: Mutex<Option<Arc<Encoder>>>,
}

impl Ready {
    /// The frame and payload of JSON.
    pub(crate) fn write(&self, drop_unknown: bool, json: &[u8]) -> Result<Vec<u8>, String> {
        let mut out = Vec::with_capacity(json.len());
        wire::begin(self.id, &mut out);
        self.encoder.write(drop_unknown, json, &mut out)?;
        Ok(out)
    }
}

impl Subjects {
    /// None is looked for yet.
    pub(crate) fn new(registry: Registry, subject: SubjectName, given: Given) -> Self {
        Subjects { registry, subject, given, ready: Mutex::default(), encoder: Mutex::default() }
    }

    /// What writes the records of each of some topics.
    pub(crate) async fn of<'t>(&self, topics: impl Iterator<Item = &'t str>) -> Result<HashMap<String, Arc<Ready>>> {
        let mut found: HashMap<String, Arc<Ready>> = HashMap::new();
        for topic in topics {
            if !found.contains_key(topic) {
                found.insert(topic.to_owned(), self.one(topic).await?);
            }
        }
        Ok(found)
    }

    async fn one(&self, topic: &str) -> Result<Arc<Ready>> {
        let subject = self.subject.of(topic);
        if let Some(ready) = self.ready.lock().get(&subject) {
            return Ok(ready.clone());
        }
        let ready = match &self.given {
            Given::Text { kind, text, references, message, missing } => {
                let encoder = self.encoder(*kind, text, references, message.as_deref()).await?;
                let id = self.id(&subject, missing, &registry::body(kind.name(), text, references)).await?;
                Ready { id, encoder }
            }
            Given::Version { kind, version, message } => {
                self.version(&subject, *kind, *version, message.as_deref()).await?
            }
        };
        let ready = Arc::new(ready);
        let mut kept = self.ready.lock();
        if kept.len() >= MOST {
            kept.clear();
        }
        kept.insert(subject, ready.clone());
        Ok(ready)
    }

    async fn encoder(
        &self,
        kind: Kind,
        text: &str,
        references: &[Reference],
        message: Option<&str>,
    ) -> Result<Arc<Encoder>> {
        if let Some(encoder) = &*self.encoder.lock() {
            return Ok(encoder.clone());
        }
        let referred = references::required(&self.registry, references).await?;
        let schema = SchemaText { kind, text: text.to_owned(), referred };
        let compiled = Encoder::compile(&schema, message);
        let compiled = compiled.map_err(|wrong| Error::fatal(format!("setting schema: {}", wrong.told())))?;
        let encoder = Arc::new(compiled);
        *self.encoder.lock() = Some(encoder.clone());
        Ok(encoder)
    }

    /// The id of the schema of the settings.
    async fn id(&self, subject: &str, missing: &Missing, body: &serde_json::Value) -> Result<u32> {
        let answer = match missing {
            Missing::Register => self.registry.register(subject, body).await?,
            Missing::Stop | Missing::Tell(_) => self.registry.find(subject, body).await?,
        };
        match (answer, missing) {
            (Answer::Is(id), _) => Ok(id),
            (Answer::TooLarge, _) => Err(Error::fatal(format!("the answer about {subject} is too large"))),
            (Answer::Not(why), Missing::Register) => {
                Err(Error::fatal(format!("the schema can not be registered in {subject}: {why}")))
            }
            (Answer::Not(why), Missing::Stop) => Err(Error::fatal(format!(
                "the subject {subject} has not the schema of the settings: register it, or say `register: true` ({why})"
            ))),
            (Answer::Not(_), Missing::Tell(trial)) => {
                trial.tell(format!(
                    "the schema registry does not know the schema yet, and is left as it is: a run would register in {subject} \
                     {body}; {PLACEHOLDER} stands for the id that it would get"
                ));
                Ok(PLACEHOLDER)
            }
        }
    }

    async fn version(&self, subject: &str, kind: Kind, version: u32, message: Option<&str>) -> Result<Ready> {
        let stop = |why: String| Error::fatal(format!("setting version: version {version} of {subject}: {why}"));
        let registered = match self.registry.version(subject, version).await? {
            Answer::Is(registered) => registered,
            Answer::Not(why) => return Err(stop(why)),
            Answer::TooLarge => return Err(stop("is too large".to_owned())),
        };
        let Registered { schema, kind: found, references, id } = registered;
        if Kind::of(found.as_deref()) != Some(kind) {
            let found = found.as_deref().unwrap_or(Kind::Avro.name());
            return Err(stop(format!("is of type {found}, expected {}", kind.name())));
        }
        let id = id.ok_or_else(|| stop("the registry says no id".to_owned()))?;
        let referred = references::fetch(&self.registry, &references.unwrap_or_default()).await?;
        let referred = referred.map_err(stop)?;
        let compiled = Encoder::compile(&SchemaText { kind, text: schema, referred }, message);
        Ok(Ready { id, encoder: Arc::new(compiled.map_err(|wrong| stop(wrong.told()))?) })
    }
}
