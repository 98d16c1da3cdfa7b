//! Makes batches of a request's records and waits until they are durable.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aqueduct_api::{Done, Error, Incoming, Stream, TopicPartition};
use aqueduct_record::{BatchBuilder, Offset};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::StatusCode;
use sha2::{Digest as _, Sha256};

use crate::source::queue::{Charge, Queue, Ticket};
use crate::source::refusal::Refusal;

/// A record that a client sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    pub(crate) partition: Option<i32>,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Vec<(String, Option<Bytes>)>,
    pub(crate) timestamp: i64,
}

/// What a record adds to its batch beside its bytes, at most.
const OVERHEAD: usize = 64;
/// How many streams records without a key take turns in, so that they spread over partitions.
const TURNS: u64 = 1024;
/// The longest key that names its stream as it is.
const LONGEST_NAME: usize = 256;

/// The way into the log.
pub(crate) struct Intake {
    pub(crate) queue: Arc<Queue>,
    /// How large a batch gets before the next one begins.
    pub(crate) batch: usize,
    /// The largest batch that the log takes.
    pub(crate) largest: usize,
    /// How long to wait until records are durable.
    pub(crate) timeout: Duration,
    pub(crate) turn: AtomicU64,
}

/// Where a record is.
pub(crate) type Place = (TopicPartition, Offset);

/// A batch of a request.
struct Group {
    builder: BatchBuilder,
    stream: Arc<Stream>,
    partition: Option<i32>,
    /// Which of the request's records they are.
    members: Vec<usize>,
}

/// What a request has in the queue: taken back when its client goes away, so that nothing is held for nobody.
struct Left<'a> {
    queue: &'a Queue,
    ticket: Ticket,
    is_answered: bool,
}

impl Drop for Left<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.queue.withdraw(self.ticket);
        }
    }
}

impl Intake {
    /// Puts records into the log: where each is, or why it is not known to be there. Nothing was taken where the whole is
    /// refused.
    pub(crate) async fn take(
        &self,
        topic: Option<&str>,
        entries: &[Entry],
        mut charge: Charge,
    ) -> Result<Vec<Result<Place, Refusal>>, Refusal> {
        let groups = self.groups(entries)?;
        charge.grow(groups.iter().map(|group| group.builder.size()).sum())?;
        let topic: Option<Arc<str>> = topic.map(Arc::from);
        let (mut incoming, mut answers) = (Vec::new(), Vec::new());
        for Group { builder, stream, partition, members } in groups {
            let (done, answer) = Done::channel();
            answers.push((members, answer));
            incoming.push(Incoming {
                stream,
                position: None,
                last: false,
                topic: topic.clone(),
                partition,
                records: builder,
                dead_letter: None,
                done: Some(done),
            });
        }
        let mut left = Left { queue: &self.queue, ticket: self.queue.put(incoming)?, is_answered: false };
        let deadline = tokio::time::sleep(self.timeout);
        tokio::pin!(deadline);
        let mut places: Vec<Result<Place, Refusal>> = Vec::with_capacity(entries.len());
        places.resize_with(entries.len(), || Err(not_taken()));
        let (groups, mut is_late, mut refused) = (answers.len(), false, 0);
        for (members, mut answer) in answers {
            let place = tokio::select! {
                biased;
                told = &mut answer => told.ok(),
                () = &mut deadline, if !is_late => {
                    is_late = true;
                    if self.queue.withdraw(left.ticket) == groups {
                        return Err(Refusal::busy("the log did not take the records in time"));
                    }
                    answer.try_recv().ok()
                }
                () = std::future::ready(()), if is_late => answer.try_recv().ok(),
            };
            let (partition, first) = match place {
                None => continue,
                Some(Ok(place)) => place,
                Some(Err(Error::Retry { .. })) => {
                    refused += 1;
                    continue;
                }
                Some(Err(why)) => {
                    for member in members {
                        places[member] = Err(Refusal::new(StatusCode::NOT_FOUND, why.to_string()));
                    }
                    continue;
                }
            };
            for (index, member) in members.into_iter().enumerate() {
                places[member] = Ok((partition.clone(), first + index as Offset));
            }
        }
        left.is_answered = !is_late;
        match refused == groups {
            true => Err(Refusal::busy("the log is full or slow")),
            false => Ok(places),
        }
    }

    /// Records of one key (or partition) make a batch, in their order; those with neither make one too.
    fn groups(&self, entries: &[Entry]) -> Result<Vec<Group>, Refusal> {
        let mut groups: Vec<Group> = Vec::new();
        let mut open: HashMap<(Option<i32>, Option<&Bytes>), usize> = HashMap::new();
        for (index, entry) in entries.iter().enumerate() {
            let size = size(entry);
            if size > self.largest {
                let message = format!("record {index} has {size} bytes, more than the log's {}", self.largest);
                return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message));
            }
            // A partition that was asked for holds for all keys.
            let key = entry.key.as_ref().filter(|_| entry.partition.is_none());
            let at = open.get(&(entry.partition, key)).copied();
            let limit = self.batch.min(self.largest);
            let fits = |at: &usize| groups[*at].builder.size() + size <= limit;
            let at = match at.filter(fits) {
                Some(at) => at,
                None => {
                    let room = if entries.len() == 1 { size } else { 512 };
                    groups.push(Group {
                        builder: BatchBuilder::with_capacity(room),
                        stream: self.stream(key, entry.partition),
                        partition: entry.partition,
                        members: Vec::new(),
                    });
                    open.insert((entry.partition, key), groups.len() - 1);
                    groups.len() - 1
                }
            };
            let headers: Vec<(&str, Option<&[u8]>)> =
                entry.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
            groups[at].builder.push(entry.timestamp, entry.key.as_deref(), entry.value.as_deref(), &headers);
            groups[at].members.push(index);
        }
        Ok(groups)
    }

    /// What decides the partition, as Kafka's clients do: the key, else turns.
    fn stream(&self, key: Option<&Bytes>, partition: Option<i32>) -> Arc<Stream> {
        let (kind, name, key) = match (partition, key) {
            (Some(partition), _) => ("partition", partition.to_string(), String::new()),
            (None, None) => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed) % TURNS;
                ("turn", turn.to_string(), turn.to_string())
            }
            (None, Some(key)) => {
                let text = std::str::from_utf8(key).map_or_else(|_| STANDARD.encode(key), str::to_owned);
                let digest = || STANDARD.encode(Sha256::digest(key));
                ("key", if text.len() > LONGEST_NAME { digest() } else { text.clone() }, text)
            }
        };
        Arc::new(Stream { id: serde_json::json!({ kind: name }).to_string(), key })
    }
}

/// How many bytes a record takes in a batch, at most.
fn size(entry: &Entry) -> usize {
    let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers: usize = entry.headers.iter().map(|(name, value)| name.len() + length(value) + 20).sum();
    length(&entry.key) + length(&entry.value) + headers + 2 * OVERHEAD
}

/// Why a record is not known to be in the log.
fn not_taken() -> Refusal {
    Refusal::unavailable("the record is not durable: it was not taken, or not in time").coded(50003)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::source::queue::Held;

    fn intake(timeout: Duration) -> Intake {
        let queue = Arc::new(Queue::new(Duration::from_secs(5)));
        Intake { queue, batch: 4096, largest: 8192, timeout, turn: AtomicU64::new(0) }
    }

    fn entry(key: Option<&str>, partition: Option<i32>, value: usize) -> Entry {
        let key = key.map(|key| Bytes::copy_from_slice(key.as_bytes()));
        Entry { key, partition, value: Some(Bytes::from(vec![b'x'; value])), ..Entry::default() }
    }

    #[test]
    fn records_are_grouped_by_key_and_partition() {
        let intake = intake(Duration::from_secs(1));
        let entries = [
            entry(Some("a"), None, 1),
            entry(None, None, 1),
            entry(Some("b"), None, 1),
            entry(Some("a"), None, 1),
            entry(None, None, 1),
            entry(Some("a"), Some(3), 1),
            entry(Some("b"), Some(3), 1),
        ];
        let groups = intake.groups(&entries).unwrap();
        let seen: Vec<_> = groups.iter().map(|group| (group.stream.key.as_str(), &group.members[..])).collect();
        assert_eq!(seen, [("a", &[0, 3][..]), ("0", &[1, 4]), ("b", &[2]), ("", &[5, 6])]);
        assert_eq!(
            intake.groups(&[entry(None, None, 1)]).unwrap()[0].stream.key,
            "1",
            "records without a key take turns"
        );
        let many: Vec<Entry> = (0..10).map(|_| entry(Some("a"), None, 1000)).collect();
        let groups = intake.groups(&many).unwrap();
        assert!(groups.len() > 2 && groups.iter().all(|group| group.builder.size() <= 4096));
        assert_eq!(intake.groups(&[entry(None, None, 9000)]).map(drop).unwrap_err().status.as_u16(), 413);
    }

    #[test]
    fn any_key_makes_a_small_stream() {
        let intake = intake(Duration::from_secs(1));
        for key in [vec![0xff; 5000], vec![b'"'; 5000], b"plain".to_vec()] {
            let stream = intake.stream(Some(&key.into()), None);
            assert!(stream.id.len() < 1024 && stream.id.starts_with("{\"key\":"), "{}", stream.id);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn records_are_where_the_log_says() {
        let intake = intake(Duration::from_secs(3));
        let entries = [entry(Some("a"), None, 1), entry(Some("b"), None, 1), entry(Some("a"), None, 1)];
        let charge = Held::new(1 << 20).charge();
        let log = async {
            let first = intake.queue.next().await.unwrap();
            first.done.unwrap().durable(TopicPartition::new("t", 2), 40);
            drop(intake.queue.next().await.unwrap());
        };
        let (places, ()) = futures::join!(intake.take(None, &entries, charge), log);
        let places: Vec<_> =
            places.unwrap().into_iter().map(|place| place.map(|(of, at)| (of.partition, at))).collect();
        assert!(matches!(&places[..], [Ok((2, 40)), Err(_), Ok((2, 41))]), "{places:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_client_left_behind_is_not_kept() {
        let intake = intake(Duration::from_secs(30));
        let entries = [entry(None, None, 1)];
        let take = intake.take(None, &entries, Held::new(1 << 20).charge());
        let left = tokio::time::timeout(Duration::from_secs(1), take).await;
        assert!(left.is_err(), "the client goes away before it is answered");
        assert!(intake.queue.next().now_or_never().is_none(), "nothing waits");
    }

    #[tokio::test(start_paused = true)]
    async fn late_records_are_told_apart_by_whether_they_may_be_there() {
        for (taken, expected) in [(0, "429"), (1, "503 503"), (2, "503 503")] {
            let intake = intake(Duration::from_secs(3));
            let entries = [entry(Some("a"), None, 1), entry(Some("b"), None, 1)];
            let log = async {
                let mut held = Vec::new();
                for _ in 0..taken {
                    held.push(intake.queue.next().await);
                }
                std::future::pending::<()>().await;
            };
            let take = intake.take(None, &entries, Held::new(1 << 20).charge());
            let told = tokio::select! {
                places = take => match places {
                    Err(refusal) => refusal.status.as_str().to_owned(),
                    Ok(places) => {
                        let each = places.into_iter().map(|place| place.unwrap_err().status.as_str().to_owned());
                        each.collect::<Vec<_>>().join(" ")
                    }
                },
                () = log => unreachable!(),
            };
            assert_eq!(told, expected, "{taken} taken");
        }
    }
}
