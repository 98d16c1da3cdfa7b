//! Text made safe for JSON.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_in_its_place() {
        for text in ["", "a\"b\\c", "\u{0}\u{1f}\n\r\t", "ü\u{2028}"] {
            let mut quoted = b"\"".to_vec();
            json(text, &mut quoted);
            quoted.push(b'"');
            assert_eq!(serde_json::from_slice::<String>(&quoted).unwrap(), text);
        }
    }
}
