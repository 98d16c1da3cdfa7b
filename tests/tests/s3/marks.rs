//! What objects have beside their bytes: tags, storage class, ACL, encryption; and whose keys write them.

use aqueduct_api::Sink;
use aqueduct_api::conformance::sink::{self, Script};
use aqueduct_record::BatchBuilder;
use aqueduct_tests::network::{Fault, Network};
use aqueduct_tests::services;
use serde_json::json;

use crate::world::{World, all_of, both, large, large_of, source};

/// Delivers so many large records of a topic as one object: its key. The object is there as it should be.
async fn delivered(world: &World, sink: &dyn Sink, topic: &str, count: i64) -> String {
    let (script, text) = large_of(topic, count);
    sink::deliver(sink, &mut [script.chunk()]).await;
    let (key, _) = world.bucket.list().await.into_iter().find(|(key, _)| key.contains(topic)).unwrap();
    assert!(world.bucket.read(&key).await == text.as_bytes(), "{key}");
    key
}

#[tokio::test]
async fn objects_have_the_tags_and_the_storage_class_of_the_settings() {
    let s3 = services::s3().await;
    let more = json!({"tags": {"team": "data + logs"}, "storage-class": "REDUCED_REDUNDANCY", "format": "parquet"});
    let world = World::new(&s3, more).await;
    let sink = world.sink().await.unwrap();
    // Put whole, and in parts.
    let value = |offset: i64| json!({"n": offset, "text": random_text(offset as u64)}).to_string();
    for (topic, count) in [("small", 1), ("parts", 12)] {
        let mut script = Script::new(topic, 0);
        for offset in 0..count {
            let mut builder = BatchBuilder::new();
            builder.push(0, None, Some(value(offset).as_bytes()), &[]);
            script = script.raw(offset, builder);
        }
        assert!(sink::deliver(&*sink, &mut [script.chunk()]).await.is_empty());
    }
    let objects = world.bucket.list().await;
    assert_eq!(objects.len(), 2);
    for (key, _) in objects {
        let tags = world.bucket.request(reqwest::Method::GET, &key, &[("tagging", "")], Vec::new()).await;
        let tags = tags.text().await.unwrap();
        assert!(tags.contains("<Key>team</Key><Value>data + logs</Value>"), "{key}: {tags}");
        let head = world.bucket.request(reqwest::Method::GET, &key, &[], Vec::new()).await;
        assert_eq!(head.headers()["x-amz-storage-class"], "REDUCED_REDUNDANCY", "{key}");
    }
}

#[tokio::test]
async fn a_role_is_assumed_with_the_keys_that_there_are() {
    let s3 = services::s3().await;
    let role = |secret: &str| {
        json!({
            "role": {"arn": "arn:xxx:xxx:xxx:xxxx", "endpoint": s3.endpoint, "external-id": "a b"},
            "secret-access-key": secret,
        })
    };
    let world = World::new(&s3, role(&s3.secret_key)).await;
    let (script, text) = large(1);
    sink::deliver(&*world.sink().await.unwrap(), &mut [script.chunk()]).await;
    world.expect_one(&text).await;
    let world = World::new(&s3, role("wrong")).await;
    let answer = world.sink().await.unwrap().write(&mut [script.chunk()]).await.map(drop);
    let told = format!("{answer:?}");
    assert!(told.contains("assume role arn:xxx:xxx:xxx:xxxx"), "{told}");
}

#[tokio::test]
async fn an_acl_is_asked_for_with_what_makes_an_object_and_with_nothing_else() {
    for (name, s3) in both().await {
        let network = Network::before(&s3.endpoint).await;
        let world = World::new(&s3, json!({"endpoint": network.endpoint, "acl": "bucket-owner-full-control"})).await;
        let sink = world.sink().await.unwrap();
        // Put whole, and in parts.
        for (topic, count) in [("whole", 1), ("parts", 12)] {
            delivered(&world, &*sink, topic, count).await;
        }
        let (mut whole, mut begun) = (0, 0);
        for head in network.heads() {
            let is_whole = head.starts_with("PUT") && head.contains("if-none-match");
            let is_begun = head.starts_with("POST") && head.contains("?uploads");
            let asks = head.contains("x-amz-acl: bucket-owner-full-control");
            // What is not signed would be asked for by anybody on the way.
            let is_signed =
                head.split("SignedHeaders=").nth(1).unwrap().split(',').next().unwrap().contains("x-amz-acl");
            assert_eq!((asks, is_signed), (is_whole || is_begun, is_whole || is_begun), "{name}: {head}");
            (whole, begun) = (whole + usize::from(is_whole), begun + usize::from(is_begun));
        }
        // A sink's first object is put once more, to see whether the store refuses that; one that does before it has taken the
        // body is asked again.
        assert!(whole >= 2 && begun == 1, "{name}: {:?}", network.requests());
    }
}

#[tokio::test]
async fn objects_have_the_acl_of_the_settings() {
    let s3 = services::moto().await;
    let groups = "http://acs.amazonaws.com/groups/global";
    for (acl, granted) in [
        (json!(null), vec![]),
        (json!("private"), vec![]),
        (json!("public-read"), vec![(format!("{groups}/AllUsers"), "READ")]),
        (json!("authenticated-read"), vec![(format!("{groups}/AuthenticatedUsers"), "READ")]),
    ] {
        let world = World::new(&s3, json!({ "acl": acl })).await;
        let sink = world.sink().await.unwrap();
        // Put whole, and in parts: of those moto knows no ACL where none was asked for.
        let puts = &[("whole", 1), ("parts", 12)][..if acl.is_null() { 1 } else { 2 }];
        for (topic, count) in puts {
            sink::deliver(&*sink, &mut [large_of(topic, *count).0.chunk()]).await;
        }
        let objects = world.bucket.list().await;
        assert_eq!(objects.len(), puts.len(), "{acl}");
        for (key, _) in objects {
            let told = world.bucket.request(reqwest::Method::GET, &key, &[("acl", "")], Vec::new()).await;
            let told = told.text().await.unwrap();
            assert!(told.contains("<Permission>FULL_CONTROL</Permission>"), "{acl} {key}: {told}");
            assert_eq!(told.matches("<URI>").count(), granted.len(), "{acl} {key}: {told}");
            for (group, right) in &granted {
                let grant = told.split("<Grant>").find(|grant| grant.contains(&format!("<URI>{group}</URI>")));
                let is_right = grant.is_some_and(|grant| grant.contains(&format!("<Permission>{right}</Permission>")));
                assert!(is_right, "{acl} {key}: {told}");
            }
        }
    }
}

#[tokio::test]
async fn an_acl_that_a_bucket_does_not_take_is_told() {
    let s3 = services::s3().await;
    let network = Network::before(&s3.endpoint).await;
    let world = World::new(&s3, json!({"endpoint": network.endpoint, "acl": "public-read"})).await;
    network.harm("PUT", "large", Fault::Answer(400, "AccessControlListNotSupported"), 1);
    let told = world.sink().await.unwrap().write(&mut [large(1).0.chunk()]).await.unwrap_err().to_string();
    assert!(told.contains("takes no ACLs: leave out settings.acl"), "{told}");
}

#[tokio::test]
async fn objects_are_encrypted_as_the_settings_say_and_the_source_reads_them() {
    let s3 = services::s3().await;
    let kms = json!({"kms": {"key": services::KMS_KEY}});
    for (encryption, header) in [(json!("s3"), "AES256"), (kms, "aws:kms")] {
        let more = json!({"encryption": encryption});
        let world = World::new(&s3, more).await;
        let sink = world.sink_at("in").await.unwrap();
        let mut lines = Vec::new();
        for (topic, count) in [("whole", 1), ("parts", 12)] {
            let (script, text) = large_of(topic, count);
            sink::deliver(&*sink, &mut [script.chunk()]).await;
            // Offered again, it is there already.
            sink::deliver(&*sink, &mut [script.again()]).await;
            lines.extend(text.lines().map(str::to_owned));
        }
        let objects = world.bucket.list().await;
        assert_eq!(objects.len(), 2);
        for (key, _) in objects {
            let got = world.bucket.request(reqwest::Method::GET, &key, &[], Vec::new()).await;
            assert_eq!(got.headers()["x-amz-server-side-encryption"], header, "{key}");
            let key_id = got.headers().get("x-amz-server-side-encryption-aws-kms-key-id");
            let is_named = key_id.is_some_and(|id| id.to_str().unwrap().ends_with(services::KMS_KEY));
            assert_eq!(is_named, header == "aws:kms", "{key}: {key_id:?}");
        }
        let (records, letters) = all_of(&mut *source(&world.bucket, json!({})).await).await;
        assert!(letters.is_empty(), "{letters:?}");
        let mut read: Vec<_> = records.into_iter().map(|(_, value)| value).collect();
        read.sort();
        lines.sort();
        assert!(read == lines, "{header}: {} of {} lines", read.len(), lines.len());
    }
}

#[tokio::test]
async fn a_checksum_goes_with_all_bytes_that_are_written() {
    for (name, s3) in both().await {
        for (checksum, header, algorithm) in
            [("sha256", "x-amz-checksum-sha256: ", "SHA256"), ("crc64nvme", "x-amz-checksum-crc64nvme: ", "CRC64NVME")]
        {
            let network = Network::before(&s3.endpoint).await;
            let world = World::new(&s3, json!({"endpoint": network.endpoint, "checksum": checksum})).await;
            let sink = world.sink().await.unwrap();
            for (topic, count) in [("whole", 1), ("parts", 12)] {
                let key = delivered(&world, &*sink, topic, count).await;
                let asked = (&[("x-amz-checksum-mode", "ENABLED")][..], Vec::new());
                let got = world.bucket.request_with(reqwest::Method::GET, &key, &[], asked).await;
                assert!(got.headers().contains_key(header.trim_end_matches(": ")), "{name} {key}: {got:?}");
            }
            for head in network.heads() {
                let is_begun = head.starts_with("POST") && head.contains("?uploads");
                assert_eq!(head.contains(header), head.starts_with("PUT"), "{name}: {head}");
                let is_told = head.contains(&format!("x-amz-checksum-algorithm: {algorithm}"));
                assert_eq!(is_told, is_begun, "{name}: {head}");
            }
        }
    }
}

#[tokio::test]
async fn a_bucket_with_an_object_lock_takes_objects_with_a_checksum() {
    let s3 = services::s3().await;
    for checksum in ["sha256", "crc64nvme"] {
        let world = World::over(&s3, s3.locked_bucket("locked").await, json!({ "checksum": checksum }));
        let sink = world.sink().await.unwrap();
        for (topic, count) in [("whole", 1), ("parts", 12)] {
            let (script, text) = large_of(topic, count);
            sink::deliver(&*sink, &mut [script.chunk()]).await;
            // Once more, as after a crash.
            sink::deliver(&*sink, &mut [script.again()]).await;
            let (key, _) = world.bucket.list().await.into_iter().find(|(key, _)| key.contains(topic)).unwrap();
            assert!(world.bucket.read(&key).await == text.as_bytes(), "{checksum}: {key}");
            let kept = world.bucket.request(reqwest::Method::GET, &key, &[("retention", "")], Vec::new()).await;
            let kept = kept.text().await.unwrap();
            assert!(kept.contains("<Mode>GOVERNANCE</Mode>"), "{checksum} {key}: {kept}");
        }
    }
}

#[tokio::test]
async fn a_key_that_does_not_encrypt_stops_the_sink_or_is_tried_again_and_writes_nothing() {
    let s3 = services::s3().await;
    let world = World::new(&s3, json!({"encryption": {"kms": {"key": "no-such-key"}}})).await;
    let told = world.sink().await.unwrap().write(&mut [large(1).0.chunk()]).await.unwrap_err();
    assert!(told.to_string().contains("kms"), "{told}");
    assert_eq!(world.bucket.list().await, []);
}

/// A MiB of text that does not compress, the same for the same seed.
fn random_text(seed: u64) -> String {
    let mut state = seed + 1;
    let digits = (0..1 << 16).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        format!("{:016x}", state ^ (state >> 29))
    });
    digits.collect()
}
