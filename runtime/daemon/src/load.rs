//! From files to a plan: everything that can be said about a configuration without running it.

pub(crate) mod listen;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aqueduct_api::{Described, Edge, Registry, TopicSettings};
use aqueduct_commit_log::Options;
use aqueduct_engine::{Engine, Plan, Resolve, TopicPlan};
use serde_json::Value;

use crate::config::{Config, Listen, LogConfig};
use crate::diagnosis;
use crate::merge;
use crate::problems::{Place, Problem, Step};
use crate::references::{Environment, References};
use crate::secrets::Secrets;
use crate::transforms;
use crate::tree::{Entry, Kind, Node};

/// How long retention spares partitions that were just made: sinks look for new ones every second.
const SPARE_NEW: Duration = Duration::from_secs(10);

/// A configuration in which nothing wrong was found.
#[derive(Clone)]
pub(crate) struct Loaded {
    /// What it says, but for the settings of connectors with their references resolved; paths are absolute.
    pub(crate) config: Config,
    /// What the engine is to run; references in settings are kept.
    pub(crate) plan: Plan,
    /// What resolves them.
    pub(crate) references: References,
    /// Where it was read from.
    pub(crate) path: PathBuf,
}

impl Loaded {
    /// How the log is opened; `owner` says for people who holds the folder.
    pub(crate) fn log_options(&self, owner: String) -> Options {
        let LogConfig { limit, when_full, .. } = self.config.log;
        Options { limit, when_full, owner, spare_new: SPARE_NEW }
    }

    /// Where temporary files go: the log removes what begins with a `~` whenever it is opened.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.config.log.path.join("~scratch")
    }

    /// Where the daemon of this configuration is to be reached from this machine.
    pub(crate) fn url(&self) -> String {
        url_of(self.config.listen.http)
    }
}

fn url_of(mut address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    format!("http://{address}")
}

/// Where the daemon of a configuration is to be reached that has problems, if they leave as much to be read.
pub(crate) fn url_of_wrong(path: &Path, environment: &Environment, secrets: &Secrets) -> Option<String> {
    let folder = folder_of(path).ok()?;
    let references = References { folder, environment: environment.clone(), secrets: secrets.clone() };
    let mut problems = Vec::new();
    let mut root = merge::read(path, &mut problems)?;
    resolve(&mut root, &references, &mut problems);
    let listen: Listen = diagnosis::attempt(&root.entry("listen")?.value.json()).ok()?;
    Some(url_of(listen.http))
}

/// Parts of the design that this version does not have: a key of the first name's mapping, `*` standing for each.
const UNSUPPORTED: [(&[&str], &str); 5] = [
    (&[], "clusters"),
    (&[], "mirrors"),
    (&["log"], "kafka"),
    (&["sources", "*"], "placement"),
    (&["sinks", "*"], "placement"),
];

/// Reads the configuration at `path`, a file or a folder. To be called on a tokio runtime.
///
/// # Errors
/// Everything that is wrong with it, in the order of the files.
pub(crate) fn load(
    path: &Path,
    registry: &Registry,
    environment: &Environment,
    secrets: &Secrets,
) -> Result<Loaded, Vec<Problem>> {
    let mut problems = Vec::new();
    let loaded = loaded(path, registry, (environment, secrets), &mut problems);
    match loaded {
        Some(loaded) if problems.is_empty() => Ok(loaded),
        _ => {
            let position = |problem: &Problem| {
                problem.place.as_ref().map(|place| (place.document.name.clone(), place.line, place.column))
            };
            problems.sort_by_key(position);
            Err(problems)
        }
    }
}

fn loaded(
    path: &Path,
    registry: &Registry,
    (environment, secrets): (&Environment, &Secrets),
    problems: &mut Vec<Problem>,
) -> Option<Loaded> {
    let folder = match folder_of(path) {
        Ok(folder) => folder,
        Err(cause) => {
            problems.push(Problem::of(path.display().to_string(), cause.to_string()));
            return None;
        }
    };
    let references = References { folder: folder.clone(), environment: environment.clone(), secrets: secrets.clone() };
    let mut root = merge::read(path, problems)?;
    leave_out_empty(&mut root);
    for (within, key) in UNSUPPORTED {
        refuse(&mut root, within, key, &mut Vec::new(), problems);
    }
    check_names(&root, problems);
    remember_secrets(&root, registry, secrets);
    resolve(&mut root, &references, problems);
    let topics = read_topics(&root, problems);
    let config = diagnosis::read::<Config>(&without(&root, "topics"), problems);
    check_settings(&root, registry, &references, problems);
    let mut config = Config { topics: topics?, ..config? };
    config.log.path = normal(&folder.join(&config.log.path));
    config.log_file = config.log_file.map(|file| normal(&folder.join(file)));
    check_listen(&root, &config, problems);
    let plan =
        Plan { folder, topics: config.topics.clone(), sources: config.sources.clone(), sinks: config.sinks.clone() };
    check_plan(&root, registry, &references, &plan, problems);
    Some(Loaded { config, plan, references, path: path.to_owned() })
}

/// The absolute folder that relative paths of a configuration start at.
fn folder_of(path: &Path) -> std::io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let folder = if path.is_dir() { Some(path.as_path()) } else { path.parent() };
    folder.unwrap_or(Path::new("/")).canonicalize()
}

/// The path without `.` and `..`: what it begins with has no symbolic links.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(normal.pop()),
            part => normal.push(part),
        }
    }
    normal
}

/// A section in which everything is commented out says nothing.
fn leave_out_empty(root: &mut Node) {
    if let Kind::Map(entries) = &mut root.kind {
        entries.retain(|entry| !matches!(entry.value.kind, Kind::Null));
    }
}

/// Takes `key` out of the mappings at `within`, with a problem for each.
fn refuse(node: &mut Node, within: &[&str], key: &str, way: &mut Vec<Step>, problems: &mut Vec<Problem>) {
    let Kind::Map(entries) = &mut node.kind else { return };
    match within.split_first() {
        None => {
            let Some(at) = entries.iter().position(|entry| entry.key == key) else { return };
            let entry = entries.remove(at);
            way.push(Step::Key(entry.key.clone()));
            problems.push(Problem::at(&entry.place, way, format!("`{key}` is not supported yet")));
            way.pop();
        }
        Some((name, within)) => {
            for entry in entries.iter_mut().filter(|entry| *name == "*" || entry.key == *name) {
                way.push(Step::Key(entry.key.clone()));
                refuse(&mut entry.value, within, key, way, problems);
                way.pop();
            }
        }
    }
}

fn without(root: &Node, key: &str) -> Node {
    let entries = root.entries().iter().filter(|entry| entry.key != key).cloned().collect();
    Node { place: root.place.clone(), kind: Kind::Map(entries) }
}

/// The topics, one by one: serde loses the way into a flattened struct, so partitions and settings are read apart.
fn read_topics(root: &Node, problems: &mut Vec<Problem>) -> Option<BTreeMap<String, TopicPlan>> {
    let Some(section) = root.entry("topics") else { return Some(BTreeMap::new()) };
    if !matches!(section.value.kind, Kind::Map(_)) {
        let way = [Step::Key("topics".to_owned())];
        problems.push(Problem::at(&section.value.place, &way, "expected a mapping of topics by name"));
        return None;
    }
    let before = problems.len();
    let mut topics = BTreeMap::new();
    for entry in section.value.entries() {
        let way = ["topics", &entry.key].map(|key| Step::Key(key.to_owned()));
        let mut value = entry.value.json();
        let partitions = value.as_object_mut().and_then(|fields| fields.shift_remove("partitions"));
        let partitions = match partitions {
            None => Some(1),
            Some(count) => read_partitions(root, &way, count, problems),
        };
        let settings = diagnosis::all_problems(root, &way, value, topic_settings, problems);
        if let (Some(partitions), Some(settings)) = (partitions, settings) {
            topics.insert(entry.key.clone(), TopicPlan { partitions, settings });
        }
    }
    (problems.len() == before).then_some(topics)
}

fn topic_settings(value: &Value) -> Result<TopicSettings, (Vec<Step>, String)> {
    diagnosis::attempt(value).map_err(|(way, message)| match message.starts_with("unknown field") {
        true => (way, message + ", `partitions`"),
        false => (way, message),
    })
}

fn read_partitions(root: &Node, way: &[Step], count: Value, problems: &mut Vec<Problem>) -> Option<i32> {
    let partitions = count.as_i64().and_then(|count| i32::try_from(count).ok()).filter(|count| *count > 0);
    if partitions.is_none() {
        let way: Vec<Step> = way.iter().cloned().chain([Step::Key("partitions".to_owned())]).collect();
        let message = format!("expected a number of partitions, 1 or more, found {count}");
        problems.push(Problem::at(root.place_of(&way, false), &way, message));
    }
    partitions
}

/// The entries of `sources` and `sinks`, with the name of their section.
fn connectors(root: &Node) -> impl Iterator<Item = (&'static str, &Entry)> {
    ["sources", "sinks"].into_iter().flat_map(|section| {
        let entries = root.entry(section).map_or(&[][..], |entry| entry.value.entries());
        entries.iter().map(move |entry| (section, entry))
    })
}

/// Names are part of file names, metrics and groups, and mean one connector.
fn check_names(root: &Node, problems: &mut Vec<Problem>) {
    let mut known: BTreeMap<&str, &Place> = BTreeMap::new();
    for (section, entry) in connectors(root) {
        let way = [Step::Key(section.to_owned()), Step::Key(entry.key.clone())];
        let first = entry.key.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-');
        if !first || entry.key.len() > 200 || !entry.key.bytes().all(legal) {
            let expected = "expected at most 200 of `a-z`, `0-9`, `.`, `_`, `-`, the first a letter or a digit";
            problems.push(Problem::at(&entry.place, &way, format!("`{}` is not a name, {expected}", entry.key)));
        }
        if let Some(first) = known.insert(&entry.key, &entry.place) {
            let message = format!("`{}` is the name of a source too, at {first}: names are unique", entry.key);
            problems.push(Problem::at(&entry.place, &way, message));
        }
    }
}

/// The schema of the settings of a source or sink, where its connector is known.
fn schema(section: &str, entry: &Entry, registry: &Registry) -> Option<Value> {
    let Kind::Text(connector) = &entry.value.entry("connector")?.value.kind else { return None };
    let schema = match section {
        "sources" => registry.sources.get(connector.as_str())?.schema(),
        _ => registry.sinks.get(connector.as_str())?.schema(),
    };
    Some(schema.to_value())
}

fn remember_secrets(root: &Node, registry: &Registry, secrets: &Secrets) {
    if let Some(listen) = root.entry("listen") {
        secrets.remember_marked(&listen.value, &schemars::schema_for!(Listen).to_value());
    }
    for (section, entry) in connectors(root) {
        if let (Some(settings), Some(schema)) = (entry.value.entry("settings"), schema(section, entry, registry)) {
            secrets.remember_marked(&settings.value, &schema);
        }
        for (_, transform) in transforms::of(section, entry) {
            if let Some(kind) = registry.transforms.get(transform.key.as_str()) {
                secrets.remember_marked(&transform.value, &kind.schema().to_value());
            }
        }
    }
}

/// Resolves every reference but those in settings, which are only tried: the engine resolves them when it opens a
/// connector, so that a plan, and what is saved of it, never holds a secret.
fn resolve(root: &mut Node, references: &References, problems: &mut Vec<Problem>) {
    let Kind::Map(sections) = &mut root.kind else { return };
    for section in sections {
        let mut way = vec![Step::Key(section.key.clone())];
        if !matches!(section.key.as_str(), "sources" | "sinks") {
            references.apply(&mut section.value, &mut way, problems);
            continue;
        }
        let Kind::Map(connectors) = &mut section.value.kind else { continue };
        for connector in connectors {
            way.push(Step::Key(connector.key.clone()));
            if let Kind::Map(parts) = &mut connector.value.kind {
                for part in parts {
                    way.push(Step::Key(part.key.clone()));
                    match part.key.as_str() {
                        "settings" | "transforms" => references.apply(&mut part.value.clone(), &mut way, problems),
                        _ => references.apply(&mut part.value, &mut way, problems),
                    }
                    way.pop();
                }
            }
            way.pop();
        }
    }
}

/// What the connectors and transforms say about their settings.
fn check_settings(root: &Node, registry: &Registry, references: &References, problems: &mut Vec<Problem>) {
    for (section, entry) in connectors(root) {
        transforms::check(section, entry, registry, references, problems);
        let Some(connector) = entry.value.entry("connector") else { continue };
        let Kind::Text(name) = &connector.value.kind else { continue };
        let mut way = vec![Step::Key(section.to_owned()), Step::Key(entry.key.clone())];
        let (described, names): (Option<&dyn Described>, Vec<&str>) = match section {
            "sources" => {
                (registry.sources.get(name.as_str()).map(|it| &**it as _), registry.sources.keys().copied().collect())
            }
            _ => (registry.sinks.get(name.as_str()).map(|it| &**it as _), registry.sinks.keys().copied().collect()),
        };
        let Some(described) = described else {
            way.push(Step::Key("connector".to_owned()));
            let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
            let message = diagnosis::unknown("connector", name, &names);
            problems.push(Problem::at(&connector.value.place, &way, message));
            continue;
        };
        way.push(Step::Key("settings".to_owned()));
        let empty = Node { place: entry.place.clone(), kind: Kind::Map(Vec::new()) };
        let settings = entry.value.entry("settings").map_or(&empty, |settings| &settings.value);
        // What does not resolve was told already.
        let Ok(value) = references.resolve(&settings.json()) else { continue };
        let attempt = |value: &Value| match described.problems(value).into_iter().next() {
            None => Ok(()),
            Some(problem) => Err((settings.steps(problem.setting.trim_start_matches('.')), problem.message)),
        };
        diagnosis::all_problems(root, &way, value, attempt, problems);
    }
}

fn check_listen(root: &Node, config: &Config, problems: &mut Vec<Problem>) {
    for (way, message) in listen::problems(&config.listen) {
        let way: Vec<Step> = way.into_iter().map(Step::Key).collect();
        problems.push(Problem::at(root.place_of(&way, false), &way, message));
    }
}

/// What only the engine knows to be wrong, unless something there was told already.
fn check_plan(root: &Node, registry: &Registry, references: &References, plan: &Plan, problems: &mut Vec<Problem>) {
    let references = references.clone();
    let resolve: Resolve = Arc::new(move |value| references.resolve(value));
    for found in Engine::check(registry, &resolve, &Edge::real(), plan) {
        let way = root.steps(&found.setting);
        let problem = Problem::at(root.place_of(&way, false), &way, diagnosis::told(&found.message));
        let told = |known: &Problem| known.path.starts_with(&problem.path) || problem.path.starts_with(&known.path);
        if !problems.iter().any(told) {
            problems.push(problem);
        }
    }
}

#[cfg(test)]
mod tests;
