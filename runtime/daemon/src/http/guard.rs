//! Keeps web pages out: whoever reads one on this machine must not lend it their way to the daemon.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::http::Refusal;

/// Names under which the daemon may be reached, besides addresses and `localhost`.
pub(crate) type Hosts = Arc<Vec<String>>;

/// Refuses what a page of another origin, or one whose name was rebound to this machine's address, sends.
pub(crate) async fn guard(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    match refusal(request.headers(), &hosts) {
        Some(reason) => Refusal::new(StatusCode::FORBIDDEN, reason).into_response(),
        None => next.run(request).await,
    }
}

fn refusal(headers: &HeaderMap, hosts: &[String]) -> Option<String> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("unreadable"));
    let Some(host) = text(HOST) else { return Some("the request names no host".to_owned()) };
    let name = name_of(host);
    let known = name.eq_ignore_ascii_case("localhost")
        || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
        || hosts.iter().any(|known| known.eq_ignore_ascii_case(name));
    if !known {
        return Some(format!("`{name}` is not a name of this daemon: add it to `listen.hosts` if it should be"));
    }
    let origin = text(ORIGIN).map(|origin| origin.split_once("://").map_or(origin, |(_, rest)| rest));
    match origin {
        Some(origin) if !origin.eq_ignore_ascii_case(host) => {
            Some(format!("a page of `{origin}` may not use this daemon"))
        }
        _ if headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site") => {
            Some("a page of another site may not use this daemon".to_owned())
        }
        _ => None,
    }
}

/// The host without its port.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[(&'static str, &'static str)]) -> Option<String> {
        let pairs = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        refusal(&pairs.collect::<HeaderMap>(), &["aqueduct.internal".to_owned()])
    }

    #[test]
    fn the_daemons_own_names_pass() {
        for host in ["127.0.0.1:8083", "localhost:8083", "LOCALHOST", "[::1]:8083", "10.0.0.7", "aqueduct.internal:80"]
        {
            assert_eq!(check(&[("host", host)]), None, "{host}");
        }
        assert_eq!(check(&[("host", "localhost:8083"), ("origin", "http://localhost:8083")]), None);
    }

    #[test]
    fn pages_of_others_do_not() {
        assert!(check(&[]).unwrap().contains("names no host"));
        assert!(check(&[("host", "evil.example:8083")]).unwrap().contains("`evil.example` is not a name"));
        let foreign = [("host", "127.0.0.1:8083"), ("origin", "https://evil.example")];
        assert!(check(&foreign).unwrap().contains("page of `evil.example`"));
        assert!(check(&[("host", "127.0.0.1:8083"), ("origin", "null")]).is_some());
        assert!(check(&[("host", "127.0.0.1:8083"), ("origin", "http://127.0.0.1:9999")]).is_some());
        assert!(check(&[("host", "127.0.0.1:8083"), ("sec-fetch-site", "cross-site")]).is_some());
    }
}
