//! Links, addresses and routes of one network namespace, by rtnetlink(7): each function is one request, and
//! waits for the kernel's answer. A socket belongs to the namespace in which it was opened, whoever uses it
//! later.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST,
    NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The kernel answers at once; this only keeps a task from hanging should it not.
const ANSWER_TIME: Duration = Duration::from_secs(10);

const DUMP_TRIES: usize = 20;

/// A hardware address.
pub(super) type Mac = [u8; 6];

/// What there is to know of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    /// The kernel's number for it.
    pub(super) index: u32,
    /// Its name.
    pub(super) name: String,
    /// It is a bridge.
    pub(super) is_bridge: bool,
    /// The free text that its maker left on it.
    pub(super) alias: Option<String>,
    /// The bridge it is a port of.
    pub(super) master: Option<u32>,
}

/// An IPv4 address of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LinkAddress {
    /// The link's number.
    pub(super) link: u32,
    /// The address.
    pub(super) address: Ipv4Addr,
    /// Length of its network's prefix.
    pub(super) prefix: u8,
}

/// A veth pair to be made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Veth<'a> {
    /// Name of the end on this side.
    pub(super) name: &'a str,
    /// The bridge that it becomes a port of.
    pub(super) bridge: u32,
    /// Namespace of the other end.
    pub(super) peer_netns: BorrowedFd<'a>,
    /// Name of the other end.
    pub(super) peer_name: &'a str,
    /// Hardware address of the other end.
    pub(super) peer_mac: Mac,
}

/// A conversation with rtnetlink of one namespace.
pub(super) struct Rtnetlink {
    socket: Socket,
    sequence: u32,
}

impl Rtnetlink {
    /// For the caller's namespace.
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self { socket: open(NETLINK_ROUTE)?, sequence: 0 })
    }

    /// For another namespace. A thread enters it, opens the socket and ends, so that the caller stays where
    /// it is.
    pub(super) fn open_in(netns: BorrowedFd<'_>) -> io::Result<Self> {
        let enter_and_open = || {
            move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))?;
            Self::open()
        };
        std::thread::scope(|scope| {
            let thread =
                std::thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, enter_and_open)?;
            thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the thread that enters the namespace died")))
        })
    }

    /// Finds a link by name.
    pub(super) fn link(&mut self, name: &str) -> io::Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        match self.ask(RouteNetlinkMessage::GetLink(message), 0) {
            Ok(answers) => Ok(answers.into_iter().find_map(as_link)),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All links.
    pub(super) fn links(&mut self) -> io::Result<Vec<Link>> {
        let answers = self.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
        Ok(answers.into_iter().filter_map(as_link).collect())
    }

    /// All IPv4 addresses.
    pub(super) fn addresses(&mut self) -> io::Result<Vec<LinkAddress>> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        let answers = self.dump(RouteNetlinkMessage::GetAddress(message))?;
        Ok(answers.into_iter().filter_map(as_address).collect())
    }

    /// Makes a bridge. Its hardware address is set, else it would change with its ports.
    pub(super) fn add_bridge(&mut self, name: &str, mac: Mac) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Address(mac.to_vec()),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
        ];
        self.tell(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Makes a veth pair, this end up and in its bridge, the other in its namespace: one request, whole or
    /// not at all.
    pub(super) fn add_veth(&mut self, veth: Veth<'_>) -> io::Result<()> {
        let mut peer = LinkMessage::default();
        peer.attributes = vec![
            LinkAttribute::IfName(veth.peer_name.to_owned()),
            LinkAttribute::Address(veth.peer_mac.to_vec()),
            LinkAttribute::NetNsFd(veth.peer_netns.as_raw_fd()),
        ];
        let mut message = LinkMessage::default();
        set_up(&mut message);
        message.attributes = vec![
            LinkAttribute::IfName(veth.name.to_owned()),
            LinkAttribute::Controller(veth.bridge),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
            ]),
        ];
        self.tell(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Sets a link up, and leaves a text on it.
    pub(super) fn set_up(&mut self, link: u32, alias: Option<&str>) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = link;
        set_up(&mut message);
        message.attributes.extend(alias.map(|alias| LinkAttribute::IfAlias(alias.to_owned())));
        self.tell(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Removes a link, with its other end if it has one; true if it was there.
    pub(super) fn delete_link(&mut self, name: &str) -> io::Result<bool> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        match self.tell(RouteNetlinkMessage::DelLink(message), 0) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives a link an address; it may have it already.
    pub(super) fn add_address(&mut self, link: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.prefix_len = prefix;
        message.header.index = link;
        message.attributes = vec![
            AddressAttribute::Local(IpAddr::V4(address)),
            AddressAttribute::Address(IpAddr::V4(address)),
        ];
        if prefix < 31 {
            let host_bits = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
            let broadcast = Ipv4Addr::from_bits(address.to_bits() | host_bits);
            message.attributes.push(AddressAttribute::Broadcast(broadcast));
        }
        self.tell(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Sets the default route.
    pub(super) fn add_default_route(&mut self, link: u32, gateway: Ipv4Addr) -> io::Result<()> {
        let mut message = route(RouteType::Unicast);
        message.attributes =
            vec![RouteAttribute::Gateway(RouteAddress::Inet(gateway)), RouteAttribute::Oif(link)];
        self.tell(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Makes connections to a range fail at once, but for addresses that are the namespace's own.
    pub(super) fn add_unreachable_route(&mut self, network: Ipv4Addr, prefix: u8) -> io::Result<()> {
        let mut message = route(RouteType::Unreachable);
        message.header.destination_prefix_length = prefix;
        message.attributes = vec![RouteAttribute::Destination(RouteAddress::Inet(network))];
        self.tell(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    fn tell(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.ask(message, flags | NLM_F_ACK).map(drop)
    }

    /// Asks for a list. One that changed while it was told has holes, and is asked for again.
    fn dump(&mut self, message: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        for _ in 0..DUMP_TRIES {
            match self.ask(message.clone(), NLM_F_DUMP) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                told => return told,
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    fn ask(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
        packet.finalize();
        let mut buffer = vec![0; packet.buffer_len()];
        packet.serialize(&mut buffer);
        self.socket.send(&buffer, 0)?;
        // A dump ends with "done", a change with its acknowledgement, a plain question with its one answer.
        let wants_more = flags & (NLM_F_DUMP | NLM_F_ACK) != 0;
        self.answers(wants_more)
    }

    fn answers(&self, wants_more: bool) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut answers = Vec::new();
        let mut has_holes = false;
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let packet = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                // Each message of a datagram is padded to four bytes.
                let length = (packet.header.length as usize).next_multiple_of(4).max(16);
                rest = rest.get(length..).unwrap_or_default();
                if packet.header.sequence_number != self.sequence {
                    continue;
                }
                has_holes |= packet.header.flags & NLM_F_DUMP_INTR != 0;
                match packet.payload {
                    NetlinkPayload::Done(_) if has_holes => return Err(io::ErrorKind::Interrupted.into()),
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Error(_) => return Ok(answers),
                    NetlinkPayload::InnerMessage(message) => answers.push(message),
                    _ => {}
                }
            }
            if !wants_more && !answers.is_empty() {
                return Ok(answers);
            }
        }
    }
}

/// Opens a netlink socket of the caller's namespace, towards the kernel.
pub(super) fn open(protocol: isize) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    set_socket_timeout(socket.as_fd(), Timeout::Recv, Some(ANSWER_TIME))?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

fn set_up(message: &mut LinkMessage) {
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
}

fn route(kind: RouteType) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = RouteScope::Universe;
    message.header.kind = kind;
    message
}

fn as_link(message: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = message else {
        return None;
    };
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        is_bridge: false,
        alias: None,
        master: None,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
            LinkAttribute::Controller(master) => link.master = Some(master),
            LinkAttribute::LinkInfo(infos) => {
                link.is_bridge = infos.contains(&LinkInfo::Kind(InfoKind::Bridge))
            }
            _ => {}
        }
    }
    Some(link)
}

fn as_address(message: RouteNetlinkMessage) -> Option<LinkAddress> {
    let RouteNetlinkMessage::NewAddress(message) = message else {
        return None;
    };
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
        _ => None,
    });
    Some(LinkAddress { link: message.header.index, address: local?, prefix: message.header.prefix_len })
}
