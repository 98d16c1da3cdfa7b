//! Text made safe for the place that it goes to.

use std::fmt::Write as _;

/// Appends `text` so that it stays one part of an address: letters, digits, `-`, `.`, `_` and `~` are kept, all else
/// becomes `%` and two hexadecimal digits a byte.
pub(crate) fn percent(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            // Writing into a String does not fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
}

/// Appends `text` as it stands between the quotes of a JSON string.
pub(crate) fn json(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
}

/// The beginning of what another system said, for messages: on one line, without control characters.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
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
    fn text_stays_in_its_place() {
        let mut address = String::new();
        percent("a/../b?c=d&e#f g%ü~", &mut address);
        assert_eq!(address, "a%2F..%2Fb%3Fc%3Dd%26e%23f%20g%25%C3%BC~");
        for text in ["", "a\"b\\c", "\u{0}\u{1f}\n\r\t", "ü\u{2028}"] {
            let mut quoted = b"\"".to_vec();
            json(text, &mut quoted);
            quoted.push(b'"');
            assert_eq!(serde_json::from_slice::<String>(&quoted).unwrap(), text);
        }
    }

    #[test]
    fn excerpts_are_short_and_on_one_line() {
        assert_eq!(excerpt(b"  a\nb\x1b[31m "), "a b [31m");
        assert_eq!(excerpt("ü".repeat(400).as_bytes()).chars().count(), 301);
        assert_eq!(excerpt(b""), "");
    }
}
