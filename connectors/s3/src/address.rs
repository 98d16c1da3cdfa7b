//! The url of a sink: a bucket with a prefix, or a folder.

use std::path::{Component, Path, PathBuf};

use crate::template::LONGEST;

/// Where objects go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// A bucket and a prefix, without slashes at its ends; empty: none.
    Bucket {
        /// The bucket.
        bucket: String,
        /// What the names of all objects begin with.
        prefix: String,
    },
    /// A folder; a relative one starts at the configuration's.
    Folder(PathBuf),
}

impl Address {
    /// Reads a url; the error says what would be right.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        if let Some(rest) = url.strip_prefix("s3://") {
            return bucket(url, rest);
        }
        if let Some(path) = url.strip_prefix("file:") {
            return folder(url, path.strip_prefix("//").unwrap_or(path));
        }
        Err(match url.split_once("://") {
            Some((scheme @ ("http" | "https"), _)) => {
                format!(
                    "`{url}` is a server's address: write it to `endpoint`, and `s3://bucket/prefix` here ({scheme})"
                )
            }
            Some((scheme, _)) => {
                format!("unknown scheme `{scheme}`, expected `s3://bucket/prefix` or `file:///folder`")
            }
            None => format!("`{url}` is no url, expected `s3://bucket/prefix` or `file:///folder`"),
        })
    }
}

fn bucket(url: &str, rest: &str) -> Result<Address, String> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(format!("`{url}` names no bucket, expected `s3://bucket/prefix`"));
    }
    if !bucket.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')) {
        return Err(format!("`{bucket}` is not the name of a bucket: letters, digits, `.`, `-` and `_` are"));
    }
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    if prefix.starts_with('/') {
        return Err(format!("`{prefix}` is not a prefix: it begins with an empty part"));
    }
    if !prefix.is_empty() {
        object_store::path::Path::parse(prefix).map_err(|cause| format!("`{prefix}` is not a prefix: {cause}"))?;
    }
    // With a slash and the longest name behind it, that is what S3 takes.
    if prefix.len() + 1 + LONGEST > 1024 {
        return Err(format!("the prefix is longer than {} bytes", 1023 - LONGEST));
    }
    Ok(Address::Bucket { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
}

fn folder(url: &str, path: &str) -> Result<Address, String> {
    let first = Path::new(path).components().next();
    match first {
        Some(Component::RootDir | Component::CurDir | Component::ParentDir) => Ok(Address::Folder(PathBuf::from(path))),
        Some(_) => {
            Err(format!("`{url}` names a host: write `file:///{path}`, or `file://./{path}` for a relative one"))
        }
        None => Err(format!("`{url}` names no folder, expected `file:///folder`")),
    }
}

/// `path` seen from `folder`, without `.` and `..`; links are not followed.
pub(crate) fn absolute(folder: &Path, path: &Path) -> PathBuf {
    let mut whole = PathBuf::new();
    for component in folder.join(path).components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => drop(whole.pop()),
            component => whole.push(component),
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_buckets_or_folders() {
        let bucket = |bucket: &str, prefix: &str| Address::Bucket { bucket: bucket.into(), prefix: prefix.into() };
        for (url, address) in [
            ("s3://lake", bucket("lake", "")),
            ("s3://lake/", bucket("lake", "")),
            ("s3://lake/raw/eu/", bucket("lake", "raw/eu")),
            ("file:///srv/lake", Address::Folder("/srv/lake".into())),
            ("file:/srv/lake", Address::Folder("/srv/lake".into())),
            ("file://./lake", Address::Folder("./lake".into())),
            ("file:../lake", Address::Folder("../lake".into())),
        ] {
            assert_eq!(Address::parse(url), Ok(address), "{url}");
        }
    }

    #[test]
    fn bad_urls_say_what_would_be_right() {
        for (url, part) in [
            ("", "is no url"),
            ("/srv/lake", "expected `s3://bucket/prefix` or `file:///folder`"),
            ("gs://lake", "unknown scheme `gs`"),
            ("https://minio:9000/lake", "write it to `endpoint`"),
            ("s3:///raw", "names no bucket"),
            ("s3://la ke", "not the name of a bucket"),
            ("s3://lake/../other", "not a prefix"),
            ("s3://lake//raw", "not a prefix"),
            ("file://srv/lake", "names a host: write `file:///srv/lake`"),
            ("file:", "names no folder"),
        ] {
            let reason = Address::parse(url).unwrap_err();
            assert!(reason.contains(part), "{url}: {reason}");
        }
        assert!(Address::parse(&format!("s3://lake/{}", "x".repeat(255))).is_ok());
        let reason = Address::parse(&format!("s3://lake/{}", "x".repeat(256))).unwrap_err();
        assert_eq!(reason, "the prefix is longer than 255 bytes");
    }

    #[test]
    fn folders_are_absolute_and_plain() {
        for (path, whole) in [("./a/../b", "/etc/aq/b"), ("/x/./y//z/", "/x/y/z"), ("../../../..", "/")] {
            assert_eq!(absolute(Path::new("/etc/aq"), Path::new(path)), Path::new(whole));
        }
    }
}
