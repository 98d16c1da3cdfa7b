//! The frame around a payload whose schema a registry knows: a zero, the schema's id, and for Protobuf the way to the
//! message.

use aqueduct_record::push_varint;

/// What every frame begins with.
const MAGIC: u8 = 0;

/// The deepest nesting of messages in messages that is looked at.
const DEEPEST: i64 = 64;

/// A frame, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// The schema's id.
    pub(crate) id: u32,
    /// What is behind it.
    pub(crate) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Takes a frame apart.
    ///
    /// # Errors
    /// Why it is none, for people.
    pub(crate) fn of(bytes: &'a [u8]) -> Result<Frame<'a>, String> {
        match bytes {
            [MAGIC, a, b, c, d, payload @ ..] => Ok(Frame { id: u32::from_be_bytes([*a, *b, *c, *d]), payload }),
            [MAGIC, ..] => Err(format!("ends after {} bytes, within the id of its schema", bytes.len())),
            [first, ..] => Err(format!("begins with 0x{first:02x} and not with 0x00, so no schema's id follows")),
            [] => Err("is empty: a frame begins with 0x00 and a schema's id".to_owned()),
        }
    }
}

/// Begins a frame.
pub(crate) fn begin(id: u32, out: &mut Vec<u8>) {
    out.push(MAGIC);
    out.extend_from_slice(&id.to_be_bytes());
}

/// Takes the way to a Protobuf message off the front of a payload: the number of the message in its file, then of the one
/// in it, and so on.
///
/// # Errors
/// Why there is none, for people.
pub(crate) fn message_way(payload: &mut &[u8]) -> Result<Vec<usize>, String> {
    let count = take_number(payload)?;
    match count {
        // The first message is so common that it has a form of its own.
        0 => return Ok(vec![0]),
        1..=DEEPEST => {}
        _ => return Err(format!("the way to its message has {count} steps, expected 0 to {DEEPEST}")),
    }
    let steps = (0..count).map(|_| take_number(payload));
    let step = |step: Result<i64, String>| {
        let step = step?;
        usize::try_from(step).map_err(|_| format!("the way to its message has the step {step}"))
    };
    steps.map(step).collect()
}

/// Adds the way to a Protobuf message.
pub(crate) fn push_message_way(way: &[usize], out: &mut Vec<u8>) {
    if way == [0] {
        return out.push(0);
    }
    push_varint(out, way.len() as i64);
    way.iter().for_each(|step| push_varint(out, *step as i64));
}

/// Takes a number in zigzag, seven bits a byte, off the front.
///
/// # Errors
/// Why there is none, for people.
pub(crate) fn take_number(bytes: &mut &[u8]) -> Result<i64, String> {
    let mut number = 0_u64;
    for (place, byte) in bytes.iter().enumerate() {
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit.
        if place > 9 || (place == 9 && bits > 1) {
            return Err("a number is longer than 64 bits".to_owned());
        }
        number |= bits << (7 * place);
        if byte & 0x80 == 0 {
            *bytes = &bytes[place + 1..];
            return Ok((number >> 1) as i64 ^ -((number & 1) as i64));
        }
    }
    Err("ends within a number".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_taken_apart_or_says_why_not() {
        assert_eq!(Frame::of(&[0, 0, 1, 0, 2, 9]), Ok(Frame { id: 0x0001_0002, payload: &[9] }));
        assert_eq!(Frame::of(&[0, 0, 0, 0, 1]), Ok(Frame { id: 1, payload: &[] }));
        for (bytes, part) in
            [(&b""[..], "is empty"), (b"{}", "begins with 0x7b"), (b"\0\0\0", "ends after 3 bytes"), (b"\0", "1 bytes")]
        {
            let reason = Frame::of(bytes).unwrap_err();
            assert!(reason.contains(part), "{bytes:?}: {reason}");
        }
    }

    #[test]
    fn numbers_come_back_as_they_were() {
        for number in [0, -1, 1, 63, -64, 64, 300, i64::from(i32::MIN), i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            push_varint(&mut out, number);
            out.push(7);
            let mut rest = &out[..];
            assert_eq!(take_number(&mut rest), Ok(number));
            assert_eq!(rest, [7]);
        }
        assert!(take_number(&mut &[0x80; 3][..]).unwrap_err().contains("ends within"));
        assert!(take_number(&mut &[0xff; 12][..]).unwrap_err().contains("longer than 64 bits"));
        let mut tenth_is_too_much = [0xff; 10];
        tenth_is_too_much[9] = 2;
        assert!(take_number(&mut &tenth_is_too_much[..]).is_err());
    }

    #[test]
    fn the_way_to_a_message_is_read_as_it_is_written() {
        for (way, bytes) in [(&[0][..], &[0][..]), (&[1], &[2, 2]), (&[2, 0, 1], &[6, 4, 0, 2])] {
            let mut out = Vec::new();
            push_message_way(way, &mut out);
            assert_eq!(out, bytes);
            assert_eq!(message_way(&mut &bytes[..]).unwrap(), way);
        }
        // The long form of the first message.
        assert_eq!(message_way(&mut &[2, 0][..]), Ok(vec![0]));
        assert!(message_way(&mut &[0xfe, 0xff, 0xff, 0xff, 0x0f][..]).unwrap_err().contains("steps"));
        assert!(message_way(&mut &[1][..]).unwrap_err().contains("steps"));
        assert!(message_way(&mut &[2, 1][..]).unwrap_err().contains("the step -1"));
        assert!(message_way(&mut &[][..]).unwrap_err().contains("ends within"));
    }
}
