//! Answers that are shown once, or again and again.

use std::time::{Duration, Instant};

use axum::http::Method;
use clap::Args;
use serde_json::Value;

use crate::cli::{Context, count};
use crate::client::Client;
use crate::terminal::Failure;

/// How often an answer that is watched is shown.
const EVERY: Duration = Duration::from_secs(1);

/// Whether to show an answer again and again.
#[derive(Args, Clone, Copy)]
pub(super) struct Watch {
    /// Again every second, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
}

/// What was shown the last time.
pub(super) struct Before {
    answer: Value,
    at: Instant,
}

impl Before {
    /// How much a number has grown in a second, for people; a dash where there is nothing to compare it with.
    pub(super) fn rate(before: Option<&Before>, now: Option<u64>, then: impl FnOnce(&Value) -> Option<u64>) -> String {
        let grown = before.zip(now).and_then(|(before, now)| {
            let millis = u64::try_from(before.at.elapsed().as_millis()).ok()?.max(1);
            Some(now.saturating_sub(then(&before.answer)?).saturating_mul(1000) / millis)
        });
        grown.map_or_else(|| "-".to_owned(), count)
    }
}

impl Watch {
    /// Asks whoever has the log, and shows the answer.
    pub(super) async fn data(
        self,
        context: &mut Context,
        command: &str,
        at: &str,
        show: impl Fn(&mut Context, &Value, Option<&Before>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let client = context.client(command, false).await?;
        let shown = match (&client, self.watch) {
            (Client::Folder { .. }, true) => {
                Err(Failure::Usage("--watch: no daemon is running, so nothing would change".to_owned()))
            }
            _ => self.run(context, &client, at, show).await,
        };
        client.close().await?;
        shown
    }

    /// Asks, and shows the answer; or its JSON, where that is wanted.
    pub(super) async fn run(
        self,
        context: &mut Context,
        client: &Client,
        at: &str,
        show: impl Fn(&mut Context, &Value, Option<&Before>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut before: Option<Before> = None;
        loop {
            let answer = client.call(Method::GET, at, None).await?;
            if self.watch && context.terminal.interactive && !context.common.json {
                // Home, and clear what is below: what is shown does not flicker.
                context.terminal.data(b"\x1b[H\x1b[J")?;
            }
            match context.common.json {
                true => context.terminal.json(&answer)?,
                false => show(context, &answer, before.as_ref())?,
            }
            if !self.watch {
                return Ok(());
            }
            context.terminal.flush()?;
            before = Some(Before { answer, at: Instant::now() });
            tokio::time::sleep(EVERY).await;
        }
    }
}
