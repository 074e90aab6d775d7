//! The bridge of one hull: made by the first pod, removed with the last. There are several where pods were given names of
//! their own for it.
//!
//! Its owner is written on it (the alias: `hull <directory of the lease record>`), since two hulls with roots
//! of their own would give the same addresses twice on one bridge. A bridge without a port whose owner is
//! gone, or that a crash left half made, is made anew.
//!
//! **Invariant:** changed only with the lease record locked; removed only while no lease is left in it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use super::config::{Config, Mode};
use super::rtnetlink::{Link, LinkAddress, Mac, Rtnetlink};
use super::{Cidr, Error};

/// Longest alias that the kernel takes (`IFALIASZ` less its final zero).
const ALIAS_MAX: usize = 255;
const ALIAS_PREFIX: &str = "hull ";

/// Makes sure of the bridge: there, up, with the gateway's address. Returns its number.
pub(super) fn ensure(host: &mut Rtnetlink, config: &Config, owner: &Path) -> Result<u32, Error> {
    let name = config.bridge().as_str();
    let ours = alias_of(owner);
    if let Some(link) = find(host, name)? {
        let addresses = addresses_of(host, &link)?;
        let right = addresses.iter().any(|at| is_gateway(*at, config)) && addresses.len() == 1;
        if link.is_bridge && link.alias.as_deref() == Some(&ours) && (right || addresses.is_empty()) {
            return if right { Ok(link.index) } else { finish(host, config, link.index, &ours) };
        }
        if !link.is_bridge || !is_abandoned(host, &link, &addresses, &ours)? {
            return Err(taken(link, &addresses, &ours, config));
        }
        remove_link(host, name)?;
    }
    make(host, config, &ours)
}

/// The bridges of this hull that there are, and the one of `config` unless it is another's: it may be half made, or gone
/// already and its rules not.
pub(super) fn names(host: &mut Rtnetlink, config: &Config, owner: &Path) -> Result<BTreeSet<String>, Error> {
    let ours = alias_of(owner);
    let links = host.links().map_err(Error::kernel("list the host's links", "CONFIG_NET"))?;
    let is_ours = |link: &Link| link.is_bridge && link.alias.as_deref() == Some(&ours);
    let mut names: BTreeSet<String> = links.into_iter().filter(is_ours).map(|link| link.name).collect();
    let own = config.bridge().as_str();
    let is_free = match find(host, own)? {
        Some(link) => {
            let addresses = addresses_of(host, &link)?;
            link.is_bridge && is_abandoned(host, &link, &addresses, &ours)?
        }
        None => true,
    };
    if config.mode() == Mode::Bridge && is_free {
        names.insert(own.to_owned());
    }
    Ok(names)
}

/// Removes the bridge `name` if it is ours; missing is fine.
pub(super) fn remove(host: &mut Rtnetlink, name: &str, owner: &Path) -> Result<(), Error> {
    let Some(link) = find(host, name)? else {
        return Ok(());
    };
    let ours = alias_of(owner);
    let addresses = addresses_of(host, &link)?;
    let is_ours = link.alias.as_deref() == Some(&ours);
    if link.is_bridge && (is_ours || is_abandoned(host, &link, &addresses, &ours)?) {
        remove_link(host, name)?;
    }
    Ok(())
}

fn make(host: &mut Rtnetlink, config: &Config, alias: &str) -> Result<u32, Error> {
    check_range(host, config)?;
    let name = config.bridge().as_str();
    let making = |step: &str| Error::kernel(format!("{step} the bridge {name}"), "CONFIG_BRIDGE");
    host.add_bridge(name, mac_of(config.gateway())).map_err(making("make"))?;
    let link = find(host, name)?
        .ok_or_else(|| making("find")(std::io::Error::from(std::io::ErrorKind::NotFound)))?;
    finish(host, config, link.index, alias)
}

/// The steps after the bridge is there; they may be done again.
fn finish(host: &mut Rtnetlink, config: &Config, link: u32, alias: &str) -> Result<u32, Error> {
    let doing = |step: &str| Error::kernel(format!("{step} the bridge {}", config.bridge()), "CONFIG_BRIDGE");
    host.set_up(link, Some(alias)).map_err(doing("set up"))?;
    let prefix = config.pod_cidr().prefix();
    host.add_address(link, config.gateway(), prefix).map_err(doing("give an address to"))?;
    Ok(link)
}

/// No other link of the host may have an address in, or a network around, the pods' range.
fn check_range(host: &mut Rtnetlink, config: &Config) -> Result<(), Error> {
    let range = config.pod_cidr();
    let addresses = host.addresses().map_err(Error::kernel("list the host's addresses", "CONFIG_INET"))?;
    let Some(clash) = addresses.into_iter().find(|at| overlaps(range, *at)) else {
        return Ok(());
    };
    let links = host.links().map_err(Error::kernel("list the host's links", "CONFIG_NET"))?;
    let link = links.into_iter().find(|link| link.index == clash.link);
    Err(Error::RangeTaken {
        range,
        taken: format!("{}/{}", clash.address, clash.prefix),
        link: link.map_or_else(|| clash.link.to_string(), |link| link.name),
    })
}

fn overlaps(range: Cidr, at: LinkAddress) -> bool {
    // The shorter prefix of the two decides.
    let shift = 32 - u32::from(range.prefix().min(at.prefix).min(32));
    let network = |address: Ipv4Addr| address.to_bits().checked_shr(shift).unwrap_or(0);
    network(range.network()) == network(at.address)
}

fn taken(link: Link, addresses: &[LinkAddress], ours: &str, config: &Config) -> Error {
    if link.alias.as_deref() == Some(ours) {
        let current: Vec<_> = addresses.iter().map(|at| format!("{}/{}", at.address, at.prefix)).collect();
        return Error::RangeChanged {
            bridge: link.name,
            current: current.join(", "),
            wanted: config.pod_cidr(),
        };
    }
    let owner = match link.alias {
        Some(alias) if alias.starts_with(ALIAS_PREFIX) => {
            format!("the hull of {}", &alias[ALIAS_PREFIX.len()..])
        }
        Some(_) | None => "something other than hull".to_owned(),
    };
    Error::BridgeTaken { bridge: link.name, owner }
}

/// Nobody uses it: it has no port, and it is ours, or its owner is gone, or it was never finished.
fn is_abandoned(
    host: &mut Rtnetlink,
    link: &Link,
    addresses: &[LinkAddress],
    ours: &str,
) -> Result<bool, Error> {
    let ownerless = match link.alias.as_deref() {
        None => addresses.is_empty(),
        Some(alias) if alias == ours => true,
        Some(alias) => alias.strip_prefix(ALIAS_PREFIX).is_some_and(|owner| !PathBuf::from(owner).exists()),
    };
    if !ownerless {
        return Ok(false);
    }
    let links = host.links().map_err(Error::kernel("list the host's links", "CONFIG_NET"))?;
    Ok(!links.iter().any(|port| port.master == Some(link.index)))
}

fn find(host: &mut Rtnetlink, name: &str) -> Result<Option<Link>, Error> {
    host.link(name).map_err(Error::kernel(format!("look up the link {name}"), "CONFIG_NET"))
}

fn addresses_of(host: &mut Rtnetlink, link: &Link) -> Result<Vec<LinkAddress>, Error> {
    let all = host.addresses().map_err(Error::kernel("list the host's addresses", "CONFIG_INET"))?;
    Ok(all.into_iter().filter(|at| at.link == link.index).collect())
}

fn remove_link(host: &mut Rtnetlink, name: &str) -> Result<(), Error> {
    host.delete_link(name)
        .map(drop)
        .map_err(Error::kernel(format!("remove the bridge {name}"), "CONFIG_BRIDGE"))
}

fn is_gateway(at: LinkAddress, config: &Config) -> bool {
    at.address == config.gateway() && at.prefix == config.pod_cidr().prefix()
}

/// The text that names the owner. Of a path too long for it the end is kept, which differs where roots
/// differ.
fn alias_of(owner: &Path) -> String {
    let owner = owner.to_string_lossy();
    let mut start = owner.len().saturating_sub(ALIAS_MAX - ALIAS_PREFIX.len());
    while !owner.is_char_boundary(start) {
        start += 1;
    }
    format!("{ALIAS_PREFIX}{}", &owner[start..])
}

/// A hardware address that an IPv4 address gives: when the address goes to another pod, its neighbours still
/// know the right one. (The prefix is that of other container networks: locally administered, unicast.)
pub(super) fn mac_of(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    [0x0a, 0x58, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_overlap_when_the_shorter_prefix_is_equal() {
        let range: Cidr = "10.87.0.0/16".parse().unwrap();
        let at = |address: [u8; 4], prefix| LinkAddress { link: 1, address: address.into(), prefix };
        assert!(overlaps(range, at([10, 87, 4, 1], 24)));
        assert!(overlaps(range, at([10, 1, 0, 1], 8)));
        assert!(overlaps(range, at([1, 1, 1, 1], 0)));
        assert!(!overlaps(range, at([10, 88, 0, 1], 16)));
    }

    #[test]
    fn an_owner_with_a_long_path_still_fits() {
        let long = format!("/tmp/{}/ende", "ü".repeat(300));
        let alias = alias_of(Path::new(&long));
        assert!(alias.len() <= ALIAS_MAX && alias.starts_with("hull ") && alias.ends_with("/ende"));
    }
}
