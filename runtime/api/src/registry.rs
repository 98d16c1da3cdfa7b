//! The connectors of this binary, by name.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use async_trait::async_trait;
use schemars::Schema;
use serde_json::Value;

use crate::{
    Error, NamedBy, Problem, Result, Settings, Sink, SinkOpening, SinkSettings, Source, SourceOpening, SourceSettings,
    Transform, TransformOpening, TransformSettings,
};

/// The connectors of a binary: one explicit list, in the binary.
#[derive(Default)]
pub struct Registry {
    /// By name.
    pub sources: BTreeMap<&'static str, Box<dyn SourceConnector>>,
    /// By name.
    pub sinks: BTreeMap<&'static str, Box<dyn SinkConnector>>,
    /// By name.
    pub transforms: BTreeMap<&'static str, Box<dyn TransformKind>>,
}

impl Registry {
    /// Adds a source.
    pub fn source<S: SourceSettings>(mut self) -> Self {
        self.sources.insert(S::NAME, Box::new(Typed::<S>(PhantomData)));
        self
    }

    /// Adds a sink.
    pub fn sink<S: SinkSettings>(mut self) -> Self {
        self.sinks.insert(S::NAME, Box::new(Typed::<S>(PhantomData)));
        self
    }

    /// Adds a transform.
    pub fn transform<S: TransformSettings>(mut self) -> Self {
        self.transforms.insert(S::NAME, Box::new(Typed::<S>(PhantomData)));
        self
    }
}

/// What connectors and transforms tell of themselves.
pub trait Described: Send + Sync {
    /// What people write after `connector:`, or what a transform is called.
    fn name(&self) -> &'static str;

    /// One sentence on what it does.
    fn summary(&self) -> &'static str;

    /// Every setting with its type, default and meaning.
    fn schema(&self) -> Schema;

    /// What is wrong with settings; a setting of the wrong type or name is one problem, told by its path.
    fn problems(&self, settings: &Value) -> Vec<Problem>;
}

/// A kind of source.
#[async_trait]
pub trait SourceConnector: Described {
    /// Opens a source with settings in which references are resolved.
    async fn open(&self, settings: Value, opening: SourceOpening) -> Result<Box<dyn Source>>;

    /// Tries permissions and credentials.
    async fn probe(&self, settings: Value, opening: SourceOpening) -> Result<Vec<String>>;
}

/// A kind of sink.
#[async_trait]
pub trait SinkConnector: Described {
    /// Opens a sink with settings in which references are resolved.
    async fn open(&self, settings: Value, opening: SinkOpening) -> Result<Box<dyn Sink>>;

    /// Tries permissions and credentials.
    async fn probe(&self, settings: Value, opening: SinkOpening) -> Result<Vec<String>>;

    /// By what it names what it writes.
    fn named_by(&self) -> NamedBy;

    /// Where it writes under which names, see [`SinkSettings::destination`].
    fn destination(&self, settings: Value, opening: &SinkOpening) -> Result<Option<String>>;

    /// Those of the settings that shape names or bytes.
    fn shaping(&self, settings: &Value) -> Value {
        let marks = self.schema();
        match settings {
            Value::Object(settings) => {
                settings.iter().filter(|(name, _)| mark(&marks, name).unwrap_or(false)).map(clone_entry).collect()
            }
            _ => Value::Object(Default::default()),
        }
    }
}

/// A kind of transform.
pub trait TransformKind: Described {
    /// Opens a transform with settings in which references are resolved.
    fn open(&self, settings: Value, opening: TransformOpening) -> Result<Box<dyn Transform>>;

    /// Those of the settings that shape records: all but those marked `"x-shaping" = false`.
    fn shaping(&self, settings: &Value) -> Value {
        let marks = self.schema();
        match settings {
            Value::Object(settings) => {
                settings.iter().filter(|(name, _)| mark(&marks, name).unwrap_or(true)).map(clone_entry).collect()
            }
            settings => settings.clone(),
        }
    }
}

fn mark(schema: &Schema, setting: &str) -> Option<bool> {
    let setting = setting.replace('~', "~0").replace('/', "~1");
    schema.pointer(&format!("/properties/{setting}/x-shaping")).and_then(Value::as_bool)
}

fn clone_entry((name, value): (&String, &Value)) -> (String, Value) {
    (name.clone(), value.clone())
}

struct Typed<S>(PhantomData<fn() -> S>);

impl<S: Settings> Described for Typed<S> {
    fn name(&self) -> &'static str {
        S::NAME
    }

    fn summary(&self) -> &'static str {
        S::SUMMARY
    }

    fn schema(&self) -> Schema {
        schemars::schema_for!(S)
    }

    fn problems(&self, settings: &Value) -> Vec<Problem> {
        match read::<S>(settings.clone()) {
            Ok(settings) => settings.problems(),
            Err(problem) => vec![problem],
        }
    }
}

#[async_trait]
impl<S: SourceSettings> SourceConnector for Typed<S> {
    async fn open(&self, settings: Value, opening: SourceOpening) -> Result<Box<dyn Source>> {
        checked::<S>(settings)?.open(opening).await
    }

    async fn probe(&self, settings: Value, opening: SourceOpening) -> Result<Vec<String>> {
        checked::<S>(settings)?.probe(opening).await
    }
}

#[async_trait]
impl<S: SinkSettings> SinkConnector for Typed<S> {
    async fn open(&self, settings: Value, opening: SinkOpening) -> Result<Box<dyn Sink>> {
        checked::<S>(settings)?.open(opening).await
    }

    async fn probe(&self, settings: Value, opening: SinkOpening) -> Result<Vec<String>> {
        checked::<S>(settings)?.probe(opening).await
    }

    fn named_by(&self) -> NamedBy {
        S::NAMED_BY
    }

    fn destination(&self, settings: Value, opening: &SinkOpening) -> Result<Option<String>> {
        Ok(checked::<S>(settings)?.destination(opening))
    }
}

impl<S: TransformSettings> TransformKind for Typed<S> {
    fn open(&self, settings: Value, opening: TransformOpening) -> Result<Box<dyn Transform>> {
        checked::<S>(settings)?.open(opening)
    }
}

fn read<S: Settings>(settings: Value) -> Result<S, Problem> {
    serde_path_to_error::deserialize(settings).map_err(|error| {
        let setting = error.path().to_string();
        Problem::new(setting, error.into_inner().to_string())
    })
}

fn checked<S: Settings>(settings: Value) -> Result<S> {
    let told = |problem: Problem| Error::fatal(format!("setting {}: {}", problem.setting, problem.message));
    let settings = read::<S>(settings).map_err(told)?;
    match settings.problems().into_iter().next() {
        Some(problem) => Err(told(problem)),
        None => Ok(settings),
    }
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde::Deserialize;
    use serde_json::json;

    use super::*;
    use crate::Outcome;

    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Nowhere {
        /// Where to.
        #[schemars(extend("x-shaping" = true))]
        path: String,
        /// How often.
        #[serde(default)]
        retries: u32,
    }

    impl Settings for Nowhere {
        const NAME: &'static str = "nowhere";
        const SUMMARY: &'static str = "forgets what it is given";

        fn problems(&self) -> Vec<Problem> {
            if self.path.is_empty() { vec![Problem::new("path", "is empty")] } else { Vec::new() }
        }
    }

    struct NowhereSink;

    #[async_trait]
    impl Sink for NowhereSink {
        async fn write(&self, _: &mut [crate::Chunk]) -> Result<Outcome> {
            Ok(Outcome::default())
        }
    }

    #[async_trait]
    impl SinkSettings for Nowhere {
        async fn open(self, _: SinkOpening) -> Result<Box<dyn Sink>> {
            Ok(Box::new(NowhereSink))
        }

        async fn probe(&self, _: SinkOpening) -> Result<Vec<String>> {
            Ok(Vec::new())
        }

        fn destination(&self, _: &SinkOpening) -> Option<String> {
            Some(format!("{}#{}", self.path, self.retries))
        }
    }

    #[test]
    fn problems_name_the_setting() {
        let registry = Registry::default().sink::<Nowhere>();
        let connector = &registry.sinks["nowhere"];
        let problem = |settings| connector.problems(&settings).pop().map(|problem| (problem.setting, problem.message));
        assert_eq!(problem(json!({"path": "x"})), None);
        assert_eq!(problem(json!({"path": ""})), Some(("path".into(), "is empty".into())));
        assert_eq!(problem(json!({"path": "x", "retries": "y"})).unwrap().0, "retries");
        assert!(problem(json!({"path": "x", "retry": 1})).unwrap().1.contains("unknown field `retry`"));
    }

    #[test]
    fn only_marked_settings_are_shaping() {
        let registry = Registry::default().sink::<Nowhere>();
        assert_eq!(registry.sinks["nowhere"].shaping(&json!({"path": "x", "retries": 3})), json!({"path": "x"}));
    }
}
