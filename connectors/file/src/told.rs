//! What can not be read, said once.

use std::collections::BTreeSet;

use crate::walk::Findings;

/// What has been said, and still holds.
#[derive(Default)]
pub(crate) struct Told(BTreeSet<String>);

impl Told {
    /// Says what a walk found that can not be read, once for each path and reason. What is well again may be said anew.
    pub(crate) fn findings(&mut self, findings: &Findings) {
        let problems = findings.problems.iter().map(|(path, what)| format!("{}: {what}", path.display()));
        let now: BTreeSet<String> = problems.collect();
        for problem in now.difference(&self.0) {
            tracing::warn!(problem, "can not be read");
        }
        self.0.retain(|told| now.contains(told) || told.starts_with("open "));
        self.0.extend(now);
    }

    /// Says that a file can not be opened or read.
    pub(crate) fn once(&mut self, problem: String) {
        if !self.0.contains(&problem) {
            tracing::warn!(problem, "can not be read");
            self.0.insert(problem);
        }
    }
}
