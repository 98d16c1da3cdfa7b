//! A bucket of a test's own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder, AwsAuthorizer, AwsCredential};
use object_store::client::{HttpRequest, HttpRequestBody};
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer as _};
use object_store::{ObjectStore as _, ObjectStoreExt as _};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use reqwest::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};

use super::S3;

/// A bucket of a test's own: empty at first, and gone with the test run where the server is the run's own.
pub struct Bucket {
    /// Its server.
    pub s3: S3,
    /// Its name.
    pub name: String,
    store: AmazonS3,
}

/// A multipart upload that was begun and neither completed nor aborted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// The object that it would become.
    pub key: String,
    /// The server's name for it.
    pub id: String,
}

impl S3 {
    /// Makes a new bucket, its name beginning with `name`.
    pub async fn bucket(&self, name: &str) -> Bucket {
        self.make(name, &[]).await
    }

    /// Makes a new bucket that keeps what is put there for a day, whoever would delete it.
    pub async fn locked_bucket(&self, name: &str) -> Bucket {
        let bucket = self.make(name, &[("x-amz-bucket-object-lock-enabled", "true")]).await;
        let rule = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
            <Mode>GOVERNANCE</Mode><Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>";
        let answer = bucket.request(Method::PUT, "", &[("object-lock", "")], rule.into()).await;
        assert!(answer.status().is_success(), "lock bucket {}: {answer:?}", bucket.name);
        bucket
    }

    async fn make(&self, name: &str, headers: &[(&'static str, &'static str)]) -> Bucket {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let unique = NEXT.fetch_add(1, Ordering::Relaxed);
        // A given server outlives the run, so a number that no earlier run has had is part of the name.
        let chance = SmallRng::from_os_rng().random::<u32>();
        let name = format!("{name}-{}-{unique}-{chance:08x}", std::process::id());
        let store = self.store(&name);
        let bucket = Bucket { s3: self.clone(), name, store };
        let begun = Instant::now();
        loop {
            let answer = bucket.request_with(Method::PUT, "", &[], (headers, Vec::new())).await;
            if answer.status().is_success() {
                return bucket;
            }
            // A server that has just started, or one that is busy, says so and means it.
            let later = answer.status() == StatusCode::SERVICE_UNAVAILABLE && begun.elapsed() < Duration::from_secs(30);
            assert!(later, "make bucket {}: {answer:?}", bucket.name);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// A bucket that somebody else has made.
    pub fn existing(&self, name: &str) -> Bucket {
        Bucket { s3: self.clone(), name: name.to_owned(), store: self.store(name) }
    }

    /// A client for a bucket, whether it exists or not.
    pub fn store(&self, bucket: &str) -> AmazonS3 {
        AmazonS3Builder::new()
            .with_endpoint(&self.endpoint)
            .with_allow_http(true)
            .with_access_key_id(&self.access_key)
            .with_secret_access_key(&self.secret_key)
            .with_region(&self.region)
            .with_bucket_name(bucket)
            .build()
            .unwrap()
    }

    /// The settings of an `s3` sink that reach this server, apart from `url`, as YAML flow entries.
    pub fn settings(&self) -> String {
        format!(
            "endpoint: \"{}\", allow-http: true, region: {}, access-key-id: {}, secret-access-key: {}",
            self.endpoint, self.region, self.access_key, self.secret_key
        )
    }
}

impl Bucket {
    /// What it holds: keys and sizes, by key.
    pub async fn list(&self) -> Vec<(String, u64)> {
        let listed = self.store.list(None).map_ok(|object| (object.location.to_string(), object.size));
        let mut listed: Vec<_> = listed.try_collect().await.unwrap();
        listed.sort();
        listed
    }

    /// The bytes of an object.
    pub async fn read(&self, key: &str) -> Vec<u8> {
        let object = self.store.get(&Path::from(key)).await.unwrap_or_else(|cause| panic!("get {key}: {cause}"));
        object.bytes().await.unwrap().to_vec()
    }

    /// All objects, by key.
    pub async fn objects(&self) -> Vec<(String, Vec<u8>)> {
        let mut objects = Vec::new();
        for (key, _) in self.list().await {
            let bytes = self.read(&key).await;
            objects.push((key, bytes));
        }
        objects
    }

    /// Puts an object.
    pub async fn put(&self, key: &str, bytes: &[u8]) {
        self.store.put(&Path::from(key), bytes.to_vec().into()).await.unwrap();
    }

    /// Puts an object whose key may be one that the object store crate takes for none, and says whether the server took it.
    pub async fn try_put(&self, key: &str, bytes: &[u8]) -> bool {
        let escaped = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        };
        let key: String = key.bytes().map(escaped).collect();
        let url = format!("{}/{}/{key}", self.s3.endpoint, self.name);
        let mut request = HttpRequest::new(HttpRequestBody::from(bytes.to_vec()));
        *request.method_mut() = Method::PUT;
        *request.uri_mut() = url.parse().unwrap();
        let (key_id, secret_key) = (self.s3.access_key.clone(), self.s3.secret_key.clone());
        let credential = AwsCredential { key_id, secret_key, token: None };
        AwsAuthorizer::new(&credential, "s3", &self.s3.region).try_authorize(&mut request, None).unwrap();
        let client = reqwest::Client::new().put(url).headers(request.headers().clone());
        client.body(bytes.to_vec()).send().await.unwrap().status().is_success()
    }

    /// The multipart uploads that are open.
    pub async fn uploads(&self) -> Vec<Upload> {
        let answer = self.request(Method::GET, "", &[("uploads", "")], Vec::new()).await;
        let text = answer.text().await.unwrap();
        let element = |text: &str, name: &str| {
            let (_, after) = text.split_once(&format!("<{name}>"))?;
            Some(after.split_once(&format!("</{name}>"))?.0.to_owned())
        };
        let uploads = text.split("<Upload>").skip(1);
        uploads
            .map(|upload| Upload { key: element(upload, "Key").unwrap(), id: element(upload, "UploadId").unwrap() })
            .collect()
    }

    /// Sends a signed request for what the object store crate has no call for.
    pub async fn request(&self, method: Method, key: &str, query: &[(&str, &str)], body: Vec<u8>) -> reqwest::Response {
        self.request_with(method, key, query, (&[], body)).await
    }

    /// The same, with headers.
    pub async fn request_with(
        &self,
        method: Method,
        key: &str,
        query: &[(&str, &str)],
        (headers, body): (&[(&'static str, &'static str)], Vec<u8>),
    ) -> reqwest::Response {
        let options = SignedUrlOptions::new().with_query(query.iter().copied());
        let mut more = HeaderMap::new();
        for (name, value) in headers {
            more.insert(*name, HeaderValue::from_static(value));
        }
        let sign = |options: SignedUrlOptions, (name, value): (&HeaderName, &HeaderValue)| {
            options.with_signed_header(name.clone(), value.clone())
        };
        let options = more.iter().fold(options, sign);
        let key = Path::from(key);
        let signed = self.store.signed_url_opts(method.clone(), &key, Duration::from_secs(60), &options);
        let url = signed.await.unwrap();
        // A request without a body says so too: not every server takes one that does not.
        let length = body.len();
        let request = reqwest::Client::new().request(method, url).headers(more).header(CONTENT_LENGTH, length);
        request.body(body).send().await.unwrap()
    }
}
