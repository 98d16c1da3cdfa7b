//! Answers one request.

use std::collections::BTreeMap;
use std::sync::Arc;

use aqueduct_api::Edge;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::http::request::Parts;
use hyper::{Request, StatusCode};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::firehose;
use crate::source::access::{Access, Rights};
use crate::source::body::{self, Limits};
use crate::source::formats;
use crate::source::intake::{Entry, Intake, Place};
use crate::source::queue::Held;
use crate::source::refusal::{Answer, Refusal, json as answer_json};
use crate::source::route::{Route, route};
use crate::source::settings::{Format, HttpSourceSettings, PathSettings};
use crate::source::{live, rest, rest_v3};

/// What answers requests.
pub(crate) struct Service {
    pub(crate) settings: HttpSourceSettings,
    pub(crate) edge: Edge,
    pub(crate) access: Access,
    pub(crate) limits: Limits,
    pub(crate) held: Held,
    pub(crate) intake: Intake,
    /// How many more requests may be under way.
    pub(crate) turns: Arc<Semaphore>,
}

impl Service {
    /// Answers a request, whatever it is.
    pub(crate) async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        let (parts, body) = request.into_parts();
        let answer = self.respond(&parts, body).await;
        answer.unwrap_or_else(|refusal| match self.is_firehose(&parts) {
            true => self.firehose_answer(&parts.headers, Some(&refusal)),
            false => refusal.answer(),
        })
    }

    async fn respond(self: &Arc<Self>, parts: &Parts, body: Incoming) -> Result<Answer, Refusal> {
        let path = parts.uri.path();
        if path == self.settings.health {
            route(&self.settings, &parts.method, path)?;
            return Ok(answer_json(StatusCode::OK, &json!({ "status": "ok" })));
        }
        let rights = self.access.rights(&parts.headers)?;
        let route = route(&self.settings, &parts.method, path)?;
        rights.path(path)?;
        let turn =
            self.turns.clone().try_acquire_owned().map_err(|_| Refusal::busy("too many requests are under way"))?;
        match route {
            Route::Health => Ok(answer_json(StatusCode::OK, &json!({ "status": "ok" }))),
            Route::Clusters => Ok(self.clusters()),
            Route::Path(path) => self.path(path, &rights, parts, body).await,
            Route::Topic { topic, partition } => {
                rights.topic(&topic)?;
                let embedded = rest::embedded(&parts.headers)?;
                let (body, charge) = self.read(&parts.headers, body).await?;
                let entries = rest::entries(embedded, &body, partition, self.edge.now())?;
                Ok(rest::answer(&self.intake.take(Some(&topic), &entries, charge).await?))
            }
            Route::Records { topic, batch } => {
                rights.topic(&topic)?;
                let media_type = formats::media_type(&parts.headers);
                if !matches!(media_type.as_str(), "application/json" | "") {
                    let message = "the content type is not application/json";
                    return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
                }
                if !batch && live::is_live(&parts.headers, &body) {
                    return live::answer(self.clone(), topic, body, turn).await;
                }
                let (body, charge) = self.read(&parts.headers, body).await?;
                let read = if batch { rest_v3::batch } else { rest_v3::stream };
                let asked = read(&body, self.edge.now())?;
                let entries: Vec<Entry> = asked.iter().filter_map(|one| one.entry.as_ref().ok().cloned()).collect();
                let places = match entries.is_empty() {
                    true => Vec::new(),
                    false => self.intake.take(Some(&topic), &entries, charge).await?,
                };
                let answer = if batch { rest_v3::batch_answer } else { rest_v3::stream_answer };
                Ok(answer(&asked, &places, &self.settings.cluster))
            }
        }
    }

    async fn read(
        &self,
        headers: &HeaderMap,
        body: Incoming,
    ) -> Result<(Bytes, crate::source::queue::Charge), Refusal> {
        body::read(&self.edge, headers, body, self.limits, self.held.charge()).await
    }

    async fn path(
        &self,
        path: &PathSettings,
        rights: &Rights<'_>,
        parts: &Parts,
        body: Incoming,
    ) -> Result<Answer, Refusal> {
        if let Some(topic) = &path.topic {
            rights.topic(topic)?;
        }
        let headers = &parts.headers;
        let format = formats::of(path.format, headers)?;
        let (body, charge) = self.read(headers, body).await?;
        let key = path.key_header.as_ref().and_then(|name| headers.get(name));
        let key = key.map(|key| Bytes::copy_from_slice(key.as_bytes()));
        let named = |name: &String| {
            headers.get(name).map(|value| (name.clone(), Some(Bytes::copy_from_slice(value.as_bytes()))))
        };
        let shared: Vec<(String, Option<Bytes>)> = path.headers.iter().filter_map(named).collect();
        let timestamp = self.edge.now();
        if format == Format::Firehose {
            let mut delivery = formats::delivery(headers, &body, timestamp)?;
            for entry in &mut delivery.entries {
                entry.key = key.clone();
                entry.headers.extend(shared.iter().cloned());
            }
            // Firehose tests an endpoint by sending nothing.
            if !delivery.entries.is_empty() {
                all(self.intake.take(path.topic.as_deref(), &delivery.entries, charge).await?)?;
            }
            return Ok(firehose_answer(&delivery.request_id, timestamp, None));
        }
        let values = formats::values(format, &body)?.into_iter();
        let entry =
            |value| Entry { key: key.clone(), value: Some(value), headers: shared.clone(), timestamp, partition: None };
        let entries: Vec<Entry> = values.map(entry).collect();
        let places = all(self.intake.take(path.topic.as_deref(), &entries, charge).await?)?;
        Ok(summary(&places))
    }

    fn clusters(&self) -> Answer {
        let cluster = json!({ "kind": "KafkaCluster", "cluster_id": self.settings.cluster });
        answer_json(StatusCode::OK, &json!({ "kind": "KafkaClusterList", "data": [cluster] }))
    }

    fn is_firehose(&self, parts: &Parts) -> bool {
        let path = self.settings.paths.iter().find(|path| path.path == parts.uri.path());
        match path.map(|path| path.format) {
            Some(Format::Firehose) => true,
            Some(Format::Auto) => parts.headers.contains_key(firehose::PROTOCOL_VERSION),
            _ => false,
        }
    }

    /// The answer to a request of Firehose's that was refused: it is known by its header.
    fn firehose_answer(&self, headers: &HeaderMap, refusal: Option<&Refusal>) -> Answer {
        let id = headers.get(firehose::REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
        firehose_answer(id, self.edge.now(), refusal)
    }
}

fn firehose_answer(request_id: &str, timestamp: i64, refusal: Option<&Refusal>) -> Answer {
    let body = firehose::Answer {
        request_id: request_id.to_owned(),
        timestamp,
        error_message: refusal.map(|refusal| refusal.message.clone()),
    };
    let answer = answer_json(StatusCode::OK, &body);
    match refusal {
        Some(refusal) => refusal.decorate(answer),
        None => answer,
    }
}

/// All of a request's records, or none.
fn all(places: Vec<Result<Place, Refusal>>) -> Result<Vec<Place>, Refusal> {
    places.into_iter().collect()
}

/// Where the records of a request are: how many from which offset on of which partition.
fn summary(places: &[Place]) -> Answer {
    let mut runs: BTreeMap<(&str, i32), Vec<(i64, u64)>> = BTreeMap::new();
    for (of, offset) in places {
        let runs = runs.entry((&of.topic, of.partition)).or_default();
        match runs.last_mut() {
            Some((first, count)) if *first + *count as i64 == *offset => *count += 1,
            _ => runs.push((*offset, 1)),
        }
    }
    let mut offsets = Vec::new();
    for ((topic, partition), runs) in runs {
        for (offset, records) in runs {
            offsets.push(json!({ "topic": topic, "partition": partition, "offset": offset, "records": records }));
        }
    }
    answer_json(StatusCode::OK, &json!({ "records": places.len(), "offsets": offsets }))
}
