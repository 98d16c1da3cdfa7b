//! Kafka clients that are not Apache Kafka's, each a command against an endpoint: see `clients.sh`.

use std::io::Write as _;
use std::process::{Command, Stdio};

/// A kind of client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KafkaClient {
    /// `clients/librdkafka.py`: librdkafka, by Confluent's Python client.
    Librdkafka,
    /// kcat, which is librdkafka too, mostly an older one.
    Kcat,
    /// `clients/franz`: franz-go.
    Franz,
}

impl KafkaClient {
    /// The client against an endpoint, without what it is to do.
    pub fn at(self, address: &str) -> Command {
        let (name, before): (_, &[&str]) = match self {
            KafkaClient::Librdkafka => {
                ("librdkafka", &[concat!(env!("CARGO_MANIFEST_DIR"), "/clients/librdkafka.py"), address])
            }
            KafkaClient::Kcat => ("kcat", &["-b", address]),
            KafkaClient::Franz => ("franz", &[address]),
        };
        let mut script = Command::new("bash");
        script.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/services/clients.sh")).arg(name);
        let made = script.env("AQUEDUCT_SERVICES_CACHE", super::local::cache()).output().unwrap();
        assert!(made.status.success(), "make {name}: {}", String::from_utf8_lossy(&made.stderr));
        let mut command = Command::new(String::from_utf8(made.stdout).unwrap().trim());
        command.args(before);
        command
    }

    /// What the client prints, given `input`; the test fails where the client does.
    pub fn run(self, address: &str, arguments: &[&str], input: &str) -> String {
        let mut command = self.at(address);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Inputs are small enough for a pipe; a client that does not read them has said why.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{self:?} {arguments:?}: {}\n{told}{errors}", output.status);
        told
    }
}
