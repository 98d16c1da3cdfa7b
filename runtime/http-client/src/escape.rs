//! Text made safe for an address or a form.

use std::fmt::Write as _;

/// Appends `text` so that it stays one part of an address: letters, digits, `-`, `.`, `_` and `~` are kept, all else
/// becomes `%` and two hexadecimal digits a byte.
pub fn percent(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            // Writing into a String does not fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_in_its_place() {
        let mut address = String::new();
        percent("a/../b?c=d&e#f g%ü~", &mut address);
        assert_eq!(address, "a%2F..%2Fb%3Fc%3Dd%26e%23f%20g%25%C3%BC~");
    }
}
