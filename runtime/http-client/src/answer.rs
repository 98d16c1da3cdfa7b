//! What a server said, or why it said nothing, for messages.

use aqueduct_api::add_causes;

/// What a person can do about what TLS says.
const HINTS: [(&str, &str); 4] = [
    ("UnknownIssuer", ": nobody whom we trust signed the server's certificate, see `tls.ca`"),
    ("CertificateRequired", ": the server wants a certificate of ours, see `tls.certificate`"),
    ("fatal alert: UnknownCA", ": the server does not trust who signed our certificate, see `tls.certificate`"),
    ("fatal alert: CertificateExpired", ": our certificate has expired, see `tls.certificate`"),
];

/// The body of an answer, up to `most` bytes of it.
///
/// # Errors
/// Why there is none.
pub async fn limited(mut answer: reqwest::Response, most: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(|cause| told(&cause))? {
        body.extend_from_slice(&part[..part.len().min(most - body.len())]);
        if body.len() == most {
            break;
        }
    }
    Ok(body)
}

/// A failure with all its causes, without the address, which may hold what is not to be shown.
pub fn told(error: &reqwest::Error) -> String {
    let mut text = match error {
        it if it.is_timeout() => "no answer in time".to_owned(),
        it if it.is_connect() => "no connection".to_owned(),
        it if it.is_redirect() => "a redirect that is not followed".to_owned(),
        _ => "the request failed".to_owned(),
    };
    add_causes(error, &mut text);
    for (said, hint) in HINTS {
        if text.contains(said) {
            text.push_str(hint);
        }
    }
    text
}

/// The beginning of what another system said, for messages: on one line, without control characters.
pub fn excerpt(bytes: &[u8]) -> String {
    const LONGEST: usize = 300;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * LONGEST)]);
    let text: String = text.chars().map(|it| if it.is_control() { ' ' } else { it }).collect();
    let mut short: String = text.trim().chars().take(LONGEST).collect();
    if short.len() < text.trim().len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts_are_short_and_on_one_line() {
        assert_eq!(excerpt(b"  a\nb\x1b[31m "), "a b [31m");
        assert_eq!(excerpt("ü".repeat(400).as_bytes()).chars().count(), 301);
        assert_eq!(excerpt(b""), "");
    }
}
