//! A sink and its transforms, open with the settings under which a chunk was pinned.

use std::path::Path;
use std::sync::Arc;

use aqueduct_api::{Error, NamedBy, Result, Sink};

use crate::SinkPlan;
use crate::host::Host;
use crate::settings_by_digest::Shaping;
use crate::transforms::Transforms;

/// What writes a chunk.
pub(crate) struct Opened {
    pub(crate) sink: Arc<dyn Sink>,
    /// By what it names what it writes.
    pub(crate) named_by: NamedBy,
    /// What its records go through first.
    pub(crate) transforms: Transforms,
}

impl Opened {
    /// Opens what a plan says.
    pub(crate) async fn open(host: &Host, (name, folder): (&str, &Path), plan: &SinkPlan) -> Result<Arc<Opened>> {
        let connector = host.registry.sinks.get(plan.connector.as_str());
        let connector = connector.ok_or_else(|| Error::fatal(format!("no sink `{}`", plan.connector)))?;
        let transforms = host.transforms(&plan.transforms, folder)?;
        let sink = connector.open(host.resolved(&plan.settings)?, host.sink_opening(name, folder)).await?;
        Ok(Arc::new(Opened { sink: Arc::from(sink), named_by: connector.named_by(), transforms }))
    }

    /// Opens what a plan says, with the shaping settings that were kept under a digest in place of its own.
    pub(crate) async fn open_under(
        host: &Host,
        of: (&str, &Path),
        plan: &SinkPlan,
        digest: &str,
    ) -> Result<Arc<Opened>> {
        let kept = Shaping::kept(&host.settings, digest)?;
        Opened::open(host, of, &kept.over(&host.registry, plan)?).await
    }
}
