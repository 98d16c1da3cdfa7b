//! A record as programs see it: `.` and `%`, made only when they are looked at.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use ::vrl::compiler::{SecretTarget, Target};
use ::vrl::path::{OwnedTargetPath, PathPrefix};
use ::vrl::prelude::{Kind, ObjectMap, Value};
use ::vrl::value::kind::{Collection, Field};
use aqueduct_api::Draft;
use bytes::Bytes;
use chrono::DateTime;

/// What `%` holds.
pub(crate) const METADATA: [&str; 6] = ["topic", "partition", "offset", "timestamp", "key", "headers"];

/// A draft as a program sees it. What the program does not look at is never converted.
#[derive(Debug)]
pub(crate) struct Event<'d, 'a> {
    draft: &'d Draft<'a>,
    value: OnceCell<Value>,
    metadata: OnceCell<Value>,
    changed: Changed,
}

/// What a program changed.
#[derive(Clone, Copy, Debug, Default)]
struct Changed {
    /// Something in `.`.
    value: bool,
    /// `.` as a whole.
    whole: bool,
    /// Something in `%`.
    metadata: bool,
}

/// What a program left of an event.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// `.`, where it was changed.
    pub(crate) value: Option<Value>,
    /// Whether `.` was assigned as a whole.
    pub(crate) whole: bool,
    /// `%`, where it was changed.
    pub(crate) metadata: Option<Value>,
}

impl<'d, 'a> Event<'d, 'a> {
    /// The event of a draft.
    pub(crate) fn of(draft: &'d Draft<'a>) -> Self {
        Event { draft, value: OnceCell::new(), metadata: OnceCell::new(), changed: Changed::default() }
    }

    /// What the program left of it.
    pub(crate) fn left(self) -> Left {
        Left {
            value: self.value.into_inner().filter(|_| self.changed.value),
            whole: self.changed.whole,
            metadata: self.metadata.into_inner().filter(|_| self.changed.metadata),
        }
    }

    fn part(&self, prefix: PathPrefix) -> &Value {
        match prefix {
            PathPrefix::Event => self.value.get_or_init(|| value(self.draft)),
            PathPrefix::Metadata => self.metadata.get_or_init(|| metadata(self.draft)),
        }
    }

    /// The part, which is about to be changed.
    fn part_mut(&mut self, prefix: PathPrefix) -> Option<&mut Value> {
        self.part(prefix);
        match prefix {
            PathPrefix::Event => {
                self.changed.value = true;
                self.value.get_mut()
            }
            PathPrefix::Metadata => {
                self.changed.metadata = true;
                self.metadata.get_mut()
            }
        }
    }
}

fn text(bytes: &[u8]) -> Value {
    Value::Bytes(Bytes::copy_from_slice(bytes))
}

fn nullable(bytes: Option<&[u8]>) -> Value {
    bytes.map_or(Value::Null, text)
}

fn value(draft: &Draft<'_>) -> Value {
    Value::Object(ObjectMap::from([("message".into(), nullable(draft.value.as_deref()))]))
}

/// What `%headers` holds: of a name that repeats, the last.
pub(crate) fn headers(draft: &Draft<'_>) -> ObjectMap {
    draft.headers.iter().map(|(name, value)| (name.as_ref().into(), nullable(value.as_deref()))).collect()
}

fn metadata(draft: &Draft<'_>) -> Value {
    // -1 is Kafka's way to say that there is none.
    let time = (draft.timestamp >= 0).then(|| DateTime::from_timestamp_millis(draft.timestamp)).flatten();
    Value::Object(ObjectMap::from([
        ("topic".into(), text(draft.topic.as_bytes())),
        ("partition".into(), draft.partition.map_or(Value::Null, |partition| Value::Integer(partition.into()))),
        ("offset".into(), Value::Integer(draft.offset)),
        ("timestamp".into(), time.map_or(Value::Null, Value::Timestamp)),
        ("key".into(), nullable(draft.key.as_deref())),
        ("headers".into(), Value::Object(headers(draft))),
    ]))
}

/// What the compiler may take for granted of `.` and `%`. Fields that are not there may be asked for, as whoever brings a
/// program from elsewhere does; so may fields of `%`, which are looked at apart.
pub(crate) fn kinds() -> (Kind, Kind) {
    let value = fields([("message", Kind::bytes().or_null())]);
    let metadata = fields([
        ("topic", Kind::bytes()),
        ("partition", Kind::integer().or_null()),
        ("offset", Kind::integer()),
        ("timestamp", Kind::timestamp().or_null()),
        ("key", Kind::bytes().or_null()),
        ("headers", Kind::object(Collection::from_unknown(Kind::bytes().or_null()))),
    ]);
    (value, metadata)
}

fn fields<const N: usize>(known: [(&str, Kind); N]) -> Kind {
    let known: BTreeMap<Field, Kind> = known.into_iter().map(|(name, kind)| (name.into(), kind)).collect();
    let mut fields = Collection::from(known);
    fields.set_unknown(Kind::any());
    Kind::object(fields)
}

impl Target for Event<'_, '_> {
    fn target_insert(&mut self, path: &OwnedTargetPath, value: Value) -> Result<(), String> {
        if path.prefix == PathPrefix::Event && path.path.is_root() {
            self.changed.value = true;
            self.changed.whole = true;
            self.value = OnceCell::from(value);
            return Ok(());
        }
        if let Some(part) = self.part_mut(path.prefix) {
            part.insert(&path.path, value);
        }
        Ok(())
    }

    fn target_get(&self, path: &OwnedTargetPath) -> Result<Option<&Value>, String> {
        Ok(self.part(path.prefix).get(&path.path))
    }

    fn target_get_mut(&mut self, path: &OwnedTargetPath) -> Result<Option<&mut Value>, String> {
        Ok(self.part_mut(path.prefix).and_then(|part| part.get_mut(&path.path)))
    }

    fn target_remove(&mut self, path: &OwnedTargetPath, compact: bool) -> Result<Option<Value>, String> {
        Ok(self.part_mut(path.prefix).and_then(|part| part.remove(&path.path, compact)))
    }
}

/// Programs have no secrets: nothing that is allowed asks for one.
impl SecretTarget for Event<'_, '_> {
    fn get_secret(&self, _: &str) -> Option<&str> {
        None
    }

    fn insert_secret(&mut self, _: &str, _: &str) {}

    fn remove_secret(&mut self, _: &str) {}
}
