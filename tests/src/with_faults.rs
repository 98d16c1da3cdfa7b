//! The binary `aqueduct`, built with the places where a test can end it.

use std::process::ExitCode;

fn main() -> ExitCode {
    aqueduct_daemon::main()
}
