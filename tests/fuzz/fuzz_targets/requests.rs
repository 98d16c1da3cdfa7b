//! Arbitrary bytes as requests of Kafka clients, to a broker that serves everybody or to one that asks who they are.
//!
//! An input is a byte, whose lowest bit says which of the two, and a list of frames as in `frames.bin`; an empty one stands for the
//! next client. Brokers live for many inputs: what each was asked since its start is in `artifacts/requests`, an input as well.
#![no_main]

use std::cell::RefCell;
use std::fs::File;
use std::future::poll_fn;
use std::io::Write as _;
use std::num::NonZeroU64;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use aqueduct_api::Secret;
use aqueduct_kafka_server::{Credentials, Mechanism, Of, Quota, Right, Rights, Security, User, Users};

use entry::{Client, Endpoint, Told};

#[path = "../changes.rs"]
mod changes;
#[path = "../entry.rs"]
mod entry;
#[path = "../outside.rs"]
mod outside;

/// Inputs that a broker lives for.
const LIFE: usize = 2000;
/// How often all else is let run before an answer is not on its way.
const TURNS: usize = 24;
/// What the system's network may take on a busy machine, for half of these turns; that time is real.
const NETWORK: Duration = Duration::from_micros(100);
/// How time passes while one is waited for: in all, 12.75 s.
const STEPS: u32 = 7;
const FIRST_STEP: Duration = Duration::from_millis(50);

thread_local! {
    static LIVES: RefCell<[Option<Life>; 2]> = const { RefCell::new([None, None]) };
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((whom, list)) = bytes.split_first() else { return };
    LIVES.with_borrow_mut(|lives| {
        let life = &mut lives[usize::from(whom & 1)];
        let living = life.get_or_insert_with(|| Life::begun(whom & 1));
        living.ask(list);
        if living.inputs == LIFE {
            *life = None;
        }
    });
});

libfuzzer_sys::fuzz_mutator!(|bytes: &mut [u8], size: usize, most: usize, seed: u32| {
    changes::changed(&mut bytes[..most], size, seed)
});

/// A broker, and what it was asked.
struct Life {
    endpoint: Endpoint,
    told: File,
    inputs: usize,
}

impl Life {
    fn begun(whom: u8) -> Self {
        let name = ["everybody", "known"][usize::from(whom)];
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/artifacts/requests");
        std::fs::create_dir_all(folder).expect("a folder");
        let mut told = File::create(format!("{folder}/since-the-start-{name}-{}", std::process::id())).expect("a file");
        told.write_all(&[whom]).expect("room on the disk");
        let security = if whom == 0 { Security::default() } else { known() };
        let endpoint = Endpoint::new(outside::runtime(), outside::folder(), outside::edge, security);
        Life { endpoint, told, inputs: 0 }
    }

    fn ask(&mut self, list: &[u8]) {
        let frames = entry::listed(list);
        self.inputs += 1;
        self.note(&frames);
        let mut client = self.endpoint.client();
        for frame in &frames {
            if frame.is_empty() {
                client = self.endpoint.client();
                continue;
            }
            match self.endpoint.runtime.block_on(told(&mut client, frame)) {
                Told::Answer(answer) => assert_eq!(answer.get(..4), frame.get(4..8), "the number of {frame:02x?}"),
                Told::Closed | Told::Nothing => client = self.endpoint.client(),
            }
        }
    }

    /// A list that is cut off is noted whole: the next input follows it.
    fn note(&mut self, frames: &[Vec<u8>]) {
        let mut list = vec![0; 4];
        for frame in frames {
            list.extend((frame.len() as u32).to_be_bytes());
            list.extend(frame);
        }
        self.told.write_all(&list).expect("room on the disk");
    }
}

/// What becomes of a frame. Time passes where nothing else happens.
async fn told(client: &mut Client, frame: &[u8]) -> Told {
    let mut asked = pin!(client.ask(frame));
    for step in 0..=STEPS {
        for turn in 0..TURNS {
            let now = poll_fn(|context| Poll::Ready(asked.as_mut().poll(context))).await;
            if let Poll::Ready(told) = now {
                return told;
            }
            if step == 0 && turn >= TURNS / 2 {
                std::thread::sleep(NETWORK);
            }
            tokio::task::yield_now().await;
        }
        tokio::time::advance(FIRST_STEP * 2_u32.pow(step)).await;
    }
    Told::Nothing
}

/// Who is known to the second broker: `alice`, by `alice-secret`.
fn known() -> Security {
    let mut rights = Rights::default();
    let may = [(Of::Topic, "t*", Right::Read), (Of::Topic, "t", Right::Write), (Of::Group, "g*", Right::Read)];
    for (of, pattern, right) in may {
        rights.grant(of, pattern, right);
    }
    let credentials = Credentials::Password(Secret::new("alice-secret"));
    let quota = Quota { produce: NonZeroU64::new(1 << 20), fetch: NonZeroU64::new(1 << 20) };
    let users = Users::new([("alice".to_owned(), User { credentials, rights, quota })]).expect("what is right");
    Security {
        mechanisms: vec![Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512],
        users: Some(Arc::new(users)),
        session: Some(Duration::from_secs(3600)),
        ..Security::default()
    }
}
