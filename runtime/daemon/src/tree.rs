//! What a configuration says, as a tree that knows where everything stands.

use serde_json::{Map, Number, Value};

use crate::problems::{Place, Step};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Where.
    pub(crate) place: Place,
    /// What.
    pub(crate) kind: Kind,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// Nothing, or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the file; keys are unique.
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The key.
    pub(crate) key: String,
    /// Where the key stands.
    pub(crate) place: Place,
    /// What belongs to it.
    pub(crate) value: Node,
}

impl Node {
    /// The entries of a mapping; none of anything else.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.kind {
            Kind::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The entry of a mapping.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The value as JSON.
    pub(crate) fn json(&self) -> Value {
        match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(bool) => Value::Bool(*bool),
            Kind::Number(number) => Value::Number(number.clone()),
            Kind::Text(text) => Value::String(text.clone()),
            Kind::List(items) => items.iter().map(Node::json).collect(),
            Kind::Map(entries) => {
                let fields = entries.iter().map(|entry| (entry.key.clone(), entry.value.json()));
                Value::Object(fields.collect::<Map<_, _>>())
            }
        }
    }

    /// The value at `way`.
    pub(crate) fn at(&self, way: &[Step]) -> Option<&Node> {
        way.iter().try_fold(self, |node, step| match (step, &node.kind) {
            (Step::Key(name), _) => node.entry(name).map(|entry| &entry.value),
            (Step::Index(index), Kind::List(items)) => items.get(*index),
            _ => None,
        })
    }

    /// Where the key of the value at `way` stands, or the value, or the last on the way that is there.
    pub(crate) fn place_of(&self, way: &[Step], key: bool) -> &Place {
        let (mut node, mut place) = (self, &self.place);
        for step in way {
            let (named, value) = match (step, &node.kind) {
                (Step::Key(name), Kind::Map(_)) => match node.entry(name) {
                    Some(entry) => (&entry.place, &entry.value),
                    None => break,
                },
                (Step::Index(index), Kind::List(items)) => match items.get(*index) {
                    Some(item) => (&item.place, item),
                    None => break,
                },
                _ => break,
            };
            place = if key || !value.is_scalar() { named } else { &value.place };
            node = value;
        }
        place
    }

    /// The steps that a path as people write it stands for here: keys may hold dots.
    pub(crate) fn steps(&self, path: &str) -> Vec<Step> {
        let mut steps = Vec::new();
        let (mut node, mut rest) = (Some(self), path);
        while !rest.is_empty() {
            if let Some((index, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                let index = index.parse().unwrap_or(usize::MAX);
                node = node.and_then(|node| match &node.kind {
                    Kind::List(items) => items.get(index),
                    _ => None,
                });
                steps.push(Step::Index(index));
                rest = after.strip_prefix('.').unwrap_or(after);
                continue;
            }
            let follows =
                |key: &str| rest.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
            let known = node.map_or(&[][..], Node::entries).iter().filter(|entry| follows(&entry.key));
            let entry = known.max_by_key(|entry| entry.key.len());
            let length = entry.map_or_else(|| rest.find(['.', '[']).unwrap_or(rest.len()), |entry| entry.key.len());
            steps.push(Step::Key(rest[..length].to_owned()));
            node = entry.map(|entry| &entry.value);
            rest = rest[length..].strip_prefix('.').unwrap_or(&rest[length..]);
        }
        steps
    }

    fn is_scalar(&self) -> bool {
        !matches!(self.kind, Kind::List(_) | Kind::Map(_))
    }

    /// How many values it holds, itself included, and how deep they go.
    pub(crate) fn measure(&self) -> (usize, usize) {
        let children: Box<dyn Iterator<Item = &Node> + '_> = match &self.kind {
            Kind::List(items) => Box::new(items.iter()),
            Kind::Map(entries) => Box::new(entries.iter().map(|entry| &entry.value)),
            _ => Box::new(std::iter::empty()),
        };
        children.map(Node::measure).fold((1, 1), |(size, depth), (more, below)| (size + more, depth.max(below + 1)))
    }
}
