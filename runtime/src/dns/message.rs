//! DNS messages: queries read, replies written. Reading never fails otherwise than by a value, whatever the bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of a message before its question.
pub(super) const HEADER: usize = 12;
/// The largest message that everyone can receive by UDP.
const UDP_MINIMUM: usize = 512;
/// The largest that we send by UDP: no fragments on any usual link.
const UDP_MAXIMUM: usize = 1232;
/// How long an answer may be kept, in seconds.
const TTL: u32 = 5;

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

const FLAG_REPLY: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const FLAG_AUTHORITATIVE: u16 = 0x0400;
const FLAG_TRUNCATED: u16 = 0x0200;
const FLAG_RECURSION_DESIRED: u16 = 0x0100;
const FLAG_RECURSION_AVAILABLE: u16 = 0x0080;
const RCODE: u16 = 0x000f;

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
pub struct Name(Vec<u8>);

impl Name {
    /// Reads a dotted name, with or without a final dot; none if a label or the whole is too long or empty.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let mut wire = Vec::with_capacity(text.len() + 2);
        for label in text.split('.') {
            let length = u8::try_from(label.len())
                .ok()
                .filter(|length| (1..=63).contains(length))?;
            wire.push(length);
            wire.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
        }
        wire.push(0);
        (wire.len() <= 255).then_some(Self(wire))
    }

    /// Its labels, first to last.
    pub(super) fn labels(&self) -> Vec<String> {
        let mut reader = Reader {
            bytes: &self.0,
            at: 0,
        };
        reader.labels().unwrap_or_default()
    }
}

/// What a query asks, and how it may be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query<'a> {
    pub(super) id: u16,
    flags: u16,
    /// The question as it was sent: its letters come back in their case.
    pub(super) question: &'a [u8],
    /// Labels of the name in lower case.
    pub(super) labels: Vec<String>,
    pub(super) kind: u16,
    pub(super) class: u16,
    /// EDNS: size that the asker can receive, and version.
    edns: Option<(u16, u8)>,
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
        let mut reader = Reader { bytes: packet, at: 0 };
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
        Some(Self {
            id,
            flags,
            question,
            labels,
            kind,
            class,
            edns,
        })
    }

    /// How long a reply by UDP may be.
    pub(super) fn udp_limit(&self) -> usize {
        self.edns.map_or(UDP_MINIMUM, |(size, _)| {
            usize::from(size).clamp(UDP_MINIMUM, UDP_MAXIMUM)
        })
    }
}

/// The content of one resource record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Data {
    Address(IpAddr),
    Alias(Name),
    Pointer(Name),
    Service {
        port: u16,
        target: Name,
    },
    Text(&'static str),
    /// Of the cluster's domain, which the name is.
    Authority(Name),
}

/// A resource record to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// Whose; none for the name that was asked for.
    pub(super) owner: Option<Name>,
    pub(super) data: Data,
}

/// A reply to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) rcode: Rcode,
    pub(super) authoritative: bool,
    pub(super) answers: Vec<Record>,
    pub(super) authority: Option<Record>,
    pub(super) additional: Vec<Record>,
}

impl Reply {
    pub(super) fn only(rcode: Rcode) -> Self {
        Self {
            rcode,
            authoritative: false,
            answers: Vec::new(),
            authority: None,
            additional: Vec::new(),
        }
    }

    /// The reply in wire form. If it is longer than `limit`, first the additional records are left out, then
    /// everything, and it says that it is truncated.
    pub(super) fn write(&self, query: &Query<'_>, limit: usize) -> Vec<u8> {
        let whole = self.write_sections(query, &self.answers, &self.additional);
        if whole.len() <= limit {
            return whole;
        }
        let short = self.write_sections(query, &self.answers, &[]);
        if short.len() <= limit {
            return short;
        }
        let mut none = self.write_sections(query, &[], &[]);
        none[2] |= FLAG_TRUNCATED.to_be_bytes()[0];
        none
    }

    fn write_sections(&self, query: &Query<'_>, answers: &[Record], additional: &[Record]) -> Vec<u8> {
        let authoritative = if self.authoritative { FLAG_AUTHORITATIVE } else { 0 };
        let mut writer = Writer::header(query.id, query.flags, self.rcode, authoritative);
        writer.0.extend_from_slice(query.question);
        for record in answers.iter().chain(&self.authority).chain(additional) {
            writer.record(record);
        }
        let edns = query.edns.map(|_| writer.edns(self.rcode));
        let additional = count(additional.len()) + u16::from(edns.is_some());
        let counts = [
            1,
            count(answers.len()),
            u16::from(self.authority.is_some()),
            additional,
        ];
        writer.counts(counts)
    }
}

/// The reply to a query that was not understood.
pub(super) fn refusal(id: u16, flags: u16, rcode: Rcode) -> Vec<u8> {
    let mut writer = Writer::header(id, flags, rcode, 0);
    let is_extended = rcode == Rcode::BadVersion;
    if is_extended {
        writer.edns(rcode);
    }
    writer.counts([0, 0, 0, u16::from(is_extended)])
}

/// A query for the addresses behind `name`, in one type.
pub(super) fn question(id: u16, name: &Name, kind: u16) -> Vec<u8> {
    let mut writer = Writer::default();
    for number in [id, FLAG_RECURSION_DESIRED, 1, 0, 0, 0] {
        writer.number(number);
    }
    writer.0.extend_from_slice(&name.0);
    writer.number(kind);
    writer.number(CLASS_IN);
    writer.0
}

/// Says "server failure" to a query in place of an answer; none if that cannot be answered.
pub(super) fn serv_fail(query: &[u8]) -> Option<Vec<u8>> {
    let parsed = Query::parse(query).ok()?;
    Some(Reply::only(Rcode::ServerFailure).write(&parsed, UDP_MINIMUM))
}

/// What an upstream's reply says about addresses, for an alias that we followed.
pub(super) struct Addresses {
    /// Its verdict, of which only "no such name" is told from failure.
    pub(super) rcode: Rcode,
    pub(super) addresses: Vec<IpAddr>,
}

/// Reads the addresses of a reply, whatever chain of names leads to them.
pub(super) fn addresses(reply: &[u8]) -> Option<Addresses> {
    let mut reader = Reader { bytes: reply, at: 2 };
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
            (TYPE_A, 4) => record
                .data
                .first_chunk()
                .map(|bytes| IpAddr::V4(Ipv4Addr::from(*bytes))),
            (TYPE_AAAA, 16) => record
                .data
                .first_chunk()
                .map(|bytes| IpAddr::V6(Ipv6Addr::from(*bytes))),
            _ => None,
        };
        addresses.extend(address);
    }
    Some(Addresses { rcode, addresses })
}

/// The id, and the question in lower case, of a message with one question.
pub(super) fn id_and_question(message: &[u8]) -> Option<(u16, Vec<u8>)> {
    let mut reader = Reader {
        bytes: message,
        at: 0,
    };
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
    let flags = Reader {
        bytes: message,
        at: 2,
    }
    .number()?;
    (flags & FLAG_REPLY != 0).then_some(matches!(flags & RCODE, 2 | 5))
}

fn count(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    /// The header's first half; see [`Writer::counts`].
    fn header(id: u16, asked: u16, rcode: Rcode, flags: u16) -> Self {
        let mut writer = Self(Vec::with_capacity(UDP_MINIMUM));
        writer.number(id);
        let kept = asked & (OPCODE | FLAG_RECURSION_DESIRED);
        writer.number(FLAG_REPLY | FLAG_RECURSION_AVAILABLE | kept | flags | (rcode as u16 & RCODE));
        writer.0.extend_from_slice(&[0; 8]);
        writer
    }

    fn counts(mut self, counts: [u16; 4]) -> Vec<u8> {
        for (place, count) in self.0[4..HEADER].chunks_exact_mut(2).zip(counts) {
            place.copy_from_slice(&count.to_be_bytes());
        }
        self.0
    }

    fn number(&mut self, number: u16) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    fn long(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    fn record(&mut self, record: &Record) {
        /// Points to the question's name, right after the header.
        const QUESTION: u16 = 0xc00c;
        match &record.owner {
            Some(name) => self.0.extend_from_slice(&name.0),
            None => self.number(QUESTION),
        }
        self.number(match record.data {
            Data::Address(IpAddr::V4(_)) => TYPE_A,
            Data::Address(IpAddr::V6(_)) => TYPE_AAAA,
            Data::Alias(_) => TYPE_CNAME,
            Data::Pointer(_) => TYPE_PTR,
            Data::Service { .. } => TYPE_SRV,
            Data::Text(_) => TYPE_TXT,
            Data::Authority(_) => TYPE_SOA,
        });
        self.number(CLASS_IN);
        self.long(TTL);
        let at = self.0.len();
        self.number(0);
        self.data(&record.data);
        let length = count(self.0.len() - at - 2);
        self.0[at..at + 2].copy_from_slice(&length.to_be_bytes());
    }

    fn data(&mut self, data: &Data) {
        match data {
            Data::Address(IpAddr::V4(address)) => self.0.extend_from_slice(&address.octets()),
            Data::Address(IpAddr::V6(address)) => self.0.extend_from_slice(&address.octets()),
            Data::Alias(name) | Data::Pointer(name) => self.0.extend_from_slice(&name.0),
            Data::Service { port, target } => {
                // Priority 0, weight 100: as cluster resolvers give it.
                for number in [0, 100, *port] {
                    self.number(number);
                }
                self.0.extend_from_slice(&target.0);
            }
            Data::Text(text) => {
                self.0.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
                self.0.extend_from_slice(text.as_bytes());
            }
            Data::Authority(domain) => {
                for prefix in [&b"\x02ns\x03dns"[..], b"\x0ahostmaster"] {
                    self.0.extend_from_slice(prefix);
                    self.0.extend_from_slice(&domain.0);
                }
                // Serial, refresh, retry, expire, and how long "there is no such name" may be kept.
                for number in [1, 7200, 1800, 86400, TTL] {
                    self.long(number);
                }
            }
        }
    }

    /// The OPT record, which also has the upper bits of the verdict.
    fn edns(&mut self, rcode: Rcode) {
        self.0.push(0);
        self.number(TYPE_OPT);
        self.number(count(UDP_MAXIMUM));
        self.long((rcode as u32 >> 4) << 24);
        self.number(0);
    }
}

struct Reader<'a> {
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
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2)?
            .first_chunk()
            .map(|bytes| u16::from_be_bytes(*bytes))
    }

    /// A name without compression, which a question has no use for, in lower case.
    fn labels(&mut self) -> Option<Vec<String>> {
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
        Some(RawRecord {
            kind,
            class,
            ttl,
            data: self.take(usize::from(length))?,
        })
    }
}
