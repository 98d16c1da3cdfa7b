//! Settings that shape names or bytes of what a sink writes, kept by their digest: a chunk pinned under one value is
//! finished under it.

use aqueduct_api::{Error, Result};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::lease::Lease;
use crate::table::Table;

/// The first half of the SHA-256 of settings, in hexadecimal. The order of keys does not count.
pub(crate) fn digest(shaping: &Value) -> String {
    let hash = Sha256::digest(sorted(shaping).to_string());
    hash[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Keeps settings under their digest, if they are not there yet.
pub(crate) async fn keep(table: &Table, lease: &Lease, digest: &str, shaping: &Value) -> Result<()> {
    let key = key(digest);
    match table.get(&key) {
        Some(_) => Ok(()),
        None => table.put(lease, vec![(key, Some(shaping.to_string()))]).await,
    }
}

/// The settings that were kept under a digest.
///
/// # Errors
/// `Fatal` when there are none.
pub(crate) fn kept(table: &Table, digest: &str) -> Result<Value> {
    let text = table.get(&key(digest)).and_then(|text| serde_json::from_str(&text).ok());
    text.ok_or_else(|| Error::fatal(format!("the settings {digest} that a chunk was pinned under are not kept")))
}

/// `settings` with their shaping part exchanged for `kept`.
pub(crate) fn overlay(settings: &Value, shaping: &Value, kept: &Value) -> Value {
    let (Value::Object(settings), Value::Object(shaping), Value::Object(kept)) = (settings, shaping, kept) else {
        return settings.clone();
    };
    let others = settings.iter().filter(|(name, _)| !shaping.contains_key(*name));
    others.chain(kept).map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn key(digest: &str) -> String {
    format!("settings-{digest}")
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let ordered: std::collections::BTreeMap<_, _> = members.iter().collect();
            Value::Object(ordered.into_iter().map(|(name, value)| (name.clone(), sorted(value))).collect())
        }
        Value::Array(values) => Value::Array(values.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_digest_depends_on_values_alone() {
        let one = digest(&json!({"a": {"x": 1, "y": [2]}, "b": 3}));
        assert_eq!(one, digest(&json!({"b": 3, "a": {"y": [2], "x": 1}})));
        assert_ne!(one, digest(&json!({"b": 3, "a": {"y": [3], "x": 1}})));
        assert_eq!(digest(&json!({})), "44136fa355b3678a1146ad16f7e8649e");
    }

    #[test]
    fn only_the_shaping_part_is_exchanged() {
        let now = json!({"url": "new", "format": "csv", "path": "p"});
        let shaping = json!({"format": "csv", "path": "p"});
        assert_eq!(overlay(&now, &shaping, &json!({"format": "lines"})), json!({"url": "new", "format": "lines"}));
    }
}
