//! A service as a local install, built by `install.sh` into a cache folder outside the checkout.

use std::env;
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::{Kind, ready, run};

/// Where installs and what runs are kept: `AQUEDUCT_SERVICES_CACHE`, by default `aqueduct-services` in the home cache.
pub(super) fn cache() -> PathBuf {
    if let Some(cache) = env::var_os("AQUEDUCT_SERVICES_CACHE") {
        return PathBuf::from(cache);
    }
    let home = || PathBuf::from(env::var_os("HOME").expect("a home folder, or AQUEDUCT_SERVICES_CACHE")).join(".cache");
    env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("aqueduct-services")
}

/// Installs the service where it is missing, starts it, and answers with `host:port`.
pub(super) async fn start(kind: &Kind) -> Result<String, String> {
    let program = install(kind)?;
    let mut failure = String::new();
    // The port is free when it is chosen; should somebody else take it before the server does, another is chosen.
    for _ in 0..3 {
        let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = address.map_err(|cause| format!("no free port: {cause}"))?.to_string();
        let data = run::home(kind).join("data").display().to_string();
        run::keep(kind, &mut |keeper| {
            let arguments = kind.local.arguments.iter();
            keeper.arg(&program);
            keeper.args(arguments.map(|argument| argument.replace("{address}", &address).replace("{data}", &data)));
            keeper.envs(kind.local.environment.iter().copied());
        })?;
        match ready(kind, &address, Duration::from_secs(120)).await {
            Ok(()) => return Ok(address),
            Err(reason) => failure = reason,
        }
    }
    let log = fs::read_to_string(run::home(kind).join("log")).unwrap_or_default();
    Err(format!("{failure}\n{log}"))
}

fn install(kind: &Kind) -> Result<String, String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/services/install.sh");
    let output = Command::new("bash").arg(script).arg(kind.program).env("AQUEDUCT_SERVICES_CACHE", cache()).output();
    let output = output.map_err(|cause| format!("run {script}: {cause}"))?;
    if !output.status.success() {
        return Err(format!("install {}: {}", kind.program, String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
