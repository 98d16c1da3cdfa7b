//! `aqueduct groups`: who has read how far.

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::cli::watch::{Before, Watch};
use crate::cli::{Context, number, text};
use crate::client::path;
use crate::terminal::Failure;

/// List groups of readers, or show how far one has come.
#[derive(Args)]
#[command(after_help = "\
Examples:
  aqueduct groups list --watch
  aqueduct groups show connect-lake")]
pub(super) struct Groups {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// All groups
    List {
        #[command(flatten)]
        watch: Watch,
    },
    /// One group, partition by partition, and who is in it
    Show {
        /// Its name: a sink's is connect-NAME
        group: String,
        #[command(flatten)]
        watch: Watch,
    },
}

impl Groups {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self.action {
            Action::List { watch } => watch.data(context, "groups list", "/groups", list).await,
            Action::Show { group, watch } => {
                watch.data(context, "groups show", &path(&["groups", &group], &[]), show).await
            }
        }
    }
}

fn list(context: &mut Context, answer: &Value, before: Option<&Before>) -> Result<(), Failure> {
    let row = |group: &Value| {
        let size = |key: &str| group[key].as_array().map_or(0, Vec::len).to_string();
        let rate = Before::rate(before, Some(read(group)), |then| {
            then["groups"].as_array()?.iter().find(|then| then["name"] == group["name"]).map(read)
        });
        vec![text(group, "name"), size("members"), size("partitions"), number(group, "lag"), rate]
    };
    let rows: Vec<_> = answer["groups"].as_array().into_iter().flatten().map(row).collect();
    context.terminal.table(&["GROUP", "MEMBERS", "PARTITIONS", "LAG", "RATE/S"], &rows)
}

/// How far a group has come in all partitions together.
fn read(group: &Value) -> u64 {
    group["partitions"].as_array().into_iter().flatten().filter_map(|place| place["committed"].as_u64()).sum()
}

fn show(context: &mut Context, group: &Value, before: Option<&Before>) -> Result<(), Failure> {
    let row = |place: &Value| {
        let rate = Before::rate(before, place["committed"].as_u64(), |then| {
            let same = |then: &&Value| ["topic", "partition"].iter().all(|key| then[*key] == place[*key]);
            then["partitions"].as_array()?.iter().find(same)?["committed"].as_u64()
        });
        let numbers = ["partition", "committed", "end", "lag"].map(|key| number(place, key));
        [text(place, "topic")].into_iter().chain(numbers).chain([rate]).collect()
    };
    let rows: Vec<Vec<String>> = group["partitions"].as_array().into_iter().flatten().map(row).collect();
    context.terminal.table(&["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "RATE/S"], &rows)?;
    let members = group["members"].as_array().map_or(&[][..], Vec::as_slice);
    if members.is_empty() {
        return Ok(());
    }
    let row = |member| ["id", "instance_id", "client", "host"].map(|key| text(member, key)).to_vec();
    let rows: Vec<_> = members.iter().map(row).collect();
    context.terminal.line("")?;
    context.terminal.table(&["MEMBER", "INSTANCE", "CLIENT", "HOST"], &rows)
}
