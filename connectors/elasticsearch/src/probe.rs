//! Looks at a cluster without changing anything: who it is, whether it knows us, what it lets us do.

use aqueduct_api::{Error, Result};
use bytes::Bytes;
use elasticsearch::InfoParts;
use elasticsearch::indices::IndicesResolveIndexParts;
use elasticsearch::nodes::NodesInfoParts;
use elasticsearch::security::SecurityHasPrivilegesParts;
use reqwest::Method;
use serde_json::{Value, json};

use crate::answer::{Whole, whole};
use crate::cluster::{Answer, Cluster, Content};
use crate::document::{Operation, Shape};
use crate::request::Limits;

/// What people should know.
pub(crate) async fn probe(cluster: &Cluster, shape: &Shape, limits: Limits) -> Result<Vec<String>> {
    let mut told = vec![product(cluster).await?];
    let http = NodesInfoParts::NodeIdMetric(&["_local"], &["http"]).url();
    let http = get(cluster, &format!("{http}?filter_path=nodes.*.http.max_content_length_in_bytes")).await?;
    let largest = http
        .as_ref()
        .and_then(|http| http["nodes"].as_object()?.values().next()?["http"]["max_content_length_in_bytes"].as_u64());
    if let Some(largest) = largest.filter(|largest| *largest < limits.bytes as u64) {
        let bytes = limits.bytes;
        told.push(format!(
            "`request-bytes` is {bytes}, but the cluster takes {largest} a request: each would be sent in halves"
        ));
    }
    told.extend(index(cluster, shape).await?);
    privileges(cluster, shape).await?;
    Ok(told)
}

/// Product and version: the root's answer, or where the front door hides it, what a node says of itself.
async fn product(cluster: &Cluster) -> Result<String> {
    let Some(root) = get(cluster, &InfoParts::None.url()).await? else {
        let nodes = NodesInfoParts::NodeId(&["_local"]).url();
        let nodes = get(cluster, &format!("{nodes}?filter_path=nodes.*.version")).await?.unwrap_or_default();
        let version = nodes["nodes"].as_object().and_then(|nodes| nodes.values().next()?["version"].as_str());
        return Ok(version
            .map_or("a cluster that does not tell its version".to_owned(), |version| format!("version {version}")));
    };
    let version = &root["version"];
    let product = match version["distribution"].as_str() {
        Some("opensearch") => "OpenSearch",
        Some(other) => other,
        None => "Elasticsearch",
    };
    let number = version["number"].as_str().unwrap_or("of unknown version");
    Ok(format!("{product} {number}, cluster `{}`", root["cluster_name"].as_str().unwrap_or("?")))
}

/// Whether the one index that the template names is there, and what it is.
async fn index(cluster: &Cluster, shape: &Shape) -> Result<Vec<String>> {
    let Some(name) = shape.index.text() else { return Ok(Vec::new()) };
    let path = IndicesResolveIndexParts::Name(&[&name]).url();
    let path = format!("{path}?filter_path=indices.name,aliases.name,data_streams.name");
    let found = get(cluster, &path).await?.unwrap_or_default();
    if ["indices", "aliases", "data_streams"].iter().all(|kind| found[kind].as_array().is_none_or(Vec::is_empty)) {
        return Ok(vec![format!(
            "`{name}` is not there: it is made by the first document, where the cluster makes indices by itself"
        )]);
    }
    if found["data_streams"].as_array().is_some_and(|found| !found.is_empty()) && shape.operation != Operation::Create {
        return Err(Error::fatal(format!(
            "setting operation: `{name}` is a data stream, which takes `operation: create` alone"
        )));
    }
    Ok(Vec::new())
}

/// Whether we may write, where the cluster answers that question: Elasticsearch with its own security does.
async fn privileges(cluster: &Cluster, shape: &Shape) -> Result<()> {
    let names = match shape.index.text() {
        Some(name) => name,
        None => format!("{}*", shape.index.prefix()),
    };
    let wanted = match shape.operation {
        Operation::Create => "create_doc",
        Operation::Index | Operation::Upsert => "write",
    };
    let question = json!({"index": [{"names": [names], "privileges": [wanted]}]}).to_string();
    let path = SecurityHasPrivilegesParts::None.url();
    let answer = cluster.send(Method::POST, &path, Content::Json, question.into()).await?;
    if answer.status != 200 {
        return Ok(());
    }
    let answer: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if answer["has_all_requested"] == Value::Bool(false) {
        let user = answer["username"].as_str().unwrap_or("?");
        return Err(Error::fatal(format!("user `{user}` lacks the privilege `{wanted}` on `{names}`")));
    }
    Ok(())
}

/// What a path answers; `None` where the cluster has nothing to say there.
async fn get(cluster: &Cluster, path: &str) -> Result<Option<Value>> {
    let Answer { status, after, body, .. } = cluster.send(Method::GET, path, Content::Json, Bytes::new()).await?;
    match (status, whole(status, after, &body)) {
        (200, _) => Ok(Some(serde_json::from_slice(&body).map_err(|_| {
            Error::fatal(
                "setting url: what answers there speaks no JSON, so it is neither Elasticsearch nor OpenSearch",
            )
        })?)),
        (401 | 403, Whole::Fatal(told)) => Err(Error::fatal(told)),
        (429 | 500.., Whole::Later(reason)) => Err(Error::retry(reason.text)),
        _ => Ok(None),
    }
}
