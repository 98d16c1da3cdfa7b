//! Which offsets of a group are forgotten: old ones of groups that nobody is in, and those of topics that are gone.

use std::collections::BTreeSet;
use std::sync::Arc;

use aqueduct_api::{Error, TopicPartition};

use super::acting::Acting;
use super::coordinator::Inner;
use super::group::{Group, State};
use super::subscription;
use super::writes::Write;

/// Groups of the engine's sinks are called so: one that is not running has no members, and is not gone.
const SINKS: &str = "connect-";

/// Forgets what is older than it may get, and the group where nothing is left of it.
pub(super) async fn sweep(acting: &mut Acting) {
    let is_past = acting.group.state() == State::Empty && acting.since >= 0;
    if acting.name.starts_with(SINKS) && acting.group.protocol_type().is_none() {
        return;
    }
    let rule = Rule::of(&acting.group, acting.since);
    match forgotten(acting.inner.clone(), acting.name.clone(), rule).await {
        Ok((old, left)) => {
            if !old.is_empty() {
                tracing::info!(group = acting.name, offsets = old.len(), "old offsets are forgotten");
                let offsets = old.into_iter().map(|of| (of, None)).collect();
                acting.writes.push(Write::Offsets { offsets, answer: None, alone: true });
            }
            if left == 0 && is_past && acting.group.is_idle() {
                acting.writes.push(Write::Gone(None));
            }
        }
        Err(cause) => tracing::warn!(group = acting.name, %cause, "old offsets are not forgotten"),
    }
}

/// What is to be forgotten, and how many are left.
async fn forgotten(inner: Arc<Inner>, name: String, rule: Rule) -> Result<(Vec<TopicPartition>, usize), Error> {
    let topics: BTreeSet<Arc<str>> = inner.store.topics().await?.into_iter().map(|topic| topic.name).collect();
    let retention = i64::try_from(inner.settings.retention.as_millis()).unwrap_or(i64::MAX);
    let before = inner.edge.now().saturating_sub(retention);
    let committed = inner.store.committed_at(&name).await?;
    let all = committed.len();
    let is_old = |of: &TopicPartition, at: i64| !topics.contains(&of.topic) || rule.counts_from(of, at) < before;
    let old: Vec<_> = committed.into_iter().filter(|(of, at)| is_old(of, *at)).map(|(of, _)| of).collect();
    let left = all - old.len();
    Ok((old, left))
}

/// From when on an offset ages.
enum Rule {
    /// From its commit: the group never had members.
    Commit,
    /// From when the last member left.
    Emptied(i64),
    /// From its commit, of topics that no member reads.
    Unread(BTreeSet<String>),
    /// It does not.
    Never,
}

impl Rule {
    fn of(group: &Group, since: i64) -> Rule {
        match (group.state(), group.protocol_type()) {
            (State::Empty, Some(_)) if since >= 0 => Rule::Emptied(since),
            (State::Empty, _) => Rule::Commit,
            (State::Stable, _) => subscription::topics(group).map_or(Rule::Never, Rule::Unread),
            _ => Rule::Never,
        }
    }

    fn counts_from(&self, of: &TopicPartition, at: i64) -> i64 {
        match self {
            Rule::Commit => at,
            Rule::Emptied(since) => at.max(*since),
            Rule::Unread(read) if !read.contains(&*of.topic) => at,
            Rule::Unread(_) | Rule::Never => i64::MAX,
        }
    }
}
