//! A schema registry: Apicurio's, by its API that is Confluent's, and Confluent's own clients in Python.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;
use tokio::sync::OnceCell;

use super::{How, Kind, Launch, found, given};

/// A schema registry: plain HTTP, no credentials.
#[derive(Clone, Debug)]
pub struct SchemaRegistry {
    /// `http://host:port/apis/ccompat/v7`.
    pub url: String,
    /// Where the server came from.
    pub how: How,
}

const APICURIO: Kind = Kind {
    name: "schema-registry",
    variable: "AQUEDUCT_TEST_SCHEMA_REGISTRY",
    image: "apicurio/apicurio-registry-mem:2.6.13.Final",
    program: "apicurio",
    container: Launch { port: 8080, arguments: &[], environment: &[] },
    local: Launch { port: 0, arguments: &["{address}"], environment: &[] },
    health: "/health/ready",
};

/// Apicurio's registry, in memory. Panics, which fails the test, where there is none to be had.
pub async fn schema_registry() -> SchemaRegistry {
    static SERVICE: OnceCell<SchemaRegistry> = OnceCell::const_new();
    let provide = || async {
        let found = found(&APICURIO, given(APICURIO.variable)).await;
        SchemaRegistry { url: format!("{}/apis/ccompat/v7", found.address), how: found.how }
    };
    SERVICE.get_or_init(provide).await.clone()
}

impl SchemaRegistry {
    /// What Confluent's own serializers write of an order, in subjects that begin with `prefix`: schema and base64 by form.
    pub fn written(&self, prefix: &str) -> BTreeMap<String, (String, String)> {
        serde_json::from_str(&self.converse(prefix, "write", "")).unwrap()
    }

    /// What Confluent's own deserializers read of base64, by form.
    pub fn read(&self, prefix: &str, given: &BTreeMap<String, String>) -> BTreeMap<String, Value> {
        serde_json::from_str(&self.converse(prefix, "read", &serde_json::to_string(given).unwrap())).unwrap()
    }

    fn converse(&self, prefix: &str, action: &str, input: &str) -> String {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/services");
        let mut install = Command::new("bash");
        install.arg(format!("{folder}/readers.sh")).arg("serializers");
        let python = output(install.env("AQUEDUCT_SERVICES_CACHE", super::local::cache()), "");
        let mut converse = Command::new(python.trim());
        output(converse.arg(format!("{folder}/converse.py")).args([&self.url, prefix, action]), input)
    }
}

fn output(command: &mut Command, input: &str) -> String {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
