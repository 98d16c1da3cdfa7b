//! Protobuf: schemas are `.proto` texts, and a message is found in them by its place.

use std::collections::HashMap;
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::prost_types::FileDescriptorProto;
use prost_reflect::{
    DeserializeOptions, DynamicMessage, FileDescriptor, MessageDescriptor, SerializeOptions, prost::Message as _,
};
use protox::Compiler;
use protox::file::{File, FileResolver, GoogleFileResolver};

use crate::bounds::{LARGEST, LARGEST_SCHEMAS};
use crate::schema::{Referred, Wrong};

/// What the schema itself is called: nobody says.
const NAME: &str = "schema.proto";

/// The deepest nesting of braces in a schema: its parser goes down with it.
const DEEPEST: usize = 64;

/// What Confluent's serializers know without being told.
const BUILT_IN: [(&str, &str); 2] = [
    ("confluent/meta.proto", include_str!("confluent_meta.proto")),
    ("confluent/type/decimal.proto", include_str!("confluent_decimal.proto")),
];

/// Reads a schema.
///
/// # Errors
/// What is wrong, and where.
pub(crate) fn compile(text: &str, referred: &[Referred]) -> Result<FileDescriptor, Wrong> {
    let mut texts: HashMap<String, String> = BUILT_IN.iter().map(|(name, text)| owned(name, text)).collect();
    texts.extend(referred.iter().map(|one| owned(&one.name, &one.text)));
    texts.extend([owned(NAME, text)]);
    if texts.values().map(String::len).sum::<usize>() > LARGEST_SCHEMAS {
        return Err(Wrong::from("is too large".to_owned()));
    }
    let mut compiler = Compiler::with_file_resolver(Texts { texts, google: GoogleFileResolver::new() });
    compiler.open_file(NAME).map_err(|cause| wrong(&cause))?;
    let file = compiler.descriptor_pool().get_file_by_name(NAME);
    file.ok_or_else(|| Wrong::from("is not found after it was read".to_owned()))
}

fn owned(name: &str, text: &str) -> (String, String) {
    (name.to_owned(), text.to_owned())
}

/// Files that are texts in memory.
struct Texts {
    texts: HashMap<String, String>,
    google: GoogleFileResolver,
}

impl FileResolver for Texts {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.texts.get(name) {
            Some(text) if depth(text) > DEEPEST => {
                Err(protox::Error::new(format!("{name} is nested more than {DEEPEST} levels deep")))
            }
            Some(text) => match descriptor(text) {
                Some(bytes) => renamed(name, &bytes),
                None => File::from_source(name, text),
            },
            None => self.google.open_file(name),
        }
    }
}

/// The bytes of a schema that is no text: Confluent's libraries of Python and .NET send a `FileDescriptorProto` in base64,
/// and some registries keep it as it is.
fn descriptor(text: &str) -> Option<Vec<u8>> {
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    let text = text.trim();
    let all = !text.is_empty() && text.bytes().all(is_base64);
    STANDARD.decode(text).ok().filter(|_| all)
}

/// A file, under the name that others know it by.
fn renamed(name: &str, bytes: &[u8]) -> Result<File, protox::Error> {
    let file = FileDescriptorProto::decode(bytes).map_err(protox::Error::new)?;
    Ok(File::from_file_descriptor_proto(FileDescriptorProto { name: Some(name.to_owned()), ..file }))
}

/// How deeply braces, brackets and angles are nested, outside of comments and quotes.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = match (first, after) {
            (b'/', [b'/', ..]) | (b'#', _) => skip(after, b"\n"),
            (b'/', [b'*', inside @ ..]) => skip(inside, b"*/"),
            (quote @ (b'"' | b'\''), _) => quoted(after, *quote),
            _ => after,
        };
        match first {
            b'{' | b'[' | b'<' | b'(' => depth += 1,
            b'}' | b']' | b'>' | b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

fn skip<'a>(bytes: &'a [u8], end: &[u8]) -> &'a [u8] {
    let at = bytes.windows(end.len()).position(|window| window == end);
    at.map_or(&[], |at| &bytes[at + end.len()..])
}

fn quoted(bytes: &[u8], quote: u8) -> &[u8] {
    let mut escaped = false;
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            byte if *byte == quote => return &bytes[at + 1..],
            _ => {}
        }
    }
    &[]
}

/// An error of the compiler, which tells the place in its long form alone: `schema.proto:3:5: …`.
fn wrong(cause: &protox::Error) -> Wrong {
    let long = format!("{cause:?}");
    let place = long.strip_prefix(NAME).and_then(|rest| {
        let mut parts = rest.strip_prefix(':')?.splitn(3, ':');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    });
    Wrong { message: cause.to_string(), at: place }
}

/// The messages in a message, as Confluent's Java library counts them: entries of maps are none.
fn children(message: &MessageDescriptor) -> impl Iterator<Item = MessageDescriptor> {
    message.child_messages().filter(|child| !child.is_map_entry())
}

/// The message at a place: its number in the file, then in that message, and so on.
///
/// # Errors
/// Why there is none.
pub(crate) fn at(file: &FileDescriptor, way: &[usize]) -> Result<MessageDescriptor, String> {
    let none = || format!("the schema has no message at {way:?}");
    let (first, rest) = way.split_first().ok_or_else(none)?;
    let mut message = file.messages().nth(*first).ok_or_else(none)?;
    for step in rest {
        let child = children(&message).nth(*step);
        message = child.ok_or_else(none)?;
    }
    Ok(message)
}

/// The message of a full name (without one the first), and its place.
///
/// # Errors
/// Why there is none, with the names that there are.
pub(crate) fn find(file: &FileDescriptor, name: Option<&str>) -> Result<(MessageDescriptor, Vec<usize>), String> {
    let mut named = Vec::new();
    let mut left: Vec<(MessageDescriptor, Vec<usize>)> =
        file.messages().enumerate().map(|(number, message)| (message, vec![number])).collect();
    left.reverse();
    while let Some((message, way)) = left.pop() {
        if name.is_none_or(|name| message.full_name() == name) {
            return Ok((message, way));
        }
        let children: Vec<_> = children(&message).enumerate().collect();
        for (number, child) in children.into_iter().rev() {
            left.push((child, way.iter().copied().chain([number]).collect()));
        }
        named.push(message.full_name().to_owned());
    }
    match name {
        None => Err("the schema has no message".to_owned()),
        Some(name) => {
            named.truncate(10);
            Err(format!("the schema has no message `{name}`, it has {}", named.join(", ")))
        }
    }
}

/// The JSON of a message.
///
/// # Errors
/// Why there is none.
pub(crate) fn read(message: MessageDescriptor, payload: &[u8]) -> Result<Vec<u8>, String> {
    let name = message.full_name().to_owned();
    let decoded = DynamicMessage::decode(message, payload).map_err(|cause| format!("is no `{name}`: {cause}"))?;
    let options =
        SerializeOptions::new().stringify_64_bit_integers(false).use_proto_field_name(true).skip_default_fields(false);
    let mut out = Bounded { out: Vec::with_capacity(payload.len().saturating_mul(2)) };
    let done = decoded.serialize_with_options(&mut serde_json::Serializer::new(&mut out), &options);
    done.map_err(|cause| format!("has no JSON: {cause}"))?;
    Ok(out.out)
}

/// Adds the encoding of a message.
///
/// # Errors
/// Why there is none.
pub(crate) fn write(
    message: &MessageDescriptor,
    drop_unknown: bool,
    json: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let options = DeserializeOptions::new().deny_unknown_fields(!drop_unknown);
    let mut reader = serde_json::Deserializer::from_slice(json);
    let told = |cause: serde_json::Error| format!("is no `{}`: {cause}", message.full_name());
    let decoded = DynamicMessage::deserialize_with_options(message.clone(), &mut reader, &options).map_err(told)?;
    reader.end().map_err(told)?;
    decoded.encode(out).map_err(|cause| cause.to_string())
}

/// Takes no more than is allowed: every field that a message leaves out takes room in JSON.
struct Bounded {
    out: Vec<u8>,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.out.len() + bytes.len() > LARGEST {
            return Err(io::Error::other(format!("it would have more than {} MiB", LARGEST >> 20)));
        }
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_is_counted_outside_of_comments_and_quotes() {
        for (text, expected) in [
            ("message A { message B { } }", 2),
            ("// {{{\nmessage A { /* {{ */ }", 1),
            (r#"option x = "{{{\"{{"; message A {}"#, 1),
            ("/* {", 0),
            ("\"{", 0),
            ("}{{", 2),
        ] {
            assert_eq!(depth(text), expected, "{text}");
        }
    }

    #[test]
    fn a_message_is_found_by_its_name_and_its_place() {
        let text = "syntax = \"proto3\"; package p; message A { message B {} message C { message D {} } } message E {}";
        let file = compile(text, &[]).unwrap();
        for (name, way) in [("p.A", &[0][..]), ("p.A.B", &[0, 0]), ("p.A.C.D", &[0, 1, 0]), ("p.E", &[1])] {
            let (message, found) = find(&file, Some(name)).unwrap();
            assert_eq!((message.full_name(), &found[..]), (name, way));
            assert_eq!(at(&file, way).unwrap(), message);
        }
        assert_eq!(find(&file, None).unwrap().1, [0]);
        assert!(find(&file, Some("p.X")).unwrap_err().contains("it has p.A, p.A.B, p.A.C, p.A.C.D, p.E"));
        assert!(at(&file, &[0, 2]).is_err() && at(&file, &[2]).is_err() && at(&file, &[]).is_err());
    }

    #[test]
    fn schemas_that_are_none_say_where() {
        for (text, part, at) in [
            ("syntax = \"proto3\";\nmessage A { strin x = 1; }", "strin", Some((2, 13))),
            ("syntax = \"proto3\";\nmessage A {", "expected", None),
            ("import \"x.proto\";", "x.proto", Some((1, 1))),
        ] {
            let Wrong { message, at: found } = compile(text, &[]).unwrap_err();
            assert!(message.contains(part), "{message}");
            assert!(at.is_none() || found == at, "{message} {found:?}");
        }
        let deep = format!("syntax = \"proto3\"; {}{}", "message A {".repeat(100_000), "}".repeat(100_000));
        assert!(compile(&deep, &[]).unwrap_err().message.contains("64 levels deep"));
    }

    #[test]
    fn a_schema_may_be_a_descriptor_in_base64() {
        let text =
            "CgtvcmRlci5wcm90bxIEc2hvcCIHCgVPdGhlciInCgVPcmRlchIQCghvcmRlcl9pZBgBIAEoAxIMCgRub3RlGAIgASgJYgZwcm90bzM=";
        let (message, way) = find(&compile(text, &[]).unwrap(), Some("shop.Order")).unwrap();
        assert_eq!(way, [1]);
        assert_eq!(read(message, &[8, 5]).unwrap(), br#"{"order_id":5,"note":""}"#);
    }

    #[test]
    fn types_of_google_and_confluent_are_known() {
        let text = r#"syntax = "proto3";
            import "google/protobuf/timestamp.proto";
            import "confluent/meta.proto";
            import "confluent/type/decimal.proto";
            message A {
                google.protobuf.Timestamp at = 1 [(confluent.field_meta).doc = "when"];
                confluent.type.Decimal price = 2;
            }"#;
        let (message, _) = find(&compile(text, &[]).unwrap(), None).unwrap();
        let mut out = Vec::new();
        let json = br#"{"at":"2026-11-21T12:00:00Z","price":{"value":"BNI=","precision":4,"scale":2}}"#;
        write(&message, false, json, &mut out).unwrap();
        assert_eq!(read(message, &out).unwrap(), json);
    }
}
