//! Search servers: OpenSearch and Elasticsearch.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{How, Kind, Launch, found, given};

/// A search server: plain HTTP, no credentials.
#[derive(Clone, Debug)]
pub struct Search {
    /// `http://host:port`.
    pub endpoint: String,
    /// Where the server came from.
    pub how: How,
}

const OPENSEARCH_IMAGE: &str = "opensearchproject/opensearch:2.19.1";

/// What OpenSearch is told in a container, and at the end what only the narrow one is told.
const NARROW_ENVIRONMENT: &[(&str, &str)] = &[
    ("discovery.type", "single-node"),
    ("DISABLE_SECURITY_PLUGIN", "true"),
    ("DISABLE_INSTALL_DEMO_CONFIG", "true"),
    ("cluster.routing.allocation.disk.threshold_enabled", "false"),
    ("OPENSEARCH_JAVA_OPTS", "-Xms512m -Xmx512m"),
    ("thread_pool.write.size", "1"),
    ("thread_pool.write.queue_size", "1"),
];
/// How many of these every OpenSearch is told.
const OPENSEARCH_ENVIRONMENT: usize = 5;

const OPENSEARCH: Kind = Kind {
    name: "opensearch",
    variable: "AQUEDUCT_TEST_OPENSEARCH",
    image: OPENSEARCH_IMAGE,
    program: "opensearch",
    container: Launch {
        port: 9200,
        arguments: &[],
        environment: NARROW_ENVIRONMENT.split_at(OPENSEARCH_ENVIRONMENT).0,
    },
    local: Launch { port: 0, arguments: &["{address}", "{data}"], environment: &[] },
    health: "/_cluster/health",
};

/// One that takes one write at a time and lets one wait: it answers 429 to what is more.
const NARROW_OPENSEARCH: Kind = Kind {
    name: "narrow-opensearch",
    variable: "AQUEDUCT_TEST_NARROW_OPENSEARCH",
    image: OPENSEARCH_IMAGE,
    program: "opensearch",
    container: Launch { port: 9200, arguments: &[], environment: NARROW_ENVIRONMENT },
    local: Launch {
        port: 0,
        arguments: &["{address}", "{data}", "thread_pool.write.size=1", "thread_pool.write.queue_size=1"],
        environment: &[],
    },
    health: "/_cluster/health",
};

const ELASTICSEARCH: Kind = Kind {
    name: "elasticsearch",
    variable: "AQUEDUCT_TEST_ELASTICSEARCH",
    image: "docker.elastic.co/elasticsearch/elasticsearch:8.19.4",
    program: "elasticsearch",
    container: Launch {
        port: 9200,
        arguments: &[],
        environment: &[
            ("discovery.type", "single-node"),
            ("xpack.security.enabled", "false"),
            ("cluster.routing.allocation.disk.threshold_enabled", "false"),
            ("ES_JAVA_OPTS", "-Xms512m -Xmx512m"),
        ],
    },
    local: Launch { port: 0, arguments: &["{address}", "{data}"], environment: &[] },
    health: "/_cluster/health",
};

/// OpenSearch. Panics, which fails the test, where there is none to be had.
pub async fn opensearch() -> Search {
    static SERVICE: OnceCell<Search> = OnceCell::const_new();
    SERVICE.get_or_init(|| provide(&OPENSEARCH)).await.clone()
}

/// OpenSearch that takes one write at a time and lets one wait: it answers 429 to what is more. Panics, which fails the
/// test, where there is none to be had.
pub async fn narrow_opensearch() -> Search {
    static SERVICE: OnceCell<Search> = OnceCell::const_new();
    SERVICE.get_or_init(|| provide(&NARROW_OPENSEARCH)).await.clone()
}

/// Elasticsearch. Panics, which fails the test, where there is none to be had.
pub async fn elasticsearch() -> Search {
    static SERVICE: OnceCell<Search> = OnceCell::const_new();
    SERVICE.get_or_init(|| provide(&ELASTICSEARCH)).await.clone()
}

async fn provide(kind: &Kind) -> Search {
    let found = found(kind, given(kind.variable)).await;
    Search { endpoint: found.address, how: found.how }
}

impl Search {
    /// Asks the server, with a JSON body where there is one; answers with status and body.
    pub async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = reqwest::Client::new().request(method, format!("{}/{path}", self.endpoint));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or_default())
    }

    /// Every document of the indices that `index` stands for: `_index`, `_id`, `_version`, `_source`.
    pub async fn documents(&self, index: &str) -> Vec<Value> {
        let (status, answer) = self.ask(Method::POST, &format!("{index}/_refresh"), None).await;
        assert!(matches!(status, 200 | 404), "refresh {index}: {status} {answer}");
        let mut found = Vec::new();
        let mut after: Option<Value> = None;
        loop {
            let (path, query) = match &after {
                Some(after) => ("_search/scroll".to_owned(), json!({"scroll_id": after, "scroll": "1m"})),
                None => {
                    (format!("{index}/_search?scroll=1m"), json!({"size": 10_000, "version": true, "sort": ["_doc"]}))
                }
            };
            let (status, answer) = self.ask(Method::POST, &path, Some(query)).await;
            if status == 404 {
                return found;
            }
            assert_eq!(status, 200, "search {index}: {answer}");
            let page = answer["hits"]["hits"].as_array().unwrap().clone();
            after = Some(answer["_scroll_id"].clone());
            if page.is_empty() {
                self.ask(Method::DELETE, "_search/scroll", Some(json!({"scroll_id": after}))).await;
                return found;
            }
            found.extend(page);
        }
    }
}
