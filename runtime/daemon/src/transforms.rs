//! What the transforms of a configuration say about their settings.

use aqueduct_api::{Edge, Registry, TransformOpening};

use crate::diagnosis;
use crate::problems::{Problem, Step};
use crate::references::References;
use crate::scalar;
use crate::tree::{Entry, Kind, Node};

/// The transforms of a source or sink, with the way to each from the configuration's root. What has not the shape of one
/// is told when the whole is read.
pub(crate) fn of<'a>(section: &str, entry: &'a Entry) -> Vec<(Vec<Step>, &'a Entry)> {
    let Some(list) = entry.value.entry("transforms") else { return Vec::new() };
    let Kind::List(items) = &list.value.kind else { return Vec::new() };
    let way = [section, &entry.key, "transforms"].map(|key| Step::Key(key.to_owned()));
    let one = |(index, item): (usize, &'a Node)| match item.entries() {
        [transform] => {
            let inner = [Step::Index(index), Step::Key(transform.key.clone())];
            Some((way.iter().cloned().chain(inner).collect(), transform))
        }
        _ => None,
    };
    items.iter().enumerate().filter_map(one).collect()
}

/// Adds all that is wrong with the transforms of a source or sink.
pub(crate) fn check(
    section: &str,
    entry: &Entry,
    registry: &Registry,
    references: &References,
    problems: &mut Vec<Problem>,
) {
    for (way, transform) in of(section, entry) {
        let name = transform.key.as_str();
        let Some(kind) = registry.transforms.get(name) else {
            let names: Vec<String> = registry.transforms.keys().map(|name| (*name).to_owned()).collect();
            problems.push(Problem::at(&transform.place, &way, diagnosis::unknown("transform", name, &names)));
            continue;
        };
        // What does not resolve was told already.
        let Ok(settings) = references.resolve(&transform.value.json()) else { continue };
        let found = kind.problems(&settings);
        if found.is_empty() {
            // Files that settings name are read here alone.
            let opening = TransformOpening { folder: references.folder.clone(), edge: Edge::real(), trial: None };
            if let Err(cause) = kind.open(settings.clone(), opening) {
                problems.push(Problem::at(&transform.place, &way, cause.to_string()));
            }
        }
        if found.is_empty() && section == "sinks" && aqueduct_transforms::changes_topic(name, &settings) {
            let message = "changes the topic, which only makes sense on the way from a source: on the way to a sink a \
                           record stays of the topic that it was read from";
            problems.push(Problem::at(&transform.place, &way, message));
        }
        problems.extend(found.into_iter().map(|problem| placed(&transform.value, &way, problem)));
    }
}

/// The problem of a transform where it stands in the file.
fn placed(settings: &Node, way: &[Step], problem: aqueduct_api::Problem) -> Problem {
    let inner = settings.steps(problem.setting.trim_start_matches('.'));
    let message = diagnosis::told(&problem.message);
    let about_key = message.starts_with("unknown key") || message.starts_with("missing key");
    let node = settings.at(&inner);
    let place = match (problem.at, node.map(|node| (&node.place, &node.kind))) {
        (Some(at), Some((place, Kind::Text(text)))) => scalar::inside(place, text, at),
        _ => settings.place_of(&inner, about_key).clone(),
    };
    Problem::at(&place, &way.iter().cloned().chain(inner).collect::<Vec<_>>(), message)
}
