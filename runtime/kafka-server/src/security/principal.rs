//! Who asks: a name, and the rights that go with it.

use std::fmt;
use std::sync::Arc;

use super::rights::Rights;

/// Who asks. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Principal {
    name: Arc<str>,
    rights: Arc<Rights>,
}

impl Principal {
    /// Somebody by name.
    pub(crate) fn new(name: &str, rights: Arc<Rights>) -> Self {
        Principal { name: name.into(), rights }
    }

    /// Whoever reaches an endpoint that asks nobody who it is: it may do everything.
    pub(crate) fn anonymous() -> Self {
        Principal::new("ANONYMOUS", Arc::new(Rights::all()))
    }

    /// What it may do.
    pub(crate) fn rights(&self) -> &Rights {
        &self.rights
    }
}

/// As Kafka writes it.
impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "User:{}", self.name)
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
