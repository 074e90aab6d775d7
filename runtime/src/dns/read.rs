//! DNS messages, read. Reading never fails otherwise than by a value, whatever the bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::message::{
    FLAG_REPLY, FLAG_TRUNCATED, HEADER, OPCODE, RCODE, Rcode, TYPE_A, TYPE_AAAA, TYPE_OPT, UDP_MAXIMUM,
    UDP_MINIMUM,
};

/// What a query asks, and how it may be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query<'a> {
    pub(super) id: u16,
    pub(super) flags: u16,
    /// The question as it was sent: its letters come back in their case.
    pub(super) question: &'a [u8],
    /// Labels of the name in lower case.
    pub(super) labels: Vec<String>,
    pub(super) kind: u16,
    pub(super) class: u16,
    /// EDNS: size that the asker can receive, and version.
    pub(super) edns: Option<(u16, u8)>,
}

/// Why a query was not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Malformed {
    /// Not even a query: nothing can be answered.
    NoQuery,
    /// This can be.
    Answer { id: u16, flags: u16, rcode: Rcode },
}

impl<'a> Query<'a> {
    pub(super) fn parse(packet: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::at(packet, 0);
        let header: Option<Vec<u16>> = (0..6).map(|_| reader.number()).collect();
        let Some(&[id, flags, questions, answers, authorities, additional]) = header.as_deref() else {
            return Err(Malformed::NoQuery);
        };
        if flags & FLAG_REPLY != 0 {
            return Err(Malformed::NoQuery);
        }
        let refuse = |rcode| Malformed::Answer { id, flags, rcode };
        if flags & OPCODE != 0 {
            return Err(refuse(Rcode::NotImplemented));
        }
        if questions != 1 {
            return Err(refuse(Rcode::Malformed));
        }
        let records = u32::from(answers) + u32::from(authorities) + u32::from(additional);
        let query = Self::body(&mut reader, id, flags, records).ok_or(refuse(Rcode::Malformed))?;
        if query.edns.is_some_and(|(_, version)| version != 0) {
            return Err(refuse(Rcode::BadVersion));
        }
        Ok(query)
    }

    fn body(reader: &mut Reader<'a>, id: u16, flags: u16, records: u32) -> Option<Self> {
        let labels = reader.labels()?;
        let (kind, class) = (reader.number()?, reader.number()?);
        let question = reader.bytes.get(HEADER..reader.at)?;
        let mut edns = None;
        for _ in 0..records {
            let record = reader.record()?;
            if record.kind == TYPE_OPT {
                let [_, version, _, _] = record.ttl.to_be_bytes();
                edns = Some((record.class, version));
            }
        }
        Some(Self { id, flags, question, labels, kind, class, edns })
    }

    /// How long a reply by UDP may be.
    pub(super) fn udp_limit(&self) -> usize {
        self.edns.map_or(UDP_MINIMUM, |(size, _)| usize::from(size).clamp(UDP_MINIMUM, UDP_MAXIMUM))
    }
}

/// What an upstream's reply says about addresses, for an alias that we followed.
pub(super) struct Addresses {
    /// Its verdict, of which only "no such name" is told from failure.
    pub(super) rcode: Rcode,
    pub(super) addresses: Vec<IpAddr>,
}

/// Reads the addresses of a reply, whatever chain of names leads to them.
pub(super) fn addresses(reply: &[u8]) -> Option<Addresses> {
    let mut reader = Reader::at(reply, 2);
    let rcode = match reader.number()? & RCODE {
        0 => Rcode::Success,
        3 => Rcode::NoSuchName,
        _ => Rcode::ServerFailure,
    };
    let (questions, answers) = (reader.number()?, reader.number()?);
    reader.at = HEADER;
    for _ in 0..questions {
        reader.skip_name()?;
        reader.take(4)?;
    }
    let mut addresses = Vec::new();
    for _ in 0..answers {
        // What a truncated reply still has is better than nothing.
        let Some(record) = reader.record() else { break };
        let address = match (record.kind, record.data.len()) {
            (TYPE_A, 4) => record.data.first_chunk().map(|bytes| IpAddr::V4(Ipv4Addr::from(*bytes))),
            (TYPE_AAAA, 16) => record.data.first_chunk().map(|bytes| IpAddr::V6(Ipv6Addr::from(*bytes))),
            _ => None,
        };
        addresses.extend(address);
    }
    Some(Addresses { rcode, addresses })
}

/// The id, and the question in lower case, of a message with one question.
pub(super) fn id_and_question(message: &[u8]) -> Option<(u16, Vec<u8>)> {
    let mut reader = Reader::at(message, 0);
    let id = reader.number()?;
    reader.at = 4;
    if reader.number()? != 1 {
        return None;
    }
    reader.at = HEADER;
    reader.skip_name()?;
    reader.take(4)?;
    Some((id, message.get(HEADER..reader.at)?.to_ascii_lowercase()))
}

/// Whether a message is a reply, and one that another server might better (failure, refusal).
pub(super) fn reply_is_failure(message: &[u8]) -> Option<bool> {
    let flags = Reader::at(message, 2).number()?;
    (flags & FLAG_REPLY != 0).then_some(matches!(flags & RCODE, 2 | 5))
}

/// Whether a reply says that it is not all.
pub(super) fn is_truncated(reply: &[u8]) -> bool {
    Reader::at(reply, 2).number().is_some_and(|flags| flags & FLAG_TRUNCATED != 0)
}

/// Steps through a message.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

struct RawRecord<'a> {
    kind: u16,
    class: u16,
    ttl: u32,
    data: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn at(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
    }

    /// A name without compression, which a question has no use for, in lower case.
    pub(super) fn labels(&mut self) -> Option<Vec<String>> {
        let start = self.at;
        let mut labels = Vec::new();
        loop {
            let length = *self.take(1)?.first()?;
            if length == 0 {
                return (self.at - start <= 255).then_some(labels);
            }
            if length > 63 {
                return None;
            }
            let label = self.take(usize::from(length))?;
            labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        }
    }

    /// Steps over a name, compressed or not.
    fn skip_name(&mut self) -> Option<()> {
        loop {
            match *self.take(1)?.first()? {
                0 => return Some(()),
                length @ 1..=63 => drop(self.take(usize::from(length))?),
                0xc0.. => return self.take(1).map(drop),
                _ => return None,
            }
        }
    }

    fn record(&mut self) -> Option<RawRecord<'a>> {
        self.skip_name()?;
        let (kind, class) = (self.number()?, self.number()?);
        let ttl = u32::from_be_bytes(*self.take(4)?.first_chunk()?);
        let length = self.number()?;
        Some(RawRecord { kind, class, ttl, data: self.take(usize::from(length))? })
    }
}
