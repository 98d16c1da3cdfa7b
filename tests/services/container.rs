//! A service in a container, where a Docker engine answers. `<VARIABLE>_IMAGE` names another image, for example one that
//! was built here.

use std::process::{Command, Stdio};
use std::time::Duration;

use testcontainers::core::IntoContainerPort as _;
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{GenericImage, ImageExt as _};

use super::{Kind, Launch, ready, run};

/// Starts the service and answers with `host:port`.
pub(super) async fn start(kind: &Kind) -> Result<String, String> {
    // The program that will remove the container is also the one that is asked whether an engine answers.
    let engine = Command::new("docker").arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !engine.is_ok_and(|status| status.success()) {
        return Err("no Docker engine answers".to_owned());
    }
    let image = std::env::var(format!("{}_IMAGE", kind.variable)).unwrap_or_else(|_| kind.image.to_owned());
    let (name, tag) = image.rsplit_once(':').ok_or_else(|| format!("image {image} has no tag"))?;
    let Launch { port, arguments, environment } = kind.container;
    let address = format!(":{port}");
    let arguments = arguments.iter();
    let arguments = arguments.map(|argument| argument.replace("{address}", &address).replace("{data}", "/tmp"));
    let mut request = GenericImage::new(name, tag).with_exposed_port(port.tcp()).with_cmd(arguments);
    for (name, value) in environment {
        request = request.with_env_var(*name, *value);
    }
    let container = request.start().await.map_err(|cause| format!("start {image}: {cause}"))?;
    let host = container.get_host().await.map_err(|cause| format!("find {image}: {cause}"))?;
    let port =
        container.get_host_port_ipv4(port).await.map_err(|cause| format!("find the port of {image}: {cause}"))?;
    // It belongs to the whole run, not to this process: dropping it here would remove it.
    let id = container.id().to_owned();
    std::mem::forget(container);
    run::keep(kind, &mut |keeper| {
        keeper.args(["sh", "-c", "trap 'docker rm -fv $0' TERM; docker wait $0 & wait", &id]);
    })?;
    let address = format!("{host}:{port}");
    ready(kind, &address, Duration::from_secs(120)).await?;
    Ok(address)
}
