//! Programs of others that read what sinks write: pyarrow, DuckDB, fastavro and Python's csv.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// What `reader` finds in files: see `read.py`.
pub fn read<P: AsRef<Path>>(reader: &str, files: &[P]) -> Value {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/services");
    let python = run(Command::new("bash")
        .arg(format!("{folder}/readers.sh"))
        .env("AQUEDUCT_SERVICES_CACHE", super::local::cache()));
    let mut command = Command::new(python.trim());
    command.arg(format!("{folder}/read.py")).arg(reader).args(files.iter().map(AsRef::as_ref));
    serde_json::from_str(&run(&mut command)).unwrap()
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
