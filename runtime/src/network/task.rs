//! What the network tasks do, step by step, and the addresses of Services.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, OwnedFd};

use hull_shim::layout::Layout;
use serde::{Deserialize, Serialize};

use super::config::{Config, Mode};
use super::lease::{Leases, Pool, fnv1a};
use super::rtnetlink::{Rtnetlink, Veth};
use super::{Error, bridge, nft};

/// Where the shim leaves the pod's network namespace for its tasks.
const TASK_NETNS: i32 = 3;
const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
const POD_LINK: &str = "eth0";

/// Input of both tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Input {
    /// The pod's uid, under which its address is leased.
    pub uid: String,
    /// The network it joins.
    #[serde(default)]
    pub config: Config,
}

/// A network that is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Up {
    /// The pod's addresses.
    pub ips: Vec<IpAddr>,
    /// The way out; none without a network.
    pub gateway: Option<IpAddr>,
    /// Where the pod reaches its host: the gateway, or loopback without a network.
    pub host_ip: IpAddr,
    /// Where the pod's resolver listens.
    pub dns: IpAddr,
}

/// The pod's network namespace as the shim hands it to a network task, as descriptor 3.
///
/// # Errors
/// When there is no such descriptor.
pub fn task_netns() -> Result<OwnedFd, Error> {
    reopen(TASK_NETNS)
}

/// Opens what a descriptor stands for anew, since taking over a bare number would need `unsafe`.
pub(super) fn reopen(number: i32) -> Result<OwnedFd, Error> {
    let path = format!("/proc/self/fd/{number}");
    fs::File::open(&path).map(OwnedFd::from).map_err(Error::file("open", path))
}

/// Gives the pod behind `netns` its network. May be done again, in the same or in a new namespace; the
/// address stays.
///
/// # Errors
/// When no address is left, when the range or the bridge belongs to others, or when the kernel refuses or
/// lacks something. What was done by then is undone by [`down`].
pub fn up(layout: &Layout, input: &Input, netns: OwnedFd) -> Result<Up, Error> {
    let config = &input.config;
    let leases = Leases::pods(layout)?;
    // A pod whose sandbox is made anew gets a new address (reference 2.2), so its uid gives no place to start at.
    let claim = leases.claim_from(pods(config), &input.uid, anywhere(), |uid| is_alive(layout, uid))?;
    let mut inside = Rtnetlink::open_in(netns.as_fd())
        .map_err(Error::kernel("enter the pod's network namespace", "CONFIG_NET_NS"))?;
    let gateway = match config.mode() {
        Mode::Loopback => {
            drop(leases);
            None
        }
        Mode::Bridge => {
            let mut host = open_host()?;
            let index = bridge::ensure(&mut host, config, &layout.network())?;
            nft::ensure(config)?;
            drop(leases);
            forward()?;
            for uid in claim.reclaimed.iter().chain([&input.uid]) {
                remove_veth(&mut host, uid)?;
            }
            connect(&mut host, index, input, claim.address, &netns)?;
            Some(config.gateway())
        }
    };
    configure(&mut inside, config, claim.address)?;
    Ok(Up {
        ips: vec![claim.address.into()],
        gateway: gateway.map(IpAddr::V4),
        host_ip: gateway.unwrap_or(Ipv4Addr::LOCALHOST).into(),
        dns: config.dns().into(),
    })
}

/// A random place in a range; without a source of randomness one place is as good as another.
fn anywhere() -> u32 {
    let mut bytes = [0; 4];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(_) => u32::from_ne_bytes(bytes),
        Err(_) => 0,
    }
}

/// Takes a pod's network away and gives its address back; missing things are fine. With the last pod the
/// bridges and the rules go too.
///
/// # Errors
/// When the record cannot be changed, or the kernel refuses.
pub fn down(layout: &Layout, input: &Input) -> Result<(), Error> {
    let config = &input.config;
    let mut host = open_host()?;
    if config.mode() == Mode::Bridge {
        remove_veth(&mut host, &input.uid)?;
    }
    let leases = Leases::pods(layout)?;
    leases.release(&input.uid)?;
    let sweep = leases.sweep(|uid| is_alive(layout, uid))?;
    for uid in &sweep.gone {
        remove_veth(&mut host, uid)?;
    }
    if sweep.in_use {
        return Ok(());
    }
    // Pods may have had bridges of other names than this one, the last of all, has.
    for name in bridge::names(&mut host, config, &layout.network())? {
        nft::remove(&name)?;
        bridge::remove(&mut host, &name, &layout.network())?;
    }
    Ok(())
}

/// The address of the Service `owner` (`namespace/name`): the one it has, else a free one of the service
/// range.
///
/// # Errors
/// When no address is left, or the record cannot be changed.
pub fn service_address(layout: &Layout, config: &Config, owner: &str) -> Result<Ipv4Addr, Error> {
    Ok(Leases::services(layout)?.claim(services(config), owner, |_| true)?.address)
}

/// Gives the Service `owner` the address that its `clusterIP` asks for.
///
/// # Errors
/// When it is outside the range or another Service's, or the record cannot be changed.
pub fn claim_service_address(
    layout: &Layout,
    config: &Config,
    owner: &str,
    address: Ipv4Addr,
) -> Result<(), Error> {
    Leases::services(layout)?.claim_exact(services(config), owner, address)
}

/// Gives the address of the Service `owner` back; having none is fine.
///
/// # Errors
/// When the record cannot be changed.
pub fn release_service(layout: &Layout, owner: &str) -> Result<(), Error> {
    Leases::services(layout)?.release(owner)
}

fn pods(config: &Config) -> Pool {
    Pool { range: config.pod_cidr(), reserved: config.gateway(), flag: "--pod-cidr" }
}

fn services(config: &Config) -> Pool {
    Pool { range: config.service_cidr(), reserved: config.dns(), flag: "--service-cidr" }
}

/// A pod is there for as long as its directory is.
fn is_alive(layout: &Layout, uid: &str) -> bool {
    layout.pod(uid).dir().exists()
}

fn open_host() -> Result<Rtnetlink, Error> {
    Rtnetlink::open().map_err(Error::kernel("talk to the kernel about links", "CONFIG_NET"))
}

/// Pods reach the world only if the host forwards. Left alone where it is on: `/proc/sys` may be read-only
/// there.
fn forward() -> Result<(), Error> {
    let now = fs::read_to_string(IP_FORWARD).map_err(Error::file("read", IP_FORWARD))?;
    if now.trim() == "1" {
        Ok(())
    } else {
        fs::write(IP_FORWARD, "1").map_err(Error::file("write", IP_FORWARD))
    }
}

/// Name of the host's end of a pod's veth pair, 15 characters.
fn veth_name(uid: &str) -> String {
    format!("hull{:011x}", fnv1a(uid.as_bytes()) & 0xfff_ffff_ffff)
}

fn remove_veth(host: &mut Rtnetlink, uid: &str) -> Result<(), Error> {
    let name = veth_name(uid);
    host.delete_link(&name)
        .map(drop)
        .map_err(Error::kernel(format!("remove the veth pair {name}"), "CONFIG_VETH"))
}

fn connect(
    host: &mut Rtnetlink,
    bridge: u32,
    input: &Input,
    ip: Ipv4Addr,
    netns: &OwnedFd,
) -> Result<(), Error> {
    let name = veth_name(&input.uid);
    let peer_netns = netns.as_fd();
    let veth = Veth { name: &name, bridge, peer_netns, peer_name: POD_LINK, peer_mac: bridge::mac_of(ip) };
    host.add_veth(veth).map_err(Error::kernel(format!("make the veth pair {name}"), "CONFIG_VETH"))
}

/// Loopback, addresses and routes inside the pod.
fn configure(inside: &mut Rtnetlink, config: &Config, ip: Ipv4Addr) -> Result<(), Error> {
    let doing = |step: &str| Error::kernel(format!("{step} in the pod's network namespace"), "CONFIG_INET");
    let lo = find(inside, "lo")?;
    inside.set_up(lo, None).map_err(doing("set up lo"))?;
    inside.add_address(lo, config.dns(), 32).map_err(doing("give lo the resolver's address"))?;
    if config.mode() == Mode::Loopback {
        return inside.add_address(lo, ip, 32).map_err(doing("give lo the pod's address"));
    }
    let eth0 = find(inside, POD_LINK)?;
    inside.set_up(eth0, None).map_err(doing("set up eth0"))?;
    inside.add_address(eth0, ip, config.pod_cidr().prefix()).map_err(doing("give eth0 its address"))?;
    inside.add_default_route(eth0, config.gateway()).map_err(doing("set the default route"))?;
    // Addresses of Services mean nothing to the world outside.
    let services = config.service_cidr();
    let unreachable = inside.add_unreachable_route(services.network(), services.prefix());
    unreachable.map_err(doing("keep the service range inside"))
}

fn find(inside: &mut Rtnetlink, name: &str) -> Result<u32, Error> {
    let finding = || Error::kernel(format!("find {name} in the pod's network namespace"), "CONFIG_NET_NS");
    let link = inside.link(name).map_err(finding())?;
    link.map(|link| link.index).ok_or_else(|| finding()(std::io::ErrorKind::NotFound.into()))
}
