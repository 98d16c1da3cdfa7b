//! Fetches what a schema refers to, directly or not.

use aqueduct_api::{Error, Result};

use crate::bounds::{LARGEST_SCHEMAS, MOST_REFERENCES};
use crate::registry::{Answer, Reference, Registry};
use crate::schema::Referred;

/// What was fetched, and what is still to be looked at.
enum Step {
    Fetch(Reference),
    /// All that it refers to has been fetched.
    Take(Referred),
}

/// The schemas behind references, each after those that it refers to itself. The inner error says why they can never be
/// used.
pub(crate) async fn fetch(
    registry: &Registry,
    references: &[Reference],
) -> Result<std::result::Result<Vec<Referred>, String>> {
    let mut steps: Vec<Step> = references.iter().rev().cloned().map(Step::Fetch).collect();
    let mut seen: Vec<Reference> = Vec::new();
    let mut found = Vec::new();
    let mut bytes = 0;
    while let Some(step) = steps.pop() {
        let reference = match step {
            Step::Take(referred) => {
                found.push(referred);
                continue;
            }
            Step::Fetch(reference) => reference,
        };
        // One that refers to itself is left for whoever reads it to find.
        if seen.iter().any(|one| one.name == reference.name) {
            continue;
        }
        let Reference { name, subject, version } = &reference;
        let registered = match registry.version(subject, *version).await? {
            Answer::Is(registered) => registered,
            Answer::Not(why) => return Ok(Err(format!("refers to version {version} of {subject}: {why}"))),
            Answer::TooLarge => {
                return Ok(Err(format!("refers to version {version} of {subject}, which is too large")));
            }
        };
        bytes += registered.schema.len();
        if seen.len() == MOST_REFERENCES || bytes > LARGEST_SCHEMAS {
            return Ok(Err(format!(
                "refers to more than {MOST_REFERENCES} schemas or {} MiB of them",
                LARGEST_SCHEMAS >> 20
            )));
        }
        steps.push(Step::Take(Referred { name: name.clone(), text: registered.schema }));
        steps.extend(registered.references.into_iter().flatten().rev().map(Step::Fetch));
        seen.push(reference);
    }
    Ok(Ok(found))
}

/// The same, for a schema of the settings, where nothing goes on without them.
pub(crate) async fn required(registry: &Registry, references: &[Reference]) -> Result<Vec<Referred>> {
    let fetched = fetch(registry, references).await?;
    fetched.map_err(|why| Error::fatal(format!("setting references: the schema {why}")))
}
