//! What reading and writing of DNS messages share: numbers of RFC 1035, and names.

use super::read::Reader;

/// Bytes of a message before its question.
pub(super) const HEADER: usize = 12;
/// The largest message that everyone can receive by UDP.
pub(super) const UDP_MINIMUM: usize = 512;
/// The largest that we send by UDP: no fragments on any usual link.
pub(super) const UDP_MAXIMUM: usize = 1232;

pub(super) const TYPE_A: u16 = 1;
pub(super) const TYPE_CNAME: u16 = 5;
pub(super) const TYPE_SOA: u16 = 6;
pub(super) const TYPE_PTR: u16 = 12;
pub(super) const TYPE_TXT: u16 = 16;
pub(super) const TYPE_AAAA: u16 = 28;
pub(super) const TYPE_SRV: u16 = 33;
pub(super) const TYPE_OPT: u16 = 41;
pub(super) const TYPE_ANY: u16 = 255;
pub(super) const CLASS_IN: u16 = 1;

pub(super) const FLAG_REPLY: u16 = 0x8000;
pub(super) const OPCODE: u16 = 0x7800;
pub(super) const FLAG_AUTHORITATIVE: u16 = 0x0400;
pub(super) const FLAG_TRUNCATED: u16 = 0x0200;
pub(super) const FLAG_RECURSION_DESIRED: u16 = 0x0100;
pub(super) const FLAG_RECURSION_AVAILABLE: u16 = 0x0080;
pub(super) const RCODE: u16 = 0x000f;

/// The verdict of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rcode {
    Success = 0,
    Malformed = 1,
    ServerFailure = 2,
    NoSuchName = 3,
    NotImplemented = 4,
    Refused = 5,
    BadVersion = 16,
}

/// A name in wire form, lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name(pub(super) Vec<u8>);

impl Name {
    /// Reads a dotted name, with or without a final dot; none if a label or the whole is too long or empty.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let mut wire = Vec::with_capacity(text.len() + 2);
        for label in text.split('.') {
            let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
            wire.push(length);
            wire.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
        }
        wire.push(0);
        (wire.len() <= 255).then_some(Self(wire))
    }

    /// Its labels, first to last.
    pub(super) fn labels(&self) -> Vec<String> {
        let mut reader = Reader::at(&self.0, 0);
        reader.labels().unwrap_or_default()
    }
}
