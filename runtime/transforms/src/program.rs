//! A program: compiled once, with what is wrong told at the place where it is, and run on a record.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ::vrl::compiler::state::{ExternalEnv, RuntimeState};
use ::vrl::compiler::{CompileConfig, Context, ExpressionError, Program as Compiled, TimeZone};
use ::vrl::diagnostic::{Diagnostic, Note};
use ::vrl::path::{OwnedTargetPath, PathPrefix, parse_target_path};
use ::vrl::prelude::{Kind, Value};
use aqueduct_api::{Draft, Problem};

use crate::event::{Event, Left, METADATA, kinds};
use crate::functions;

/// VRL's number for a function that does not exist.
const UNDEFINED_FUNCTION: usize = 105;

/// VRL's number for an assignment into what is no object.
const INVALID_PARENT: usize = 642;

/// What helps where `.` was given fields of its own before.
const HEADERS: &str = "write `%headers = merge(%headers, { … })`: VRL looks for the type of `%headers` among the fields of `.`, \
                       which the program set before";

/// What a program is for, and so what it must come to and may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Changes the event; what it comes to says nothing.
    Change,
    /// Comes to true or false; changes nothing.
    Condition,
    /// Comes to text; changes nothing.
    Topic,
}

/// A program that compiles.
#[derive(Debug)]
pub(crate) struct Program {
    /// As it was written.
    source: String,
    compiled: Compiled,
    timezone: TimeZone,
}

/// What came of a run that made no record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// `abort`: the record is left out on purpose.
    Aborted,
    /// The program can make nothing of the record: why.
    Failed(String),
}

impl Program {
    /// Compiles `source`.
    ///
    /// # Errors
    /// All that is wrong with it, each at its place.
    pub(crate) fn compile(source: &str, purpose: Purpose) -> Result<Program, Vec<Problem>> {
        if source.trim().is_empty() {
            return Err(vec![Problem::new("", "is empty").at(1, 1)]);
        }
        let (value, metadata) = kinds();
        let environment = ExternalEnv::new_with_kind(value, metadata);
        let functions = functions::all();
        let done = ::vrl::compiler::compile_with_external(source, &functions, &environment, config(purpose));
        let compiled = match done {
            Ok(done) => done.program,
            Err(diagnostics) => {
                let wrong = diagnostics.iter().filter(|diagnostic| diagnostic.is_problem());
                return Err(wrong.map(|diagnostic| problem(source, diagnostic)).collect());
            }
        };
        let mut problems = unknown_metadata(source, &compiled);
        problems.extend(wrong_result(&compiled, purpose));
        if purpose != Purpose::Change {
            problems.extend(absent_fields(source, &compiled));
        }
        match problems.is_empty() {
            true => Ok(Program { source: source.to_owned(), compiled, timezone: utc() }),
            false => Err(problems),
        }
    }

    /// Runs the program on a draft. A panic of the language's own is the record's fault, as far as anybody can tell.
    pub(crate) fn run(&self, draft: &Draft<'_>) -> Result<(Value, Left), Stopped> {
        let mut event = Event::of(draft);
        let mut state = RuntimeState::default();
        let mut context = Context::new(&mut event, &mut state, &self.timezone);
        match catch_unwind(AssertUnwindSafe(|| self.compiled.resolve(&mut context))) {
            Ok(Ok(value) | Err(ExpressionError::Return { value, .. })) => Ok((value, event.left())),
            Ok(Err(ExpressionError::Abort { .. })) => Err(Stopped::Aborted),
            Ok(Err(error)) => Err(Stopped::Failed(placed(&self.source, &error.to_string()))),
            Err(_) => Err(Stopped::Failed("the program panicked on it".to_owned())),
        }
    }

    /// Whether it may assign `%topic`.
    fn assigns_topic(&self) -> bool {
        self.compiled.info().target_assignments.iter().any(|path| metadata_field(path) == Some("topic"))
    }
}

/// Whether a transform with these settings may change the topic, which makes sense on the way from a source only: on the
/// way to a sink a record stays of the topic that it was read from.
pub fn changes_topic(transform: &str, settings: &serde_json::Value) -> bool {
    match (transform, settings.as_str()) {
        ("route", _) => true,
        ("vrl", Some(source)) => Program::compile(source, Purpose::Change).is_ok_and(|program| program.assigns_topic()),
        _ => false,
    }
}

/// Programs that say no time zone mean UTC, wherever they run.
fn utc() -> TimeZone {
    TimeZone::parse("UTC").unwrap_or(TimeZone::Local)
}

fn config(purpose: Purpose) -> CompileConfig {
    let mut config = CompileConfig::default();
    match purpose {
        Purpose::Change => {
            for fixed in ["%partition", "%offset"] {
                if let Ok(path) = parse_target_path(fixed) {
                    config.set_read_only_path(path, true);
                }
            }
        }
        Purpose::Condition | Purpose::Topic => config.set_read_only(),
    }
    config
}

/// The first name of a path under `%`; `None` for `%` itself and all of `.`.
fn metadata_field(path: &OwnedTargetPath) -> Option<&str> {
    match path.prefix {
        PathPrefix::Metadata => match path.path.segments.first() {
            Some(::vrl::path::OwnedSegment::Field(name)) => Some(name.as_str()),
            _ => None,
        },
        PathPrefix::Event => None,
    }
}

/// What nobody reads would be lost without a word, and what nobody wrote is a slip.
fn unknown_metadata(source: &str, compiled: &Compiled) -> Vec<Problem> {
    let info = compiled.info();
    let mut problems: Vec<Problem> = Vec::new();
    for path in info.target_assignments.iter().chain(&info.target_queries) {
        if let Some(name) = metadata_field(path).filter(|name| !METADATA.contains(name)) {
            let known = METADATA.map(|name| format!("`%{name}`")).join(", ");
            let problem = Problem::new("", format!("there is no `%{name}`: there are {known}"));
            let problem = match source.find(&format!("%{name}")) {
                Some(at) => place(problem, source, at),
                None => problem,
            };
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
    }
    problems
}

/// Fields that a condition asks for in vain: nothing in it could have set them, so it would come to the same for every record.
fn absent_fields(source: &str, compiled: &Compiled) -> Vec<Problem> {
    let queries = compiled.info().target_queries.iter().filter(|path| path.prefix == PathPrefix::Event);
    let mut problems: Vec<Problem> = Vec::new();
    for query in queries.filter(|query| !query.path.is_root()) {
        let path = query.path.to_string();
        let field = match path.strip_prefix("message") {
            Some("") => continue,
            Some(rest) if rest.starts_with(['.', '[']) => rest.to_owned(),
            _ => format!(".{path}"),
        };
        let told = format!(
            "there is no `.{path}`: a record's value is text in `.message`, so write for example \
             `parse_json!(.message){field}`"
        );
        let problem = Problem::new("", told);
        let problem = match source.find(&format!(".{path}")) {
            Some(at) => place(problem, source, at),
            None => problem.at(1, 1),
        };
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
    problems
}

/// What went wrong in a run, with VRL's bytes of the program as a line and a column.
fn placed(source: &str, message: &str) -> String {
    let found = message.split_once(" at (").and_then(|(before, rest)| {
        let (span, after) = rest.split_once(')')?;
        let (start, end) = span.split_once(':')?;
        end.parse::<usize>().ok()?;
        Some((before, start.parse::<usize>().ok()?, after))
    });
    match found {
        Some((before, at, after)) => {
            let (line, column) = line_and_column(source, at);
            format!("{before} at line {line}, column {column} of the program{after}")
        }
        None => message.to_owned(),
    }
}

fn wrong_result(compiled: &Compiled, purpose: Purpose) -> Option<Problem> {
    let result = compiled.final_type_info().result;
    let found = result.kind();
    let (right, expected) = match purpose {
        Purpose::Change => return None,
        Purpose::Condition => (found.is_boolean(), "true or false"),
        Purpose::Topic => (found.is_bytes(), "text"),
    };
    (!right).then(|| Problem::new("", format!("comes to {}, expected {expected}", kind_name(found))).at(1, 1))
}

fn kind_name(kind: &Kind) -> String {
    match kind.is_any() {
        true => "a value of any kind".to_owned(),
        false => format!("a value of kind {kind}"),
    }
}

/// What the compiler found, in one line, with its own hints.
fn problem(source: &str, diagnostic: &Diagnostic) -> Problem {
    let label = diagnostic.labels.iter().find(|label| label.primary).or(diagnostic.labels.first());
    let at = label.map_or(0, |label| label.span.start());
    if diagnostic.code == UNDEFINED_FUNCTION {
        let name = label.and_then(|label| source.get(label.span.range())).unwrap_or_default();
        if let Some(reason) = functions::forbidden(name) {
            return place(Problem::new("", format!("`{name}` is not allowed here: {reason}")), source, at);
        }
    }
    let mut parts = vec![diagnostic.message.clone()];
    parts.extend(diagnostic.labels.iter().map(|label| label.message.clone()));
    match diagnostic.code == INVALID_PARENT && under_headers(source, at) {
        true => parts = vec![HEADERS.to_owned()],
        false => parts.extend(diagnostic.notes.iter().filter_map(hint)),
    }
    parts.iter_mut().for_each(|part| *part = part.split_whitespace().collect::<Vec<_>>().join(" "));
    parts.dedup();
    let mut told = parts.join("; ");
    if (100..=999).contains(&diagnostic.code) {
        told += &format!(" (https://errors.vrl.dev/{})", diagnostic.code);
    }
    place(Problem::new("", told), source, at)
}

/// Whether a field of `%headers` is assigned on the line of a byte.
fn under_headers(source: &str, at: usize) -> bool {
    let line = source.get(..at).unwrap_or_default().rfind('\n').map_or(0, |end| end + 1);
    source.get(line..).and_then(|rest| rest.lines().next()).is_some_and(|line| line.contains("%headers."))
}

fn hint(note: &Note) -> Option<String> {
    match note {
        Note::Hint(_) | Note::Example(_) | Note::CoerceValue | Note::Basic(_) | Note::UserErrorMessage(_) => {
            Some(note.to_string()).filter(|text| !text.trim().is_empty())
        }
        _ => None,
    }
}

/// The problem at a byte of the source, as line and column.
fn place(problem: Problem, source: &str, at: usize) -> Problem {
    let (line, column) = line_and_column(source, at);
    problem.at(line, column)
}

fn line_and_column(source: &str, at: usize) -> (usize, usize) {
    let before = source.get(..at.min(source.len())).unwrap_or(source);
    let line = before.matches('\n').count() + 1;
    (line, before.rsplit('\n').next().unwrap_or_default().chars().count() + 1)
}
