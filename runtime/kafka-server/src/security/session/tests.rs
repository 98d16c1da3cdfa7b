//! How clients come to be known, mechanism by mechanism, and what they are told who do not.

mod rules;

use std::num::NonZeroU64;

use aqueduct_api::Secret;
use kafka_protocol::error::ResponseError as E;

use super::super::oauth::OAuth;
use super::super::scram::tests::last;
use super::super::users::{Credentials, User, Users};
use super::*;
use crate::security::quotas::Quota;
use crate::security::rights::Rights;

const ALL: [Mechanism; 4] = [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512, Mechanism::OAuthBearer];

fn user(password: Option<&str>) -> User {
    let credentials = password.map_or(Credentials::None, |password| Credentials::Password(Secret::new(password)));
    User { credentials, rights: Rights::all(), quota: Quota::default() }
}

fn security(mechanisms: &[Mechanism], session: Option<Duration>) -> Security {
    let users = [("alice", user(Some("secret"))), ("bob", user(Some("hidden"))), ("certified", user(None))];
    let users = Users::new(users.map(|(name, user)| (name.to_owned(), user))).unwrap();
    Security {
        mechanisms: mechanisms.to_vec(),
        users: Some(Arc::new(users)),
        oauth: Some(Arc::new(OAuth::new("issuer".into(), "kafka".into(), "sub".into()))),
        session,
        ..Security::default()
    }
}

fn under(current: Current, certified: Option<&str>) -> Session {
    let both = (current.clone(), current.get());
    Session::new("/127.0.0.1".into(), both, Edge::real(), Arc::default(), certified.map(str::to_owned))
}

fn session(mechanisms: &[Mechanism], lifetime: Option<Duration>) -> Session {
    under(Current::new(security(mechanisms, lifetime)), None)
}

fn choose(session: &Session, mechanism: &str, version: i16) -> i16 {
    let request = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_string(mechanism.to_owned()));
    session.handshake(&request, version).error_code
}

async fn say(session: &Session, token: &[u8]) -> SaslAuthenticateResponse {
    let request = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::copy_from_slice(token));
    session.authenticate(request, 2).await
}

/// Who it is afterwards; the error it is told otherwise.
async fn plain(session: &Session, token: &[u8]) -> Result<String, i16> {
    assert_eq!(choose(session, "PLAIN", 1), 0);
    let told = say(session, token).await;
    assert_eq!(told.error_message.is_some(), told.error_code != 0);
    match told.error_code {
        0 => Ok(session.known().unwrap().to_string()),
        error => Err(error),
    }
}

#[tokio::test(start_paused = true)]
async fn a_password_says_who_one_is() {
    let cases: &[(&[u8], Result<&str, E>)] = &[
        (b"\0alice\0secret", Ok("User:alice")),
        (b"alice\0alice\0secret", Ok("User:alice")),
        (b"\0alice\0hidden", Err(E::SaslAuthenticationFailed)),
        (b"\0alice\0", Err(E::SaslAuthenticationFailed)),
        (b"\0mallory\0secret", Err(E::SaslAuthenticationFailed)),
        (b"\0certified\0", Err(E::SaslAuthenticationFailed)),
        (b"bob\0alice\0secret", Err(E::SaslAuthenticationFailed)),
        (b"alice\0secret", Err(E::SaslAuthenticationFailed)),
        (b"\0alice\0secret\0", Err(E::SaslAuthenticationFailed)),
        (b"\0\xff\0secret", Err(E::SaslAuthenticationFailed)),
        (b"", Err(E::SaslAuthenticationFailed)),
    ];
    for (token, expected) in cases {
        let session = session(&ALL, None);
        let found = plain(&session, token).await;
        let expected = expected.as_ref().map(|name| (*name).to_owned()).map_err(|error| error.code());
        assert_eq!(found, expected, "{token:?}");
        assert_eq!(session.is_over(), expected.is_err());
        assert_eq!(session.refused.load(Ordering::Relaxed), u64::from(expected.is_err()));
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_is_offered_can_be_chosen_and_in_order() {
    let some = session(&[Mechanism::ScramSha256], None);
    let cases = [("PLAIN", E::UnsupportedSaslMechanism.code()), ("GSSAPI", E::UnsupportedSaslMechanism.code())];
    for (mechanism, expected) in cases {
        let session = session(&[Mechanism::ScramSha256], None);
        assert_eq!((choose(&session, mechanism, 1), session.is_over()), (expected, true), "{mechanism}");
    }
    assert_eq!(choose(&some, "SCRAM-SHA-256", 1), 0);
    assert_eq!(choose(&some, "SCRAM-SHA-256", 1), E::IllegalSaslState.code(), "it has begun already");

    let unasked = session(&[], None);
    assert!(unasked.known().is_some(), "nobody is asked where there is nothing to ask for");
    assert_eq!(choose(&unasked, "PLAIN", 1), E::IllegalSaslState.code());
    assert!(!unasked.is_over());

    let early = session(&ALL, None);
    assert_eq!(say(&early, b"\0alice\0secret").await.error_code, E::IllegalSaslState.code());
    assert!(early.is_over());
}

#[tokio::test(start_paused = true)]
async fn nothing_else_is_answered_before() {
    let session = session(&ALL, None);
    for key in [ApiKey::ApiVersions, ApiKey::SaslHandshake, ApiKey::SaslAuthenticate] {
        let nobody = session.asks(key).unwrap();
        assert_eq!(*nobody.rights(), Rights::default());
    }
    for api in crate::apis::APIS.iter().filter(|api| !api.needs.is_empty()) {
        assert!(session.asks(api.key).is_err(), "{:?}", api.key);
    }
    plain(&session, b"\0alice\0secret").await.unwrap();
    assert_eq!(session.asks(ApiKey::Produce).unwrap().name(), "alice");
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_enough_and_a_password_says_more() {
    let shown = |name: Option<&str>| under(Current::new(security(&ALL, None)), name);
    assert!(shown(None).known().is_none());
    let session = shown(Some("certified"));
    assert_eq!(session.asks(ApiKey::Produce).unwrap().name(), "certified");
    assert_eq!(plain(&session, b"\0alice\0secret").await, Ok("User:alice".into()));
    let stranger = shown(Some("CN=stranger")).known().unwrap();
    assert_eq!((stranger.to_string(), stranger.rights()), ("User:CN=stranger".into(), &Rights::default()));
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_unless_its_client_says_again_who_it_is() {
    let hour = Duration::from_secs(3600);
    let session = session(&ALL, Some(hour));
    assert_eq!(choose(&session, "PLAIN", 1), 0);
    assert_eq!(say(&session, b"\0alice\0secret").await.session_lifetime_ms, 3_600_000);
    tokio::time::advance(hour / 2).await;
    plain(&session, b"\0alice\0secret").await.unwrap();
    tokio::time::advance(hour * 3 / 4).await;
    assert!(session.asks(ApiKey::Fetch).is_ok(), "it was prolonged");
    tokio::time::advance(hour / 4).await;
    assert!(session.asks(ApiKey::Fetch).is_err());
    assert!(session.asks(ApiKey::SaslHandshake).is_ok(), "it may still say who it is");
    plain(&session, b"\0alice\0secret").await.unwrap();
    assert!(session.asks(ApiKey::Fetch).is_ok());
    assert_eq!(choose(&session, "SCRAM-SHA-256", 1), E::UnsupportedSaslMechanism.code(), "in the same way");
}

#[tokio::test(start_paused = true)]
async fn a_session_stays_its_client_s() {
    let session = session(&ALL, None);
    plain(&session, b"\0alice\0secret").await.unwrap();
    assert_eq!(plain(&session, b"\0bob\0hidden").await, Err(E::SaslAuthenticationFailed.code()));
    assert_eq!((session.known().unwrap().name(), session.is_over()), ("alice", true));
}

/// What holds after a change: these users with passwords, whose rights are these.
fn changed(before: &Security, mechanisms: &[Mechanism], users: &[(&str, Rights)]) -> Security {
    let users = users.iter().map(|(name, rights)| {
        let rights = rights.clone();
        ((*name).to_owned(), User { rights, ..user(Some("other")) })
    });
    let users = before.users.as_ref().unwrap().changed(users).unwrap();
    Security { mechanisms: mechanisms.to_vec(), users: Some(Arc::new(users)), ..before.clone() }
}

#[tokio::test(start_paused = true)]
async fn what_holds_may_change_while_clients_are_connected() {
    let before = security(&ALL, None);
    let none = Rights::default;
    // What holds afterwards, and what the session of `alice` may do then; nothing: it is cut off.
    let cases = [
        ("another password", changed(&before, &ALL, &[("alice", Rights::all())]), Some(Rights::all())),
        ("other rights", changed(&before, &ALL, &[("alice", none())]), Some(none())),
        ("another user", changed(&before, &ALL, &[("bob", Rights::all())]), None),
        ("another mechanism", changed(&before, &[Mechanism::ScramSha256], &[("alice", Rights::all())]), None),
        ("nobody is asked", Security::default(), Some(Rights::all())),
    ];
    for (what, after, expected) in cases {
        let current = Current::new(before.clone());
        let session = under(current.clone(), None);
        plain(&session, b"\0alice\0secret").await.unwrap();
        assert!(session.asks(ApiKey::Fetch).is_ok());
        current.change(after);
        let found = session.asks(ApiKey::Fetch).ok().map(|principal| principal.rights().clone());
        assert_eq!(found, expected, "{what}");
        assert_eq!(session.asks(ApiKey::SaslHandshake).is_ok(), expected.is_some(), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_was_asked_nothing_is_cut_off_once_somebody_asks() {
    let current = Current::new(Security::default());
    let (silent, certified) = (under(current.clone(), None), under(current.clone(), Some("certified")));
    assert!(silent.asks(ApiKey::Fetch).is_ok());
    current.change(security(&ALL, None));
    assert!(silent.asks(ApiKey::Fetch).is_err());
    assert!(certified.asks(ApiKey::Fetch).is_err(), "certificates say nothing any more");
    let new = under(current, None);
    assert!(new.known().is_none());
    plain(&new, b"\0alice\0secret").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_password_counts_as_it_is_when_it_is_shown() {
    let before = security(&ALL, None);
    let current = Current::new(before.clone());
    let session = under(current.clone(), None);
    let after = changed(&before, &ALL, &[("alice", Rights::all())]);
    assert_eq!(choose(&session, "SCRAM-SHA-256", 1), 0);
    let first = "n,,n=alice,r=abc";
    let challenge = say(&session, first.as_bytes()).await;
    assert_eq!(challenge.error_code, 0);
    current.change(after.clone());
    let challenge = std::str::from_utf8(&challenge.auth_bytes).unwrap();
    let told = say(&session, last(Hash::Sha256, "secret", first, challenge).as_bytes()).await;
    assert_eq!(
        (told.error_code, session.is_over()),
        (E::SaslAuthenticationFailed.code(), true),
        "it is not hers any more"
    );
    assert_eq!(plain(&under(current.clone(), None), b"\0alice\0secret").await, Err(E::SaslAuthenticationFailed.code()));
    assert_eq!(plain(&under(current, None), b"\0alice\0other").await, Ok("User:alice".into()));
    let salt = |security: &Security, name| security.users.as_ref().unwrap().stored(Hash::Sha256, name).salt().to_vec();
    for name in ["alice", "bob", "mallory"] {
        assert_eq!(salt(&before, name), salt(&after, name), "{name}: a change tells nobody who is known");
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_saying_who_it_is_goes_on_where_others_change() {
    let before = security(&ALL, None);
    let without_rights = |name: &str| {
        let users = [("alice", user(Some("secret"))), ("bob", user(Some("hidden")))].map(|(known, user)| {
            let rights = if known == name { Rights::default() } else { Rights::all() };
            (known.to_owned(), User { rights, ..user })
        });
        let users = before.users.as_ref().unwrap().changed(users).unwrap();
        Security { users: Some(Arc::new(users)), ..before.clone() }
    };
    for (changes, expected) in [("bob", Rights::all()), ("alice", Rights::default())] {
        let current = Current::new(before.clone());
        let session = under(current.clone(), None);
        assert_eq!(choose(&session, "SCRAM-SHA-512", 1), 0);
        let first = "n,,n=alice,r=abc";
        let challenge = say(&session, first.as_bytes()).await.auth_bytes;
        current.change(without_rights(changes));
        let last = last(Hash::Sha512, "secret", first, std::str::from_utf8(&challenge).unwrap());
        assert_eq!(say(&session, last.as_bytes()).await.error_code, 0, "{changes}");
        assert_eq!(*session.asks(ApiKey::Fetch).unwrap().rights(), expected, "{changes}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_forgives_nobody_what_it_owes() {
    let with = |quota| [("alice".to_owned(), User { quota, ..user(Some("secret")) })];
    let quota = Quota { produce: NonZeroU64::new(1000), fetch: None };
    let before = Users::new(with(quota)).unwrap();
    assert_eq!(before.principal("alice").used().produce.take(5000, Instant::now()).as_millis(), 4000);
    let after = before.changed(with(Quota { produce: NonZeroU64::new(2000), ..quota })).unwrap();
    assert_eq!(after.principal("alice").used().produce.take(2000, Instant::now()).as_millis(), 5000);
    // Requests that came while the new settings were made ready, and those that are under way still.
    assert_eq!(before.principal("alice").used().produce.take(1000, Instant::now()).as_millis(), 6000);
    assert_eq!(after.principal("alice").used().produce.take(2000, Instant::now()).as_millis(), 7000);
    let without = after.changed(with(Quota::default())).unwrap();
    assert_eq!(without.principal("alice").used().produce.take(2000, Instant::now()).as_millis(), 0);
}

#[tokio::test(start_paused = true)]
async fn tokens_come_without_headers_after_the_first_version() {
    let session = session(&ALL, None);
    assert_eq!(choose(&session, "PLAIN", 0), 0);
    assert!(session.is_raw());
    assert_eq!(session.raw(b"\0alice\0secret").await, Ok(Bytes::from_static(&[0, 0, 0, 0])));
    assert!(!session.is_raw() && session.known().is_some());
    let wrong = self::session(&ALL, None);
    assert_eq!(choose(&wrong, "PLAIN", 0), 0);
    assert!(wrong.raw(b"\0alice\0wrong").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn those_who_are_not_known_look_like_others() {
    let first_of = async |user: &str, mechanism: &str| {
        let session = session(&ALL, None);
        choose(&session, mechanism, 1);
        let told = say(&session, format!("n,,n={user},r=abc").as_bytes()).await;
        assert_eq!(told.error_code, 0);
        String::from_utf8(told.auth_bytes.to_vec()).unwrap()
    };
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let (known, unknown) = (first_of("alice", mechanism).await, first_of("mallory", mechanism).await);
        assert_eq!(known.len(), unknown.len(), "{known} {unknown}");
        assert!(unknown.ends_with(",i=4096"), "{unknown}");
    }
    let users = security(&ALL, None).users.unwrap();
    let salt = || users.stored(Hash::Sha256, "mallory").salt().to_vec();
    assert_eq!(salt(), salt(), "asked again, they are the same");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_refused_is_refused_in_two_steps() {
    let session = session(&ALL, None);
    assert_eq!(choose(&session, "OAUTHBEARER", 1), 0);
    let told = say(&session, b"n,,\x01auth=Bearer a.b.c\x01\x01").await;
    assert_eq!((told.error_code, &*told.auth_bytes), (0, &br#"{"status":"invalid_token"}"#[..]));
    let told = say(&session, b"\x01").await;
    assert_eq!((told.error_code, session.is_over()), (E::SaslAuthenticationFailed.code(), true));
}
