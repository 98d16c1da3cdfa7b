//! Where a command's input comes from and its output goes to.

use std::fmt::Display;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::sync::Arc;

use serde_json::Value;

use crate::problems::Problem;
use crate::references::Environment;
use crate::secrets::Secrets;

/// The outside of a command: a test has its own.
pub struct Terminal {
    /// Results.
    out: Box<dyn Write + Send>,
    /// What is said about them.
    err: Box<dyn Write + Send>,
    /// Records to produce, answers to questions.
    pub(crate) input: BufReader<Box<dyn Read + Send>>,
    /// Whether a person reads the results.
    pub(crate) interactive: bool,
    /// Whether a person can be asked.
    pub(crate) can_ask: bool,
    /// How environment variables are looked up.
    pub(crate) environment: Environment,
    /// What must not be shown.
    pub(crate) secrets: Secrets,
}

impl Terminal {
    /// The process's own.
    pub fn real() -> Self {
        Terminal {
            out: Box::new(io::stdout()),
            err: Box::new(io::stderr()),
            input: BufReader::new(Box::new(io::stdin())),
            interactive: io::stdout().is_terminal(),
            can_ask: io::stdin().is_terminal() && io::stderr().is_terminal(),
            environment: Arc::new(|name| std::env::var(name).ok()),
            secrets: Secrets::default(),
        }
    }

    /// One that nobody sits at: results go to `out`, what is said about them to `err`, and there are no environment
    /// variables.
    pub fn piped(
        input: impl Read + Send + 'static,
        out: impl Write + Send + 'static,
        err: impl Write + Send + 'static,
    ) -> Self {
        Terminal {
            out: Box::new(out),
            err: Box::new(err),
            input: BufReader::new(Box::new(input)),
            interactive: false,
            can_ask: false,
            environment: Arc::new(|_| None),
            secrets: Secrets::default(),
        }
    }

    /// Writes a line of the result.
    pub(crate) fn line(&mut self, line: impl Display) -> Result<(), Failure> {
        let line = line.to_string();
        writeln!(self.out, "{}", self.secrets.hide(&line))?;
        Ok(())
    }

    /// Writes data as it is: records are not ours to change.
    pub(crate) fn data(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes)?;
        Ok(())
    }

    /// Writes a result as one line of JSON.
    pub(crate) fn json(&mut self, value: &Value) -> Result<(), Failure> {
        let mut value = value.clone();
        self.secrets.hide_in(&mut value);
        writeln!(self.out, "{value}")?;
        Ok(())
    }

    /// Writes rows under headings, in columns as wide as they need be; cells that are numbers stand at the right.
    pub(crate) fn table(&mut self, headings: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.max().unwrap_or(0).max(headings[column].chars().count())
        };
        let widths: Vec<usize> = (0..headings.len()).map(width).collect();
        self.line(row(&headings.iter().map(|heading| (*heading).to_owned()).collect::<Vec<_>>(), &widths))?;
        rows.iter().try_for_each(|cells| self.line(row(cells, &widths)))
    }

    /// Says something that is no result.
    pub(crate) fn note(&mut self, note: impl Display) {
        let note = note.to_string();
        // Nobody is there to be told that nobody is there.
        let _ = writeln!(self.err, "{}", self.secrets.hide(&note));
    }

    /// Hands over what was written.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.out.flush()?)
    }

    /// Asks a person to agree to something that cannot be taken back.
    ///
    /// # Errors
    /// `Failed` when the person does not; `Usage` when nobody can be asked and `--yes` was not given.
    pub(crate) fn confirm(&mut self, what: &str, agreed: bool) -> Result<(), Failure> {
        if agreed {
            return Ok(());
        }
        if !self.can_ask {
            return Err(Failure::Usage(format!("{what}: nobody can be asked here, give --yes to do it")));
        }
        let _ = write!(self.err, "{what}? [y/N] ");
        let _ = self.err.flush();
        let mut answer = String::new();
        self.input.read_line(&mut answer)?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(Failure::Failed("not done".to_owned())),
        }
    }
}

fn row(cells: &[String], widths: &[usize]) -> String {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
        let number = !cell.is_empty() && cell.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '-' | '%'));
        match number {
            true => line.extend([pad.as_str(), cell, "  "]),
            false => line.extend([cell, pad.as_str(), "  "]),
        }
    }
    line.truncate(line.trim_end().len());
    line
}

/// Why a command was not done.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was called in a wrong way: exit code 2.
    Usage(String),
    /// The configuration is wrong: exit code 2.
    Problems(Vec<Problem>),
    /// It could not be done: exit code 1.
    Failed(String),
    /// Nobody reads the output any more: nothing to say, exit code 0.
    Closed,
}

impl Failure {
    /// What the process answers.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(_) | Failure::Problems(_) => 2,
            Failure::Failed(_) => 1,
            Failure::Closed => 0,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::Closed,
            _ => Failure::Failed(error.to_string()),
        }
    }
}

impl From<aqueduct_api::Error> for Failure {
    fn from(error: aqueduct_api::Error) -> Self {
        Failure::Failed(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_need_be() {
        let widths = [6, 5];
        assert_eq!(row(&["name".into(), "lag".into()], &widths), "name    lag");
        assert_eq!(row(&["orders".into(), "42".into()], &widths), "orders     42");
    }

    #[test]
    fn nobody_is_asked_where_nobody_sits() {
        let mut terminal = Terminal::piped(io::empty(), io::sink(), io::sink());
        assert_eq!(terminal.confirm("delete x", false).unwrap_err().exit_code(), 2);
        assert!(terminal.confirm("delete x", true).is_ok());
        terminal.can_ask = true;
        assert_eq!(terminal.confirm("delete x", false).unwrap_err().exit_code(), 1);
        terminal.input = BufReader::new(Box::new(&b"y\n"[..]));
        assert!(terminal.confirm("delete x", false).is_ok());
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).exit_code(), 0);
        assert_eq!(Failure::from(io::Error::other("disk on fire")).exit_code(), 1);
    }
}
