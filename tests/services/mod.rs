//! The real services that tests run against. Each is, in this order: at an address from the environment, in a container
//! where a Docker engine answers, or a local install. One of each serves a whole test run, and dies with it.

mod bucket;
mod container;
mod local;
mod run;

use std::fmt;
use std::io::Write as _;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

pub use bucket::{Bucket, Upload};

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
    /// Arguments, where `{address}` and `{data}` stand for where it listens and where it keeps its objects.
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
    /// Answers 200 once the server is ready.
    health: &'static str,
}

const ACCESS_KEY: &str = "aqueduct-tests";
const SECRET_KEY: &str = "aqueduct-tests-secret";
const REGION: &str = "us-east-1";

const MINIO: Kind = Kind {
    name: "minio",
    variable: "AQUEDUCT_TEST_S3",
    image: "minio/minio:RELEASE.2025-09-07T16-13-09Z",
    program: "minio",
    arguments: &["server", "--quiet", "--address", "{address}", "{data}"],
    environment: &[
        ("MINIO_ROOT_USER", ACCESS_KEY),
        ("MINIO_ROOT_PASSWORD", SECRET_KEY),
        ("MINIO_BROWSER", "off"),
        ("MINIO_UPDATE", "off"),
    ],
    health: "/minio/health/ready",
};

const VERSITY: Kind = Kind {
    name: "versity",
    variable: "AQUEDUCT_TEST_VERSITY",
    image: "ghcr.io/versity/versitygw:v1.8.0",
    program: "versitygw",
    arguments: &["--port", "{address}", "--health", "/health", "posix", "{data}"],
    environment: &[("ROOT_ACCESS_KEY", ACCESS_KEY), ("ROOT_SECRET_KEY", SECRET_KEY)],
    health: "/health",
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

async fn provide(kind: &Kind) -> S3 {
    let s3 = match given(kind) {
        Some(s3) => s3,
        None => run::shared(kind, || start(kind)).await,
    };
    // Straight to the file descriptor: a test's own output is shown only when it fails.
    let _ = writeln!(std::io::stderr(), "services: {} at {}, {}", kind.name, s3.endpoint, s3.how);
    s3
}

fn given(kind: &Kind) -> Option<S3> {
    let variable = |end: &str| std::env::var(format!("{}{end}", kind.variable)).ok();
    Some(S3 {
        endpoint: variable("")?.trim_end_matches('/').to_owned(),
        access_key: variable("_KEY").unwrap_or_else(|| ACCESS_KEY.to_owned()),
        secret_key: variable("_SECRET").unwrap_or_else(|| SECRET_KEY.to_owned()),
        region: variable("_REGION").unwrap_or_else(|| REGION.to_owned()),
        how: How::Given,
    })
}

async fn start(kind: &Kind) -> S3 {
    match container::start(kind).await {
        Ok(address) => return started(address, How::Container),
        Err(reason) => {
            let _ = writeln!(std::io::stderr(), "services: {}: no container: {reason}", kind.name);
        }
    }
    match local::start(kind).await {
        Ok(address) => started(address, How::Local),
        Err(reason) => panic!(
            "no {} to be had: {reason}. Give an address in {}, or see tests/services/README.md",
            kind.name, kind.variable
        ),
    }
}

fn started(address: String, how: How) -> S3 {
    S3 {
        endpoint: format!("http://{address}"),
        access_key: ACCESS_KEY.to_owned(),
        secret_key: SECRET_KEY.to_owned(),
        region: REGION.to_owned(),
        how,
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
