//! DNS messages, written.

use std::net::IpAddr;

use super::message::{
    CLASS_IN, FLAG_AUTHORITATIVE, FLAG_RECURSION_AVAILABLE, FLAG_RECURSION_DESIRED, FLAG_REPLY,
    FLAG_TRUNCATED, HEADER, Name, OPCODE, RCODE, Rcode, TYPE_A, TYPE_AAAA, TYPE_CNAME, TYPE_OPT, TYPE_PTR,
    TYPE_SOA, TYPE_SRV, TYPE_TXT, UDP_MAXIMUM, UDP_MINIMUM,
};
use super::read::Query;

/// How long an answer may be kept, in seconds.
const TTL: u32 = 5;

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
        Self { rcode, authoritative: false, answers: Vec::new(), authority: None, additional: Vec::new() }
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
        let counts = [1, count(answers.len()), u16::from(self.authority.is_some()), additional];
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
