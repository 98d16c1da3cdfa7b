//! The source on real S3 servers: keys that others would not choose, objects that are fetched ahead, answers that tell of time
//! that has run out.

use std::collections::BTreeSet;

use aqueduct_tests::network::{Fault, Network};
use aqueduct_tests::services::{self, Bucket, S3};
use serde_json::json;

use crate::until;
use crate::world::{all_of, both, source};

/// What S3 takes for a key, and people and programs come up with.
const KEYS: [&str; 17] = [
    "in/plain",
    "in/\u{e9} \u{1f600}",
    "in/a+b c",
    "in/50%",
    "in/%2e%2e/x",
    "in/%252F",
    "in/<a> & \"b\' ]]>",
    "in/control\u{1}\u{1f}",
    "in/line\nbreak\ttab\rreturn",
    "in/delete\u{7f}",
    "in/back\\slash",
    "in/~aqueduct~61",
    "in/lost\u{fffd}",
    "in/folder/",
    "in/folder/within",
    "in//twice",
    "in/ends in a space ",
];

/// A bucket of the same name behind a network.
fn behind(bucket: &Bucket, network: &Network) -> Bucket {
    let s3 = S3 { endpoint: network.endpoint.clone(), ..bucket.s3.clone() };
    s3.existing(&bucket.name)
}

#[tokio::test]
async fn every_key_that_a_server_takes_is_read_or_reported() {
    for (name, s3) in both().await {
        let bucket = s3.bucket("keys").await;
        let mut put = BTreeSet::new();
        for key in KEYS {
            // What stands for a folder is empty, and holds no record.
            let line = if key.ends_with('/') { String::new() } else { format!("of {key:?}\n") };
            // A gateway to a file system takes two slashes for one.
            let kept = if name == "versity" { key.replace("//", "/") } else { key.to_owned() };
            if bucket.try_put(key, line.as_bytes()).await && !line.is_empty() {
                put.insert((kept, line.trim_end().to_owned()));
            }
        }
        let (records, letters) = all_of(&mut *source(&bucket, json!({"headers": ["key"]})).await).await;
        let read: BTreeSet<_> = records.iter().cloned().collect();
        assert_eq!(read.len(), records.len(), "{name}: something came twice");
        let [missing, other] = [put.difference(&read), read.difference(&put)].map(Vec::from_iter);
        assert!(other.is_empty(), "{name}: {other:#?}");
        assert!(put.len() >= 15, "{name} takes no more than {put:#?}");
        // Versity's lists have another character in place of what XML has no place for, and nothing tells which.
        assert!(name == "versity" || missing.is_empty(), "{name}: {missing:#?}");
        assert_eq!(letters.len(), missing.len(), "{name}: {letters:#?}");
    }
}

#[tokio::test]
async fn keys_that_can_not_be_asked_for_are_reported_one_by_one() {
    let bucket = services::s3().await.bucket("keys").await;
    for key in ["in/one", "in/two", "in/three", "in/four", "secret"] {
        bucket.put(key, format!("{key}\n").as_bytes()).await;
    }
    let network = Network::before(&bucket.s3.endpoint).await;
    // What the server takes for no key, it does not list either: here it does.
    let odd = [("<Key>in/two<", "<Key>in//two<"), ("<Key>in/three<", "<Key>in/../secret<")];
    network.harm("GET", "list-type=2", Fault::Rewrite(odd.to_vec()), 100);
    let (records, letters) = all_of(&mut *source(&behind(&bucket, &network), json!({})).await).await;
    let mut lines: Vec<_> = records.into_iter().map(|(_, value)| value).collect();
    lines.sort();
    assert_eq!(lines, ["in/four", "in/one"]);
    let mut told: Vec<_> = letters.iter().map(|letter| (letter.headers[1].1.clone(), &letter.reason)).collect();
    told.sort();
    let told: Vec<_> = told.iter().map(|(key, why)| (std::str::from_utf8(key).unwrap(), why.as_str())).collect();
    let [("in/../secret", dots), ("in//two", twice)] = told[..] else { panic!("{told:?}") };
    assert!(dots.contains("\"in/../secret\"") && dots.contains("a part of its key is `.` or `..`"), "{dots}");
    // The server was asked by that very key and took the signature for good, but not the key.
    assert!(twice.contains("InvalidObjectName"), "{twice}");
    let requests = network.requests();
    assert!(requests.iter().any(|request| request.contains("/in//two")), "{requests:?}");
    assert!(!requests.iter().any(|request| request.contains("secret")), "{requests:?}");
}

#[tokio::test]
async fn objects_are_fetched_while_an_earlier_one_is_awaited_as_far_as_there_is_room() {
    let bucket = services::s3().await.bucket("ahead").await;
    for number in 0..4 {
        bucket.put(&format!("in/{number}"), format!("{number}{}\n", "x".repeat(1 << 20)).as_bytes()).await;
    }
    for (room, ahead) in [("16 MiB", 3), ("3 MiB", 1), ("0 B", 0)] {
        let network = Network::before(&bucket.s3.endpoint).await;
        network.harm("GET", "/in/0", Fault::Swallow, 1);
        let more = json!({"read-ahead": room});
        let mut waiting = source(&behind(&bucket, &network), more.clone()).await;
        let asked = || {
            let requests = network.requests();
            (0..4).filter(|number| requests.iter().any(|request| request.ends_with(&format!("/in/{number}")))).count()
        };
        let any = async {
            // Where the source begins is saved before anything is read.
            while waiting.read().await.unwrap().unwrap().records.is_empty() {}
        };
        tokio::select! {
            () = any => panic!("read though the first object has not come"),
            () = until(|| asked() > ahead) => {}
        }
        assert_eq!(asked(), 1 + ahead, "{room}: {:?}", network.requests());
        drop(waiting);
        let (records, letters) = all_of(&mut *source(&behind(&bucket, &network), more).await).await;
        let order: Vec<_> = records.iter().map(|(_, value)| &value[..1]).collect();
        assert_eq!((order, letters.len()), (vec!["0", "1", "2", "3"], 0), "{room}");
    }
}

#[tokio::test]
async fn an_object_in_an_archive_is_told_or_waited_for() {
    let bucket = services::s3().await.bucket("archived").await;
    for number in 0..3 {
        bucket.put(&format!("in/{number}"), format!("{number}\n").as_bytes()).await;
    }
    for (archived, times, read) in [("dead-letter", 100, &["0", "2"][..]), ("wait", 4, &["0", "1", "2"])] {
        let network = Network::before(&bucket.s3.endpoint).await;
        network.harm("GET", "/in/1", Fault::Answer(403, "InvalidObjectState"), times);
        let mut source = source(&behind(&bucket, &network), json!({ "archived": archived })).await;
        let (records, letters) = all_of(&mut *source).await;
        let lines: Vec<_> = records.into_iter().map(|(_, value)| value).collect();
        assert_eq!(lines, read);
        assert_eq!(letters.len(), 3 - read.len(), "{letters:?}");
        assert!(letters.iter().all(|letter| letter.reason.contains("object in/1 is archived: restore it")));
    }
}

#[tokio::test]
async fn keys_that_have_expired_stop_no_source() {
    let bucket = services::s3().await.bucket("expired").await;
    for number in 0..3 {
        bucket.put(&format!("in/{number}"), format!("{number}\n").as_bytes()).await;
    }
    for (part, times) in [("list-type=2", 1), ("list-type=2", 4), ("/in/1", 1), ("/in/1", 4)] {
        let network = Network::before(&bucket.s3.endpoint).await;
        network.harm("GET", part, Fault::Answer(400, "ExpiredToken"), times);
        let (records, letters) = all_of(&mut *source(&behind(&bucket, &network), json!({})).await).await;
        assert_eq!(network.suffered(), times, "{part}");
        let lines: Vec<_> = records.into_iter().map(|(_, value)| value).collect();
        assert_eq!((lines, letters.len()), (vec!["0".to_owned(), "1".to_owned(), "2".to_owned()], 0), "{part} {times}");
    }
}
