//! How Kafka clients come to be known, from what is declared of it.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;

use aqueduct_api::{Edge, Error, Result};
use aqueduct_kafka_server::{
    Credentials, Mechanism, Naming, OAuth, Of, Quota, Right, Rights, Security, Tls, User, Users,
};
use aqueduct_tls::ServerTls;

use super::keys::Keys;
use crate::config::kafka::{
    CertificateName, KafkaListen, KafkaMechanism, KafkaRight, KafkaRights, KafkaTls, KafkaUser,
};

/// What was declared before, and what came of it.
pub(super) struct Before<'a> {
    pub(super) declared: &'a KafkaListen,
    pub(super) security: &'a Security,
    pub(super) keys: Option<Arc<Keys>>,
}

/// How they come to be known, and the keys of tokens, if there are any. What is declared as before goes on.
pub(super) async fn of(
    declared: &KafkaListen,
    before: Option<Before<'_>>,
    edge: &Edge,
    folder: &Path,
) -> Result<(Security, Option<Arc<Keys>>)> {
    let tls = match (&declared.tls, &before) {
        (Some(tls), Some(before)) if before.declared.tls.as_ref() == Some(tls) => before.security.tls.clone(),
        (Some(declared), _) => Some(Arc::new(tls(declared, edge, folder).await?)),
        (None, _) => None,
    };
    let offered = declared.offered();
    let asks = !offered.is_empty() || declared.knows_certificates();
    let users = match asks {
        true => {
            let known = before.as_ref().and_then(|before| before.security.users.clone());
            Some(Arc::new(users(&declared.users, known, edge).await?))
        }
        false => None,
    };
    let (oauth, keys) = match (&declared.oauth, before) {
        (Some(oauth), Some(before)) if before.declared.oauth.as_ref() == Some(oauth) => {
            (before.security.oauth.clone(), before.keys)
        }
        (Some(declared), _) => {
            let known = OAuth::new(declared.issuer.clone(), declared.audience.clone(), declared.name.clone());
            let known = Arc::new(known);
            let keys = Keys::read(&declared.keys, known.clone(), edge, folder).await?;
            (Some(known), Some(Arc::new(keys)))
        }
        (None, _) => (None, None),
    };
    let mechanisms = offered.into_iter().map(mechanism).collect();
    let session = declared.session.and_then(|session| session.duration());
    Ok((Security { tls, mechanisms, users, oauth, session }, keys))
}

async fn tls(declared: &KafkaTls, edge: &Edge, folder: &Path) -> Result<Tls> {
    let KafkaTls { certificate, key, client_ca, client_certificates, principal } = declared.clone();
    let naming = match principal {
        Some(CertificateName::CommonName) => Naming::CommonName,
        Some(CertificateName::Mechanism) => Naming::Nobody,
        Some(CertificateName::Subject) | None => Naming::Subject,
    };
    let files = ServerTls { certificate, key, client_ca };
    Tls::open(files, folder.to_owned(), edge.clone(), client_certificates.unwrap_or_default(), naming).await
}

async fn users(declared: &BTreeMap<String, KafkaUser>, before: Option<Arc<Users>>, edge: &Edge) -> Result<Users> {
    let all: Vec<_> = declared.iter().map(|(name, declared)| (name.clone(), user(declared))).collect();
    // Passwords are hashed, which takes a while.
    let made = move || match before {
        Some(before) => before.changed(all),
        None => Users::new(all),
    };
    edge.blocking(made).await?.map_err(Error::fatal)
}

fn user(declared: &KafkaUser) -> User {
    let KafkaUser { password, scram_sha_256, scram_sha_512, rights, quota } = declared.clone();
    let credentials = match password {
        Some(password) => Credentials::Password(password),
        None => Credentials::Scram { sha_256: scram_sha_256, sha_512: scram_sha_512 },
    };
    // None is nothing: that was refused before.
    let bytes = |size: Option<aqueduct_api::ByteSize>| size.and_then(|size| NonZeroU64::new(size.0));
    let quota = Quota { produce: bytes(quota.produce), fetch: bytes(quota.fetch) };
    User { credentials, rights: granted(&rights), quota }
}

fn granted(declared: &KafkaRights) -> Rights {
    if declared.all {
        return Rights::all();
    }
    let mut granted = Rights::default();
    let kinds =
        [(Of::Topic, &declared.topics), (Of::Group, &declared.groups), (Of::Transaction, &declared.transactional_ids)];
    for (of, patterns) in kinds {
        for (pattern, rights) in patterns {
            rights.iter().for_each(|one| granted.grant(of, pattern, right(*one)));
        }
    }
    declared.cluster.iter().for_each(|one| granted.grant(Of::Cluster, "", right(*one)));
    granted
}

fn right(declared: KafkaRight) -> Right {
    match declared {
        KafkaRight::Read => Right::Read,
        KafkaRight::Write => Right::Write,
        KafkaRight::Create => Right::Create,
        KafkaRight::Alter => Right::Alter,
        KafkaRight::Admin => Right::Admin,
    }
}

fn mechanism(declared: KafkaMechanism) -> Mechanism {
    match declared {
        KafkaMechanism::Plain => Mechanism::Plain,
        KafkaMechanism::ScramSha256 => Mechanism::ScramSha256,
        KafkaMechanism::ScramSha512 => Mechanism::ScramSha512,
        KafkaMechanism::Oauthbearer => Mechanism::OAuthBearer,
    }
}
