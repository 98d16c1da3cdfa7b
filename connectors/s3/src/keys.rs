//! Keys of objects as they are. `object_store` takes none with an empty part, a part of dots, a control character or a slash
//! at an end, and one such key in a list fails all of the list, or stands for another object. So what it gets to see is a
//! name in place of such a key, and what it asks for by the name is asked for by the key.

use std::borrow::Cow;
use std::fmt::Write as _;

use async_trait::async_trait;
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
    ReqwestConnector,
};
use object_store::path::Path;
use object_store::{ClientOptions, Error as StoreError};
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, TRANSFER_ENCODING};
use reqwest::{Method, StatusCode};

/// How the name of a key begins; its bytes in hexadecimal digits follow.
const MARK: &str = "~aqueduct~";

/// What a store that writes XML puts in place of characters that XML has no place for.
const LOST: char = '\u{fffd}';

/// What `object_store` is told in place of a key; the key itself where it takes that as it is.
fn name(key: &str) -> Cow<'_, str> {
    let is_taken = Path::parse(key).is_ok_and(|path| path.as_ref() == key);
    if is_taken && !key.contains(MARK) {
        return Cow::Borrowed(key);
    }
    let mut name = MARK.to_owned();
    for byte in key.bytes() {
        let _ = write!(name, "{byte:02x}");
    }
    Cow::Owned(name)
}

/// The key of what `object_store` told.
pub(crate) fn key(path: &Path) -> Cow<'_, str> {
    path.as_ref().strip_prefix(MARK).and_then(from_digits).map_or(Cow::Borrowed(path.as_ref()), Cow::Owned)
}

/// Why nobody can ask for a key: HTTP clients, as they must, make another path of it, and so ask for another object.
pub(crate) fn refused(key: &str) -> Option<&'static str> {
    let is_dots = key.split('/').any(|part| matches!(part, "." | ".."));
    is_dots.then_some("can not be asked for: a part of its key is `.` or `..`")
}

fn from_digits(digits: &str) -> Option<String> {
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = digits.as_bytes().chunks(2).map(pair).collect();
    String::from_utf8(bytes?).ok()
}

/// Makes clients that know keys by their names.
#[derive(Debug)]
pub(crate) struct AnyKey {
    /// Whose keys sign what is asked for anew.
    pub(crate) credentials: AwsCredentialProvider,
    pub(crate) region: String,
}

impl HttpConnector for AnyKey {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        let (credentials, region) = (self.credentials.clone(), self.region.clone());
        Ok(HttpClient::new(Client { inner, credentials, region }))
    }
}

#[derive(Debug)]
struct Client {
    inner: HttpClient,
    credentials: AwsCredentialProvider,
    region: String,
}

#[async_trait]
impl HttpService for Client {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if *request.method() != Method::GET {
            return self.inner.execute(request).await;
        }
        let is_list = request.uri().query().is_some_and(|query| query.split('&').any(|part| part == "list-type=2"));
        if is_list {
            return self.list(request).await;
        }
        match by_key(request.uri().path()) {
            None => self.inner.execute(request).await,
            Some(path) => self.ask(request, &path, None).await,
        }
    }
}

impl Client {
    async fn list(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (mut parts, body) = self.inner.execute(request.clone()).await?.into_parts();
        let mut xml = text(body).await?;
        // The store could not write a character of a key: it is asked for keys as they stand in addresses.
        let is_lost = |xml: &str| xml.contains(LOST) && elements(xml, "Key").any(|(_, key, _)| key.contains(LOST));
        if parts.status == StatusCode::OK && is_lost(&xml) {
            let path = request.uri().path().to_owned();
            let query = format!("{}&encoding-type=url", request.uri().query().unwrap_or_default());
            let body;
            (parts, body) = self.ask(request, &path, Some(&query)).await?.into_parts();
            xml = text(body).await?;
        }
        if parts.status == StatusCode::OK {
            xml = named(&xml);
        }
        parts.headers.remove(CONTENT_LENGTH);
        parts.headers.remove(TRANSFER_ENCODING);
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::from(xml)))
    }

    /// Asks for something else than what was signed.
    async fn ask(&self, mut request: HttpRequest, path: &str, query: Option<&str>) -> Result<HttpResponse, HttpError> {
        let old = request.uri();
        let query = query.or(old.query()).map(|query| format!("?{query}")).unwrap_or_default();
        let host = old.authority().map(|host| host.as_str()).unwrap_or_default();
        let address = format!("{}://{host}{path}{query}", old.scheme_str().unwrap_or("https"));
        *request.uri_mut() = address.parse().map_err(|cause| HttpError::new(HttpErrorKind::Unknown, cause))?;
        if request.headers().contains_key(AUTHORIZATION) {
            let unsigned = |cause: StoreError| HttpError::new(HttpErrorKind::Unknown, cause);
            let credential = self.credentials.get_credential().await.map_err(unsigned)?;
            let signer = AwsAuthorizer::new(&credential, "s3", &self.region);
            signer.try_authorize(&mut request, None).map_err(unsigned)?;
        }
        self.inner.execute(request).await
    }
}

/// A whole body.
async fn text(body: HttpResponseBody) -> Result<String, HttpError> {
    Ok(String::from_utf8_lossy(&body.bytes().await?).into_owned())
}

/// The path of an object by its key, where it is one by name.
fn by_key(path: &str) -> Option<String> {
    let (before, name) = path.rsplit_once('/')?;
    let key = from_digits(name.strip_prefix(MARK)?)?;
    let mut out = format!("{before}/");
    for byte in key.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => out.push(char::from(byte)),
            other => drop(write!(out, "%{other:02X}")),
        }
    }
    Some(out)
}

/// A list with names in place of keys.
fn named(xml: &str) -> String {
    let is_encoded = xml.contains("<EncodingType>url</EncodingType>");
    let (mut out, mut rest) = (String::with_capacity(xml.len()), xml);
    for (before, key, after) in elements(xml, "Key") {
        out.push_str(before);
        let key = unescaped(key);
        let key = if is_encoded { decoded(&key) } else { key };
        for character in name(&key).chars() {
            match character {
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                other => out.push(other),
            }
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// What stands before each element of that name since the last one, what is in it, and what stands behind.
fn elements<'a>(xml: &'a str, name: &str) -> impl Iterator<Item = (&'a str, &'a str, &'a str)> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut rest = xml;
    std::iter::from_fn(move || {
        let start = rest.find(&open)? + open.len();
        let end = start + rest[start..].find(&close)?;
        let found = (&rest[..start], &rest[start..end], &rest[end..]);
        rest = found.2;
        Some(found)
    })
}

/// What a text of XML stands for.
fn unescaped(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let Some((entity, after)) = after.split_once(';') else {
            out.push('&');
            rest = after;
            continue;
        };
        let number = || match entity.strip_prefix("#x") {
            Some(digits) => u32::from_str_radix(digits, 16).ok(),
            None => entity.strip_prefix('#')?.parse().ok(),
        };
        out.push(match entity {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            _ => number().and_then(char::from_u32).unwrap_or(LOST),
        });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// What a text stands for that is encoded as in the form of an address.
fn decoded(text: &str) -> String {
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let byte = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match (first, byte.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                rest = &after[2..];
                continue;
            }
            (b'+', _) => out.push(b' '),
            (other, _) => out.push(*other),
        }
        rest = after;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ODD: [&str; 13] = [
        "a//b",
        "/a",
        "a/",
        "//",
        "a/../b",
        "../a",
        "./a",
        "a/.",
        "a\u{1}b",
        "a\nb",
        "\u{7f}",
        "~aqueduct~61",
        "a/~aqueduct~",
    ];

    #[test]
    fn every_key_has_a_name_and_comes_back() {
        for key in ["a", "a b", "in/é+%2E&<x>", "a/...", "..a", "a\\b", "~", "a~b"] {
            assert_eq!(name(key), key);
            assert_eq!(super::key(&Path::parse(key).unwrap()), key);
        }
        for key in ODD {
            let name = name(key).into_owned();
            let path = Path::parse(&name).unwrap();
            assert_eq!((path.as_ref(), &*super::key(&path)), (&*name, key));
        }
    }

    #[test]
    fn names_become_the_paths_of_keys() {
        for (key, path) in [
            ("a//b", Some("/bucket/a//b")),
            ("a/", Some("/bucket/a/")),
            ("é \u{1}~aqueduct~+", Some("/bucket/%C3%A9%20%01~aqueduct~%2B")),
            ("plain", None),
        ] {
            assert_eq!(by_key(&format!("/bucket/{}", name(key))).as_deref(), path, "{key:?}");
        }
        assert_eq!(by_key("/bucket/in/~aqueduct~xyz"), None);
    }

    #[test]
    fn a_list_tells_names_for_odd_keys_alone() {
        let list = |keys: &[&str], more: &str| {
            let contents = keys.iter().map(|key| format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>"));
            format!("<ListBucketResult>{more}{}</ListBucketResult>", contents.collect::<String>())
        };
        let name = |key: &str| name(key).into_owned();
        for (given, more, told) in [
            (&["a", "b&amp;c", "é"][..], "", &["a".to_owned(), "b&amp;c".to_owned(), "é".to_owned()][..]),
            (&["a//b", "c&#xA;d&#x1;", "e&#10;"], "", &[name("a//b"), name("c\nd\u{1}"), name("e\n")]),
            (
                &["a%2Fb", "c+d%2B%01", "%26"],
                "<EncodingType>url</EncodingType>",
                &["a/b".to_owned(), name("c d+\u{1}"), "&amp;".to_owned()],
            ),
            (&[], "", &[]),
        ] {
            let told: Vec<&str> = told.iter().map(String::as_str).collect();
            assert_eq!(named(&list(given, more)), list(&told, more));
        }
        // What ends early is left to whoever reads it.
        assert_eq!(named("<Contents><Key>a//b"), "<Contents><Key>a//b");
    }

    #[test]
    fn parts_of_dots_are_refused() {
        for (key, is_refused) in [("a/../b", true), ("..", true), ("a/.", true), ("a/...", false), ("a..b/c", false)] {
            assert_eq!(refused(key).is_some(), is_refused, "{key}");
        }
    }
}
