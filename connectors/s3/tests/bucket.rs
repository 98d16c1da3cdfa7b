//! What the sink does when a store fails, loses answers, is used by somebody else, or lacks conditional puts.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod faulty;
mod world;

use std::sync::Arc;

use aqueduct_api::conformance::sink::{Script, SinkWorld as _, deliver};
use aqueduct_api::fault::{Mutant, mutate};
use aqueduct_api::{ByteSize, Chunk, Error, Sink, TopicId};
use aqueduct_s3::S3Settings;
use object_store::path::Path;
use object_store::{ObjectStoreExt as _, PutPayload};
use serde_json::json;
use tempfile::TempDir;

use faulty::{Fault, FaultyStore};
use world::World;

struct Bed {
    store: FaultyStore,
    world: World,
    _scratch: TempDir,
}

impl Bed {
    fn new() -> Self {
        Self::with_parts(200)
    }

    /// A bucket into which objects larger than that go in parts.
    fn with_parts(part_size: u64) -> Self {
        Self::shaped(part_size, None)
    }

    /// The same, with names from a template.
    fn shaped(part_size: u64, path: Option<String>) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let store = FaultyStore::default();
        let settings: S3Settings = serde_json::from_value(json!({"url": "s3://lake/raw"})).unwrap();
        let settings = S3Settings { part_size: ByteSize(part_size), path, ..settings };
        Bed { world: World::over(settings, scratch.path(), Arc::new(store.clone())), store, _scratch: scratch }
    }

    async fn sink(&self) -> Box<dyn Sink> {
        self.world.open().await.unwrap()
    }

    /// The reason why the sink stops on the chunk.
    async fn fatal(&self, script: &Script) -> String {
        match self.sink().await.write(&mut [script.chunk()]).await {
            Err(Error::Fatal { cause }) => cause.to_string(),
            outcome => panic!("{outcome:?} instead of a stop"),
        }
    }
}

#[tokio::test]
async fn whatever_fails_or_whose_answer_is_lost_the_chunk_is_there_once() {
    let large = [("get", 0), ("create", 0), ("part", 0), ("part", 2), ("complete", 0)].map(|point| (200, point));
    let small = [("get", 0), ("put", 0)].map(|point| (1 << 20, point));
    for (part_size, (operation, after)) in large.into_iter().chain(small) {
        for fault in [Fault::Before, Fault::After] {
            let bed = Bed::with_parts(part_size);
            let script = Script::new("t", 0).batch(0, 30).batch(30, 30);
            bed.store.plan(operation, after, fault);
            let failed = bed.sink().await.write(&mut [script.chunk()]).await;
            assert!(
                bed.store.is_done() && failed.is_err_and(|error| error.is_retry()),
                "{operation} {after} {fault:?}"
            );
            deliver(&*bed.sink().await, &mut [script.again()]).await;
            script.expect(&bed.world, 0..60).await;
            assert_eq!(bed.store.paid_uploads(), 0, "{operation} {after} {fault:?}");
        }
    }
}

/// Writes a chunk, and breaks it off after so many turns.
async fn write_for(sink: &dyn Sink, chunk: &mut [Chunk], turns: usize) {
    let pause = async {
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        _ = sink.write(chunk) => {}
        () = pause => {}
    }
}

#[tokio::test]
async fn an_upload_that_was_left_open_is_aborted_by_whoever_delivers_the_chunk_again() {
    let mut left = 0;
    for turns in 0..200 {
        let bed = Bed::new();
        let script = Script::new("t", 0).batch(0, 30).batch(30, 30);
        let sink = bed.sink().await;
        let mut chunk = [script.chunk()];
        write_for(&*sink, &mut chunk, turns).await;
        left += bed.store.paid_uploads();
        // The abort that is due may fail once as well.
        bed.store.plan("abort", 0, Fault::Before);
        deliver(&*bed.sink().await, &mut [script.again()]).await;
        assert_eq!(bed.store.paid_uploads(), 0, "dropped after {turns} turns");
        script.expect(&bed.world, 0..60).await;
    }
    assert!(left > 0, "some of the drops leave an upload open");
}

#[tokio::test]
async fn an_object_that_is_there_is_looked_at_and_not_uploaded_again() {
    for part_size in [200, 1 << 20] {
        let bed = Bed::with_parts(part_size);
        let script = Script::new("t", 0).batch(0, 60);
        deliver(&*bed.sink().await, &mut [script.chunk()]).await;
        bed.store.operations();
        deliver(&*bed.sink().await, &mut [script.chunk()]).await;
        assert_eq!(bed.store.operations(), ["get"]);
    }
}

#[tokio::test]
async fn a_shorter_object_never_replaces_a_longer_one_unless_that_mistake_is_made_on_purpose() {
    for part_size in [200, 1 << 20] {
        let bed = Bed::with_parts(part_size);
        let longer = Script::new("t", 0).batch(0, 60);
        let shorter = Script::new("t", 0).batch(0, 40);
        deliver(&*bed.sink().await, &mut [longer.chunk()]).await;
        deliver(&*bed.sink().await, &mut [shorter.chunk()]).await;
        longer.expect(&bed.world, 0..60).await;
        mutate(Some(Mutant::StaleOverNewer));
        deliver(&*bed.sink().await, &mut [shorter.chunk()]).await;
        mutate(None);
        shorter.expect(&bed.world, 0..40).await;
    }
}

#[tokio::test]
async fn a_longer_chunk_replaces_what_one_that_was_given_up_left_under_its_name() {
    for (part_size, is_seen, conditions) in
        [(200, false, true), (1 << 20, false, true), (1 << 20, true, true), (1 << 20, false, false)]
    {
        let bed = Bed::with_parts(part_size);
        if !conditions {
            bed.store.without_conditional_put();
        }
        let sink = bed.sink().await;
        if is_seen {
            // Nobody looks before a put that the store surely refuses.
            deliver(&*sink, &mut [Script::new("other", 0).batch(0, 1).chunk()]).await;
        }
        let (shorter, longer) = (Script::new("t", 0).batch(0, 40), Script::new("t", 0).batch(0, 40).batch(40, 20));
        deliver(&*sink, &mut [shorter.chunk()]).await;
        for chunk in [longer.chunk(), longer.again(), shorter.again()] {
            deliver(&*sink, &mut [chunk]).await;
            let written = bed.world.written().await;
            let count = written.iter().filter(|written| &*written.partition.topic == "t").count();
            assert_eq!(count, 60, "parts of {part_size}, {is_seen} {conditions}");
        }
    }
}

/// A chunk of which a part was rejected, and all of it as other settings or transforms have it after it was given up.
fn given_up_and_cut_anew() -> (Script, Script) {
    let given_up = Script::new("t", 0).batch(0, 20).batch(40, 20);
    (given_up, Script::new("t", 0).batch(0, 20).batch(20, 20).batch(40, 20))
}

fn anew(script: &Script, given_up: u32) -> Chunk {
    Chunk { given_up, ..script.chunk() }
}

#[tokio::test]
async fn what_a_chunk_that_was_given_up_left_is_replaced_once_though_it_ended_where_the_new_one_does() {
    for path in [None, Some("{topic}".to_owned())] {
        for (part_size, is_seen, conditions) in
            [(200, false, true), (1 << 20, false, true), (1 << 20, true, true), (1 << 20, false, false)]
        {
            let bed = Bed::shaped(part_size, path.clone());
            if !conditions {
                bed.store.without_conditional_put();
            }
            let (old, new) = given_up_and_cut_anew();
            let sink = bed.sink().await;
            if is_seen {
                deliver(&*sink, &mut [Script::new("other", 0).batch(0, 1).chunk()]).await;
            }
            deliver(&*sink, &mut [old.chunk()]).await;
            deliver(&*sink, &mut [anew(&new, 1)]).await;
            new.expect(&bed.world, 0..60).await;
            bed.store.operations();
            // The same pin once more, then its owner before it.
            deliver(&*bed.sink().await, &mut [Chunk { redelivered: true, ..anew(&new, 1) }]).await;
            deliver(&*bed.sink().await, &mut [Chunk { redelivered: true, ..old.chunk() }]).await;
            assert_eq!(bed.store.operations(), ["get", "get"], "parts of {part_size}, {is_seen} {conditions} {path:?}");
            new.expect(&bed.world, 0..60).await;
            // With settings that reject again.
            deliver(&*bed.sink().await, &mut [anew(&old, 2)]).await;
            old.expect(&bed.world, (0..20).chain(40..60)).await;
        }
    }
}

#[tokio::test]
async fn a_chunk_that_was_cut_anew_may_be_shorter_and_who_has_the_longer_one_stops() {
    for part_size in [200, 1 << 20] {
        let bed = Bed::with_parts(part_size);
        let (longer, shorter) = (Script::new("t", 0).batch(0, 60), Script::new("t", 0).batch(0, 40));
        deliver(&*bed.sink().await, &mut [longer.chunk()]).await;
        deliver(&*bed.sink().await, &mut [anew(&shorter, 1)]).await;
        shorter.expect(&bed.world, 0..40).await;
        let told = bed.fatal(&longer).await;
        assert!(told.contains("given up 1 times here, and this one is of one when they had 0 times"), "{told}");
        shorter.expect(&bed.world, 0..40).await;
    }
}

#[tokio::test]
async fn a_chunk_that_is_cut_anew_is_whole_wherever_its_delivery_was_broken_off() {
    for part_size in [200, 1 << 20] {
        for turns in 0..60 {
            let bed = Bed::with_parts(part_size);
            let (old, new) = given_up_and_cut_anew();
            let first = bed.sink().await;
            write_for(&*first, &mut [old.chunk()], turns % 20 * 3).await;
            let mut chunk = [Chunk { note: old.again().note, ..anew(&new, 1) }];
            write_for(&*bed.sink().await, &mut chunk, turns).await;
            let note = new.again().note.or(old.again().note);
            deliver(&*bed.sink().await, &mut [Chunk { redelivered: true, note, ..anew(&new, 1) }]).await;
            new.expect(&bed.world, 0..60).await;
            assert_eq!(bed.store.paid_uploads(), 0, "parts of {part_size}, {turns} turns");
        }
    }
}

#[tokio::test]
async fn of_two_that_replace_an_object_the_store_takes_one() {
    let bed = Bed::with_parts(1 << 20);
    let (old, new) = given_up_and_cut_anew();
    deliver(&*bed.sink().await, &mut [old.chunk()]).await;
    let (one, two) = (bed.sink().await, bed.sink().await);
    let (mut first, mut second) = ([anew(&new, 1)], [anew(&new, 1)]);
    futures::join!(deliver(&*one, &mut first), deliver(&*two, &mut second));
    new.expect(&bed.world, 0..60).await;
    // A put whose answer is lost was done.
    bed.store.plan("put", 1, Fault::After);
    let lost = bed.sink().await.write(&mut [anew(&old, 2)]).await;
    assert!(bed.store.is_done() && lost.is_err_and(|error| error.is_retry()));
    bed.store.operations();
    deliver(&*bed.sink().await, &mut [Chunk { redelivered: true, ..anew(&old, 2) }]).await;
    assert_eq!(bed.store.operations(), ["get"]);
    old.expect(&bed.world, (0..20).chain(40..60)).await;
}

#[tokio::test]
async fn a_put_of_an_earlier_owner_that_comes_late_replaces_nothing() {
    for (puts_before, owner) in [(0, 0), (1, 1)] {
        let bed = Bed::with_parts(1 << 20);
        let (old, new) = given_up_and_cut_anew();
        if owner > 0 {
            deliver(&*bed.sink().await, &mut [old.chunk()]).await;
        }
        bed.store.plan("put", puts_before, Fault::Late);
        let late = bed.sink().await.write(&mut [anew(&old, owner)]).await;
        assert!(bed.store.is_done() && late.is_err_and(|error| error.is_retry()));
        deliver(&*bed.sink().await, &mut [anew(&new, owner + 1)]).await;
        let answers = bed.store.arrive().await;
        assert!(answers.len() == 1 && answers[0].is_err(), "{answers:?}");
        new.expect(&bed.world, 0..60).await;
    }
}

#[tokio::test]
async fn the_mistake_of_keeping_what_was_given_up_can_be_made_on_purpose() {
    let bed = Bed::new();
    let (old, new) = given_up_and_cut_anew();
    deliver(&*bed.sink().await, &mut [old.chunk()]).await;
    mutate(Some(Mutant::GivenUpKept));
    deliver(&*bed.sink().await, &mut [anew(&new, 1)]).await;
    mutate(None);
    old.expect(&bed.world, (0..20).chain(40..60)).await;
}

#[tokio::test]
async fn who_comes_second_keeps_what_the_first_put() {
    let bed = Bed::with_parts(1 << 20);
    let script = Script::new("t", 0).batch(0, 60);
    let (one, two) = (bed.sink().await, bed.sink().await);
    let (mut first, mut second) = ([script.chunk()], [script.chunk()]);
    futures::join!(deliver(&*one, &mut first), deliver(&*two, &mut second));
    // Both looked before either had put, so that the condition of the put decided. Who was first tries once whether it does.
    let mut operations = bed.store.operations();
    assert_eq!(operations[..4], ["get", "get", "put", "put"]);
    operations.sort_unstable();
    assert_eq!(operations, ["get", "get", "get", "put", "put", "put"]);
    script.expect(&bed.world, 0..60).await;
}

#[tokio::test]
async fn a_store_that_was_seen_to_refuse_is_asked_to_put_without_a_look() {
    for (part_size, ignores, first, later, again) in [
        (1 << 20, false, &["get", "put", "put"][..], &["put"][..], &["get"][..]),
        (1 << 20, true, &["get", "put", "put"], &["get", "put"], &["get"]),
    ] {
        let bed = Bed::with_parts(part_size);
        if ignores {
            bed.store.ignoring_conditions();
        }
        let sink = bed.sink().await;
        let one = Script::new("t", 0).batch(0, 20);
        deliver(&*sink, &mut [one.chunk()]).await;
        assert_eq!(bed.store.operations(), first);
        let other = Script::new("t", 0).batch(20, 20);
        deliver(&*sink, &mut [other.chunk()]).await;
        assert_eq!(bed.store.operations(), later);
        deliver(&*sink, &mut [other.again()]).await;
        assert_eq!(bed.store.operations(), again, "what may be there is looked for before it is uploaded");
        // Delivered as if for the first time though it is there, perhaps of another topic.
        deliver(&*sink, &mut [other.chunk()]).await;
        let mut strange = other.chunk();
        strange.topic_id = TopicId(7);
        assert!(
            sink.write(&mut [strange]).await.is_err_and(|error| error.to_string().contains("of a topic t with id"))
        );
        one.expect(&bed.world, 0..40).await;
    }
}

#[tokio::test]
async fn whether_a_store_refuses_is_tried_again_when_the_trial_failed() {
    let bed = Bed::with_parts(1 << 20);
    let sink = bed.sink().await;
    bed.store.plan("put", 1, Fault::Before);
    for (number, asked) in [&["get", "put", "put"][..], &["get", "put", "put"], &["put"]].into_iter().enumerate() {
        deliver(&*sink, &mut [Script::new("t", 0).batch(number as i64 * 20, 20).chunk()]).await;
        assert_eq!(bed.store.operations(), asked);
    }
}

#[tokio::test]
async fn a_conflict_does_not_prove_that_a_store_heeds_conditions() {
    let bed = Bed::with_parts(1 << 20);
    bed.store.ignoring_conditions();
    let (sink, script) = (bed.sink().await, Script::new("t", 0).batch(0, 20));
    bed.store.plan("put", 1, Fault::Says("409 Conflict: <Code>ConditionalRequestConflict</Code>"));
    deliver(&*sink, &mut [script.chunk()]).await;
    assert!(bed.store.is_done());
    let mut strange = script.chunk();
    strange.topic_id = TopicId(7);
    assert!(sink.write(&mut [strange]).await.is_err_and(|error| error.to_string().contains("of a topic t with id")));
}

#[tokio::test]
async fn a_store_that_forgets_conditions_overwrites_nothing() {
    let bed = Bed::with_parts(1 << 20);
    let (sink, script) = (bed.sink().await, Script::new("t", 0).batch(0, 20));
    deliver(&*sink, &mut [script.chunk()]).await;
    bed.store.without_conditional_put();
    let mut strange = script.chunk();
    strange.topic_id = TopicId(7);
    assert!(sink.write(&mut [strange]).await.is_err_and(|error| error.to_string().contains("of a topic t with id")));
    script.expect(&bed.world, 0..20).await;
}

#[tokio::test]
async fn a_trial_that_always_fails_is_given_up() {
    let bed = Bed::with_parts(1 << 20);
    bed.store.keeping_for_ever();
    let sink = bed.sink().await;
    for number in 0..5 {
        deliver(&*sink, &mut [Script::new("t", 0).batch(number * 20, 20).chunk()]).await;
        let asked = if number < 3 { &["get", "put", "put"][..] } else { &["get", "put"] };
        assert_eq!(bed.store.operations(), asked);
    }
}

#[tokio::test]
async fn a_trial_that_is_broken_off_is_made_again() {
    for turns in 0..20 {
        let bed = Bed::with_parts(1 << 20);
        let (sink, script) = (bed.sink().await, Script::new("t", 0).batch(0, 20));
        let mut chunk = [script.chunk()];
        write_for(&*sink, &mut chunk, turns).await;
        tokio::task::yield_now().await;
        deliver(&*sink, &mut [Script::new("t", 0).batch(20, 20).chunk()]).await;
        bed.store.operations();
        deliver(&*sink, &mut [Script::new("t", 0).batch(40, 20).chunk()]).await;
        assert_eq!(bed.store.operations(), ["put"], "dropped after {turns} turns");
    }
}

#[tokio::test]
async fn a_store_without_conditional_put_is_written_all_the_same() {
    let bed = Bed::with_parts(1 << 20);
    bed.store.without_conditional_put();
    let script = Script::new("t", 0).batch(0, 60);
    deliver(&*bed.sink().await, &mut [script.chunk()]).await;
    script.expect(&bed.world, 0..60).await;
}

#[tokio::test]
async fn the_objects_of_another_topic_of_the_same_name_are_left_alone() {
    for part_size in [200, 1 << 20] {
        let bed = Bed::with_parts(part_size);
        let script = Script::new("t", 0).batch(0, 60);
        let sink = bed.sink().await;
        deliver(&*sink, &mut [script.chunk()]).await;
        let mut chunk = script.chunk();
        let old = chunk.topic_id;
        chunk.topic_id = TopicId(7);
        let stopped = sink.write(&mut [chunk]).await.unwrap_err();
        assert!(matches!(stopped, Error::Fatal { .. }));
        let told = stopped.to_string();
        for part in ["raw/topics/t/partition=0/t+0+0000000000.bin", &old.to_string(), &TopicId(7).to_string()] {
            assert!(told.contains(part), "{told}");
        }
        script.expect(&bed.world, 0..60).await;
    }
}

#[tokio::test]
async fn an_object_of_somebody_else_is_left_alone() {
    let bed = Bed::new();
    let path = Path::from("raw/topics/t/partition=0/t+0+0000000000.bin");
    bed.store.inner.put(&path, PutPayload::from_static(b"mine")).await.unwrap();
    let told = bed.fatal(&Script::new("t", 0).batch(0, 60)).await;
    assert!(told.contains("was not written by us"), "{told}");
    assert_eq!(bed.store.inner.get(&path).await.unwrap().bytes().await.unwrap(), "mine");
}

#[tokio::test]
async fn what_only_a_person_can_mend_stops_the_sink_and_says_what_to_do() {
    for (operation, said, told) in [
        ("put", "404 Not Found: <Code>NoSuchBucket</Code>", "bucket `lake` of s3://lake/raw does not exist: create it"),
        ("put", "403 Forbidden: <Code>SignatureDoesNotMatch</Code>", "check settings.access-key-id"),
        ("put", "404 Not Found: <Code>XAdminUserNotFound</Code>", "check settings.access-key-id"),
        ("get", "PUT http://169.254.169.254/latest/api/token", "no credentials for s3://lake/raw: set settings.access"),
        ("put", "Server returned non-2xx status code: 400 Bad Request", "s3://lake/raw refuses it"),
        (
            "put",
            "status code: 400 Bad Request: <Code>InvalidRequest</Code><Message>Content-MD5 OR x-amz-checksum- HTTP header is \
             required for Put Object requests with Object Lock parameters</Message>",
            "bucket `lake` of s3://lake/raw has an Object Lock: set settings.checksum",
        ),
        ("get", "Received redirect without LOCATION", "is settings.region right?"),
    ] {
        let bed = Bed::with_parts(1 << 20);
        bed.store.plan(operation, 0, Fault::Says(said));
        let reason = bed.fatal(&Script::new("t", 0).batch(0, 3)).await;
        assert!(reason.contains(told), "{reason}");
    }
}

#[tokio::test]
async fn what_passes_by_itself_is_tried_again() {
    for said in [
        "429 Too Many Requests",
        "RequestTimeTooSkewed",
        "connection refused",
        "<Code>SlowDown</Code>",
        "status code: 400 Bad Request: <Code>RequestTimeout</Code>",
        "status code: 400 Bad Request: <Code>IncompleteBody</Code>",
        "status code: 400 Bad Request: <Code>BadDigest</Code>",
    ] {
        let bed = Bed::with_parts(1 << 20);
        bed.store.plan("put", 0, Fault::Says(said));
        let script = Script::new("t", 0).batch(0, 3);
        let failed = bed.sink().await.write(&mut [script.chunk()]).await;
        assert!(failed.is_err_and(|error| error.is_retry()), "{said}");
    }
}

#[tokio::test]
async fn an_upload_that_vanishes_under_way_is_begun_again() {
    for operation in ["part", "complete"] {
        let bed = Bed::new();
        let script = Script::new("t", 0).batch(0, 60);
        bed.store.plan(operation, 0, Fault::Says("404 Not Found: <Code>NoSuchUpload</Code>"));
        let failed = bed.sink().await.write(&mut [script.chunk()]).await;
        assert!(failed.is_err_and(|error| error.is_retry() && error.to_string().contains("the upload is gone")));
        deliver(&*bed.sink().await, &mut [script.again()]).await;
        script.expect(&bed.world, 0..60).await;
    }
}
