//! What is answered to a query: a pure function of the zone and the packet.

use super::message::{
    CLASS_IN, Name, Rcode, TYPE_A, TYPE_AAAA, TYPE_ANY, TYPE_CNAME, TYPE_PTR, TYPE_SOA, TYPE_SRV, TYPE_TXT,
};
use super::read::{self, Malformed, Query};
use super::write::{self, Data, Record, Reply, refusal};
use super::zone::{Lookup, Node, Target, Zone};

/// Longest chain of aliases inside the zone.
const CHAIN: usize = 8;

/// How a query came, and its reply goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Replies are cut to what the asker can receive.
    Udp,
    /// Replies are as long as they are.
    Tcp,
}

/// What is to be done about a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Send this reply.
    Local(Vec<u8>),
    /// Ask a resolver of the host, with the same packet.
    Forward,
    /// Ask a resolver of the host for what an alias leads to.
    Follow(Follow),
    /// Nothing can be answered.
    Ignore,
}

/// An alias that leads out of the zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follow {
    /// To ask upstream.
    pub query: Vec<u8>,
    chain: Vec<Name>,
    transport: Transport,
}

impl Follow {
    /// The reply to `asked`, the packet that led here, from what upstream said; without it the alias alone.
    #[must_use]
    pub fn finish(&self, asked: &[u8], upstream: Option<&[u8]>) -> Vec<u8> {
        let Ok(query) = Query::parse(asked) else {
            return Vec::new();
        };
        let mut reply = Reply::only(Rcode::ServerFailure);
        reply.answers = aliases(&self.chain);
        if let Some(found) = upstream.and_then(read::addresses) {
            reply.rcode = found.rcode;
            let owner = self.chain.last();
            let record = |address| Record { owner: owner.cloned(), data: Data::Address(address) };
            reply.answers.extend(found.addresses.into_iter().map(record));
        }
        reply.write(&query, limit(&query, self.transport))
    }
}

/// Decides about one packet.
#[must_use]
pub fn answer(zone: &Zone, packet: &[u8], transport: Transport) -> Answer {
    let query = match Query::parse(packet) {
        Ok(query) => query,
        Err(Malformed::NoQuery) => return Answer::Ignore,
        Err(Malformed::Answer { id, flags, rcode }) => return Answer::Local(refusal(id, flags, rcode)),
    };
    let Lookup::Here(node) = zone.lookup(&query.labels) else {
        return Answer::Forward;
    };
    let send = |reply: Reply| Answer::Local(reply.write(&query, limit(&query, transport)));
    // Transfers (251, 252) and the mail types of old; and there is one class.
    if query.class != CLASS_IN || (251..TYPE_ANY).contains(&query.kind) {
        return send(Reply::only(Rcode::Refused));
    }
    let (chain, node) = follow_inside(zone, node, query.kind);
    match node {
        End::Node(node) => send(reply(zone, &chain, node, query.kind)),
        End::Outside => match chain.last() {
            Some(target) if matches!(query.kind, TYPE_A | TYPE_AAAA) => {
                let query = write::question(query.id, target, query.kind);
                Answer::Follow(Follow { query, chain, transport })
            }
            Some(_) | None => send(reply(zone, &chain, Some(Node::Empty), query.kind)),
        },
    }
}

fn limit(query: &Query<'_>, transport: Transport) -> usize {
    match transport {
        Transport::Udp => query.udp_limit(),
        Transport::Tcp => usize::from(u16::MAX),
    }
}

/// Where a chain of aliases ends.
enum End {
    Node(Option<Node>),
    Outside,
}

/// Follows aliases for as long as they lead to names of the zone. Asked for the alias itself, there is one
/// step.
fn follow_inside(zone: &Zone, start: Option<Node>, kind: u16) -> (Vec<Name>, End) {
    let mut chain: Vec<Name> = Vec::new();
    let mut node = start;
    while let Some(Node::Alias(target)) = node {
        let is_end = matches!(kind, TYPE_CNAME | TYPE_ANY) || chain.len() >= CHAIN;
        let next = zone.lookup(&target.labels());
        chain.push(target);
        if is_end {
            return (chain, End::Node(Some(Node::Empty)));
        }
        match next {
            Lookup::Here(next) => node = next,
            Lookup::Elsewhere => return (chain, End::Outside),
        }
    }
    (chain, End::Node(node))
}

/// One CNAME record per step.
fn aliases(chain: &[Name]) -> Vec<Record> {
    let owners = std::iter::once(None).chain(chain.iter().cloned().map(Some));
    owners.zip(chain).map(|(owner, target)| Record { owner, data: Data::Alias(target.clone()) }).collect()
}

fn reply(zone: &Zone, chain: &[Name], node: Option<Node>, kind: u16) -> Reply {
    let mut reply = Reply::only(if node.is_some() { Rcode::Success } else { Rcode::NoSuchName });
    reply.authoritative = true;
    reply.answers = aliases(chain);
    let before = reply.answers.len();
    if let Some(node) = node {
        fill(&mut reply, zone, chain.last(), (node, kind));
    }
    let asked_for_alias = matches!(kind, TYPE_CNAME | TYPE_ANY) && before > 0;
    if reply.answers.len() == before && !asked_for_alias {
        let domain = zone.domain().clone();
        reply.authority = Some(Record { owner: Some(domain.clone()), data: Data::Authority(domain) });
    }
    reply
}

/// Adds what of a name is of the type that was asked for.
fn fill(reply: &mut Reply, zone: &Zone, owner: Option<&Name>, (node, kind): (Node, u16)) {
    let wants = |one: u16| kind == one || kind == TYPE_ANY;
    let mut add = |data| reply.answers.push(Record { owner: owner.cloned(), data });
    match node {
        Node::Apex if wants(TYPE_SOA) => add(Data::Authority(zone.domain().clone())),
        Node::Text(text) if wants(TYPE_TXT) => add(Data::Text(text)),
        Node::Pointer(name) if wants(TYPE_PTR) => add(Data::Pointer(name)),
        Node::Addresses(addresses) => {
            let of_kind = |ip: &std::net::IpAddr| wants(if ip.is_ipv4() { TYPE_A } else { TYPE_AAAA });
            addresses.into_iter().filter(of_kind).for_each(|ip| add(Data::Address(ip)));
        }
        Node::Services(targets) if wants(TYPE_SRV) => {
            for Target { port, name, ip } in targets {
                reply.additional.push(Record { owner: Some(name.clone()), data: Data::Address(ip) });
                reply.answers.push(Record { owner: owner.cloned(), data: Data::Service { port, target: name } });
            }
        }
        Node::Apex
        | Node::Text(_)
        | Node::Pointer(_)
        | Node::Services(_)
        | Node::Empty
        // Aliases were followed before.
        | Node::Alias(_) => {}
    }
}
