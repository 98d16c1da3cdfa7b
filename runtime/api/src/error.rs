//! What went wrong, told by what the engine does next.

use std::time::Duration;

/// The result of everything that a log or a connector does.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a person reads about a failure: lowercase, no full stop, naming the setting or the object.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A failure, by what the engine does next.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It may work later: the engine waits (at least `after`, where the other side said so) and tries the same again.
    #[error("{cause}")]
    Retry {
        /// What happened.
        cause: Cause,
        /// How long the other side asked to be left alone.
        after: Option<Duration>,
    },
    /// This input will never be taken: the engine finds out which record it is, or stops the connector.
    #[error("{cause}")]
    Refused {
        /// What happened.
        cause: Cause,
    },
    /// Nothing will work until a person changes something: the connector stops alone, with this as its reason.
    #[error("{cause}")]
    Fatal {
        /// What happened.
        cause: Cause,
    },
}

impl Error {
    /// A failure that may pass.
    pub fn retry(cause: impl Into<Cause>) -> Self {
        Error::Retry { cause: cause.into(), after: None }
    }

    /// A failure that may pass, when the other side said how long to wait.
    pub fn retry_after(cause: impl Into<Cause>, after: Duration) -> Self {
        Error::Retry { cause: cause.into(), after: Some(after) }
    }

    /// Input that will never be taken.
    pub fn refused(cause: impl Into<Cause>) -> Self {
        Error::Refused { cause: cause.into() }
    }

    /// A failure that only a person can mend.
    pub fn fatal(cause: impl Into<Cause>) -> Self {
        Error::Fatal { cause: cause.into() }
    }

    /// The same failure, told with what was being done: `context: cause`.
    pub fn context(self, context: impl std::fmt::Display) -> Self {
        let told = |cause: Cause| -> Cause { format!("{context}: {cause}").into() };
        match self {
            Error::Retry { cause, after } => Error::Retry { cause: told(cause), after },
            Error::Refused { cause } => Error::Refused { cause: told(cause) },
            Error::Fatal { cause } => Error::Fatal { cause: told(cause) },
        }
    }

    /// Whether trying the same again may work.
    pub fn is_retry(&self) -> bool {
        matches!(self, Error::Retry { .. })
    }
}

/// A disk that is full, busy or failing may recover, so input and output failures are tried again; where one can not
/// pass (no permission, no such file), the caller says so itself.
impl From<std::io::Error> for Error {
    fn from(cause: std::io::Error) -> Self {
        Error::retry(cause)
    }
}

/// Adds what caused an error to what is said of it: the first alone says little. What was said already is left out.
pub fn add_causes(error: &dyn std::error::Error, told: &mut String) {
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !told.contains(&said) {
            told.push_str(": ");
            told.push_str(&said);
        }
        next = cause.source();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_is_told_before_the_cause_and_keeps_what_to_do_next() {
        let error = Error::retry_after("answered 503", Duration::from_secs(2)).context("put a/b");
        assert_eq!(error.to_string(), "put a/b: answered 503");
        assert!(matches!(error, Error::Retry { after: Some(after), .. } if after == Duration::from_secs(2)));
        assert!(!Error::fatal("no such bucket").context("s3://x").is_retry());
    }
}
