//! Finds documents by id in all indices that a name stands for: a data stream or an alias may have rolled over since.

use std::collections::{BTreeMap, HashSet};

use aqueduct_api::{Error, Result};
use bytes::Bytes;
use elasticsearch::SearchParts;
use elasticsearch::indices::IndicesRefreshParts;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use crate::answer::{Whole, whole};
use crate::cluster::{Answer, Cluster, Content};
use crate::document::Action;

#[derive(Debug, Default, Deserialize)]
struct Found {
    #[serde(default)]
    hits: Hits,
}

#[derive(Debug, Default, Deserialize)]
struct Hits {
    #[serde(default)]
    hits: Vec<Hit>,
}

#[derive(Debug, Deserialize)]
struct Hit {
    #[serde(rename = "_id")]
    id: String,
}

/// The identities of those actions whose document is there.
///
/// # Errors
/// `Retry` when it can not be told now, `Fatal` when it may not be told to us.
pub(crate) async fn there(cluster: &Cluster, actions: &[Action]) -> Result<HashSet<u64>> {
    let mut names: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for action in actions.iter().filter(|action| action.repeated) {
        if let Some((index, id)) = action.name.as_deref() {
            names.entry(index).or_default().insert(id, action.identity);
        }
    }
    let mut there = HashSet::new();
    for (index, ids) in names {
        // A search sees only what was refreshed.
        let refresh = format!("{}?filter_path=_shards.failed", IndicesRefreshParts::Index(&[index]).url());
        if ask(cluster, &refresh, Bytes::new()).await?.is_none() {
            continue;
        }
        let wanted: Vec<&str> = ids.keys().copied().collect();
        let query = json!({"size": wanted.len(), "_source": false, "query": {"ids": {"values": wanted}}});
        let search = SearchParts::Index(&[index]).url();
        let search = format!("{search}?filter_path=hits.hits._id&allow_partial_search_results=false");
        let Some(answer) = ask(cluster, &search, query.to_string().into()).await? else { continue };
        let found: Found = serde_json::from_slice(&answer.body)
            .map_err(|cause| Error::retry(format!("look up documents in {index}: an answer that is none: {cause}")))?;
        there.extend(found.hits.hits.iter().filter_map(|hit| ids.get(hit.id.as_str())));
    }
    Ok(there)
}

/// The answer, or `None` where there is no such index.
async fn ask(cluster: &Cluster, path: &str, body: Bytes) -> Result<Option<Answer>> {
    let answer = cluster.send(Method::POST, path, Content::Json, body).await?;
    match answer.status {
        200 => Ok(Some(answer)),
        404 => Ok(None),
        status => {
            let told = |text: &str| format!("look up documents that may be there, `{path}`: {text}");
            Err(match whole(status, answer.after, &answer.body) {
                Whole::Later(reason) => Error::Retry { cause: told(&reason.text).into(), after: reason.after },
                Whole::Fatal(text) | Whole::Divide(text) => Error::fatal(told(&text)),
            })
        }
    }
}
