//! The subject of a certificate as text, as Java writes it (RFC 2253): `CN=reports,OU=Data,O=Example,C=DE`.

use std::fmt::Write as _;

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const OBJECT: u8 = 0x06;
/// Texts that are UTF-8, or a part of it: UTF8String, PrintableString, IA5String, NumericString.
const TEXTS: [u8; 4] = [0x0c, 0x13, 0x16, 0x12];

/// The kinds of attributes that have a name there.
const NAMES: [(&[u8], &str); 9] = [
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "STREET"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
];

/// A subject's attributes, the first one last, as they are written.
pub(crate) struct Subject {
    /// Each with its values: one, as a rule.
    names: Vec<Vec<(String, String)>>,
}

impl Subject {
    /// The subject of a certificate that was verified; `None` where it is not understood.
    pub(crate) fn of(certificate: &[u8]) -> Option<Self> {
        let (certificate, _) = expect(SEQUENCE, certificate)?;
        let (mut rest, _) = expect(SEQUENCE, certificate)?;
        if rest.first() == Some(&VERSION) {
            rest = element(rest)?.2;
        }
        // The serial number, the algorithm, the issuer, the time.
        for _ in 0..4 {
            rest = element(rest)?.2;
        }
        let (mut rest, _) = expect(SEQUENCE, rest)?;
        let mut names = Vec::new();
        while !rest.is_empty() {
            let (_, mut set, after) = element(rest)?;
            rest = after;
            let mut values = Vec::new();
            while !set.is_empty() {
                let (attribute, after) = expect(SEQUENCE, set)?;
                set = after;
                values.push(of_attribute(attribute)?);
            }
            names.push(values);
        }
        names.reverse();
        Some(Subject { names })
    }

    /// The whole of it.
    pub(crate) fn whole(&self) -> String {
        let one = |values: &Vec<(String, String)>| {
            let all: Vec<String> = values.iter().map(|(name, value)| format!("{name}={value}")).collect();
            all.join("+")
        };
        self.names.iter().map(one).collect::<Vec<_>>().join(",")
    }

    /// Its common name.
    pub(crate) fn common_name(&self) -> Option<&str> {
        self.names.iter().flatten().find(|(name, _)| name == "CN").map(|(_, value)| &**value)
    }
}

fn of_attribute(attribute: &[u8]) -> Option<(String, String)> {
    let (object, rest) = expect(OBJECT, attribute)?;
    let (tag, value, _) = element(rest)?;
    let text = if TEXTS.contains(&tag) { std::str::from_utf8(value).ok() } else { None };
    match (NAMES.iter().find(|(known, _)| *known == object), text) {
        (Some((_, name)), Some(text)) => Some(((*name).to_owned(), escaped(text))),
        // What has no name, or is no text, is written as its bytes.
        (name, _) => {
            let name = name.map_or_else(|| dotted(object), |(_, name)| (*name).to_owned());
            let mut bytes = "#".to_owned();
            for byte in &rest[..rest.len() - element(rest)?.2.len()] {
                // Writing to a string cannot fail.
                let _ = write!(bytes, "{byte:02x}");
            }
            Some((name, bytes))
        }
    }
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (index, letter) in text.chars().enumerate() {
        let at_the_ends = (index == 0 && matches!(letter, '#' | ' ')) || (index == last && letter == ' ');
        if at_the_ends || matches!(letter, ',' | '+' | '"' | '\\' | '<' | '>' | ';') {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

fn dotted(object: &[u8]) -> String {
    let mut numbers: Vec<u64> = Vec::new();
    let mut number = 0u64;
    for byte in object {
        number = (number << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            match numbers.is_empty() {
                true => numbers.extend([(number / 40).min(2), number - (number / 40).min(2) * 40]),
                false => numbers.push(number),
            }
            number = 0;
        }
    }
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(".")
}

/// An element of a kind: what it holds, and what follows it.
fn expect(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(bytes)?;
    (found == tag).then_some((content, rest))
}

/// The next element of DER: its kind, what it holds, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0usize, |length, byte| (length << 8) | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn check(names: &[(DnType, &str)], whole: &str, common: Option<&str>) {
        let mut subject = DistinguishedName::new();
        names.iter().for_each(|(kind, value)| subject.push(kind.clone(), *value));
        let mut params = CertificateParams::default();
        params.distinguished_name = subject;
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let found = Subject::of(certificate.der()).unwrap();
        assert_eq!((&*found.whole(), found.common_name()), (whole, common));
        for length in 0..certificate.der().len() {
            // Whatever is cut off ends nothing but the search.
            let _ = Subject::of(&certificate.der()[..length]);
        }
    }

    #[test]
    fn a_subject_is_written_as_java_writes_it() {
        let email = DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]);
        check(
            &[(DnType::CountryName, "DE"), (DnType::OrganizationName, "Example"), (DnType::CommonName, "reports")],
            "CN=reports,O=Example,C=DE",
            Some("reports"),
        );
        check(&[(DnType::CommonName, " a,b+c ")], "CN=\\ a\\,b\\+c\\ ", Some("\\ a\\,b\\+c\\ "));
        check(&[(DnType::OrganizationName, "Example")], "O=Example", None);
        check(&[(email, "a@b")], "1.2.840.113549.1.9.1=#0c03614062", None);
    }
}
