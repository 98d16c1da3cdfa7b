//! What a program left of a record, made records again.

use std::borrow::Cow;

use ::vrl::prelude::{ObjectMap, Value};
use aqueduct_api::Draft;

use crate::event::{Left, headers};
use crate::route;

/// Adds the records that a draft becomes to `made`.
///
/// # Errors
/// Why it can become none, for people; `made` is as it was.
pub(crate) fn settle<'a>(mut draft: Draft<'a>, left: Left, made: &mut Vec<Draft<'a>>) -> Result<(), String> {
    if let Some(Value::Object(fields)) = left.metadata {
        settle_metadata(&mut draft, fields)?;
    }
    let value = match left.value {
        None => {
            made.push(draft);
            return Ok(());
        }
        Some(Value::Object(mut fields)) if !left.whole && is_only_message(&fields) => {
            fields.remove("message").unwrap_or(Value::Null)
        }
        Some(Value::Array(items)) => {
            let values: Vec<_> = items.into_iter().map(|item| bytes(item, "the value")).collect::<Result<_, _>>()?;
            draft.value = None;
            made.extend(values.into_iter().map(|value| Draft { value, ..draft.clone() }));
            return Ok(());
        }
        Some(value) => value,
    };
    draft.value = bytes(value, "the value")?;
    made.push(draft);
    Ok(())
}

/// Whether an event is as it came but for what its text says.
fn is_only_message(fields: &ObjectMap) -> bool {
    let text = |value: &Value| matches!(value, Value::Bytes(_) | Value::String(_) | Value::Null);
    fields.len() == 1 && fields.get("message").is_some_and(text)
}

/// Text as it is, null as null, everything else as JSON.
fn bytes<'a>(value: Value, what: &str) -> Result<Option<Cow<'a, [u8]>>, String> {
    match value {
        Value::Null => Ok(None),
        Value::Bytes(bytes) => Ok(Some(Cow::Owned(bytes.into()))),
        Value::String(text) => Ok(Some(Cow::Owned(text.as_bytes().to_vec()))),
        value => match serde_json::to_vec(&value) {
            Ok(json) => Ok(Some(Cow::Owned(json))),
            Err(cause) => Err(format!("{what} can not be written as JSON: {cause}")),
        },
    }
}

fn settle_metadata<'a>(draft: &mut Draft<'a>, mut fields: ObjectMap) -> Result<(), String> {
    draft.key = bytes(fields.remove("key").unwrap_or(Value::Null), "`%key`")?;
    let topic = fields.remove("topic").unwrap_or(Value::Null);
    let topic = topic.to_str_lossy().ok_or("`%topic` is not text")?;
    if *topic != *draft.topic {
        route::send(draft, &topic)?;
    }
    match fields.remove("timestamp") {
        Some(Value::Timestamp(time)) => draft.timestamp = time.timestamp_millis(),
        Some(Value::Integer(millis)) => draft.timestamp = millis,
        // It had none and got none.
        Some(Value::Null) if draft.timestamp < 0 => {}
        _ => return Err("`%timestamp` is neither a timestamp nor a number of milliseconds since 1970".to_owned()),
    }
    match fields.remove("headers") {
        Some(Value::Object(now)) => settle_headers(draft, now),
        None | Some(Value::Null) => {
            draft.headers.clear();
            Ok(())
        }
        Some(_) => Err("`%headers` is not a mapping of names to text".to_owned()),
    }
}

/// Headers that the program left alone stay as they are, repeated ones too, in their order; one that it assigned takes
/// the place of all of its name, and new ones come last.
fn settle_headers<'a>(draft: &mut Draft<'a>, mut now: ObjectMap) -> Result<(), String> {
    let before = headers(draft);
    let mut changed = ObjectMap::new();
    for (name, value) in &before {
        match now.remove(name) {
            Some(same) if same == *value => {}
            Some(value) => drop(changed.insert(name.clone(), value)),
            None => draft.headers.retain(|(known, _)| **known != *name.as_str()),
        }
    }
    for (name, value) in changed {
        let value = bytes(value, "a header")?;
        let first = draft.headers.iter().position(|(known, _)| **known == *name.as_str());
        let mut at = 0;
        draft.headers.retain(|(known, _)| {
            at += 1;
            **known != *name.as_str() || first == Some(at - 1)
        });
        if let Some(first) = first {
            draft.headers[first].1 = value;
        }
    }
    for (name, value) in now {
        draft.headers.push((Cow::Owned(name.into()), bytes(value, "a header")?));
    }
    Ok(())
}
