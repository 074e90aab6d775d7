//! As much of the encoding of protocol buffers as criu's requests and answers take: numbers and byte strings under the
//! numbers of their fields (protobuf.dev, "Encoding"). Pure, and less to read than a library for it.

/// Wire types: how long a value is.
const VARINT: u64 = 0;
const EIGHT_BYTES: u64 = 1;
const COUNTED: u64 = 2;
const FOUR_BYTES: u64 = 5;

/// A message in the making.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Message(Vec<u8>);

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A number, a switch or a member of an enumeration.
    Number(u64),
    /// A text, or a message.
    Bytes(&'a [u8]),
}

impl Message {
    /// Adds a number.
    pub(super) fn number(&mut self, field: u32, value: u64) -> &mut Self {
        self.varint(u64::from(field) << 3 | VARINT);
        self.varint(value);
        self
    }

    /// Adds a text.
    pub(super) fn bytes(&mut self, field: u32, value: &[u8]) -> &mut Self {
        self.varint(u64::from(field) << 3 | COUNTED);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// Adds a message.
    pub(super) fn message(&mut self, field: u32, value: &Self) -> &mut Self {
        self.bytes(field, &value.0)
    }

    /// As it is sent.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// The fields of a message, in their order; none where it is no message. Values of a fixed length, of which criu sends
/// none, are left out.
pub(super) fn fields(mut bytes: &[u8]) -> Option<Vec<(u32, Value<'_>)>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let field = u32::try_from(tag >> 3).ok()?;
        match tag & 7 {
            VARINT => all.push((field, Value::Number(varint(&mut bytes)?))),
            COUNTED => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                all.push((field, Value::Bytes(take(&mut bytes, length)?)));
            }
            EIGHT_BYTES => drop(take(&mut bytes, 8)?),
            FOUR_BYTES => drop(take(&mut bytes, 4)?),
            _ => return None,
        }
    }
    Some(all)
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *take(bytes, 1)?.first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_is_written_as_the_format_says() {
        let mut message = Message::default();
        // The examples of the format's own description.
        message.number(1, 150).bytes(2, b"testing");
        assert_eq!(message.as_bytes(), b"\x08\x96\x01\x12\x07testing");
        let mut outer = Message::default();
        outer.message(3, Message::default().number(1, 150));
        assert_eq!(outer.as_bytes(), b"\x1a\x03\x08\x96\x01");
    }

    #[test]
    fn a_negative_number_takes_ten_bytes() {
        let mut message = Message::default();
        message.number(1, -1_i64 as u64);
        assert_eq!(message.as_bytes().len(), 11);
        assert_eq!(fields(message.as_bytes()).unwrap(), [(1, Value::Number(u64::MAX))]);
    }

    #[test]
    fn what_ends_too_soon_is_no_message() {
        for bytes in [&b"\x08"[..], b"\x08\x96", b"\x12\x07test", b"\x0b", b"\x09\0\0", b"\xff"] {
            assert_eq!(fields(bytes), None, "{bytes:?}");
        }
        assert_eq!(fields(b"\x0d\0\0\0\0\x09\0\0\0\0\0\0\0\0"), Some(vec![]));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(number: u64, text: Vec<u8>, field in 1..1_000_000_u32) {
            let mut message = Message::default();
            message.number(field, number).bytes(field + 1, &text);
            let read = fields(message.as_bytes()).unwrap();
            prop_assert_eq!(read, vec![(field, Value::Number(number)), (field + 1, Value::Bytes(&text))]);
        }

        #[test]
        fn nothing_that_is_read_is_longer_than_what_came(bytes: Vec<u8>) {
            for (_, value) in fields(&bytes).unwrap_or_default() {
                prop_assert!(!matches!(value, Value::Bytes(text) if text.len() > bytes.len()));
            }
        }
    }
}
