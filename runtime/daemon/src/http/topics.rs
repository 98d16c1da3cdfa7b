//! Topics and groups: what there is, and changes to it.

use std::collections::BTreeMap;

use aqueduct_api::{Store, Topic, TopicPartition, TopicSettings};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::diagnosis;
use crate::http::{Data, Json, Kept, Path, Query, Refusal};
use crate::problems::{Way, nearest};

type Answer = Result<Json<Value>, Refusal>;

/// The endpoints.
pub(crate) fn router() -> Router<Data> {
    Router::new()
        .route("/topics", get(list).post(create))
        .route("/topics/{topic}", get(show).patch(alter).delete(delete))
        .route("/groups", get(groups))
        .route("/groups/{group}", get(group))
}

/// A topic that exists.
pub(crate) async fn find(store: &dyn Store, name: &str) -> Result<Topic, Refusal> {
    let topics = store.topics().await?;
    if let Some(topic) = topics.iter().find(|topic| &*topic.name == name) {
        return Ok(topic.clone());
    }
    let meant = nearest(name, topics.iter().map(|topic| &*topic.name));
    let hint = meant.map(|meant| format!(", did you mean `{meant}`?")).unwrap_or_default();
    Err(Refusal::missing(format!("there is no topic `{name}`{hint}")))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    /// Those of the runtime too.
    #[serde(default)]
    internal: bool,
}

async fn list(State(data): State<Data>, Query(listed): Query<Listed>) -> Answer {
    let mut shown = Vec::new();
    let topics = data.store.topics().await?.into_iter();
    for topic in topics.filter(|topic| listed.internal || !topic.is_internal()) {
        shown.push(described(&*data.store, &topic).await?);
    }
    Ok(Json(json!({ "topics": shown })))
}

async fn show(State(data): State<Data>, Path(name): Path<String>) -> Answer {
    let topic = find(&*data.store, &name).await?;
    Ok(Json(described(&*data.store, &topic).await?))
}

async fn described(store: &dyn Store, topic: &Topic) -> Result<Value, Refusal> {
    let (mut partitions, mut records) = (Vec::new(), 0);
    for partition in topic.all_partitions() {
        let bounds = store.bounds(&partition).await?;
        records += bounds.end - bounds.start;
        partitions.push(json!({
            "partition": partition.partition,
            "start": bounds.start,
            "stable": bounds.stable,
            "end": bounds.end,
            "leader_epoch": bounds.leader_epoch,
        }));
    }
    Ok(json!({
        "name": topic.name,
        "id": topic.id,
        "internal": topic.is_internal(),
        "dead_letters": topic.settings.dead_letters,
        "records": records,
        "settings": topic.settings,
        "partitions": partitions,
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTopic {
    name: String,
    #[serde(default = "one")]
    partitions: i32,
    #[serde(default)]
    settings: Map<String, Value>,
    #[serde(default)]
    dry_run: bool,
}

fn one() -> i32 {
    1
}

async fn create(State(data): State<Data>, Json(new): Json<NewTopic>) -> Answer {
    let settings = read_settings(new.settings)?;
    own_topics_only(&new.name)?;
    if new.partitions < 1 {
        return Err(Refusal::bad(format!("partitions: expected 1 or more, found {}", new.partitions)));
    }
    if new.dry_run {
        return match find(&*data.store, &new.name).await {
            Ok(_) => Err(Refusal::new(StatusCode::CONFLICT, format!("topic `{}` exists", new.name))),
            Err(_) => Ok(Json(json!({ "name": new.name, "partitions": new.partitions, "settings": settings }))),
        };
    }
    let topic = data.store.create(&new.name, new.partitions, &settings).await?;
    Ok(Json(described(&*data.store, &topic).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    partitions: Option<i32>,
    #[serde(default)]
    settings: Map<String, Value>,
    #[serde(default)]
    dry_run: bool,
}

async fn alter(State(data): State<Data>, Path(name): Path<String>, Json(change): Json<Change>) -> Answer {
    own_topics_only(&name)?;
    let topic = find(&*data.store, &name).await?;
    let mut settings = match serde_json::to_value(&topic.settings) {
        Ok(Value::Object(settings)) => settings,
        _ => Map::new(),
    };
    settings.extend(change.settings);
    let settings = read_settings(settings)?;
    let partitions = change.partitions.unwrap_or(topic.partitions);
    if partitions < topic.partitions {
        let count = topic.partitions;
        return Err(Refusal::bad(format!("topic `{name}` has {count} partitions and cannot shrink to {partitions}")));
    }
    if change.dry_run {
        return Ok(Json(json!({ "name": name, "partitions": partitions, "settings": settings })));
    }
    let topic = match &data.engine {
        Some(engine) => engine.alter_topic(&name, partitions, &settings).await?,
        None => data.store.alter(&name, partitions, &settings).await?,
    };
    Ok(Json(described(&*data.store, &topic).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Deletion {
    #[serde(default)]
    force: bool,
    #[serde(default)]
    dry_run: bool,
}

async fn delete(State(data): State<Data>, Path(name): Path<String>, Query(deletion): Query<Deletion>) -> Answer {
    own_topics_only(&name)?;
    let topic = find(&*data.store, &name).await?;
    let shown = described(&*data.store, &topic).await?;
    if !deletion.dry_run {
        data.store.delete(&name, deletion.force).await?;
    }
    Ok(Json(shown))
}

/// The runtime's own topics are changed by the runtime alone.
fn own_topics_only(name: &str) -> Result<(), Refusal> {
    match name.starts_with("__") {
        true => Err(Refusal::bad(format!("topic `{name}` belongs to the runtime"))),
        false => Ok(()),
    }
}

fn read_settings(settings: Map<String, Value>) -> Result<TopicSettings, Refusal> {
    let read = diagnosis::attempt::<TopicSettings>(&Value::Object(settings));
    read.map_err(|(way, message)| match way.is_empty() {
        true => Refusal::bad(diagnosis::told(&message)),
        false => Refusal::bad(format!("{}: {}", Way(&way), diagnosis::told(&message))),
    })
}

async fn groups(State(data): State<Data>) -> Answer {
    let mut shown = Vec::new();
    for name in data.store.groups().await? {
        shown.push(described_group(&*data.store, &name).await?);
    }
    Ok(Json(json!({ "groups": shown })))
}

async fn group(State(data): State<Data>, Path(name): Path<String>) -> Answer {
    let groups = data.store.groups().await?;
    if groups.contains(&name) {
        return Ok(Json(described_group(&*data.store, &name).await?));
    }
    let meant = nearest(&name, groups.iter().map(String::as_str));
    let hint = meant.map(|meant| format!(", did you mean `{meant}`?")).unwrap_or_default();
    Err(Refusal::missing(format!("there is no group `{name}`{hint}")))
}

async fn described_group(store: &dyn Kept, name: &str) -> Result<Value, Refusal> {
    let (mut partitions, mut lag) = (Vec::new(), 0);
    let topics: BTreeMap<_, _> = store.topics().await?.into_iter().map(|topic| (topic.name.clone(), topic)).collect();
    for (partition, committed) in store.committed(name).await? {
        let there = topics.get(&partition.topic).is_some_and(|topic| partition.partition < topic.partitions);
        let end = match there {
            true => Some(end_of(store, &partition).await?),
            false => None,
        };
        let behind = end.map(|end| (end - committed.offset).max(0));
        lag += behind.unwrap_or_default();
        partitions.push(json!({
            "topic": partition.topic,
            "partition": partition.partition,
            "committed": committed.offset,
            "end": end,
            "lag": behind,
            "metadata": committed.metadata,
        }));
    }
    let members = store.remembered(name).await?.map(|membership| membership.members).unwrap_or_default();
    let members = members.iter().map(|member| {
        json!({
            "id": member.id,
            "instance_id": member.instance_id,
            "client": member.client_id,
            "host": member.client_host,
        })
    });
    let members: Vec<Value> = members.collect();
    Ok(json!({ "name": name, "lag": lag, "members": members, "partitions": partitions }))
}

async fn end_of(store: &dyn Store, partition: &TopicPartition) -> Result<i64, Refusal> {
    Ok(store.bounds(partition).await?.stable)
}
