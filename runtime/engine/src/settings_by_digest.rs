//! Settings that shape names or records of what a sink writes, kept by their digest: a chunk pinned under one value is
//! finished under it.

use aqueduct_api::{Error, Registry, Result};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::lease::Lease;
use crate::table::Table;
use crate::{SinkPlan, TransformPlan};

/// What shapes names and records: marked settings of the sink, and its transforms.
#[derive(Debug, PartialEq)]
pub(crate) struct Shaping {
    settings: Map<String, Value>,
    transforms: Vec<TransformPlan>,
}

/// Where the transforms are among the settings: no setting has a dot in its name.
const TRANSFORMS: &str = "aqueduct.transforms";

impl Shaping {
    /// What shapes what a plan's sink writes.
    pub(crate) fn of(registry: &Registry, plan: &SinkPlan) -> Result<Shaping> {
        let connector = registry.sinks.get(plan.connector.as_str());
        let connector = connector.ok_or_else(|| Error::fatal(format!("no sink `{}`", plan.connector)))?;
        let Value::Object(settings) = connector.shaping(&plan.settings) else {
            return Err(Error::fatal(format!("the shaping settings of `{}` are not an object", plan.connector)));
        };
        let transforms = plan.transforms.iter().map(|plan| shaping_of(registry, plan)).collect::<Result<_>>()?;
        Ok(Shaping { settings, transforms })
    }

    /// The first half of the SHA-256, in hexadecimal. The order of keys does not count.
    pub(crate) fn digest(&self) -> String {
        digest(&self.to_value())
    }

    /// Keeps them under their digest, if they are not there yet.
    pub(crate) async fn keep(&self, table: &Table, lease: &Lease) -> Result<()> {
        let key = key(&self.digest());
        match table.get(&key) {
            Some(_) => Ok(()),
            None => table.put(lease, vec![(key, Some(self.to_value().to_string()))]).await,
        }
    }

    /// What was kept under a digest.
    ///
    /// # Errors
    /// `Fatal` when nothing was.
    pub(crate) fn kept(table: &Table, digest: &str) -> Result<Shaping> {
        let kept = table.get(&key(digest)).and_then(|text| Shaping::from_text(&text));
        kept.ok_or_else(|| Error::fatal(format!("the settings {digest} that a chunk was pinned under are not kept")))
    }

    /// `plan` with these in place of its own; what does not shape stays as it is there.
    pub(crate) fn over(self, registry: &Registry, plan: &SinkPlan) -> Result<SinkPlan> {
        let own = Shaping::of(registry, plan)?;
        let mut taken = vec![false; plan.transforms.len()];
        let transforms = self.transforms.into_iter().map(|kept| {
            let same = |(at, own): &(usize, &TransformPlan)| !taken[*at] && own.transform == kept.transform;
            let Some((at, now)) = plan.transforms.iter().enumerate().find(same) else { return kept };
            taken[at] = true;
            let settings = exchanged(&now.settings, &own.transforms[at].settings, kept.settings);
            TransformPlan { settings, ..kept }
        });
        let transforms = transforms.collect();
        let settings = exchanged(&plan.settings, &Value::Object(own.settings), Value::Object(self.settings));
        Ok(SinkPlan { settings, transforms, ..plan.clone() })
    }

    fn to_value(&self) -> Value {
        let mut members = self.settings.clone();
        if !self.transforms.is_empty() {
            let one = |plan: &TransformPlan| Value::from_iter([(plan.transform.clone(), plan.settings.clone())]);
            members.insert(TRANSFORMS.to_owned(), self.transforms.iter().map(one).collect());
        }
        Value::Object(members)
    }

    fn from_text(text: &str) -> Option<Shaping> {
        let mut settings: Map<String, Value> = serde_json::from_str(text).ok()?;
        let transforms = settings.remove(TRANSFORMS).map(serde_json::from_value).transpose().ok()?;
        Some(Shaping { settings, transforms: transforms.unwrap_or_default() })
    }
}

/// The digest of settings.
pub(crate) fn digest(settings: &Value) -> String {
    let hash = Sha256::digest(sorted(settings).to_string());
    hash[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn shaping_of(registry: &Registry, plan: &TransformPlan) -> Result<TransformPlan> {
    let kind = registry.transforms.get(plan.transform.as_str());
    let kind = kind.ok_or_else(|| Error::fatal(format!("no transform `{}`", plan.transform)))?;
    Ok(TransformPlan { transform: plan.transform.clone(), settings: kind.shaping(&plan.settings) })
}

/// `settings` with their shaping part exchanged for `kept`.
fn exchanged(settings: &Value, shaping: &Value, kept: Value) -> Value {
    let (Value::Object(settings), Value::Object(shaping)) = (settings, shaping) else { return kept };
    let Value::Object(mut kept) = kept else { return kept };
    let others = settings.iter().filter(|(name, _)| !shaping.contains_key(*name));
    kept.extend(others.map(|(name, value)| (name.clone(), value.clone())));
    Value::Object(kept)
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

    fn shaping(value: Value) -> Shaping {
        Shaping::from_text(&value.to_string()).unwrap()
    }

    #[test]
    fn a_digest_depends_on_values_alone() {
        let one = shaping(json!({"a": {"x": 1, "y": [2]}, "b": 3})).digest();
        assert_eq!(one, shaping(json!({"b": 3, "a": {"y": [2], "x": 1}})).digest());
        assert_ne!(one, shaping(json!({"b": 3, "a": {"y": [3], "x": 1}})).digest());
        assert_eq!(shaping(json!({})).digest(), "44136fa355b3678a1146ad16f7e8649e");
    }

    #[test]
    fn transforms_in_their_order_are_part_of_the_digest() {
        let of = |transforms: Value| shaping(json!({"a": 1, "aqueduct.transforms": transforms}));
        let one = of(json!([{"x": "1"}, {"y": {"z": 2}}]));
        assert_eq!(one, shaping(one.to_value()));
        assert_ne!(one.digest(), of(json!([{"y": {"z": 2}}, {"x": "1"}])).digest());
        assert_ne!(one.digest(), of(json!([{"x": "1"}, {"y": {"z": 3}}])).digest());
        assert_eq!(of(json!([])).digest(), shaping(json!({"a": 1})).digest());
    }

    #[test]
    fn only_the_shaping_part_is_exchanged() {
        let now = json!({"url": "new", "format": "csv", "path": "p"});
        let shaping = json!({"format": "csv", "path": "p"});
        let exchanged = |kept| super::exchanged(&now, &shaping, kept);
        assert_eq!(exchanged(json!({"format": "lines"})), json!({"url": "new", "format": "lines"}));
        assert_eq!(super::exchanged(&json!("a"), &json!("a"), json!("b")), json!("b"));
    }
}
