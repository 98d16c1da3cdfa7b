//! Puts what records became into requests, in their order: a request ends where the next record does not fit or goes elsewhere.

use std::collections::VecDeque;
use std::sync::Arc;

use aqueduct_record::Offset;

use crate::sink::plan::Plan;
use crate::sink::request::{Letter, Request};
use crate::sink::target::Target;

/// What was made of one record, and goes in one request if it fits.
#[derive(Default)]
pub(crate) struct Group {
    pub(crate) bytes: Vec<u8>,
    /// Where each goes, and where it ends in `bytes`.
    pub(crate) made: Vec<(Arc<Target>, usize)>,
    pub(crate) offset: Offset,
    pub(crate) timestamp: i64,
    pub(crate) letter: Option<Letter>,
}

/// Requests under construction.
pub(crate) struct Packer<'a> {
    plan: &'a Plan,
    most_records: usize,
    open: Option<Open>,
    /// Those that take no more records, in order.
    pub(crate) ready: VecDeque<Request>,
}

/// A request that takes more records.
struct Open {
    target: Arc<Target>,
    bytes: Vec<u8>,
    records: Vec<(Offset, usize)>,
    weight: usize,
    timestamp: i64,
    letter: Option<Letter>,
    /// Which of those that were made of one record is the first here, where they do not fit into one request.
    part: Option<usize>,
}

impl<'a> Packer<'a> {
    /// Puts at most so many records into a request.
    pub(crate) fn new(plan: &'a Plan, most_records: usize) -> Self {
        Packer { plan, most_records, open: None, ready: VecDeque::new() }
    }

    /// Puts a group into the open request, or one of its own, or, where it fits into none, into as many as it takes.
    pub(crate) fn place(&mut self, group: &mut Group) {
        let Group { bytes, made, offset, timestamp, letter } = std::mem::take(group);
        let Some((target, _)) = made.first() else { return };
        let weight: usize = lengths(&made).map(|length| self.plan.weight(length)).sum();
        let is_one = made.iter().all(|(other, _)| same(target, other));
        let fits_alone =
            is_one && (made.len() == 1 || made.len() <= self.most_records && weight <= self.plan.most_bytes);
        let fits = self.open.as_ref().is_some_and(|open| {
            is_one
                && letter.is_none()
                && open.letter.is_none()
                && open.records.len() + made.len() <= self.most_records
                && open.weight + weight <= self.plan.most_bytes
                && same(&open.target, target)
        });
        if !fits {
            self.close();
        }
        let mut begin = 0;
        for (place, (target, end)) in made.iter().enumerate() {
            let part = &bytes[begin..*end];
            begin = *end;
            if !fits_alone && !self.takes(target, part.len()) {
                self.close();
            }
            let part_of = (!fits_alone).then_some(place);
            let open = self.open.get_or_insert_with(|| Open::new(target.clone(), timestamp, letter, part_of));
            open.bytes.extend_from_slice(part);
            open.records.push((offset, open.bytes.len()));
            open.weight += self.plan.weight(part.len());
        }
        // What comes next is not part of it: its key tells of these alone.
        if !fits_alone || letter.is_some() {
            self.close();
        }
    }

    /// Whether the open request has room for one more.
    fn takes(&self, target: &Arc<Target>, length: usize) -> bool {
        self.open.as_ref().is_none_or(|open| {
            open.records.len() < self.most_records
                && open.weight + self.plan.weight(length) <= self.plan.most_bytes
                && same(&open.target, target)
        })
    }

    /// Ends the open request: what comes next goes in another.
    pub(crate) fn close(&mut self) {
        if let Some(Open { target, bytes, records, timestamp, letter, part, .. }) = self.open.take() {
            let part = part.map(|first| first..first + records.len());
            self.ready.push_back(Request { target, bytes: bytes.into(), records, begin: 0, timestamp, letter, part });
        }
    }
}

impl Open {
    fn new(target: Arc<Target>, timestamp: i64, letter: Option<Letter>, part: Option<usize>) -> Self {
        Open { target, bytes: Vec::new(), records: Vec::new(), weight: 0, timestamp, letter, part }
    }
}

fn same(one: &Arc<Target>, other: &Arc<Target>) -> bool {
    Arc::ptr_eq(one, other) || one == other
}

/// How long each of a group is.
fn lengths(made: &[(Arc<Target>, usize)]) -> impl Iterator<Item = usize> {
    let mut begin = 0;
    made.iter().map(move |(_, end)| end - std::mem::replace(&mut begin, *end))
}
