//! `linux.netDevices`: interfaces of the host that move into the container's network namespace, with their addresses
//! (runtime-spec `config-linux.md`, network devices).
//!
//! The init opens a socket in its namespace and hands it to the maker, who may take interfaces from the host. They are not
//! moved back when the container ends: the kernel does that with physical ones, and removes the others.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use oci_spec::runtime::Spec;

use super::failure::Failure;
use super::netlink::{Request, attributes, number, open};

/// Length of `ifinfomsg` and `ifaddrmsg`.
const LINK: usize = 16;
const ADDRESS: usize = 8;
/// `IFA_FLAGS`, `IFA_LABEL` and `IFA_CACHEINFO` of `if_addr.h`.
const FLAGS: u16 = 8;
const LABEL: u16 = 3;
const CACHE: u16 = 6;
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
    devices: Vec<(Device, u32)>,
}

/// Looks for all of them, so that none moves where one is missing.
pub(super) fn find(devices: &[Device]) -> Result<Option<Found>, Failure> {
    if devices.is_empty() {
        return Ok(None);
    }
    let host = open().map_err(|errno| Failure::system("open a netlink socket", errno))?;
    let index = |device: &Device| {
        let what = || format!("link not found for interface {} on runtime namespace", device.name);
        let index = index(host.as_fd(), &device.name).map_err(|errno| Failure::system(&what(), errno))?;
        Ok((device.clone(), index))
    };
    let devices = devices.iter().map(index).collect::<Result<_, _>>()?;
    Ok(Some(Found { host, devices }))
}

impl Found {
    /// Moves them to the namespace of the process `pid`, where `inside` was opened.
    pub(super) fn move_to(&self, pid: i32, inside: BorrowedFd<'_>) -> Result<(), Failure> {
        for (device, index) in &self.devices {
            self.move_one(device, *index, (pid, inside))?;
        }
        Ok(())
    }

    fn move_one(
        &self,
        device: &Device,
        from: u32,
        (pid, inside): (i32, BorrowedFd<'_>),
    ) -> Result<(), Failure> {
        let failed = |what: &'static str| {
            let name = device.name.clone();
            move |errno: Errno| Failure::system(&format!("network device {name}: {what}"), errno)
        };
        let host = self.host.as_fd();
        let addresses = addresses(host, from).map_err(failed("fail to get ip addresses"))?;
        let name = free_name(inside, &device.inside).map_err(failed("find a free name"))?;
        let moved = Request::new(libc::RTM_NEWLINK, libc::NLM_F_ACK, &link(from, 0, 0))
            .with(libc::IFLA_IFNAME, &[name.as_bytes(), &[0]].concat())
            .with(libc::IFLA_NET_NS_PID, &pid.to_ne_bytes());
        moved.send(host, |_| ()).map_err(failed("fail to move network device to network namespace"))?;
        let to = index(inside, &name).map_err(failed("it is not in the network namespace"))?;
        for address in addresses {
            let added = address.request(to).send(inside, |_| ());
            added.map_err(failed("fail to set up an address"))?;
        }
        let up = libc::IFF_UP as u32;
        let raised = Request::new(libc::RTM_NEWLINK, libc::NLM_F_ACK, &link(to, up, up)).send(inside, |_| ());
        raised.map_err(failed("fail to set up the interface"))
    }
}

/// An `ifinfomsg`.
fn link(index: u32, flags: u32, change: u32) -> [u8; LINK] {
    let mut fixed = [0; LINK];
    for (at, number) in [(4, index), (8, flags), (12, change)] {
        fixed[at..at + 4].copy_from_slice(&number.to_ne_bytes());
    }
    fixed
}

fn index(socket: BorrowedFd<'_>, name: &str) -> nix::Result<u32> {
    let mut found = None;
    let request = Request::new(libc::RTM_GETLINK, libc::NLM_F_ACK, &link(0, 0, 0))
        .with(libc::IFLA_IFNAME, &[name.as_bytes(), &[0]].concat());
    request.send(socket, |answer| found = Some(number(answer, 4)))?;
    found.ok_or(Errno::ENODEV)
}

/// A name without `%d`.
fn free_name(inside: BorrowedFd<'_>, wanted: &str) -> nix::Result<String> {
    let Some((before, after)) = wanted.split_once("%d") else { return Ok(wanted.to_owned()) };
    let mut taken = Vec::new();
    let request = Request::new(libc::RTM_GETLINK, libc::NLM_F_DUMP, &link(0, 0, 0));
    request.send(inside, |answer| {
        let all = attributes(answer.get(LINK..).unwrap_or_default());
        let names = all.filter(|(kind, _)| *kind == libc::IFLA_IFNAME).map(|(_, name)| name.to_vec());
        taken.extend(names);
    })?;
    let is_free = |name: &String| !taken.iter().any(|one| one.strip_suffix(&[0]) == Some(name.as_bytes()));
    (0..=u16::MAX).map(|number| format!("{before}{number}{after}")).find(is_free).ok_or(Errno::ENFILE)
}

/// An address of an interface, as the kernel told it.
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

    fn request(&self, to: u32) -> Request {
        let mut fixed = self.fixed;
        fixed[2] = 0;
        fixed[4..].copy_from_slice(&to.to_ne_bytes());
        let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        let request = Request::new(libc::RTM_NEWADDR, flags, &fixed);
        self.attributes.iter().fold(request, |request, (kind, value)| request.with(*kind, value))
    }
}

fn addresses(host: BorrowedFd<'_>, of: u32) -> nix::Result<Vec<Address>> {
    let mut found = Vec::new();
    let request = Request::new(libc::RTM_GETADDR, libc::NLM_F_DUMP, &[0; ADDRESS]);
    request.send(host, |answer| found.extend(Address::read(answer, of)))?;
    Ok(found)
}
