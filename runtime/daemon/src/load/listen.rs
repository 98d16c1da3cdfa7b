//! What is wrong with where the daemon listens, and for whom.

use std::net::SocketAddr;

use crate::config::Listen;
use crate::config::kafka::{CertificateName, KafkaListen, KafkaMechanism, KafkaUser};

/// A setting by its path, and what is wrong with it.
type Wrong = (Vec<String>, String);

/// Everything that is wrong.
pub(crate) fn problems(listen: &Listen) -> Vec<Wrong> {
    let mut found = Vec::new();
    let others = |address: SocketAddr| format!("{address} can be reached from other machines, and");
    if !listen.http.ip().is_loopback() && !listen.expose {
        let why = "whoever reaches it can read and change everything: use 127.0.0.1, or say `expose: true` beside it";
        found.push((way(&["http"]), format!("{} {why}", others(listen.http))));
    }
    let Some(kafka) = &listen.kafka else { return found };
    let offered = kafka.offered();
    let asks = !offered.is_empty() || kafka.knows_certificates();
    if !kafka.address.ip().is_loopback() && !kafka.expose {
        let others = others(kafka.address);
        let shown = offered.iter().find(|one| matches!(one, KafkaMechanism::Plain | KafkaMechanism::Oauthbearer));
        match shown {
            _ if !asks => found.push((
                way(&["kafka"]),
                format!(
                    "{others} whoever reaches it can read and write all topics: use 127.0.0.1, say with `users` who may, \
                     or say `expose: true` beside it"
                ),
            )),
            Some(mechanism) if kafka.tls.is_none() => {
                let (what, name) = match mechanism {
                    KafkaMechanism::Plain => ("passwords", "plain"),
                    _ => ("tokens", "oauthbearer"),
                };
                let why = format!(
                    "`{name}` sends {what} there as they are: use `tls`, another mechanism, or say `expose: true`"
                );
                found.push((way(&["kafka", "address"]), format!("{others} {why}")));
            }
            _ => {}
        }
    }
    mechanisms(kafka, &offered, &mut found);
    certificates(kafka, &offered, &mut found);
    users(kafka, &offered, &mut found);
    found
}

fn way(keys: &[&str]) -> Vec<String> {
    ["listen"].iter().chain(keys).map(|key| (*key).to_owned()).collect()
}

fn mechanisms(kafka: &KafkaListen, offered: &[KafkaMechanism], found: &mut Vec<Wrong>) {
    let mut wrong = |why: &str| found.push((way(&["kafka", "mechanisms"]), why.to_owned()));
    let has = |is: fn(&KafkaUser) -> bool| kafka.users.values().any(is);
    if kafka.mechanisms.as_ref().is_some_and(Vec::is_empty) {
        wrong("no mechanism is none: leave it out");
    }
    for mechanism in offered {
        match mechanism {
            KafkaMechanism::Oauthbearer if kafka.oauth.is_none() => wrong("`oauthbearer` needs `oauth`"),
            KafkaMechanism::ScramSha256 if !has(|user| user.password.is_some() || user.scram_sha_256.is_some()) => {
                wrong("no user has a password for `scram-sha-256`");
            }
            KafkaMechanism::ScramSha512 if !has(|user| user.password.is_some() || user.scram_sha_512.is_some()) => {
                wrong("no user has a password for `scram-sha-512`");
            }
            KafkaMechanism::Plain if !has(is_known) => wrong("no user has a password for `plain`"),
            _ => {}
        }
    }
    if kafka.oauth.is_some() && !offered.contains(&KafkaMechanism::Oauthbearer) {
        found.push((way(&["kafka", "oauth"]), "`mechanisms` leaves `oauthbearer` out".to_owned()));
    }
    if kafka.session.is_some() && offered.is_empty() {
        found.push((way(&["kafka", "session"]), "nobody is asked who it is".to_owned()));
    }
}

fn certificates(kafka: &KafkaListen, offered: &[KafkaMechanism], found: &mut Vec<Wrong>) {
    let Some(tls) = &kafka.tls else { return };
    let without = "there is no `client-ca` to know certificates by";
    if tls.client_ca.is_none() && tls.client_certificates.is_some() {
        found.push((way(&["kafka", "tls", "client-certificates"]), without.to_owned()));
    }
    if tls.client_ca.is_none() && tls.principal.is_some() {
        found.push((way(&["kafka", "tls", "principal"]), without.to_owned()));
    }
    if tls.principal == Some(CertificateName::Mechanism) && offered.is_empty() {
        let why = "there is no mechanism by which clients could say who they are: users have no passwords";
        found.push((way(&["kafka", "tls", "principal"]), why.to_owned()));
    } else if tls.client_certificates == Some(aqueduct_tls::ClientCertificates::Wanted) && offered.is_empty() {
        let why = "a client without a certificate could not say who it is: users have no passwords";
        found.push((way(&["kafka", "tls", "client-certificates"]), why.to_owned()));
    }
}

fn users(kafka: &KafkaListen, offered: &[KafkaMechanism], found: &mut Vec<Wrong>) {
    if !kafka.users.is_empty() && offered.is_empty() && !kafka.knows_certificates() {
        let why = "users are known by nothing: give them passwords, or use `oauth` or `tls.client-ca`";
        found.push((way(&["kafka", "users"]), why.to_owned()));
    }
    for (name, user) in &kafka.users {
        let of = |rest: &[&str]| way(&[&["kafka", "users", name], rest].concat());
        let has_stored = user.scram_sha_256.is_some() || user.scram_sha_512.is_some();
        if user.password.is_some() && has_stored {
            found.push((of(&["password"]), "a user has a password, or what is kept of one".to_owned()));
        }
        if name == aqueduct_kafka_server::OTHERS && is_known(user) {
            found.push((of(&[]), "`*` stands for users with certificates or tokens: it has no password".to_owned()));
        }
        if name.is_empty() {
            found.push((of(&[]), "a user has a name".to_owned()));
        }
        for (kind, size) in [("produce", user.quota.produce), ("fetch", user.quota.fetch)] {
            if size.is_some_and(|size| size.0 == 0) {
                let why =
                    "0 bytes a second would hold it back for ever: leave it out for no limit, or take the right away";
                found.push((of(&["quota", kind]), why.to_owned()));
            }
        }
        let rights = &user.rights;
        let kinds =
            [("topics", &rights.topics), ("groups", &rights.groups), ("transactional-ids", &rights.transactional_ids)];
        for (kind, patterns) in kinds {
            for pattern in patterns.keys() {
                let inner = pattern.strip_suffix('*').unwrap_or(pattern);
                if inner.contains('*') || pattern.is_empty() {
                    let why = "a `*` stands at the end, for whatever names go on with".to_owned();
                    found.push((of(&["rights", kind, pattern]), why));
                }
            }
        }
    }
}

fn is_known(user: &KafkaUser) -> bool {
    user.password.is_some() || user.scram_sha_256.is_some() || user.scram_sha_512.is_some()
}
