//! The task of one group: takes what is asked of it one by one, keeps its time, and writes what it decides in order.

use std::collections::HashMap;
use std::sync::Arc;

use aqueduct_api::{Error, Token};
use kafka_protocol::ResponseError;
use tokio::sync::{mpsc, oneshot};

use super::coordinator::{DescribedMember, Description, Inner, Request, told};
use super::group::{Group, State};
use super::request::{Effect, Joined, Refused, Synced, Ticket};
use super::writes::{Write, Writes};
use super::{retention, subscription, taken};

/// Acts for a group until there is nothing left to do.
pub(super) async fn act(inner: Arc<Inner>, name: String, mut mailbox: mpsc::UnboundedReceiver<Request>) {
    loop {
        match begin(&inner, &name).await {
            Ok(Some(mut acting)) => {
                acting.run(&mut mailbox).await;
                drop(acting);
            }
            Ok(None) => taken::refuse(&inner, &name, &mut mailbox).await,
            Err(cause) => {
                tracing::warn!(group = name, %cause, "a group can not be coordinated now");
                // Whoever asked is told by the end of its channel.
                while mailbox.try_recv().is_ok() {}
            }
        }
        if inner.retire(&name, &mailbox) {
            return;
        }
    }
}

async fn begin(inner: &Arc<Inner>, name: &str) -> Result<Option<Acting>, Error> {
    let Some(token) = inner.store.claim(name).await? else { return Ok(None) };
    let remembered = inner.store.remembered(name).await?;
    let emptied = remembered.as_ref().map_or(-1, |remembered| remembered.since);
    let group = match remembered {
        Some(saved) => Group::load(inner.rules(), saved, inner.now()),
        None => Group::new(inner.rules()),
    };
    Ok(Some(Acting {
        writes: Writes::new(inner, token.clone()),
        inner: inner.clone(),
        name: name.to_owned(),
        group,
        since: emptied,
        joins: HashMap::new(),
        syncs: HashMap::new(),
        tickets: 0,
        _token: token,
    }))
}

/// A group that is acted for.
pub(super) struct Acting {
    pub(super) inner: Arc<Inner>,
    pub(super) name: String,
    pub(super) group: Group,
    pub(super) writes: Writes,
    /// Since when it is as it was last saved, in milliseconds since 1970; -1 where it never was.
    pub(super) since: i64,
    joins: HashMap<Ticket, oneshot::Sender<Result<Joined, Refused>>>,
    syncs: HashMap<Ticket, oneshot::Sender<Result<Synced, ResponseError>>>,
    tickets: u64,
    /// The group is claimed as long as it is acted for.
    _token: Token,
}

impl Acting {
    async fn run(&mut self, mailbox: &mut mpsc::UnboundedReceiver<Request>) {
        loop {
            if self.group.state() == State::Dead {
                return;
            }
            if mailbox.is_empty() && self.group.is_idle() && self.writes.is_idle() {
                return;
            }
            let deadline = self.group.deadline().map(|deadline| self.inner.at(deadline));
            let wait = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            let mut out = Vec::new();
            tokio::select! {
                // What was asked before time was up counts, however late it is looked at.
                biased;
                outcome = self.writes.next() => self.written(outcome, &mut out),
                request = mailbox.recv() => match request {
                    Some(request) => self.take(request, &mut out).await,
                    None => return,
                },
                () = wait => self.group.expire(self.inner.now(), &mut out),
            }
            self.perform(out);
        }
    }

    async fn take(&mut self, request: Request, out: &mut Vec<Effect>) {
        let now = self.inner.now();
        match request {
            Request::Join(join, answer) => {
                let ticket = self.ticket();
                self.joins.insert(ticket, answer);
                self.group.join(now, ticket, *join, out);
            }
            Request::Sync(sync, answer) => {
                let ticket = self.ticket();
                self.syncs.insert(ticket, answer);
                self.group.sync(now, ticket, sync, out);
            }
            Request::Heartbeat(who, answer) => reply(answer, self.group.heartbeat(now, &who)),
            Request::Leave(who, answer) => reply(answer, self.group.leave(now, &who, out)),
            Request::Commit(who, offsets, answer) => match self.group.may_commit(now, &who) {
                Ok(()) => {
                    let offsets = offsets.into_iter().map(|(of, committed)| (of, Some(committed))).collect();
                    self.writes.push(Write::Offsets { offsets, answer: Some(answer), alone: false });
                }
                Err(error) => reply(answer, Err(error)),
            },
            Request::CommitInTransaction(who, producer, offsets, answer) => {
                match self.group.may_commit_in_transaction(now, &who) {
                    Ok(()) => self.writes.push(Write::InTransaction { producer, offsets, answer }),
                    Err(error) => reply(answer, Err(error)),
                }
            }
            Request::Committed(answer) => self.writes.push(Write::Read(answer)),
            Request::Forget(offsets, answer) => self.forget(offsets, answer),
            Request::Describe(answer) => reply(answer, self.describe()),
            Request::Delete(answer) => self.delete(answer).await,
            Request::Sweep => retention::sweep(self).await,
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Joined(ticket, answer) => {
                    if let Some(waiting) = self.joins.remove(&ticket) {
                        reply(waiting, answer);
                    }
                }
                Effect::Synced(ticket, answer) => {
                    if let Some(waiting) = self.syncs.remove(&ticket) {
                        reply(waiting, answer);
                    }
                }
                Effect::Save(stamp, mut membership) => {
                    membership.since = self.inner.edge.now();
                    self.since = membership.since;
                    self.writes.push(Write::Members { stamp, membership });
                }
            }
        }
    }

    fn written(&mut self, (done, outcome): (Vec<Write>, Result<(), Error>), out: &mut Vec<Effect>) {
        if let Err(cause) = &outcome {
            tracing::warn!(group = self.name, %cause, "what a group decided is not written");
        }
        let is_refused = matches!(outcome, Err(Error::Refused { .. }));
        let many = done.len() > 1;
        let told = outcome.as_ref().map(|_| ()).map_err(told);
        for write in done {
            match write {
                // One of those that went together can not be kept: each goes alone.
                Write::Offsets { offsets, answer, .. } if is_refused && many => {
                    self.writes.push(Write::Offsets { offsets, answer, alone: true });
                }
                Write::Offsets { answer, .. } => {
                    if let Some(answer) = answer {
                        reply(answer, told);
                    }
                }
                Write::InTransaction { answer, .. } => reply(answer, told),
                Write::Members { stamp, .. } => self.group.saved(self.inner.now(), stamp, told, out),
                Write::Read(answer) => reply(answer, ()),
                Write::Gone(answer) => {
                    if let Some(answer) = answer {
                        reply(answer, told);
                    }
                    if told.is_ok() {
                        self.group.end(out);
                    }
                }
            }
        }
        if matches!(outcome, Err(Error::Fatal { .. })) {
            tracing::warn!(group = self.name, "members are sent away: somebody else has the group");
            self.group.end(out);
        }
    }

    fn forget(
        &mut self,
        offsets: Vec<aqueduct_api::TopicPartition>,
        answer: oneshot::Sender<Result<Vec<Option<ResponseError>>, ResponseError>>,
    ) {
        let is_consumers = self.group.protocol_type().is_none_or(|named| named == "consumer");
        if self.group.state() != State::Empty && !is_consumers {
            return reply(answer, Err(ResponseError::NonEmptyGroup));
        }
        let read = subscription::topics(&self.group);
        let is_read = |topic: &str| read.as_ref().is_none_or(|read| read.contains(topic));
        let subscribed = |topic: &str| is_read(topic).then_some(ResponseError::GroupSubscribedToTopic);
        let errors = offsets.iter().map(|of| subscribed(&of.topic)).collect();
        let forgotten = offsets.into_iter().filter(|of| !is_read(&of.topic)).map(|of| (of, None)).collect();
        let (sender, receiver) = oneshot::channel();
        self.writes.push(Write::Offsets { offsets: forgotten, answer: Some(sender), alone: false });
        tokio::spawn(async move {
            let outcome = receiver.await.unwrap_or(Err(ResponseError::CoordinatorNotAvailable));
            reply(answer, outcome.map(|()| errors));
        });
    }

    async fn delete(&mut self, answer: oneshot::Sender<Result<(), ResponseError>>) {
        if self.group.state() != State::Empty {
            return reply(answer, Err(ResponseError::NonEmptyGroup));
        }
        match self.inner.store.committed(&self.name).await {
            Ok(committed) => {
                let offsets = committed.into_keys().map(|of| (of, None)).collect();
                self.writes.push(Write::Offsets { offsets, answer: None, alone: true });
                self.writes.push(Write::Gone(Some(answer)));
            }
            Err(cause) => reply(answer, Err(told(&cause))),
        }
    }

    fn describe(&self) -> Description {
        let group = &self.group;
        let is_stable = group.state() == State::Stable;
        let protocol = group.protocol().filter(|_| is_stable).unwrap_or_default();
        let members = group.members().map(|member| DescribedMember {
            id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: if is_stable { member.metadata(protocol) } else { bytes::Bytes::new() },
            assignment: if is_stable { member.assignment.clone() } else { bytes::Bytes::new() },
        });
        Description {
            state: group.state(),
            protocol_type: group.protocol_type().unwrap_or_default().to_owned(),
            protocol: protocol.to_owned(),
            members: members.collect(),
        }
    }
}

/// Answers; whoever asked may be gone.
pub(super) fn reply<T>(to: oneshot::Sender<T>, answer: T) {
    let _ = to.send(answer);
}
