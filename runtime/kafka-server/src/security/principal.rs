//! Who asks: a name, and the rights that go with it.

use std::fmt;
use std::sync::Arc;

use super::quotas::Used;
use super::rights::Rights;

/// Who asks. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Principal {
    name: Arc<str>,
    rights: Arc<Rights>,
    used: Arc<Used>,
}

impl Principal {
    /// Somebody by name.
    pub(crate) fn new(name: &str, rights: Arc<Rights>, used: Arc<Used>) -> Self {
        Principal { name: name.into(), rights, used }
    }

    /// The same under another name.
    pub(crate) fn called(&self, name: &str) -> Self {
        Principal { name: name.into(), ..self.clone() }
    }

    /// Whoever reaches an endpoint that asks nobody who it is: it may do everything.
    pub(crate) fn anonymous() -> Self {
        Principal::new("ANONYMOUS", Arc::new(Rights::all()), Arc::default())
    }

    /// Whoever has not said yet who it is: it may do nothing.
    pub(crate) fn nobody() -> Self {
        Principal::new("ANONYMOUS", Arc::default(), Arc::default())
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What it has used.
    pub(crate) fn used(&self) -> &Used {
        &self.used
    }

    /// What it may do.
    pub(crate) fn rights(&self) -> &Rights {
        &self.rights
    }

    /// Whether it may do what another may.
    pub(crate) fn has_rights_of(&self, other: &Principal) -> bool {
        Arc::ptr_eq(&self.rights, &other.rights) || self.rights == other.rights
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
