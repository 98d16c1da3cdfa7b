//! The binary `aqueduct`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    aqueduct_daemon::main()
}
