//! The services themselves: what the other tests take for granted.

#![allow(clippy::unwrap_used, reason = "tests are the outside")]

use aqueduct_tests::services::{self, S3};
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _, PutMode, PutOptions};

async fn each() -> [(&'static str, S3); 2] {
    [("minio", services::s3().await), ("versity", services::versity().await)]
}

#[tokio::test]
async fn a_bucket_holds_what_was_put_and_nothing_else() {
    for (name, s3) in each().await {
        let bucket = s3.bucket("services").await;
        assert!(bucket.list().await.is_empty(), "{name}");
        bucket.put("a/b", b"one").await;
        assert_eq!(bucket.list().await, [("a/b".to_owned(), 3)], "{name}");
        assert_eq!(bucket.read("a/b").await, b"one", "{name}");
    }
}

#[tokio::test]
async fn of_two_creators_of_one_name_one_wins() {
    for (name, s3) in each().await {
        let bucket = s3.bucket("services").await;
        let store = s3.store(&bucket.name);
        let create = |text: &'static str| {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            let store = store.clone();
            async move { store.put_opts(&Path::from("x"), text.into(), options).await.is_ok() }
        };
        let (one, two) = tokio::join!(create("one"), create("two"));
        assert!(one ^ two, "{name}: {one} {two}");
        assert_eq!(bucket.read("x").await, if one { "one" } else { "two" }.as_bytes(), "{name}");
    }
}

#[tokio::test]
async fn an_open_upload_is_listed_until_it_is_aborted() {
    for (name, s3) in each().await {
        let bucket = s3.bucket("services").await;
        let store = s3.store(&bucket.name);
        let mut upload = store.put_multipart(&Path::from("big")).await.unwrap();
        upload.put_part(vec![0u8; 5 << 20].into()).await.unwrap();
        assert_eq!(bucket.uploads().await.len(), 1, "{name}");
        upload.abort().await.unwrap();
        assert_eq!(bucket.uploads().await, [], "{name}");
    }
}

#[tokio::test]
async fn a_wrong_secret_is_refused() {
    for (name, s3) in each().await {
        let bucket = s3.bucket("services").await;
        let wrong = S3 { secret_key: "wrong".to_owned(), ..s3 };
        let answer = wrong.store(&bucket.name).get(&Path::from("x")).await;
        assert!(!matches!(answer.unwrap_err(), object_store::Error::NotFound { .. }), "{name}");
    }
}
