//! What is wrong with a plan, as far as can be told without touching anything.

use std::collections::BTreeMap;

use aqueduct_api::{Edge, Problem, Registry, SinkOpening};
use serde_json::Value;

use crate::glob::{Selection, is_glob};
use crate::{ChunkPlan, DeadLetterPlan, Plan, Resolve, RetryPlan, TransformPlan};

/// All problems of a plan; each names a setting by its path from the configuration's root.
pub(crate) fn check(registry: &Registry, resolve: &Resolve, edge: &Edge, plan: &Plan) -> Vec<Problem> {
    let mut check = Check { registry, resolve, edge, plan, problems: Vec::new() };
    check.topics();
    check.sources();
    check.sinks();
    check.destinations();
    check.problems
}

struct Check<'a> {
    registry: &'a Registry,
    resolve: &'a Resolve,
    edge: &'a Edge,
    plan: &'a Plan,
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn told(&mut self, setting: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem::new(setting, message));
    }

    fn topics(&mut self) {
        for (name, topic) in &self.plan.topics {
            let at = format!("topics.{name}");
            self.topic_name(&at, name);
            if topic.partitions < 1 {
                self.told(format!("{at}.partitions"), "is less than 1");
            }
            if topic.settings.dead_letters && topic.partitions > 1 {
                self.told(format!("{at}.partitions"), "is more than 1, and dead letters need exactly one partition");
            }
        }
    }

    fn sources(&mut self) {
        for (name, source) in &self.plan.sources {
            let at = format!("sources.{name}");
            self.name(&at, name);
            self.topic_name(&format!("{at}.topic"), &source.topic);
            if self.plan.topics.get(&source.topic).is_some_and(|topic| topic.settings.dead_letters) {
                self.told(format!("{at}.topic"), format!("`{}` is a topic of dead letters", source.topic));
            }
            self.transforms(&at, &source.transforms);
            self.retry(&at, &source.retry);
            self.dead_letters(&at, name, &source.dead_letters);
            match self.registry.sources.get(source.connector.as_str()) {
                Some(connector) => self.settings(&at, &source.settings, |settings| connector.problems(settings)),
                None => self.unknown(&at, &source.connector, self.registry.sources.keys().copied().collect()),
            }
        }
    }

    fn sinks(&mut self) {
        for (name, sink) in &self.plan.sinks {
            let at = format!("sinks.{name}");
            self.name(&at, name);
            if self.plan.sources.contains_key(name) {
                self.told(&at, format!("there is a source `{name}` already: names are unique among sources and sinks"));
            }
            self.inputs(&at, name);
            self.transforms(&at, &sink.transforms);
            self.chunk(&at, &sink.chunk);
            self.retry(&at, &sink.retry);
            self.dead_letters(&at, name, &sink.dead_letters);
            match self.registry.sinks.get(sink.connector.as_str()) {
                Some(connector) => self.settings(&at, &sink.settings, |settings| connector.problems(settings)),
                None => self.unknown(&at, &sink.connector, self.registry.sinks.keys().copied().collect()),
            }
        }
    }

    fn transforms(&mut self, at: &str, transforms: &[TransformPlan]) {
        for (place, TransformPlan { transform, settings }) in transforms.iter().enumerate() {
            let at = format!("{at}.transforms[{place}]");
            match self.registry.transforms.get(transform.as_str()) {
                Some(kind) => {
                    self.problems_of(format!("{at}.{transform}"), settings, |settings| kind.problems(settings))
                }
                None => {
                    let there_are = self.registry.transforms.keys().copied().collect::<Vec<_>>().join("`, `");
                    self.told(at, format!("unknown transform `{transform}`, expected one of `{there_are}`"));
                }
            }
        }
    }

    fn inputs(&mut self, at: &str, name: &str) {
        let sink = &self.plan.sinks[name];
        if sink.topics.is_empty() {
            self.told(format!("{at}.topics"), "is empty: name topics, or `*` for all");
        }
        if let Err((place, cause)) = Selection::new(&sink.topics) {
            self.told(format!("{at}.topics[{place}]"), cause);
        }
        let own = sink.dead_letters.topic(name);
        for (place, topic) in sink.topics.iter().enumerate().filter(|(_, topic)| !is_glob(topic)) {
            let at = format!("{at}.topics[{place}]");
            self.topic_name(&at, topic);
            if own.as_ref() == Some(topic) {
                self.told(at, format!("`{topic}` is where this sink's own dead letters go"));
            }
        }
    }

    fn dead_letters(&mut self, at: &str, name: &str, plan: &DeadLetterPlan) {
        let Some(topic) = plan.topic(name) else { return };
        let at = format!("{at}.dead-letters.topic");
        self.topic_name(&at, &topic);
        if let Some((source, _)) = self.plan.sources.iter().find(|(_, source)| source.topic == topic) {
            self.told(&at, format!("`{topic}` is where source `{source}` puts its records"));
        }
        if self.plan.topics.get(&topic).is_some_and(|topic| topic.partitions > 1) {
            self.told(&at, format!("`{topic}` has more than one partition"));
        }
    }

    fn chunk(&mut self, at: &str, chunk: &ChunkPlan) {
        if chunk.bytes.0 == 0 {
            self.told(format!("{at}.chunk.bytes"), "is 0");
        }
        if chunk.records == Some(0) {
            self.told(format!("{at}.chunk.records"), "is 0");
        }
    }

    fn retry(&mut self, at: &str, retry: &RetryPlan) {
        for (name, span) in [("first", retry.first), ("longest", retry.longest)] {
            if span.duration().is_none_or(|duration| duration.is_zero()) {
                self.told(format!("{at}.retry.{name}"), format!("is {span}, expected for example `100ms`"));
            }
        }
        if retry.first > retry.longest {
            self.told(format!("{at}.retry.first"), format!("is longer than `longest` ({})", retry.longest));
        }
    }

    fn settings(&mut self, at: &str, settings: &Value, problems: impl Fn(&Value) -> Vec<Problem>) {
        self.problems_of(format!("{at}.settings"), settings, problems);
    }

    fn problems_of(&mut self, at: String, settings: &Value, problems: impl Fn(&Value) -> Vec<Problem>) {
        match (self.resolve)(settings) {
            Ok(settings) => {
                for problem in problems(&settings) {
                    let setting = match problem.setting.as_str() {
                        "" | "." => at.clone(),
                        setting => format!("{at}.{setting}"),
                    };
                    self.problems.push(Problem { setting, ..problem });
                }
            }
            Err(error) => self.told(at, error.to_string()),
        }
    }

    /// Two sinks that would write the same names would take each other's objects for their own.
    fn destinations(&mut self) {
        let mut taken: BTreeMap<String, &str> = BTreeMap::new();
        for (name, sink) in &self.plan.sinks {
            let Some(connector) = self.registry.sinks.get(sink.connector.as_str()) else { continue };
            let Ok(settings) = (self.resolve)(&sink.settings) else { continue };
            let opening = SinkOpening {
                name: name.clone(),
                folder: self.plan.folder.clone(),
                scratch: self.plan.folder.clone(),
                edge: self.edge.clone(),
            };
            // What is wrong with its settings has been told.
            let Ok(Some(destination)) = connector.destination(settings, &opening) else { continue };
            let destination = format!("{} {destination}", sink.connector);
            match taken.get(&destination) {
                Some(other) => {
                    let message = format!("sink `{other}` writes the same names: give one of them another place");
                    self.problems.push(Problem::new(format!("sinks.{name}.settings"), message));
                }
                None => {
                    taken.insert(destination, name);
                }
            }
        }
    }

    fn unknown(&mut self, at: &str, connector: &str, there_are: Vec<&str>) {
        let there_are = there_are.join("`, `");
        self.told(format!("{at}.connector"), format!("unknown connector `{connector}`, expected one of `{there_are}`"));
    }

    /// A connector's name becomes part of names of topics and groups.
    fn name(&mut self, at: &str, name: &str) {
        if let Err(message) = kafka_name(name, 200) {
            self.told(at, message);
        }
    }

    fn topic_name(&mut self, at: &str, name: &str) {
        if let Err(message) = kafka_name(name, 249) {
            self.told(at, message);
        }
    }
}

/// As `org.apache.kafka.common.internals.Topic.validate`, and not one of the runtime's own.
pub(crate) fn kafka_name(name: &str, most: usize) -> Result<(), String> {
    let is_known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match name {
        "" => Err("a name is empty".to_owned()),
        "." | ".." => Err(format!("`{name}` is not a name")),
        _ if name.len() > most => Err(format!("a name is longer than {most} characters")),
        _ if name.starts_with("__") => Err(format!("`{name}` begins with `__`, which is for internal topics")),
        _ => match name.chars().find(|c| !is_known(*c)) {
            Some(c) => Err(format!("`{name}` has {c:?} in it: only letters, digits, `.`, `_` and `-` may be")),
            None => Ok(()),
        },
    }
}
