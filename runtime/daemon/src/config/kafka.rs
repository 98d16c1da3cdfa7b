//! What a configuration may say of the endpoint for Kafka clients.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use aqueduct_api::{ByteSize, Secret, Span};
use aqueduct_tls::ClientCertificates;
use schemars::{JsonSchema, Schema, json_schema};
use serde::de::IntoDeserializer as _;
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, de};

use super::address;

/// Where Kafka clients are answered.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", remote = "Self")]
#[schemars(transform = or_text)]
pub(crate) struct KafkaListen {
    /// The address. Where clients are not asked who they are, whoever can reach it can read and write all topics: then it
    /// must be an address of this machine alone unless `expose` is true.
    #[serde(deserialize_with = "address")]
    #[schemars(with = "String")]
    pub(crate) address: SocketAddr,
    /// Lets `address` be one that other machines can reach although clients are not asked who they are, or although their
    /// passwords or tokens would cross the network unencrypted. Default: false.
    #[serde(default)]
    pub(crate) expose: bool,
    /// The host that clients are told to connect to, where that is not the address itself. Default: the address, or
    /// `localhost` where it stands for all addresses of the machine.
    #[serde(default)]
    pub(crate) advertise: Option<String>,
    /// Whether a topic that does not exist is made when a client asks for it, and may. Default: true.
    #[serde(default = "yes")]
    pub(crate) auto_create: bool,
    /// How groups of clients are coordinated.
    #[serde(default)]
    pub(crate) groups: KafkaGroups,
    /// Encrypts connections, and lets clients be known by certificates.
    #[serde(default)]
    pub(crate) tls: Option<KafkaTls>,
    /// How clients may say who they are. `plain` sends a password as it is. Default: `scram-sha-256` and `scram-sha-512`
    /// where users have passwords, `oauthbearer` where there is `oauth`.
    #[serde(default)]
    pub(crate) mechanisms: Option<Vec<KafkaMechanism>>,
    /// Whose tokens count, for `oauthbearer`.
    #[serde(default)]
    pub(crate) oauth: Option<KafkaOAuth>,
    /// After how long a client has to say again who it is, as Kafka's `connections.max.reauth.ms`. Default: never, or when
    /// its token ends.
    #[serde(default)]
    pub(crate) session: Option<Span>,
    /// Users by name: what they are known by and what they may do. With a certificate the name is its subject, as in
    /// `CN=reports,O=Example`; with a token it is what the token says. `*` stands for all others that a certificate or a token
    /// names; whoever is not here may do nothing.
    #[serde(default)]
    pub(crate) users: BTreeMap<String, KafkaUser>,
    /// What clients may take of the machine.
    #[serde(default)]
    pub(crate) limits: KafkaLimits,
}

impl KafkaListen {
    fn at(address: SocketAddr) -> Self {
        KafkaListen {
            address,
            expose: false,
            advertise: None,
            auto_create: true,
            groups: KafkaGroups::default(),
            tls: None,
            mechanisms: None,
            oauth: None,
            session: None,
            users: BTreeMap::new(),
            limits: KafkaLimits::default(),
        }
    }

    /// How clients may say who they are.
    pub(crate) fn offered(&self) -> Vec<KafkaMechanism> {
        if let Some(said) = &self.mechanisms {
            return said.clone();
        }
        let has = |is: fn(&KafkaUser) -> bool| self.users.values().any(is);
        let mut offered = Vec::new();
        if has(|user| user.password.is_some() || user.scram_sha_256.is_some()) {
            offered.push(KafkaMechanism::ScramSha256);
        }
        if has(|user| user.password.is_some() || user.scram_sha_512.is_some()) {
            offered.push(KafkaMechanism::ScramSha512);
        }
        if self.oauth.is_some() {
            offered.push(KafkaMechanism::Oauthbearer);
        }
        offered
    }

    /// Whether a certificate says who a client is.
    pub(crate) fn knows_certificates(&self) -> bool {
        self.tls
            .as_ref()
            .is_some_and(|tls| tls.client_ca.is_some() && tls.principal != Some(CertificateName::Mechanism))
    }
}

/// How groups of Kafka clients are coordinated.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct KafkaGroups {
    /// How long the first members of an empty group wait for more, as Kafka's `group.initial.rebalance.delay.ms`.
    /// Default: 3s.
    pub(crate) initial_delay: Span,
    /// How many members a group may have, as Kafka's `group.max.size`. Default: 2147483647.
    pub(crate) max_size: u32,
    /// How long the offsets of a group without members are kept, as Kafka's `offsets.retention.minutes`. Default: 7d.
    pub(crate) retention: Span,
}

impl Default for KafkaGroups {
    fn default() -> Self {
        KafkaGroups { initial_delay: Span::seconds(3), max_size: i32::MAX as u32, retention: Span::days(7) }
    }
}

/// Files of PEM, relative to the configuration's folder. When they change, new connections get what they hold then.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct KafkaTls {
    /// The certificate, with those between it and its root.
    pub(crate) certificate: String,
    /// The certificate's key, unencrypted.
    pub(crate) key: String,
    /// Whose certificates clients may have: such a client is known by it, and needs no password unless `principal` says so.
    /// Default: clients are known by no certificate.
    #[serde(default)]
    pub(crate) client_ca: Option<String>,
    /// Whether clients must have one: `required`, or `wanted`, where the others say by a mechanism who they are.
    /// Default: required.
    #[serde(default)]
    #[schemars(with = "Option<ClientCertificates>")]
    pub(crate) client_certificates: Option<ClientCertificates>,
    /// What of a certificate is its user's name: `subject`, all of it as Kafka has it (`CN=reports,O=Example`), or
    /// `common-name` (`reports`); or nothing: with `mechanism` a client that has shown its certificate says by one of the
    /// `mechanisms` too who it is, and that counts. Default: subject.
    #[serde(default)]
    pub(crate) principal: Option<CertificateName>,
}

/// What of a certificate is its user's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CertificateName {
    /// The whole subject.
    Subject,
    /// Its common name.
    CommonName,
    /// Nothing of it: who says by a mechanism who it is, is that.
    Mechanism,
}

/// A way to say who one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum KafkaMechanism {
    /// A name and a password, as they are.
    #[serde(rename = "plain")]
    Plain,
    /// A proof of a password, with SHA-256.
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    /// A proof of a password, with SHA-512.
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
    /// A token.
    #[serde(rename = "oauthbearer")]
    Oauthbearer,
}

/// Whose tokens count: JSON Web Tokens, signed with a key pair.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct KafkaOAuth {
    /// The keys that sign them, a JSON Web Key Set: a file, relative to the configuration's folder, or a URL. It is read
    /// again when it changes, or when a token says a key that is not known.
    pub(crate) keys: String,
    /// Who must have signed them: their `iss`.
    pub(crate) issuer: String,
    /// For whom they must be: their `aud`.
    pub(crate) audience: String,
    /// The claim that says whose they are. Default: sub.
    #[serde(default = "subject")]
    pub(crate) name: String,
}

/// Somebody who may be known.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct KafkaUser {
    /// The password.
    #[serde(default)]
    pub(crate) password: Option<Secret>,
    /// Instead of a password what Kafka keeps of one: `salt=…,stored_key=…,server_key=…,iterations=4096`.
    #[serde(default)]
    pub(crate) scram_sha_256: Option<Secret>,
    /// The same for SHA-512.
    #[serde(default)]
    pub(crate) scram_sha_512: Option<Secret>,
    /// What it may do: `all`, or a mapping.
    pub(crate) rights: KafkaRights,
    /// How much of it.
    #[serde(default)]
    pub(crate) quota: KafkaQuota,
}

/// What somebody may do: by name, or by what names begin with before a `*`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case", remote = "Self")]
#[schemars(transform = or_text)]
pub(crate) struct KafkaRights {
    /// Whether it may do everything: what `all` says.
    #[serde(skip)]
    pub(crate) all: bool,
    /// To topics.
    pub(crate) topics: BTreeMap<String, Vec<KafkaRight>>,
    /// To groups: `read` to be a member and to commit, `alter` to delete it.
    pub(crate) groups: BTreeMap<String, Vec<KafkaRight>>,
    /// With transactional ids: `write`.
    pub(crate) transactional_ids: BTreeMap<String, Vec<KafkaRight>>,
    /// To the whole: `read` to see all groups, `create` to make any topic, `alter` to change how things are kept, `admin`.
    pub(crate) cluster: Vec<KafkaRight>,
}

/// A right. Each lets know that a thing is there and how it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum KafkaRight {
    /// Read records; be a member of a group, and commit.
    Read,
    /// Write records; in transactions of an id.
    Write,
    /// Make topics.
    Create,
    /// Say how it is kept, give it partitions, and take it or its records away.
    Alter,
    /// Everything.
    Admin,
}

/// How much somebody may do, on all connections together. Who does more is held back, and told for how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct KafkaQuota {
    /// Bytes a second that it writes. Default: as many as it can.
    pub(crate) produce: Option<ByteSize>,
    /// Bytes a second that it reads. Default: as many as it can.
    pub(crate) fetch: Option<ByteSize>,
}

/// What clients may take of the machine.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct KafkaLimits {
    /// Connections at once. Default: 10000.
    pub(crate) connections: u32,
    /// Connections at once from one address. Default: 10000.
    pub(crate) connections_per_address: u32,
    /// The longest request. Default: 100 MiB.
    pub(crate) request: ByteSize,
    /// Bytes of requests in flight, counted as they come; requests of more than 1 MiB leave a quarter of it to others.
    /// Default: 128 MiB.
    pub(crate) in_flight: ByteSize,
    /// Bytes of records on their way to clients. Default: 128 MiB.
    pub(crate) outgoing: ByteSize,
    /// How long a connection may say nothing. Default: 10m.
    pub(crate) idle: Span,
}

impl Default for KafkaLimits {
    fn default() -> Self {
        KafkaLimits {
            connections: 10_000,
            connections_per_address: 10_000,
            request: ByteSize::mib(100),
            in_flight: ByteSize::mib(128),
            outgoing: ByteSize::mib(128),
            idle: Span::seconds(600),
        }
    }
}

fn yes() -> bool {
    true
}

fn subject() -> String {
    "sub".to_owned()
}

/// The schema of a mapping, or of a text alone.
fn or_text(schema: &mut Schema) {
    let mapping = std::mem::take(schema);
    *schema = json_schema!({ "anyOf": [{ "type": "string" }, mapping] });
}

/// An address alone, or a mapping.
impl<'de> Deserialize<'de> for KafkaListen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = KafkaListen;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address like `127.0.0.1:9092`, or a mapping with `address`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<KafkaListen, E> {
                address(text.into_deserializer()).map(KafkaListen::at)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<KafkaListen, A::Error> {
                KafkaListen::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// `all`, or a mapping.
impl<'de> Deserialize<'de> for KafkaRights {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = KafkaRights;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`all`, or a mapping with `topics`, `groups`, `transactional-ids` and `cluster`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<KafkaRights, E> {
                match text {
                    "all" => Ok(KafkaRights { all: true, ..KafkaRights::default() }),
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<KafkaRights, A::Error> {
                KafkaRights::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
