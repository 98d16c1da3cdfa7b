//! The real services that tests run against. Each is, in this order: at an address from the environment, in a container
//! where a Docker engine answers, or a local install. One of each serves a whole test run, and dies with it.

mod bucket;
mod clients;
mod container;
mod kafka;
mod local;
mod readers;
mod registry;
mod run;
mod search;

use std::fmt;
use std::io::Write as _;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

pub use bucket::{Bucket, Upload};
pub use clients::KafkaClient;
pub use kafka::{kafka_tool, try_kafka_tool};
pub use readers::{read, write};
pub use registry::{SchemaRegistry, schema_registry};
pub use search::{Search, elasticsearch, narrow_opensearch, opensearch};

/// An S3 server: path-style addresses, plain HTTP.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct S3 {
    /// `http://host:port`.
    pub endpoint: String,
    /// Whose key.
    pub access_key: String,
    /// The key.
    pub secret_key: String,
    /// What requests are signed for.
    pub region: String,
    /// Where the server came from.
    pub how: How,
}

/// Where a service came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    /// Somebody gave its address.
    Given,
    /// It runs in a container.
    Container,
    /// It was installed from a package registry and started here.
    Local,
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            How::Given => "an address from the environment",
            How::Container => "a container",
            How::Local => "a local install",
        })
    }
}

/// What is known of a kind of server before it runs.
struct Kind {
    name: &'static str,
    /// The variable that gives an address; with `_KEY`, `_SECRET` and `_REGION` after it, the rest.
    variable: &'static str,
    image: &'static str,
    /// What `install.sh` calls it.
    program: &'static str,
    /// How it runs in a container, and as a local install.
    container: Launch,
    local: Launch,
    /// Answers 200 once the server is ready.
    health: &'static str,
}

/// How a server is started.
#[derive(Clone, Copy)]
struct Launch {
    /// The port that it listens on, where it is in a container.
    port: u16,
    /// Arguments, where `{address}` and `{data}` stand for where it listens and where it keeps its data.
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
}

/// A server that answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Started {
    /// `host:port`.
    address: String,
    how: How,
}

const ACCESS_KEY: &str = "aqueduct-tests";
const SECRET_KEY: &str = "aqueduct-tests-secret";
const REGION: &str = "us-east-1";

/// The key that MinIO encrypts objects with where it is asked to by name.
pub const KMS_KEY: &str = "aqueduct-tests-key";

const MINIO: Kind = Kind {
    name: "minio",
    variable: "AQUEDUCT_TEST_S3",
    image: "minio/minio:RELEASE.2025-09-07T16-13-09Z",
    program: "minio",
    container: MINIO_LAUNCH,
    local: MINIO_LAUNCH,
    health: "/minio/health/ready",
};

const MINIO_LAUNCH: Launch = Launch {
    port: 9000,
    arguments: &["server", "--quiet", "--address", "{address}", "{data}"],
    environment: &[
        ("MINIO_ROOT_USER", ACCESS_KEY),
        ("MINIO_ROOT_PASSWORD", SECRET_KEY),
        ("MINIO_BROWSER", "off"),
        ("MINIO_UPDATE", "off"),
        // That of KMS_KEY: 32 bytes that are no secret.
        ("MINIO_KMS_SECRET_KEY", "aqueduct-tests-key:YXF1ZWR1Y3QtdGVzdHMta2V5LW9mLTMyLWJ5dGVzLS0="),
    ],
};

const VERSITY: Kind = Kind {
    name: "versity",
    variable: "AQUEDUCT_TEST_VERSITY",
    image: "ghcr.io/versity/versitygw:v1.8.0",
    program: "versitygw",
    container: VERSITY_LAUNCH,
    local: VERSITY_LAUNCH,
    health: "/health",
};

const VERSITY_LAUNCH: Launch = Launch {
    port: 9000,
    arguments: &["--port", "{address}", "--health", "/health", "posix", "{data}"],
    environment: &[("ROOT_ACCESS_KEY", ACCESS_KEY), ("ROOT_SECRET_KEY", SECRET_KEY)],
};

const MOTO: Kind = Kind {
    name: "moto",
    variable: "AQUEDUCT_TEST_MOTO",
    image: "motoserver/moto:5.2.5",
    program: "moto",
    container: Launch { port: 5000, arguments: &[], environment: &[] },
    local: Launch { port: 0, arguments: &["{address}"], environment: &[] },
    health: "/moto-api/",
};

/// MinIO. Panics, which fails the test, where there is none to be had.
pub async fn s3() -> S3 {
    static SERVICE: OnceCell<S3> = OnceCell::const_new();
    SERVICE.get_or_init(|| provide(&MINIO)).await.clone()
}

/// The Versity gateway, an S3 server of other make. Panics, which fails the test, where there is none to be had.
pub async fn versity() -> S3 {
    static SERVICE: OnceCell<S3> = OnceCell::const_new();
    SERVICE.get_or_init(|| provide(&VERSITY)).await.clone()
}

/// Moto, which keeps objects' ACLs as Amazon does, and takes any signature. Panics, which fails the test, where there is
/// none to be had.
pub async fn moto() -> S3 {
    static SERVICE: OnceCell<S3> = OnceCell::const_new();
    SERVICE.get_or_init(|| provide(&MOTO)).await.clone()
}

async fn provide(kind: &Kind) -> S3 {
    let given = given(kind.variable);
    let Started { address, how } = found(kind, given.clone()).await;
    let variable = |end: &str| std::env::var(format!("{}{end}", kind.variable)).ok().filter(|_| given.is_some());
    S3 {
        endpoint: address,
        access_key: variable("_KEY").unwrap_or_else(|| ACCESS_KEY.to_owned()),
        secret_key: variable("_SECRET").unwrap_or_else(|| SECRET_KEY.to_owned()),
        region: variable("_REGION").unwrap_or_else(|| REGION.to_owned()),
        how,
    }
}

/// The address that somebody gave.
fn given(variable: &str) -> Option<String> {
    Some(std::env::var(variable).ok()?.trim_end_matches('/').to_owned())
}

/// The service at an address that was given, else that of this run; the address is a whole one, `http://host:port`.
async fn found(kind: &Kind, given: Option<String>) -> Started {
    let found = match given {
        Some(address) => Started { address, how: How::Given },
        None => {
            let started = run::shared(kind, || start(kind)).await;
            Started { address: format!("http://{}", started.address), ..started }
        }
    };
    // Straight to the file descriptor: a test's own output is shown only when it fails.
    let _ = writeln!(std::io::stderr(), "services: {} at {}, {}", kind.name, found.address, found.how);
    found
}

async fn start(kind: &Kind) -> Started {
    match container::start(kind).await {
        Ok(address) => return Started { address, how: How::Container },
        Err(reason) => {
            let _ = writeln!(std::io::stderr(), "services: {}: no container: {reason}", kind.name);
        }
    }
    match local::start(kind).await {
        Ok(address) => Started { address, how: How::Local },
        Err(reason) => panic!(
            "no {} to be had: {reason}. Give an address in {}, or see tests/services/README.md",
            kind.name, kind.variable
        ),
    }
}

/// Waits until the server at `address` says that it is ready.
async fn ready(kind: &Kind, address: &str, limit: Duration) -> Result<(), String> {
    let client =
        reqwest::Client::builder().timeout(Duration::from_secs(2)).build().map_err(|cause| cause.to_string())?;
    let begun = Instant::now();
    loop {
        let answer = client.get(format!("http://{address}{}", kind.health)).send().await;
        if answer.as_ref().is_ok_and(|answer| answer.status().is_success()) {
            return Ok(());
        }
        if begun.elapsed() > limit {
            return Err(format!("{} at {address} is not ready after {limit:?}: {answer:?}", kind.name));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
