//! Dead letters: what there is, and what people do with it.

use aqueduct_api::Topic;
use aqueduct_engine::{Replay, Settled, count_letters, discard_letters, replay_letters};
use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::topics::find;
use crate::http::{Data, Json, Path, Refusal};

type Answer = Result<Json<Value>, Refusal>;

/// The endpoints.
pub(crate) fn router() -> Router<Data> {
    Router::new()
        .route("/dead-letters", get(list))
        .route("/dead-letters/{topic}", get(show))
        .route("/dead-letters/{topic}/replay", post(replay))
        .route("/dead-letters/{topic}/discard", post(discard))
}

async fn list(State(data): State<Data>) -> Answer {
    let mut shown = Vec::new();
    for topic in data.store.topics().await?.iter().filter(|topic| topic.settings.dead_letters) {
        shown.push(count_letters(&*data.store, topic).await?);
    }
    Ok(Json(json!({ "dead_letters": shown })))
}

async fn show(State(data): State<Data>, Path(name): Path<String>) -> Answer {
    let topic = letters(&data, &name).await?;
    Ok(Json(json!(count_letters(&*data.store, &topic).await?)))
}

/// The topic that a source's, a sink's or its own name stands for.
async fn letters(data: &Data, name: &str) -> Result<Topic, Refusal> {
    let topics = data.store.topics().await?.into_iter().filter(|topic| topic.settings.dead_letters);
    let topics: Vec<Topic> = topics.collect();
    let of_connector = format!("{name}.dead-letters");
    for name in [name, &of_connector] {
        if let Some(topic) = topics.iter().find(|topic| &*topic.name == name) {
            // Asked again for what the log says of one that is gone.
            return find(&*data.store, &topic.name).await;
        }
    }
    let names: Vec<&str> = topics.iter().map(|topic| &*topic.name).collect();
    let known = match names.is_empty() {
        true => "there are none".to_owned(),
        false => format!("there are {}", names.join(", ")),
    };
    Err(Refusal::missing(format!("no dead letters of `{name}`: {known}")))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Replaying {
    reason: Option<String>,
    to: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

async fn replay(State(data): State<Data>, Path(name): Path<String>, Json(asked): Json<Replaying>) -> Answer {
    let topic = letters(&data, &name).await?;
    let dry_run = asked.dry_run;
    let replay = Replay { reason: asked.reason, to: asked.to, dry_run };
    let name = topic.name.clone();
    let replaying = |data: Data| async move { replay_letters(&*data.store, &topic, &replay).await };
    let settled = alone(data, replaying).await?;
    Ok(told(&name, dry_run, &settled))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Discarding {
    reason: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

async fn discard(State(data): State<Data>, Path(name): Path<String>, Json(asked): Json<Discarding>) -> Answer {
    let topic = letters(&data, &name).await?;
    let (name, Discarding { reason, dry_run }) = (topic.name.clone(), asked);
    let discarding =
        |data: Data| async move { discard_letters(&*data.store, &topic, reason.as_deref(), dry_run).await };
    let settled = alone(data, discarding).await?;
    Ok(told(&name, dry_run, &settled))
}

/// Does something that no other of its kind may meet, to its end, also when whoever asked has gone.
async fn alone<F>(data: Data, does: impl FnOnce(Data) -> F) -> Result<Settled, Refusal>
where
    F: Future<Output = aqueduct_api::Result<Settled>> + Send + 'static,
{
    let settling = data.settling.clone();
    let doing = does(data);
    let done = tokio::spawn(async move {
        let _alone = settling.lock().await;
        doing.await
    });
    let done = done.await.map_err(|cause| aqueduct_api::Error::fatal(format!("settle dead letters: {cause}")))?;
    Ok(done?)
}

fn told(topic: &str, dry_run: bool, settled: &Settled) -> Json<Value> {
    Json(json!({
        "topic": topic, "dry_run": dry_run, "letters": settled.letters, "to": settled.to, "left": settled.left,
    }))
}
