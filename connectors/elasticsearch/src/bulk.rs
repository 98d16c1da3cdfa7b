//! The answer to a bulk request, read as what it claims to be alone: one item for each action, in their order.

use std::fmt;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::answer::Problem;
use crate::document::{Action, Kind, id_mark};

/// What became of one action, under the name of what was to be done.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Item {
    Index(Answered),
    Create(Answered),
    Update(Answered),
    Delete(Answered),
}

/// What is said of one action. Without a status it is no answer; which document it is about only some proxy leaves out.
#[derive(Debug, Deserialize)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) error: Option<Problem>,
    #[serde(default, rename = "_id", deserialize_with = "mark")]
    id: Option<u64>,
}

/// Reads the answer to the actions; the error says how it makes no sense.
pub(crate) fn read(body: &[u8], actions: &[Action]) -> Result<Vec<Answered>, String> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let items = Answer { most: actions.len() }.deserialize(&mut json).and_then(|items| json.end().map(|()| items));
    // What answers 200 and means something else often says what.
    let items = items.map_err(|cause| format!("an answer that is none: {cause}: {}", Problem::of(body).told()))?;
    if items.len() != actions.len() {
        return Err(format!("an answer for {} actions to a request of {}", items.len(), actions.len()));
    }
    let mut answered = Vec::with_capacity(items.len());
    for (item, action) in items.into_iter().zip(actions) {
        let (kind, item) = item.parts();
        if kind != action.kind || item.id.is_some_and(|id| id != action.id) {
            return Err(format!(
                "an answer that tells of another document where offset {} is due: a pipeline must leave `_id` as it is",
                action.offset
            ));
        }
        answered.push(item);
    }
    Ok(answered)
}

impl Item {
    fn parts(self) -> (Kind, Answered) {
        match self {
            Item::Index(answered) => (Kind::Index, answered),
            Item::Create(answered) => (Kind::Create, answered),
            Item::Update(answered) => (Kind::Update, answered),
            Item::Delete(answered) => (Kind::Delete, answered),
        }
    }
}

/// `{"items": […]}` with at most so many items: more are not kept only to be counted.
#[derive(Clone, Copy)]
struct Answer {
    most: usize,
}

impl<'de> DeserializeSeed<'de> for Answer {
    type Value = Vec<Item>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Vec<Item>, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Answer {
    type Value = Vec<Item>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer to a bulk request")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<Item>, A::Error> {
        let mut items = None;
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match &*key {
                "items" => items = Some(map.next_value_seed(Items(self))?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        items.ok_or_else(|| A::Error::missing_field("items"))
    }
}

struct Items(Answer);

impl<'de> DeserializeSeed<'de> for Items {
    type Value = Vec<Item>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Vec<Item>, D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items {
    type Value = Vec<Item>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} items", self.0.most)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<Item>, A::Error> {
        let mut items = Vec::with_capacity(self.0.most);
        while let Some(item) = seq.next_element()? {
            if items.len() == self.0.most {
                return Err(A::Error::custom(format!("more than {} items", self.0.most)));
            }
            items.push(item);
        }
        Ok(items)
    }
}

/// Of an id only what tells it from others is kept.
fn mark<'de, D: Deserializer<'de>>(json: D) -> Result<Option<u64>, D::Error> {
    let id = Option::<std::borrow::Cow<'de, str>>::deserialize(json)?;
    Ok(id.map(|id| id_mark(&id)))
}
