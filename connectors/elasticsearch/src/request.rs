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

/// Cuts chunks into pieces, by the limits and the chunk alone, and packs the last pieces of several partitions into one
/// request. A piece is never divided by what else is in the call.
#[derive(Debug)]
pub(crate) struct Packer {
    limits: Limits,
    packed: Draft,
    piece: Draft,
    /// How many records are enough for the piece.
    enough: u64,
}

/// Which part of what is left of its chunk is enough for a piece: the cluster has several under way until the end, and does not
/// wait with one large one while the next chunk can not begin.
const PART: u64 = 8;
/// What is never enough, neither by bytes nor by records.
const SMALL: Limits = Limits { bytes: 1 << 20, records: 1000 };

impl Packer {
    pub(crate) fn new(limits: Limits) -> Self {
        Packer { limits, packed: Draft::default(), piece: Draft::default(), enough: 0 }
    }

    /// Where the next action is to be written.
    pub(crate) fn body(&mut self) -> &mut Vec<u8> {
        &mut self.piece.body
    }

    /// Takes the action that was written last; answers with a request that is full. `left`: how many records the chunk has from
    /// the action's on.
    pub(crate) fn added(&mut self, action: Action, left: u64) -> Option<Request> {
        let start = action.start;
        self.piece.actions.push(action);
        let records = self.piece.actions.len();
        if records == 1 {
            self.enough = left.div_ceil(PART);
        }
        if records == 1 || self.limits.hold(&self.piece) {
            let is_small = SMALL.hold(&self.piece);
            let is_full = records == self.limits.records || records as u64 >= self.enough && !is_small;
            // Nothing is gained by holding it back.
            return is_full.then(|| Request::new(std::mem::take(&mut self.piece))).flatten();
        }
        let mut next = Draft {
            body: self.piece.body.split_off(start),
            actions: self.piece.actions.split_off(self.piece.actions.len() - 1),
        };
        next.actions[0].start = 0;
        self.enough = left.div_ceil(PART);
        Request::new(std::mem::replace(&mut self.piece, next))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Kind;

    /// How many documents of `bytes` bytes each request of a chunk has, up to the last, which is packed.
    fn cut(limits: Limits, records: u64, bytes: usize) -> Vec<usize> {
        let mut packer = Packer::new(limits);
        let mut requests = Vec::new();
        for offset in 0..records {
            let start = packer.body().len();
            packer.body().resize(start + bytes, b'x');
            let (kind, offset_) = (Kind::Index, offset as i64);
            let action = Action {
                place: 0,
                offset: offset_,
                start,
                identity: offset,
                id: offset,
                version: 0,
                kind,
                repeated: false,
                name: None,
            };
            requests.extend(packer.added(action, records - offset));
        }
        requests.extend(packer.end_of_chunk());
        requests.extend(packer.finish());
        for request in &requests {
            assert!(request.actions.iter().enumerate().all(|(at, action)| action.start == at * bytes));
            assert_eq!(request.body.len(), request.actions.len() * bytes);
        }
        let offsets: Vec<u64> = requests.iter().flat_map(|it| &it.actions).map(|action| action.identity).collect();
        assert_eq!(offsets, Vec::from_iter(0..records), "each once and in order");
        requests.iter().map(|request| request.actions.len()).collect()
    }

    #[test]
    fn requests_are_as_large_as_they_may_be_and_smaller_towards_the_end_of_a_chunk() {
        let limits = Limits { bytes: 5 << 20, records: 5000 };
        for (records, bytes, expected) in [
            (0, 500, vec![]),
            (900, 500, vec![900]),
            (2002, 500, vec![1001, 1001]),
            (
                50_000,
                500,
                vec![5000, 5000, 5000, 4375, 3829, 3350, 2931, 2565, 2244, 1964, 1718, 1503, 1316, 1151, 1007],
            ),
            (40, 100_000, vec![11, 11, 11, 7]),
            (400, 100_000, vec![50, 44, 39, 34]),
            (3, 6 << 20, vec![1, 1, 1]),
        ] {
            let cut = cut(limits, records, bytes);
            assert_eq!(cut[..expected.len().min(cut.len())], expected, "{records} of {bytes} bytes: {cut:?}");
        }
        assert_eq!(cut(Limits { bytes: 1 << 10, records: 7 }, 20, 10), [7, 7, 6]);
        assert_eq!(cut(Limits { bytes: 1 << 10, records: 7 }, 5, 500), [2, 2, 1]);
        assert_eq!(cut(Limits { bytes: 1 << 10, records: 1 }, 3, 10), [1, 1, 1]);
    }
}
