//! What the answers of a store mean.

use aqueduct_api::{Error, add_causes};
use object_store::Error as StoreError;

/// What a store answered, as far as we look at it. `object_store` keeps the status and S3's code in the text alone.
pub(crate) fn says(cause: &StoreError, words: &[&str]) -> bool {
    let text = cause.to_string();
    words.iter().any(|word| text.contains(word))
}

/// Whether the store does not know conditional puts.
pub(crate) fn is_unknown(cause: &StoreError) -> bool {
    matches!(cause, StoreError::NotImplemented { .. } | StoreError::NotSupported { .. })
        || says(cause, &["status code: 501", "<Code>NotImplemented</Code>"])
}

/// Whether an object is in an archive (Glacier), from which it has to be restored before it can be read.
pub(crate) fn is_archived(cause: &StoreError) -> bool {
    says(cause, &["InvalidObjectState"])
}

/// Whether an upload is gone.
pub(crate) fn is_gone(cause: &StoreError) -> bool {
    match says(cause, &["NoSuchBucket"]) || says(cause, WRONG_CREDENTIALS) {
        true => false,
        false => {
            matches!(cause, StoreError::NotFound { .. }) || says(cause, &["NoSuchUpload", "MultipartUpload not found"])
        }
    }
}

/// Credentials that the store does not know; the last one is what Versity's gateway answers, with status 404.
const WRONG_CREDENTIALS: &[&str] =
    &["InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "XAdminUserNotFound"];

/// What is said of keys of the key management service, by MinIO with status 404.
const NO_KEY: &[&str] =
    &["KMS.NotFoundException", "KMS.DisabledException", "KMS.KMSInvalidStateException", "kms:KeyNotFound"];

/// What passes without us, though some of it has status 400: a clock that jumped or a token that ran out is put right; a
/// request that was cut short or damaged on its way comes whole the next time.
const PASSING: &[&str] = &[
    "RequestTimeTooSkewed",
    "ExpiredToken",
    "RequestExpired",
    "RequestTimeout",
    "IncompleteBody",
    "BadDigest",
    "XAmzContentSHA256Mismatch",
    "XAmzContentChecksumMismatch",
    "InternalError",
    "OperationAborted",
    "ServiceUnavailable",
    "SlowDown",
];

/// What a store's answer means.
pub(crate) fn told(cause: &StoreError, bucket: &str, url: &str) -> Error {
    let mut why = cause.to_string();
    add_causes(cause, &mut why);
    if says(cause, WRONG_CREDENTIALS) {
        return Error::fatal(format!("the credentials for {url} are wrong: check settings.access-key-id: {why}"));
    }
    if says(cause, NO_KEY) {
        return Error::fatal(format!("{url}: the key does not encrypt: check settings.encryption: {why}"));
    }
    if says(cause, &["NoSuchBucket"]) || matches!(cause, StoreError::NotFound { .. }) {
        return Error::fatal(format!("bucket `{bucket}` of {url} does not exist: create it, or change settings.url"));
    }
    if is_archived(cause) {
        return Error::retry(format!("it is archived: restore it, or leave it out by settings.pattern: {why}"));
    }
    if says(cause, &["AccessControlListNotSupported"]) {
        return Error::fatal(format!("bucket `{bucket}` of {url} takes no ACLs: leave out settings.acl: {why}"));
    }
    if says(cause, &["x-amz-checksum- HTTP header is required"]) {
        return Error::fatal(format!("bucket `{bucket}` of {url} has an Object Lock: set settings.checksum: {why}"));
    }
    if says(cause, PASSING) {
        return Error::retry(why);
    }
    if says(cause, &["169.254.169.254", "169.254.170.2"]) {
        let settings = "set settings.access-key-id and settings.secret-access-key, or AWS_ACCESS_KEY_ID";
        return Error::fatal(format!("no credentials for {url}: {settings}: {why}"));
    }
    match cause {
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => Error::fatal(format!(
            "the credentials for {url} do not allow it (s3:PutObject, s3:GetObject, s3:ListBucket and \
             s3:AbortMultipartUpload are needed, with settings.acl s3:PutObjectAcl too): {why}"
        )),
        StoreError::InvalidPath { .. } | StoreError::UnknownConfigurationKey { .. } => Error::fatal(why),
        _ if says(cause, &["status code: 400", "status code: 301", "without LOCATION", "status code: 405"]) => {
            Error::fatal(format!("{url} refuses it (is settings.region right?): {why}"))
        }
        _ => Error::retry(why),
    }
}
