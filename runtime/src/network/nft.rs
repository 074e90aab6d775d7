//! Masquerading: what leaves the pods' range for elsewhere goes out under the host's address.
//!
//! The table `hull` of family `ip` has one chain per bridge, so that hulls side by side share it without a
//! clash:
//!
//! ```text
//! table ip hull {
//!     chain postrouting-hull0 {
//!         type nat hook postrouting priority srcnat; policy accept;
//!         ip saddr 10.87.0.0/16 ip daddr != 10.87.0.0/16 masquerade comment "hull 10.87.0.0/16"
//!     }
//! }
//! ```
//!
//! Written by nfnetlink: messages between a "begin" and an "end" are one transaction, all or nothing
//! (`linux/netfilter/nfnetlink.h`, `nf_tables.h`; values are big-endian).

use std::io;

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;
use rustix::io::Errno;

use super::config::Config;
use super::{Cidr, Error, rtnetlink};

const TABLE: &str = "hull";

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const F_REQUEST: u16 = 0x1;
const F_ACK: u16 = 0x4;
const F_DUMP: u16 = 0x300;
/// For a deletion: not when there is something inside (`NLM_F_NONREC`).
const F_EMPTY_ONLY: u16 = 0x100;
const F_CREATE: u16 = 0x400;
const F_APPEND: u16 = 0x800;

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const DEL_TABLE: u16 = SUBSYSTEM << 8 | 2;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const DEL_CHAIN: u16 = SUBSYSTEM << 8 | 5;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
const GET_RULE: u16 = SUBSYSTEM << 8 | 7;
const DEL_RULE: u16 = SUBSYSTEM << 8 | 8;

const FAMILY_IPV4: u8 = 2;
const HEADER: usize = 20;

/// Makes sure of the chain and its rule. Changing the rule set is slow in the kernel, so it is looked at
/// first.
pub(super) fn ensure(config: &Config) -> Result<(), Error> {
    let bridge = config.bridge();
    let look = Error::kernel("look at the rules of nftables", "CONFIG_NF_TABLES");
    if has_rule(&chain_of(config.bridge().as_str()), &comment(config.pod_cidr())).map_err(look)? {
        return Ok(());
    }
    let chain = chain_of(config.bridge().as_str());
    let mut batch = Batch::new();
    batch.push(NEW_TABLE, F_CREATE, &Attributes::new().text(1, TABLE));
    batch.push(NEW_CHAIN, F_CREATE, &chain_attributes(&chain));
    batch.push(DEL_RULE, 0, &Attributes::new().text(1, TABLE).text(2, &chain));
    batch.push(NEW_RULE, F_CREATE | F_APPEND, &rule_attributes(&chain, config.pod_cidr()));
    let write = Error::kernel(
        format!("masquerade behind the bridge {bridge} by nftables"),
        "CONFIG_NF_TABLES, CONFIG_NF_NAT, CONFIG_NFT_MASQ",
    );
    batch.send().map_err(write)
}

/// Removes the chain of a bridge, and the table if it was the last one; missing is fine.
pub(super) fn remove(bridge: &str) -> Result<(), Error> {
    let named = Attributes::new().text(1, TABLE);
    let mut chain = Batch::new();
    chain.push(DEL_CHAIN, 0, &Attributes::new().text(1, TABLE).text(3, &chain_of(bridge)));
    let mut table = Batch::new();
    table.push(DEL_TABLE, F_EMPTY_ONLY, &named);
    for batch in [chain, table] {
        match batch.send() {
            Ok(()) => {}
            // Not there, or no nftables at all, or another hull has a chain in it.
            Err(error)
                if is_one_of(
                    &error,
                    &[Errno::NOENT, Errno::BUSY, Errno::OPNOTSUPP, Errno::PROTONOSUPPORT],
                ) => {}
            Err(source) => {
                return Err(Error::Kernel {
                    operation: format!("remove the nftables table {TABLE}"),
                    source,
                });
            }
        }
    }
    Ok(())
}

fn is_one_of(error: &io::Error, those: &[Errno]) -> bool {
    Errno::from_io_error(error).is_some_and(|errno| those.contains(&errno))
}

pub(super) fn chain_of(bridge: &str) -> String {
    format!("postrouting-{bridge}")
}

/// Marks our rule; `nft list ruleset` shows it.
pub(super) fn comment(range: Cidr) -> String {
    format!("hull {range}")
}

fn chain_attributes(chain: &str) -> Attributes {
    const POSTROUTING: u32 = 4;
    const SRCNAT: u32 = 100;
    let hook = Attributes::new().number(1, POSTROUTING).number(2, SRCNAT);
    Attributes::new().text(1, TABLE).text(3, chain).nested(4, &hook).text(7, "nat")
}

fn rule_attributes(chain: &str, range: Cidr) -> Attributes {
    const EQUAL: u32 = 0;
    const NOT_EQUAL: u32 = 1;
    const SOURCE_OFFSET: u32 = 12;
    const DESTINATION_OFFSET: u32 = 16;
    let expressions = Attributes::new()
        .expression("payload", &load_address(SOURCE_OFFSET))
        .expression("bitwise", &mask(range))
        .expression("cmp", &compare(EQUAL, range))
        .expression("payload", &load_address(DESTINATION_OFFSET))
        .expression("bitwise", &mask(range))
        .expression("cmp", &compare(NOT_EQUAL, range))
        .expression("masq", &Attributes::new());
    // A comment as nft(8) writes it: type 0, length, text with its zero.
    let text = comment(range);
    let mut userdata = vec![0, u8::try_from(text.len() + 1).unwrap_or(u8::MAX)];
    userdata.extend_from_slice(text.as_bytes());
    userdata.push(0);
    Attributes::new().text(1, TABLE).text(2, chain).nested(4, &expressions).bytes(7, &userdata)
}

/// Four bytes of the network header into register 1.
fn load_address(offset: u32) -> Attributes {
    const NETWORK_HEADER: u32 = 1;
    Attributes::new().number(1, 1).number(2, NETWORK_HEADER).number(3, offset).number(4, 4)
}

/// Register 1 cut down to its network.
fn mask(range: Cidr) -> Attributes {
    let value = |bytes: [u8; 4]| Attributes::new().bytes(1, &bytes);
    Attributes::new()
        .number(1, 1)
        .number(2, 1)
        .number(3, 4)
        .nested(4, &value(range.mask().octets()))
        .nested(5, &value([0; 4]))
}

fn compare(operator: u32, range: Cidr) -> Attributes {
    let network = Attributes::new().bytes(1, &range.network().octets());
    Attributes::new().number(1, 1).number(2, operator).nested(3, &network)
}

/// Netlink attributes, one after the other.
#[derive(Debug, Default)]
struct Attributes(Vec<u8>);

impl Attributes {
    fn new() -> Self {
        Self::default()
    }

    fn bytes(self, kind: u16, value: &[u8]) -> Self {
        let mut to = self.0;
        // An attribute is at most a few hundred bytes here.
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        to.extend_from_slice(&length.to_ne_bytes());
        to.extend_from_slice(&kind.to_ne_bytes());
        to.extend_from_slice(value);
        to.resize(to.len().next_multiple_of(4), 0);
        Self(to)
    }

    fn text(self, kind: u16, value: &str) -> Self {
        self.bytes(kind, &[value.as_bytes(), b"\0"].concat())
    }

    fn number(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    fn nested(self, kind: u16, inner: &Self) -> Self {
        const NESTED: u16 = 0x8000;
        self.bytes(kind | NESTED, &inner.0)
    }

    fn expression(self, name: &str, data: &Self) -> Self {
        self.nested(1, &Self::new().text(1, name).nested(2, data))
    }
}

/// A transaction.
struct Batch {
    bytes: Vec<u8>,
    sequence: u32,
}

impl Batch {
    fn new() -> Self {
        let mut batch = Self { bytes: Vec::new(), sequence: 0 };
        batch.message(BATCH_BEGIN, F_REQUEST, SUBSYSTEM, &Attributes::new());
        batch
    }

    fn push(&mut self, kind: u16, flags: u16, attributes: &Attributes) {
        self.message(kind, F_REQUEST | F_ACK | flags, 0, attributes);
    }

    fn message(&mut self, kind: u16, flags: u16, resource: u16, attributes: &Attributes) {
        self.sequence += 1;
        let family = if kind == BATCH_BEGIN || kind == BATCH_END { 0 } else { FAMILY_IPV4 };
        self.bytes.extend_from_slice(&message(
            Header { kind, flags, sequence: self.sequence, family, resource },
            attributes,
        ));
    }

    /// Sends it and waits for the verdict. The kernel answers every message, in order, once the transaction
    /// is over; on failure the first error tells.
    fn send(mut self) -> io::Result<()> {
        let last = self.sequence;
        self.message(BATCH_END, F_REQUEST, SUBSYSTEM, &Attributes::new());
        let socket = rtnetlink::open(NETLINK_NETFILTER)?;
        socket.send(&self.bytes, 0)?;
        loop {
            let (bytes, _) = socket.recv_from_full()?;
            for answer in answers(&bytes) {
                if answer.acknowledged()? && answer.sequence == last {
                    return Ok(());
                }
            }
        }
    }
}

struct Header {
    kind: u16,
    flags: u16,
    sequence: u32,
    family: u8,
    resource: u16,
}

/// `struct nlmsghdr`, `struct nfgenmsg`, attributes.
fn message(header: Header, attributes: &Attributes) -> Vec<u8> {
    let length = u32::try_from(HEADER + attributes.0.len()).unwrap_or(u32::MAX);
    let mut to = Vec::with_capacity(HEADER + attributes.0.len());
    to.extend_from_slice(&length.to_ne_bytes());
    to.extend_from_slice(&header.kind.to_ne_bytes());
    to.extend_from_slice(&header.flags.to_ne_bytes());
    to.extend_from_slice(&header.sequence.to_ne_bytes());
    to.extend_from_slice(&[0; 4]);
    to.extend_from_slice(&[header.family, 0]);
    to.extend_from_slice(&header.resource.to_be_bytes());
    to.extend_from_slice(&attributes.0);
    to
}

/// Whether the chain has a rule with this comment. No table or chain is no rule.
pub(super) fn has_rule(chain: &str, comment: &str) -> io::Result<bool> {
    let socket = rtnetlink::open(NETLINK_NETFILTER)?;
    let wanted = Attributes::new().text(1, TABLE).text(2, chain);
    let header =
        Header { kind: GET_RULE, flags: F_REQUEST | F_DUMP, sequence: 1, family: FAMILY_IPV4, resource: 0 };
    socket.send(&message(header, &wanted), 0)?;
    match dump_contains(&socket, comment.as_bytes()) {
        Err(error) if is_one_of(&error, &[Errno::NOENT]) => Ok(false),
        found => found,
    }
}

fn dump_contains(socket: &Socket, comment: &[u8]) -> io::Result<bool> {
    let mut found = false;
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        for answer in answers(&bytes) {
            if answer.kind == NLMSG_DONE {
                return Ok(found);
            }
            answer.acknowledged()?;
            found |= answer.body.windows(comment.len()).any(|window| window == comment);
        }
    }
}

/// One message of an answer.
struct Answer<'a> {
    kind: u16,
    sequence: u32,
    body: &'a [u8],
}

impl Answer<'_> {
    /// True for an acknowledgement; an error for an error.
    fn acknowledged(&self) -> io::Result<bool> {
        if self.kind != NLMSG_ERROR {
            return Ok(false);
        }
        match self.body.first_chunk().map(|code| i32::from_ne_bytes(*code)) {
            Some(0) => Ok(true),
            Some(code) => Err(io::Error::from_raw_os_error(-code)),
            None => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Splits a datagram into its messages; what is cut off at the end is left out.
fn answers(datagram: &[u8]) -> impl Iterator<Item = Answer<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*rest.first_chunk()?) as usize;
        let kind = u16::from_ne_bytes(*rest.get(4..)?.first_chunk()?);
        let sequence = u32::from_ne_bytes(*rest.get(8..)?.first_chunk()?);
        let body = rest.get(16..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Answer { kind, sequence, body })
    })
}

/// Whether our table is there.
#[cfg(test)]
pub(super) fn has_table() -> io::Result<bool> {
    const GET_TABLE: u16 = SUBSYSTEM << 8 | 1;
    let socket = rtnetlink::open(NETLINK_NETFILTER)?;
    let header =
        Header { kind: GET_TABLE, flags: F_REQUEST | F_DUMP, sequence: 1, family: FAMILY_IPV4, resource: 0 };
    socket.send(&message(header, &Attributes::new()), 0)?;
    dump_contains(&socket, b"hull\0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_nested() {
        let inner = Attributes::new().text(1, "ab");
        let outer = Attributes::new().nested(2, &inner).number(3, 7);
        assert_eq!(inner.0, [7, 0, 1, 0, b'a', b'b', 0, 0]);
        assert_eq!(outer.0, [12, 0, 2, 0x80, 7, 0, 1, 0, b'a', b'b', 0, 0, 8, 0, 3, 0, 0, 0, 0, 7]);
    }

    #[test]
    fn an_answer_that_is_cut_off_is_left_out() {
        let header = Header { kind: NLMSG_DONE, flags: 0, sequence: 9, family: 0, resource: 0 };
        let whole = message(header, &Attributes::new());
        let mut bytes = whole.clone();
        bytes.extend_from_slice(&whole[..10]);
        assert_eq!(answers(&bytes).map(|answer| answer.sequence).collect::<Vec<_>>(), [9]);
    }
}
