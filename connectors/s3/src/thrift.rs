//! A look at Thrift's compact protocol before a reader allocates what it claims: what a footer of Parquet nests, and how
//! large a page says it is.

/// How deep a schema may nest. A reader that descends needs a stack.
const DEEPEST: usize = 100;
/// How deep values may nest beside that.
const NESTED: usize = 32;

const BINARY: u8 = 8;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

/// Says what is wrong with a footer.
pub(crate) fn look_at_footer(bytes: &[u8]) -> Result<(), String> {
    let mut footer = Compact { bytes };
    footer.fields(&mut |footer, id, kind| match (id, kind) {
        (2, LIST) => footer.schema(),
        _ => footer.skip(kind, NESTED),
    })
}

/// How many bytes a page says it has, inflated and as it is stored.
pub(crate) fn page_sizes(bytes: &[u8]) -> Result<(u64, u64), String> {
    let (mut inflated, mut stored) = (0, 0);
    let mut header = Compact { bytes };
    header.fields(&mut |header, id, kind| match id {
        2 => header.number().map(|size| inflated = size as u64),
        3 => header.number().map(|size| stored = size as u64),
        _ => header.skip(kind, NESTED),
    })?;
    Ok((inflated, stored))
}

struct Compact<'a> {
    bytes: &'a [u8],
}

impl Compact<'_> {
    /// Calls `each` for every field of a structure, which has to pass over its value.
    fn fields(&mut self, each: &mut dyn FnMut(&mut Self, i64, u8) -> Result<(), String>) -> Result<(), String> {
        let mut id = 0_i64;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Ok(());
            }
            id = match head >> 4 {
                0 => self.number()?,
                delta => id.wrapping_add(i64::from(delta)),
            };
            each(self, id, head & 0x0f)?;
        }
    }

    /// The elements of a schema: a tree, each node before its children.
    fn schema(&mut self) -> Result<(), String> {
        let (count, kind) = self.list()?;
        if kind != STRUCT {
            return Err("the schema is no list of structures".to_owned());
        }
        // How many nodes are still to come on each level.
        let mut open: Vec<u64> = Vec::new();
        for _ in 0..count {
            let mut children = 0;
            self.fields(&mut |node, id, kind| match id {
                5 => node.number().map(|number| children = number as u64),
                _ => node.skip(kind, NESTED),
            })?;
            if children > 0 {
                open.push(children);
            } else {
                while let Some(left) = open.last_mut() {
                    *left -= 1;
                    if *left > 0 {
                        break;
                    }
                    open.pop();
                }
            }
            if open.len() > DEEPEST {
                return Err(format!("the schema nests more than {DEEPEST} levels"));
            }
        }
        Ok(())
    }

    fn skip(&mut self, kind: u8, deeper: usize) -> Result<(), String> {
        let deeper = deeper.checked_sub(1).ok_or("values nest too deeply")?;
        match kind {
            // Booleans of fields are in their heads.
            1 | 2 => Ok(()),
            3 => self.byte().map(drop),
            4..=6 => self.number().map(drop),
            7 => self.take(8),
            BINARY => {
                let length = self.varint()?;
                self.take(length)
            }
            LIST | 10 => {
                let (count, kind) = self.list()?;
                (0..count).try_for_each(|_| if kind <= 2 { self.take(1) } else { self.skip(kind, deeper) })
            }
            11 => match self.varint()? {
                0 => Ok(()),
                count => {
                    let kinds = self.byte()?;
                    let mut each = |kind| if kind <= 2 { self.take(1) } else { self.skip(kind, deeper) };
                    (0..count).try_for_each(|_| each(kinds >> 4).and_then(|()| each(kinds & 0x0f)))
                }
            },
            STRUCT => self.fields(&mut |inner, _, kind| inner.skip(kind, deeper)),
            _ => Err(format!("there is no type {kind}")),
        }
    }

    fn list(&mut self) -> Result<(u64, u8), String> {
        let head = self.byte()?;
        let count = match head >> 4 {
            15 => self.varint()?,
            count => u64::from(count),
        };
        // Each element is a byte at least.
        if count > self.bytes.len() as u64 {
            return Err(format!("a list claims {count} elements"));
        }
        Ok((count, head & 0x0f))
    }

    fn take(&mut self, length: u64) -> Result<(), String> {
        let length = usize::try_from(length).map_err(|_| ENDS)?;
        self.bytes = self.bytes.get(length..).ok_or(ENDS)?;
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, String> {
        let (first, rest) = self.bytes.split_first().ok_or(ENDS)?;
        self.bytes = rest;
        Ok(*first)
    }

    fn varint(&mut self) -> Result<u64, String> {
        varint(&mut self.bytes)
    }

    /// A number in zigzag.
    fn number(&mut self) -> Result<i64, String> {
        let bits = self.varint()?;
        Ok((bits >> 1) as i64 ^ -((bits & 1) as i64))
    }
}

/// Takes a number, seven bits a byte.
pub(crate) fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(ENDS)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if *byte < 0x80 {
            return Ok(value);
        }
    }
    Err("a number is too long".to_owned())
}

const ENDS: &str = "it ends early";

#[cfg(test)]
mod tests {
    use super::*;

    /// A footer whose schema nests so many levels.
    fn footer(levels: usize) -> Vec<u8> {
        let mut bytes = vec![0x15, 2, 0x19, 0xfc];
        let mut count = levels + 1;
        while count >= 0x80 {
            bytes.push(count as u8 | 0x80);
            count >>= 7;
        }
        bytes.push(count as u8);
        for _ in 0..levels {
            // A name, and one child.
            bytes.extend([0x48, 1, b'a', 0x15, 2, 0]);
        }
        bytes.extend([0x15, 2, 0x38, 1, b'a', 0, 0]);
        bytes
    }

    #[test]
    fn deep_schemas_and_large_claims_are_refused() {
        assert_eq!(look_at_footer(&footer(3)), Ok(()));
        assert_eq!(look_at_footer(&footer(100)), Ok(()));
        assert!(look_at_footer(&footer(101)).unwrap_err().contains("100 levels"));
        assert!(look_at_footer(&footer(1_000_000)).unwrap_err().contains("100 levels"));
        let whole = footer(3);
        assert!((0..whole.len()).all(|end| look_at_footer(&whole[..end]).is_err()));
        assert!(look_at_footer(&[0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07]).unwrap_err().contains("claims"));
        assert!(look_at_footer(&[0x1c; 1000]).unwrap_err().contains("nest"));
        assert!(look_at_footer(&[0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0]).is_err());
        assert_eq!(page_sizes(&[0x15, 0, 0x15, 0x80, 0x01, 0x15, 0x20, 0]), Ok((64, 16)));
        assert_eq!(page_sizes(&[0x15, 0, 0x15, 1, 0]), Ok((u64::MAX, 0)));
    }
}
