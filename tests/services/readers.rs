//! Programs of others that read what sinks write, and write what sources read: pyarrow, DuckDB, fastavro and Python's csv.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// What `reader` finds in files: see `read.py`.
pub fn read<P: AsRef<Path>>(reader: &str, files: &[P]) -> Value {
    let mut command = python("read.py");
    command.arg(reader).args(files.iter().map(AsRef::as_ref));
    serde_json::from_str(&run(&mut command)).unwrap()
}

/// What `writer` writes: see `write.py`.
pub fn write(writer: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(writer);
    run(python("write.py").arg(writer).arg(&file));
    std::fs::read(file).unwrap()
}

fn python(script: &str) -> Command {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/services");
    let python = run(Command::new("bash")
        .arg(format!("{folder}/readers.sh"))
        .env("AQUEDUCT_SERVICES_CACHE", super::local::cache()));
    let mut command = Command::new(python.trim());
    command.arg(format!("{folder}/{script}"));
    command
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
