//! What a path stands for.

use hyper::{Method, StatusCode};

use crate::source::pattern::any_matches;
use crate::source::refusal::{Refusal, topic_name};
use crate::source::settings::{HttpSourceSettings, PathSettings};

/// What a path stands for.
#[derive(Debug)]
pub(crate) enum Route<'a> {
    /// Says that the source runs.
    Health,
    /// Tells Kafka REST clients of the one cluster.
    Clusters,
    /// Takes records in the path's own way.
    Path(&'a PathSettings),
    /// Kafka REST, version 2.
    Topic { topic: String, partition: Option<i32> },
    /// Kafka REST, version 3.
    Records { topic: String, batch: bool },
}

/// Finds out what a path stands for.
pub(crate) fn route<'a>(settings: &'a HttpSourceSettings, method: &Method, path: &str) -> Result<Route<'a>, Refusal> {
    let route = find(settings, path)?;
    let expected = match route {
        Route::Health | Route::Clusters => Method::GET,
        _ => Method::POST,
    };
    // Some clients put.
    let is_put = *method == Method::PUT && matches!(route, Route::Path(_));
    let is_head = *method == Method::HEAD && expected == Method::GET;
    if *method == expected || is_put || is_head {
        return Ok(route);
    }
    let message = format!("{method} is not known here, expected {expected}");
    Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, message))
}

fn find<'a>(settings: &'a HttpSourceSettings, path: &str) -> Result<Route<'a>, Refusal> {
    if path == settings.health {
        return Ok(Route::Health);
    }
    if let Some(path) = settings.paths.iter().find(|known| known.path == path) {
        return Ok(Route::Path(path));
    }
    let nothing = || Refusal::new(StatusCode::NOT_FOUND, format!("there is no path {}", path.escape_debug()));
    if settings.topics.is_empty() {
        return Err(nothing());
    }
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match parts[..] {
        ["v3", "clusters"] => Ok(Route::Clusters),
        ["topics", topic] => Ok(Route::Topic { topic: allowed(settings, topic)?, partition: None }),
        ["topics", topic, "partitions", partition] => {
            let partition = partition.parse().ok().filter(|partition: &i32| *partition >= 0);
            let partition = partition.ok_or_else(crate::source::rest::no_partition)?;
            Ok(Route::Topic { topic: allowed(settings, topic)?, partition: Some(partition) })
        }
        ["v3", "clusters", cluster, "topics", topic, records @ ("records" | "records:batch")] => {
            if cluster != settings.cluster {
                let message = format!("there is no cluster {}, this is {}", cluster.escape_debug(), settings.cluster);
                return Err(Refusal::new(StatusCode::NOT_FOUND, message).coded(404));
            }
            Ok(Route::Records { topic: allowed(settings, topic)?, batch: records == "records:batch" })
        }
        _ => Err(nothing()),
    }
}

/// A topic that requests may name. Names of topics need no escapes, so what is escaped is none.
fn allowed(settings: &HttpSourceSettings, topic: &str) -> Result<String, Refusal> {
    topic_name(topic).map_err(|why| Refusal::bad(why).coded(400))?;
    if !any_matches(&settings.topics, topic) {
        let message = format!("topic {topic} is not one that takes requests here");
        return Err(Refusal::new(StatusCode::NOT_FOUND, message).coded(40401));
    }
    Ok(topic.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn outcome(method: &str, path: &str) -> String {
        let settings = json!({"listen": "127.0.0.1:0", "topics": ["logs.*", "orders"], "paths": [{"path": "/in/a"}]});
        let settings: HttpSourceSettings = serde_json::from_value(settings).unwrap();
        match route(&settings, &method.parse().unwrap(), path) {
            Ok(Route::Path(path)) => format!("path {}", path.path),
            Ok(route) => format!("{route:?}"),
            Err(refusal) => format!("{} {}", refusal.status.as_u16(), refusal.code),
        }
    }

    #[test]
    fn paths_stand_for_what_the_settings_say() {
        for (method, path, expected) in [
            ("GET", "/health", "Health"),
            ("HEAD", "/health", "Health"),
            ("POST", "/health", "405 405"),
            ("POST", "/in/a", "path /in/a"),
            ("PUT", "/in/a", "path /in/a"),
            ("GET", "/in/a", "405 405"),
            ("POST", "/in/a/", "404 404"),
            ("POST", "/in/../in/a", "404 404"),
            ("POST", "/", "404 404"),
            ("GET", "/v3/clusters", "Clusters"),
            ("POST", "/topics/orders", r#"Topic { topic: "orders", partition: None }"#),
            ("POST", "/topics/logs.x/partitions/3", r#"Topic { topic: "logs.x", partition: Some(3) }"#),
            ("POST", "/topics/logs.x/partitions/-1", "404 40402"),
            ("POST", "/topics/logs.x/partitions/x", "404 40402"),
            ("POST", "/topics/secret", "404 40401"),
            ("POST", "/topics/..", "400 400"),
            ("POST", "/topics/logs.%2e%2e%2fx", "400 400"),
            ("POST", "/topics/logs.x/../../etc", "404 404"),
            ("POST", "/topics/__consumer_offsets", "400 400"),
            ("POST", "/topics/", "400 400"),
            ("PUT", "/topics/orders", "405 405"),
            ("POST", "/v3/clusters/aqueduct/topics/orders/records", r#"Records { topic: "orders", batch: false }"#),
            (
                "POST",
                "/v3/clusters/aqueduct/topics/orders/records:batch",
                r#"Records { topic: "orders", batch: true }"#,
            ),
            ("POST", "/v3/clusters/other/topics/orders/records", "404 404"),
        ] {
            assert_eq!(outcome(method, path), expected, "{method} {path}");
        }
    }
}
