//! `aqueduct connectors`: what exists, and every setting of one.

use std::collections::BTreeSet;

use clap::Args;
use serde_json::json;

use crate::cli::Context;
use crate::connectors::{self, Direction, settings};
use crate::diagnosis::unknown;
use crate::terminal::Failure;

/// List connectors, or every setting of one.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  aqueduct connectors\n  aqueduct connectors s3\n  aqueduct connectors s3 --markdown > docs/connectors/s3.md"
)]
pub(super) struct Connectors {
    /// Which one; without: all of them
    name: Option<String>,
    /// As a page of documentation
    #[arg(long, requires = "name")]
    markdown: bool,
}

impl Connectors {
    pub(super) fn run(self, context: &mut Context) -> Result<(), Failure> {
        let registry = connectors::registry();
        let all = connectors::all(&registry);
        let Some(name) = self.name else { return list(&all, context) };
        let found: Vec<_> = all.iter().filter(|(_, connector)| connector.name() == name).collect();
        if found.is_empty() {
            // What is a source and a sink has one name.
            let names: BTreeSet<&str> = all.iter().map(|(_, connector)| connector.name()).collect();
            let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
            return Err(Failure::Usage(unknown("connector", &name, &names)));
        }
        if self.markdown {
            return context.terminal.data(markdown(&name, &registry).as_bytes());
        }
        for (direction, connector) in found {
            let settings = settings(&connector.schema().to_value());
            if context.common.json {
                context.terminal.json(&json!({
                    "name": connector.name(), "kind": direction.name(), "summary": connector.summary(),
                    "schema": connector.schema(),
                }))?;
                continue;
            }
            context.terminal.line(format!("{} ({}): {}\n", connector.name(), direction.name(), connector.summary()))?;
            if settings.is_empty() {
                // What is one value says what it is itself.
                let schema = connector.schema().to_value();
                let meaning = schema.get("description").and_then(serde_json::Value::as_str).unwrap_or_default();
                wrapped(meaning, 96).into_iter().try_for_each(|line| context.terminal.line(line))?;
            }
            for setting in settings {
                context.terminal.line(format!("{}  {}, default: {}", setting.name, setting.kind, setting.default))?;
                for line in wrapped(&setting.meaning, 92) {
                    context.terminal.line(format!("    {line}"))?;
                }
            }
        }
        Ok(())
    }
}

fn list(all: &[(Direction, &dyn aqueduct_api::Described)], context: &mut Context) -> Result<(), Failure> {
    if context.common.json {
        let shown = all.iter().map(|(direction, connector)| {
            json!({ "name": connector.name(), "kind": direction.name(), "summary": connector.summary() })
        });
        return context.terminal.json(&json!({ "connectors": shown.collect::<Vec<_>>() }));
    }
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|(direction, connector)| {
            vec![connector.name().to_owned(), direction.name().to_owned(), connector.summary().to_owned()]
        })
        .collect();
    context.terminal.table(&["NAME", "KIND", "WHAT IT DOES"], &rows)
}

/// The documentation page of a connector.
pub(crate) fn markdown(name: &str, registry: &aqueduct_api::Registry) -> String {
    let mut page = format!(
        "<!-- Written by `aqueduct connectors {name} --markdown`; change the settings' comments. -->\n\n# {name}\n"
    );
    for (direction, connector) in connectors::all(registry).into_iter().filter(|(_, it)| it.name() == name) {
        let schema = connector.schema().to_value();
        page += &format!("\nA {} that {}.\n", direction.name(), connector.summary());
        if let Some(description) = schema.get("description").and_then(serde_json::Value::as_str) {
            page += &format!("\n{description}\n");
        }
        let settings = settings(&schema);
        if settings.is_empty() {
            page += &format!("\nWritten as one text: `{{ {name}: '…' }}`.\n");
            continue;
        }
        page += "\n| setting | type | default | meaning |\n|---|---|---|---|\n";
        for setting in settings {
            let cells = [&setting.kind, &setting.default, &setting.meaning].map(|cell| cell.replace('|', "\\|"));
            page += &format!("| `{}` | {} |\n", setting.name, cells.join(" | "));
        }
    }
    page
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
