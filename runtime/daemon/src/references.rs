//! `${env:NAME}` and `${file:PATH}`: values that are not written into the configuration.
//!
//! They are looked for in parsed scalars only, never in the text of a file, and what they stand for is always text and
//! always a secret. `$${` writes a plain `${`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aqueduct_api::{Error, Result};
use serde_json::Value;

use crate::problems::{Problem, Step};
use crate::secrets::Secrets;
use crate::tree::{Kind, Node};

/// How environment variables are looked up.
pub(crate) type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The most bytes that a referenced file may hold.
const LARGEST: u64 = 64 << 10;

/// Resolves references.
#[derive(Clone)]
pub(crate) struct References {
    /// What relative paths start at: the configuration's folder.
    pub(crate) folder: PathBuf,
    /// The environment.
    pub(crate) environment: Environment,
    /// Where what they stand for is remembered.
    pub(crate) secrets: Secrets,
}

impl References {
    /// The value with every reference in its texts resolved; the error names the setting.
    pub(crate) fn resolve(&self, value: &Value) -> Result<Value> {
        let mut way = Vec::new();
        self.resolved(value, &mut way)
    }

    /// Resolves the references in `node`, in place; problems name the place of each that does not stand for anything.
    pub(crate) fn apply(&self, node: &mut Node, way: &mut Vec<Step>, problems: &mut Vec<Problem>) {
        match &mut node.kind {
            Kind::Text(text) => match self.text(text) {
                Ok(resolved) => *text = resolved,
                Err(message) => problems.push(Problem::at(&node.place, way, message)),
            },
            Kind::List(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    way.push(Step::Index(index));
                    self.apply(item, way, problems);
                    way.pop();
                }
            }
            Kind::Map(entries) => {
                for entry in entries {
                    way.push(Step::Key(entry.key.clone()));
                    self.apply(&mut entry.value, way, problems);
                    way.pop();
                }
            }
            _ => {}
        }
    }

    fn resolved(&self, value: &Value, way: &mut Vec<Step>) -> Result<Value> {
        Ok(match value {
            Value::String(text) => Value::String(
                self.text(text)
                    .map_err(|message| Error::fatal(format!("setting {}: {message}", crate::problems::Way(way))))?,
            ),
            Value::Array(items) => {
                let mut resolved = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    way.push(Step::Index(index));
                    resolved.push(self.resolved(item, way)?);
                    way.pop();
                }
                Value::Array(resolved)
            }
            Value::Object(fields) => {
                let mut resolved = serde_json::Map::new();
                for (key, field) in fields {
                    way.push(Step::Key(key.clone()));
                    resolved.insert(key.clone(), self.resolved(field, way)?);
                    way.pop();
                }
                Value::Object(resolved)
            }
            other => other.clone(),
        })
    }

    /// The text with its references resolved; the error says which one stands for nothing.
    fn text(&self, text: &str) -> Result<String, String> {
        let mut resolved = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            if rest[..at].ends_with('$') {
                resolved.push_str(&rest[..at - 1]);
                resolved.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            resolved.push_str(&rest[..at]);
            let Some((reference, after)) = rest[at + 2..].split_once('}') else {
                return Err("`${` without a `}`: write `$${` where no reference is meant".to_owned());
            };
            let value = self.value(reference)?;
            self.secrets.remember(&value);
            resolved.push_str(&value);
            rest = after;
        }
        resolved.push_str(rest);
        Ok(resolved)
    }

    fn value(&self, reference: &str) -> Result<String, String> {
        match reference.split_once(':') {
            Some(("env", name)) => {
                (self.environment)(name).ok_or_else(|| format!("environment variable `{name}` is not set"))
            }
            Some(("file", path)) => self.file(&self.folder.join(path)),
            _ => Err(format!(
                "unknown reference `${{{reference}}}`, expected `${{env:NAME}}` or `${{file:PATH}}`: write `$${{` where no \
                 reference is meant"
            )),
        }
    }

    fn file(&self, path: &Path) -> Result<String, String> {
        let told = |cause: std::io::Error| format!("read {}: {cause}", path.display());
        let metadata = std::fs::metadata(path).map_err(told)?;
        if !metadata.is_file() {
            return Err(format!("{} is not a file", path.display()));
        }
        if metadata.len() > LARGEST {
            return Err(format!("{} is larger than 64 KiB", path.display()));
        }
        let text = String::from_utf8(std::fs::read(path).map_err(told)?);
        let text = text.map_err(|_| format!("{} is not UTF-8", path.display()))?;
        Ok(text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text)).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn references(folder: &Path) -> References {
        let environment: Environment = Arc::new(|name| (name == "TOKEN").then(|| "t0ken".to_owned()));
        References { folder: folder.to_owned(), environment, secrets: Secrets::default() }
    }

    #[test]
    fn references_stand_for_text_that_is_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), "sesame\n").unwrap();
        let references = references(folder.path());
        let settings = json!({"a": "x-${env:TOKEN}-${file:key}", "b": ["$${env:TOKEN}", 5, "${nothing"]});
        let error = references.resolve(&settings).unwrap_err().to_string();
        assert_eq!(error, "setting b[2]: `${` without a `}`: write `$${` where no reference is meant");
        let settings = json!({"a": "x-${env:TOKEN}-${file:key}", "b": ["$${env:TOKEN}", 5, "$5 {}"]});
        let resolved = references.resolve(&settings).unwrap();
        assert_eq!(resolved, json!({"a": "x-t0ken-sesame", "b": ["${env:TOKEN}", 5, "$5 {}"]}));
        assert_eq!(references.secrets.hide("t0ken and sesame"), "*** and ***");
    }

    #[test]
    fn what_stands_for_nothing_is_said() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("raw"), b"\xff").unwrap();
        std::fs::write(folder.path().join("large"), vec![b'x'; 70_000]).unwrap();
        let references = references(folder.path());
        for (text, expected) in [
            ("${env:OTHER}", "environment variable `OTHER` is not set"),
            ("${file:none}", "No such file or directory"),
            ("${file:.}", "is not a file"),
            ("${file:raw}", "is not UTF-8"),
            ("${file:large}", "is larger than 64 KiB"),
            ("${vault:x}", "unknown reference `${vault:x}`, expected `${env:NAME}` or `${file:PATH}`"),
        ] {
            let error = references.text(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
