//! `linux.netDevices`: interfaces of the host that move into the container's network namespace, with their addresses
//! (runtime-spec `config-linux.md`, network devices).
//!
//! The init opens a socket in its namespace and hands it to the maker, who may take interfaces from the host. They are not
//! moved back when the container ends: the kernel does that with physical ones, and removes the others. Where there is
//! no container after all they are: [`Away`].

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use oci_spec::runtime::Spec;

use super::failure::Failure;
use super::netlink::{Request, attributes, number, open, open_beside};
use crate::harmless;
use crate::sys::process::Child;

/// Length of `ifinfomsg` and `ifaddrmsg`.
const LINK: usize = 16;
const ADDRESS: usize = 8;
/// `IFA_FLAGS`, `IFA_LABEL` and `IFA_CACHEINFO` of `if_addr.h`.
const FLAGS: u16 = 8;
const LABEL: u16 = 3;
const CACHE: u16 = 6;
/// `IFF_UP`.
const UP: u32 = libc::IFF_UP as u32;
/// What an address may be given; the other flags tell how it fares.
const GIVEN: u32 = 0x02 | 0x10 | 0x100 | 0x200 | 0x400;

/// One interface to move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    /// Its name on the host.
    pub(crate) name: String,
    /// Its name in the container, where `%d` stands for the first number that is free.
    pub(crate) inside: String,
}

impl Device {
    /// All that a configuration lists, by name.
    pub(super) fn all(spec: &Spec) -> Vec<Self> {
        let listed = spec.linux().as_ref().and_then(|linux| linux.net_devices().as_ref());
        let ordered: BTreeMap<_, _> = listed.into_iter().flatten().collect();
        let device = |(name, device): (&String, &oci_spec::runtime::LinuxNetDevice)| {
            let inside = device.name().clone().filter(|inside| !inside.is_empty());
            Self { inside: inside.unwrap_or_else(|| name.clone()), name: name.clone() }
        };
        ordered.into_iter().map(device).collect()
    }
}

/// Interfaces that were found on the host.
#[derive(Debug)]
pub(super) struct Found {
    host: OwnedFd,
    devices: Vec<(Device, Link)>,
}

/// An interface, as the host had it.
#[derive(Debug, Clone, Copy)]
struct Link {
    index: u32,
    flags: u32,
}

impl Link {
    fn is_up(self) -> bool {
        self.flags & UP != 0
    }
}

/// Interfaces that were moved to a container. Dropped, they go back with their names and addresses; routes are
/// the kernel's to forget.
#[derive(Debug)]
pub(super) struct Away {
    host: OwnedFd,
    inside: OwnedFd,
    /// In the same namespace, but ours: an init with a user namespace of its own has no say in the host's.
    back: OwnedFd,
    moved: Vec<Moved>,
}

#[derive(Debug)]
struct Moved {
    name: String,
    was: Link,
    addresses: Vec<Address>,
    /// Its index in the container.
    index: u32,
}

/// Looks for all of them, so that none moves where one is missing.
pub(super) fn find(devices: &[Device]) -> Result<Option<Found>, Failure> {
    if devices.is_empty() {
        return Ok(None);
    }
    let host = open().map_err(|errno| Failure::system("open a netlink socket", errno))?;
    let find = |device: &Device| {
        let what = || format!("link not found for interface {} on runtime namespace", device.name);
        let link = named(host.as_fd(), &device.name).map_err(|errno| Failure::system(&what(), errno))?;
        Ok((device.clone(), link))
    };
    let devices = devices.iter().map(find).collect::<Result<_, _>>()?;
    Ok(Some(Found { host, devices }))
}

impl Found {
    /// Moves them to the namespace of the init, where it opened `inside`. If one cannot be moved, none is.
    pub(super) fn move_to(self, init: &Child, inside: OwnedFd) -> Result<Away, Failure> {
        let back = open_beside(init.pidfd.as_fd())
            .map_err(|errno| Failure::system("open a netlink socket in the network namespace", errno))?;
        let mut away = Away { host: self.host, inside, back, moved: Vec::new() };
        for (device, link) in &self.devices {
            away.take(device, *link, init.pid)?;
        }
        Ok(away)
    }
}

impl Away {
    fn take(&mut self, device: &Device, was: Link, pid: i32) -> Result<(), Failure> {
        let failed = |what: &'static str| {
            let name = device.name.clone();
            move |errno: Errno| Failure::system(&format!("network device {name}: {what}"), errno)
        };
        let host = self.host.as_fd();
        let addresses = addresses(host, was.index).map_err(failed("fail to get ip addresses"))?;
        let name = free_name(self.inside.as_fd(), &device.inside)
            .map_err(failed("fail to find a free name in the network namespace"))?;
        hand_over(host, was.index, &name, pid)
            .map_err(failed("fail to move network device to network namespace"))?;
        let inside = self.inside.as_fd();
        let index = named(inside, &name).map_err(failed("it is not in the network namespace"))?.index;
        self.moved.push(Moved { name: device.name.clone(), was, addresses, index });
        let addresses = self.moved.last().map(|moved| moved.addresses.as_slice()).unwrap_or_default();
        for address in addresses {
            address.add(inside, index).map_err(failed("fail to set up an address"))?;
        }
        raise(inside, index).map_err(failed("fail to set up the interface"))
    }

    /// Leaves them where they are: there is a container.
    pub(super) fn stay(mut self) {
        self.moved.clear();
    }

    fn put_back(&self, moved: &Moved) -> nix::Result<()> {
        hand_over(self.back.as_fd(), moved.index, &moved.name, std::process::id().cast_signed())?;
        let host = self.host.as_fd();
        let index = named(host, &moved.name)?.index;
        for address in &moved.addresses {
            // One that cannot be set is no reason to leave the others out.
            harmless(address.add(host, index));
        }
        if moved.was.is_up() { raise(host, index) } else { Ok(()) }
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        for moved in self.moved.iter().rev() {
            // What made the container fail is what the caller hears of.
            harmless(self.put_back(moved));
        }
    }
}

/// Moves an interface of the namespace of `from` to that of the process `pid`, under this name.
fn hand_over(from: BorrowedFd<'_>, index: u32, name: &str, pid: i32) -> nix::Result<()> {
    Request::new(libc::RTM_NEWLINK, libc::NLM_F_ACK, &link(index, 0, 0))
        .with(libc::IFLA_IFNAME, &[name.as_bytes(), &[0]].concat())
        .with(libc::IFLA_NET_NS_PID, &pid.to_ne_bytes())
        .send(from, |_| ())
}

fn raise(socket: BorrowedFd<'_>, index: u32) -> nix::Result<()> {
    Request::new(libc::RTM_NEWLINK, libc::NLM_F_ACK, &link(index, UP, UP)).send(socket, |_| ())
}

/// An `ifinfomsg`.
fn link(index: u32, flags: u32, change: u32) -> [u8; LINK] {
    let mut fixed = [0; LINK];
    for (at, number) in [(4, index), (8, flags), (12, change)] {
        fixed[at..at + 4].copy_from_slice(&number.to_ne_bytes());
    }
    fixed
}

fn named(socket: BorrowedFd<'_>, name: &str) -> nix::Result<Link> {
    let mut found = None;
    let request = Request::new(libc::RTM_GETLINK, libc::NLM_F_ACK, &link(0, 0, 0))
        .with(libc::IFLA_IFNAME, &[name.as_bytes(), &[0]].concat());
    request
        .send(socket, |answer| found = Some(Link { index: number(answer, 4), flags: number(answer, 8) }))?;
    found.ok_or(Errno::ENODEV)
}

/// A name without `%d`. One that is taken is EEXIST here, since the kernel would find so only once the interface has
/// moved, and then has to be called something.
fn free_name(inside: BorrowedFd<'_>, wanted: &str) -> nix::Result<String> {
    let mut taken = Vec::new();
    let request = Request::new(libc::RTM_GETLINK, libc::NLM_F_DUMP, &link(0, 0, 0));
    request.send(inside, |answer| {
        let all = attributes(answer.get(LINK..).unwrap_or_default());
        let names = all.filter(|(kind, _)| *kind == libc::IFLA_IFNAME).map(|(_, name)| name.to_vec());
        taken.extend(names);
    })?;
    let is_free = |name: &String| !taken.iter().any(|one| one.strip_suffix(&[0]) == Some(name.as_bytes()));
    match wanted.split_once("%d") {
        Some((before, after)) => {
            let all = (0..=u16::MAX).map(|number| format!("{before}{number}{after}"));
            all.into_iter().find(is_free).ok_or(Errno::ENFILE)
        }
        None => Some(wanted.to_owned()).filter(is_free).ok_or(Errno::EEXIST),
    }
}

/// An address of an interface, as the kernel told it.
#[derive(Debug)]
struct Address {
    fixed: [u8; ADDRESS],
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Address {
    /// One to keep: permanent, and of the whole world.
    fn read(bytes: &[u8], of: u32) -> Option<Self> {
        let fixed: [u8; ADDRESS] = *bytes.first_chunk()?;
        let attributes: Vec<_> =
            attributes(bytes.get(ADDRESS..)?).map(|(kind, value)| (kind, value.to_vec())).collect();
        let long = attributes.iter().find(|(kind, _)| *kind == FLAGS).map(|(_, value)| number(value, 0));
        let flags = long.unwrap_or_else(|| fixed[2].into());
        let is_kept = number(bytes, 4) == of
            && fixed[3] == libc::RT_SCOPE_UNIVERSE
            && flags & libc::IFA_F_PERMANENT != 0;
        is_kept.then(|| Self { fixed, attributes }.with_flags(flags & GIVEN))
    }

    fn with_flags(mut self, flags: u32) -> Self {
        // A label has the old name in it.
        self.attributes.retain(|(kind, _)| ![FLAGS, LABEL, CACHE].contains(kind));
        self.attributes.push((FLAGS, flags.to_ne_bytes().to_vec()));
        self
    }

    fn add(&self, socket: BorrowedFd<'_>, to: u32) -> nix::Result<()> {
        let mut fixed = self.fixed;
        fixed[2] = 0;
        fixed[4..].copy_from_slice(&to.to_ne_bytes());
        let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        let request = Request::new(libc::RTM_NEWADDR, flags, &fixed);
        let request =
            self.attributes.iter().fold(request, |request, (kind, value)| request.with(*kind, value));
        request.send(socket, |_| ())
    }
}

fn addresses(host: BorrowedFd<'_>, of: u32) -> nix::Result<Vec<Address>> {
    let mut found = Vec::new();
    let request = Request::new(libc::RTM_GETADDR, libc::NLM_F_DUMP, &[0; ADDRESS]);
    request.send(host, |answer| found.extend(Address::read(answer, of)))?;
    Ok(found)
}
