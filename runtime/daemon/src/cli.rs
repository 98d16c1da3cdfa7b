//! The command line.

mod check;
mod connectors;
mod control;
mod dead_letters;
mod groups;
mod records;
mod run;
mod topics;
mod transform;
mod watch;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use axum::http::Method;
use clap::{CommandFactory, Parser, Subcommand};
use serde_json::{Value, json};

use crate::client::{Client, DEFAULT_URL};
use crate::load::{self, Loaded};
use crate::terminal::{Failure, Terminal};

/// Moves records between systems, through a durable log, as YAML declares it.
#[derive(Parser)]
#[command(name = "aqueduct", version, about, after_help = EXAMPLES, disable_help_subcommand = true, term_width = 100)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  aqueduct run configs/quickstart.yaml     try it
  aqueduct check                           say what is wrong with ./aqueduct.yaml
  aqueduct status --watch                  see how far everything is
  aqueduct tail logs -n 5                  the last five records of a topic
  aqueduct connectors s3                   every setting of a connector

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.";

/// What every command understands.
#[derive(clap::Args, Clone)]
struct Common {
    /// The configuration: a file, or a folder of *.yaml files [default: aqueduct.yaml]
    #[arg(short, long, global = true, value_name = "PATH", env = "AQUEDUCT_CONFIG")]
    config: Option<PathBuf>,
    /// The running daemon [default: the configuration's listen.http, else http://127.0.0.1:8083]
    #[arg(long, global = true, value_name = "URL", env = "AQUEDUCT_URL")]
    url: Option<String>,
    /// Results as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Run what a file or folder declares, until SIGTERM or Ctrl-C
    Run(run::Run),
    /// Say what is wrong with a configuration before running it
    Check(check::Check),
    /// Show the state, position, lag and last error of every source and sink
    Status(control::Status),
    /// Let a source or sink rest until it is resumed, also after a restart of the daemon
    Pause(control::Name),
    /// Set a paused or stopped source or sink to work again
    Resume(control::Name),
    /// Stop a source or sink until it is resumed, also after a restart of the daemon
    Stop(control::Name),
    /// Stop a source or sink and start it again at once
    Restart(control::Name),
    /// Apply what has changed in the configuration
    Reload,
    /// List or show sinks, or move one on purpose
    Sinks(control::Sinks),
    /// List or show sources
    Sources(control::Sources),
    /// List, show, make, change or delete topics
    Topics(topics::Topics),
    /// List groups of readers, or show how far one has come
    Groups(groups::Groups),
    /// Append standard input to a topic, a record a line
    Produce(records::Produce),
    /// Print a topic's records: the last ten, or from anywhere on
    Tail(records::Tail),
    /// List what was set aside, show it with the reasons, replay or discard it
    DeadLetters(dead_letters::DeadLetters),
    /// Try what a source or sink sends its records through
    Transform(transform::Transforms),
    /// List connectors and transforms, or every setting of one
    Connectors(connectors::Connectors),
    /// Print the JSON Schema of a configuration, for editors
    Schema,
    /// Print a script that completes commands in a shell
    #[command(after_help = "Example:\n  aqueduct completions bash > /etc/bash_completion.d/aqueduct")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// A command at work.
struct Context {
    terminal: Terminal,
    common: Common,
    /// What people typed to call it.
    program: String,
}

impl Context {
    /// Where the configuration is.
    fn config_path(&self, given: Option<&Path>) -> PathBuf {
        let path = given.or(self.common.config.as_deref());
        path.unwrap_or(Path::new("aqueduct.yaml")).to_owned()
    }

    /// Reads the configuration.
    fn load(&self, given: Option<&Path>) -> Result<Loaded, Failure> {
        let path = self.config_path(given);
        let registry = crate::connectors::registry();
        load::load(&path, &registry, &self.terminal.environment, &self.terminal.secrets).map_err(Failure::Problems)
    }

    /// Whoever can answer about data: the daemon at `--url`, the configuration's, or this process on its folder.
    async fn client(&mut self, command: &str, make: bool) -> Result<Client, Failure> {
        if let Some(url) = &self.common.url {
            return Client::daemon(url);
        }
        if self.common.config.is_none() && !self.config_path(None).exists() {
            return Client::daemon(DEFAULT_URL);
        }
        match self.load(None) {
            Ok(loaded) => Client::of(&loaded, &loaded.url(), command, make).await,
            Err(Failure::Problems(problems)) => self.daemon_of_wrong(problems.len()),
            Err(other) => Err(other),
        }
    }

    /// The running daemon.
    fn daemon(&mut self) -> Result<Client, Failure> {
        if let Some(url) = &self.common.url {
            return Client::daemon(url);
        }
        if self.common.config.is_none() && !self.config_path(None).exists() {
            return Client::daemon(DEFAULT_URL);
        }
        match self.load(None) {
            Ok(loaded) => Client::daemon(&loaded.url()),
            Err(Failure::Problems(problems)) => self.daemon_of_wrong(problems.len()),
            Err(other) => Err(other),
        }
    }

    /// The daemon of a configuration with problems: one that runs an older version of it must be reachable while it is
    /// being mended.
    fn daemon_of_wrong(&mut self, problems: usize) -> Result<Client, Failure> {
        let path = self.config_path(None);
        let url = load::url_of_wrong(&path, &self.terminal.environment, &self.terminal.secrets);
        let url = url.unwrap_or_else(|| DEFAULT_URL.to_owned());
        let problems = plural(problems, "problem");
        self.terminal.note(format!("{} has {problems} (see aqueduct check), so {url} is asked", path.display()));
        Client::daemon(&url)
    }

    /// Asks once.
    async fn ask(&mut self, command: &str, method: Method, path: &str, body: Option<Value>) -> Result<Value, Failure> {
        let client = self.client(command, command.ends_with("create")).await?;
        let answer = client.call(method, path, body.as_ref()).await;
        client.close().await?;
        answer
    }
}

/// Runs one command: `arguments` begin with the program's name.
pub fn execute(arguments: impl IntoIterator<Item = OsString>, terminal: Terminal) -> ExitCode {
    let mut terminal = terminal;
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let program = arguments.first().map_or_else(|| "aqueduct".to_owned(), |name| name.to_string_lossy().into_owned());
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return usage(&mut terminal, &error),
    };
    let mut context = Context { terminal, common: arguments.common, program };
    let done = dispatch(arguments.command, &mut context).and_then(|()| context.terminal.flush());
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tell(&mut context, &failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

fn usage(terminal: &mut Terminal, error: &clap::Error) -> ExitCode {
    let text = error.render();
    let help = matches!(error.kind(), clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion);
    match help {
        // Whoever closed the pipe has seen enough of the help.
        true => drop(terminal.data(text.to_string().as_bytes()).and_then(|()| terminal.flush())),
        false => terminal.note(text.to_string().trim_end()),
    }
    ExitCode::from(if help { 0 } else { 2 })
}

fn tell(context: &mut Context, failure: &Failure) {
    let terminal = &mut context.terminal;
    match failure {
        Failure::Closed => {}
        Failure::Usage(message) | Failure::Failed(message) if context.common.json => {
            let mut value = json!({ "error": message });
            terminal.secrets.hide_in(&mut value);
            terminal.note(value);
        }
        Failure::Usage(message) | Failure::Failed(message) => terminal.note(format!("aqueduct: {message}")),
        Failure::Problems(problems) if context.common.json => {
            let mut value = json!({ "problems": problems });
            terminal.secrets.hide_in(&mut value);
            terminal.note(value);
        }
        Failure::Problems(problems) => {
            problems.iter().for_each(|problem| terminal.note(problem));
            terminal.note(plural(problems.len(), "problem"));
        }
    }
}

fn dispatch(command: Command, context: &mut Context) -> Result<(), Failure> {
    match command {
        Command::Connectors(connectors) => connectors.run(context),
        Command::Schema => {
            let schema = crate::schema::schema(&crate::connectors::registry());
            context.terminal.line(pretty(&schema))
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "aqueduct", &mut script);
            context.terminal.data(&script)
        }
        command => {
            let runtime = runtime()?;
            let done = runtime.block_on(dispatch_async(command, context));
            // A thread that is blocked in a system call must not keep the process.
            runtime.shutdown_background();
            done
        }
    }
}

async fn dispatch_async(command: Command, context: &mut Context) -> Result<(), Failure> {
    match command {
        Command::Run(run) => run.run(context).await,
        Command::Check(check) => check.run(context).await,
        Command::Status(status) => status.run(context).await,
        Command::Pause(name) => name.act(context, "pause").await,
        Command::Resume(name) => name.act(context, "resume").await,
        Command::Stop(name) => name.act(context, "stop").await,
        Command::Restart(name) => name.act(context, "restart").await,
        Command::Reload => control::reload(context).await,
        Command::Sinks(sinks) => sinks.run(context).await,
        Command::Sources(sources) => sources.run(context).await,
        Command::Topics(topics) => topics.run(context).await,
        Command::Groups(groups) => groups.run(context).await,
        Command::Produce(produce) => produce.run(context).await,
        Command::Tail(tail) => tail.run(context).await,
        Command::DeadLetters(letters) => letters.run(context).await,
        Command::Transform(transforms) => transforms.run(context).await,
        // These need no runtime.
        Command::Connectors(_) | Command::Schema | Command::Completions { .. } => Ok(()),
    }
}

/// JSON for people to read.
fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// Two threads serve everybody; connectors have their own.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder.worker_threads(2).max_blocking_threads(64).enable_all().build()?)
}

/// A text field of an answer.
fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A number field of an answer; a dash where there is none.
fn number(value: &Value, key: &str) -> String {
    match value.get(key) {
        Some(Value::Number(number)) => number.to_string(),
        _ => "-".to_owned(),
    }
}

/// A time as people read it.
fn time(millis: Option<i64>) -> String {
    let time = millis.and_then(chrono::DateTime::from_timestamp_millis);
    time.map_or_else(|| "-".to_owned(), |time| time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
}

/// A number as people read it: `1,204`.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// So many of something: `1 sink`, `2 sinks`.
fn plural(number: usize, of: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {of}{ending}")
}

/// A number of bytes as people read it: `1.5 MiB`.
fn bytes(number: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (number.max(1).ilog2() / 10).min(4);
    match unit {
        0 => format!("{number} B"),
        unit => format!("{:.1} {}", number as f64 / f64::from(10 * unit).exp2(), units[unit as usize]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_declared_soundly() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn numbers_are_shown_as_people_read_them() {
        assert_eq!([0, 999, 1204, 1_000_000].map(count), ["0", "999", "1,204", "1,000,000"]);
        assert_eq!([0, 1, 2].map(|number| plural(number, "sink")), ["0 sinks", "1 sink", "2 sinks"]);
        assert_eq!([0, 1023, 1536, 5 << 30].map(bytes), ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]);
    }
}
