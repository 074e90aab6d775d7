//! Capabilities: reference `pod-to-oci-and-cri.md` 1.4 and 1.6; capabilities(7).
//!
//! A default pod works on any host: of the default set it gets what the host can give. What a manifest adds by name
//! is given or is an error.

use std::collections::BTreeSet;
use std::str::FromStr;

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};

use super::{Error, Host};
use crate::manifest::pod::Security;
pub(crate) use hull_shim::container::capability::NAMES;

/// What a container has unless it asks for more or less.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// Names of capabilities, without `CAP_`.
pub(crate) type Set = BTreeSet<&'static str>;

/// The capabilities behind a mask as in `/proc/self/status`.
pub(crate) fn from_mask(mask: u64) -> Set {
    NAMES.iter().enumerate().filter(|(bit, _)| mask >> bit & 1 == 1).map(|(_, name)| *name).collect()
}

/// The capabilities of a container.
pub(crate) fn of(security: &Security, host: &Host) -> Result<Set, Error> {
    let available = from_mask(host.capabilities);
    if security.privileged {
        return Ok(available);
    }
    let is_all = |name: &String| name.eq_ignore_ascii_case("ALL");
    let mut set: Set = DEFAULT.into_iter().filter(|name| available.contains(name)).collect();
    // ALL comes first, in both lists, so that single names refine it.
    if security.add_capabilities.iter().any(is_all) {
        set = available.clone();
    }
    if security.drop_capabilities.iter().any(is_all) {
        set.clear();
    }
    for name in security.add_capabilities.iter().filter(|name| !is_all(name)) {
        let known = find(name).ok_or_else(|| Error::UnknownCapability(name.clone()))?;
        if !available.contains(known) {
            return Err(Error::UngrantableCapability(known.to_owned()));
        }
        set.insert(known);
    }
    for known in security.drop_capabilities.iter().filter_map(|name| find(name)) {
        set.remove(known);
    }
    Ok(set)
}

fn find(name: &str) -> Option<&'static str> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES.into_iter().find(|known| *known == bare)
}

/// The set as the spec wants it: bounding, permitted, effective; never inheritable or ambient.
pub(crate) fn to_oci(set: &Set) -> LinuxCapabilities {
    let all: Capabilities = set.iter().filter_map(|name| Capability::from_str(name).ok()).collect();
    let mut capabilities = LinuxCapabilities::default();
    capabilities
        .set_bounding(Some(all.clone()))
        .set_permitted(Some(all.clone()))
        .set_effective(Some(all))
        .set_inheritable(Some(Capabilities::new()))
        .set_ambient(Some(Capabilities::new()));
    capabilities
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::fixture;

    fn capabilities(add: &[&str], drop: &[&str]) -> Result<Vec<&'static str>, Error> {
        let mut security = fixture::container("app").security;
        security.add_capabilities = add.iter().map(|name| (*name).to_owned()).collect();
        security.drop_capabilities = drop.iter().map(|name| (*name).to_owned()).collect();
        of(&security, &fixture::host()).map(|set| set.into_iter().collect())
    }

    #[test]
    fn every_name_is_one_that_the_spec_crate_knows() {
        for name in NAMES {
            assert!(Capability::from_str(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn names_are_added_and_dropped_after_all() {
        assert_eq!(capabilities(&[], &[]).unwrap().len(), 14);
        assert_eq!(capabilities(&[], &["ALL"]).unwrap(), [""; 0]);
        assert_eq!(capabilities(&["net_bind_service"], &["ALL"]).unwrap(), ["NET_BIND_SERVICE"]);
        assert!(!capabilities(&["ALL"], &["KILL"]).unwrap().contains(&"KILL"));
        assert!(!capabilities(&["CHOWN"], &["CHOWN"]).unwrap().contains(&"CHOWN"));
        assert!(capabilities(&["CAP_NET_ADMIN"], &[]).unwrap().contains(&"NET_ADMIN"));
    }

    #[test]
    fn a_capability_that_the_host_lacks_is_refused_by_name() {
        let error = capabilities(&["SYS_RESOURCE"], &[]).unwrap_err();
        assert_eq!(error, Error::UngrantableCapability("SYS_RESOURCE".to_owned()));
        assert!(!error.is_config());
        assert_eq!(capabilities(&["FLY"], &[]).unwrap_err(), Error::UnknownCapability("FLY".to_owned()));
    }

    #[test]
    fn of_the_default_set_a_poor_host_gives_what_it_has() {
        let host = Host { capabilities: 0b11, ..fixture::host() };
        let set = of(&fixture::container("app").security, &host).unwrap();
        assert_eq!(set.into_iter().collect::<Vec<_>>(), ["CHOWN", "DAC_OVERRIDE"]);
    }

    #[test]
    fn privileged_is_all_that_the_host_has() {
        let mut security = fixture::container("app").security;
        security.privileged = true;
        assert_eq!(of(&security, &fixture::host()).unwrap().len(), 40);
    }
}
