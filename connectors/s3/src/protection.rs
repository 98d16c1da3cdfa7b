//! What a store is told about objects beside their bytes: encryption, checksum, storage class, ACL, tags.

use std::collections::BTreeMap;

use aqueduct_api::Problem;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{Attribute, Attributes, TagSet};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::S3Settings;

/// How a store encrypts objects.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Encryption {
    /// With the store's own keys (SSE-S3).
    S3,
    /// With a key of the key management service (SSE-KMS).
    Kms {
        /// The key's id or ARN.
        key: String,
        /// Whether a key of the bucket saves requests to the service. Default: as the bucket says.
        #[serde(default, rename = "bucket-key")]
        bucket_key: Option<bool>,
    },
    /// Twice, with a key of the key management service (DSSE-KMS).
    DsseKms {
        /// The key's id or ARN.
        key: String,
    },
}

/// Who may do what with an object, in one of S3's own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Acl {
    /// Its owner everything, nobody else anything.
    Private,
    /// Everybody may read it.
    PublicRead,
    /// Everybody may read and write it.
    PublicReadWrite,
    /// Whoever has an account at Amazon's may read it.
    AuthenticatedRead,
    /// EC2 may read it, as an image of a machine.
    AwsExecRead,
    /// The bucket's owner may read it.
    BucketOwnerRead,
    /// The bucket's owner may do everything with it.
    BucketOwnerFullControl,
}

impl Acl {
    /// What S3 calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Acl::Private => "private",
            Acl::PublicRead => "public-read",
            Acl::PublicReadWrite => "public-read-write",
            Acl::AuthenticatedRead => "authenticated-read",
            Acl::AwsExecRead => "aws-exec-read",
            Acl::BucketOwnerRead => "bucket-owner-read",
            Acl::BucketOwnerFullControl => "bucket-owner-full-control",
        }
    }
}

/// What a store compares the bytes that arrive with, and keeps with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Checksum {
    /// SHA-256.
    Sha256,
    /// CRC-64/NVME: less work, and for an object in parts one of the whole of it.
    Crc64nvme,
}

/// Sends a checksum with all bytes that are written.
pub(crate) fn checked(builder: AmazonS3Builder, checksum: Checksum) -> AmazonS3Builder {
    builder.with_checksum_algorithm(match checksum {
        Checksum::Sha256 => object_store::aws::Checksum::SHA256,
        Checksum::Crc64nvme => object_store::aws::Checksum::CRC64NVME,
    })
}

/// Asks for encryption with every object that is written.
pub(crate) fn encrypted(builder: AmazonS3Builder, encryption: &Encryption) -> AmazonS3Builder {
    match encryption {
        Encryption::S3 => match "aws_server_side_encryption".parse::<AmazonS3ConfigKey>() {
            Ok(key) => builder.with_config(key, "AES256"),
            Err(_) => builder,
        },
        Encryption::Kms { key, bucket_key } => {
            let builder = builder.with_sse_kms_encryption(key);
            bucket_key.iter().fold(builder, |builder, enabled| builder.with_bucket_key(*enabled))
        }
        Encryption::DsseKms { key } => builder.with_dsse_kms_encryption(key),
    }
}

/// Storage class and tags.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks {
    pub(crate) storage_class: Option<String>,
    pub(crate) tags: TagSet,
}

impl Marks {
    /// Those that the settings say.
    pub(crate) fn new(settings: &S3Settings) -> Self {
        let mut tags = TagSet::default();
        settings.tags.iter().for_each(|(name, value)| tags.push(name, value));
        Marks { storage_class: settings.storage_class.clone(), tags }
    }

    /// Adds what is an attribute.
    pub(crate) fn mark(&self, attributes: &mut Attributes) {
        if let Some(class) = &self.storage_class {
            attributes.insert(Attribute::StorageClass, class.clone().into());
        }
    }
}

/// What is wrong with the settings of this module.
pub(crate) fn problems(settings: &S3Settings, problems: &mut Vec<Problem>) {
    let S3Settings { url, encryption, checksum, storage_class, acl, tags, .. } = settings;
    let are_set = [
        ("encryption", encryption.is_some()),
        ("checksum", checksum.is_some()),
        ("storage-class", storage_class.is_some()),
        ("acl", acl.is_some()),
        ("tags", !tags.is_empty()),
    ];
    for (setting, is_set) in are_set {
        if is_set && url.starts_with("file:") {
            problems.push(Problem::new(setting, "is for buckets, and the url is a folder"));
        }
    }
    if let Some(Encryption::Kms { key, .. } | Encryption::DsseKms { key }) = encryption
        && key.is_empty()
    {
        problems.push(Problem::new("encryption", "names no key"));
    }
    let is_name =
        |class: &String| !class.is_empty() && class.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    if let Some(class) = storage_class.as_ref().filter(|class| !is_name(class)) {
        let message = format!("`{class}` is no storage class, expected for example STANDARD_IA");
        problems.push(Problem::new("storage-class", message));
    }
    problems.extend(tag_problems(tags));
}

fn tag_problems(tags: &BTreeMap<String, String>) -> Option<Problem> {
    let wrong = tags.iter().find(|(name, value)| {
        // https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html
        let is_taken = |c: char| c.is_alphanumeric() || " +-=._:/@".contains(c);
        let is_long = name.is_empty() || name.chars().count() > 128 || value.chars().count() > 256;
        is_long || name.starts_with("aws:") || !name.chars().chain(value.chars()).all(is_taken)
    });
    match wrong {
        Some((name, _)) => Some(Problem::new(
            "tags",
            format!(
                "`{name}`: S3 takes names of 1 to 128 characters, not \
            beginning with `aws:`, and values of at most 256, of letters, digits, spaces and `+-=._:/@`"
            ),
        )),
        None if tags.len() > 10 => Some(Problem::new("tags", "S3 takes 10 at most")),
        None => None,
    }
}
