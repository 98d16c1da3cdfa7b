//! Apache Kafka's own command line tools, which talk to whatever is at an address: see `kafka.sh`.

use std::io::Write as _;
use std::process::{Command, Stdio};

/// What a tool prints, given `input`; the test fails where the tool does.
pub fn kafka_tool(tool: &str, address: &str, arguments: &[&str], input: &str) -> String {
    let (succeeded, told) = try_kafka_tool(tool, address, arguments, input);
    assert!(succeeded, "{tool} {arguments:?}: {told}");
    told
}

/// Whether a tool succeeds, and what it prints, to either output.
pub fn try_kafka_tool(tool: &str, address: &str, arguments: &[&str], input: &str) -> (bool, String) {
    let mut command = Command::new("bash");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/services/kafka.sh")).arg(tool);
    command.env("AQUEDUCT_SERVICES_CACHE", super::local::cache());
    command.args(["--bootstrap-server", address]).args(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Inputs are small enough for a pipe; a tool that does not read them has said why.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&told).into_owned())
}
