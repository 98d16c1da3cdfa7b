//! Requests are cut from chunks by fixed rules: load changes how many run at once, never where they are cut.

use bytes::Bytes;

use crate::document::Action;

/// Actions under construction.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) body: Vec<u8>,
    pub(crate) actions: Vec<Action>,
}

/// How large a request gets: one larger record still makes a request of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) bytes: usize,
    pub(crate) records: usize,
}

/// Cuts chunks into pieces, by the limits and the chunk alone, and packs small pieces of several partitions into one
/// request. A piece is never divided by what else is in the call.
#[derive(Debug)]
pub(crate) struct Packer {
    limits: Limits,
    packed: Draft,
    piece: Draft,
}

impl Packer {
    pub(crate) fn new(limits: Limits) -> Self {
        Packer { limits, packed: Draft::default(), piece: Draft::default() }
    }

    /// Where the next action is to be written.
    pub(crate) fn body(&mut self) -> &mut Vec<u8> {
        &mut self.piece.body
    }

    /// Takes the action that was written last; answers with a request that is full.
    pub(crate) fn added(&mut self, action: Action) -> Option<Request> {
        let start = action.start;
        self.piece.actions.push(action);
        if self.piece.actions.len() == 1 || self.limits.hold(&self.piece) {
            return None;
        }
        let mut next = Draft {
            body: self.piece.body.split_off(start),
            actions: self.piece.actions.split_off(self.piece.actions.len() - 1),
        };
        next.actions[0].start = 0;
        let full = std::mem::replace(&mut self.piece, next);
        self.pack(full)
    }

    /// The chunk ends here, and with it its last piece.
    pub(crate) fn end_of_chunk(&mut self) -> Option<Request> {
        let last = std::mem::take(&mut self.piece);
        self.pack(last)
    }

    /// What is left.
    pub(crate) fn finish(&mut self) -> Option<Request> {
        Request::new(std::mem::take(&mut self.packed))
    }

    fn pack(&mut self, piece: Draft) -> Option<Request> {
        let (bytes, records) =
            (self.packed.body.len() + piece.body.len(), self.packed.actions.len() + piece.actions.len());
        if self.packed.actions.is_empty() {
            self.packed = piece;
            return None;
        }
        if bytes > self.limits.bytes || records > self.limits.records {
            return Request::new(std::mem::replace(&mut self.packed, piece));
        }
        let shift = self.packed.body.len();
        self.packed.body.extend_from_slice(&piece.body);
        self.packed
            .actions
            .extend(piece.actions.into_iter().map(|action| Action { start: action.start + shift, ..action }));
        None
    }
}

impl Limits {
    fn hold(&self, draft: &Draft) -> bool {
        draft.body.len() <= self.bytes && draft.actions.len() <= self.records
    }
}

/// Actions that are sent together.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) body: Bytes,
    /// At least one.
    pub(crate) actions: Vec<Action>,
}

impl Request {
    fn new(draft: Draft) -> Option<Self> {
        (!draft.actions.is_empty()).then(|| Request { body: draft.body.into(), actions: draft.actions })
    }

    /// Its halves, by number of actions; itself where there is but one.
    pub(crate) fn halves(mut self) -> Result<(Request, Request), Request> {
        if self.actions.len() < 2 {
            return Err(self);
        }
        let mut second = self.actions.split_off(self.actions.len() / 2);
        let at = second[0].start;
        let body = self.body.split_off(at);
        second.iter_mut().for_each(|action| action.start -= at);
        Ok((self, Request { body, actions: second }))
    }

    /// The same without the actions that `is_there` says; `None` where nothing is left.
    pub(crate) fn without(self, is_there: impl Fn(&Action) -> bool) -> Option<Request> {
        let mut draft = Draft::default();
        let ends: Vec<usize> = self.actions.iter().skip(1).map(|next| next.start).chain([self.body.len()]).collect();
        for (action, end) in self.actions.into_iter().zip(ends) {
            if !is_there(&action) {
                let text = &self.body[action.start..end];
                draft.actions.push(Action { start: draft.body.len(), ..action });
                draft.body.extend_from_slice(text);
            }
        }
        Request::new(draft)
    }
}
